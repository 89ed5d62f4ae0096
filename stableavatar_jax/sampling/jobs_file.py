"""A list of videos: a file with a JSON object a line, of options by their names on the command line. Read without JAX.

What is wrong with the list (a line that is no object, a name that is no option, a value of another type, two videos of
one name) refuses all of it, with every fault and its line. A value that an option does not take fails its video alone.
"""

import codecs
import dataclasses
import json
import os
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stableavatar_jax.config import UNKNOWN, read_value
from stableavatar_jax.errors import Mistake
from stableavatar_jax.hosts import DistributedConfig, MeshConfig
from stableavatar_jax.inputs import check_file
from stableavatar_jax.options import nearest
from stableavatar_jax.sampling.config import Keeping, SampleConfig, Weights, change
from stableavatar_jax.sampling.paths import is_live, missing
from stableavatar_jax.sampling.several import Several
from stableavatar_jax.whole import NAME_BYTES
from stableavatar_jax.words import count

READ = ("image", "audio", "conditions", "decode_only")
"""Options that name files to be read."""
OF_ALL = [
    each.name for group in (Weights, Several, DistributedConfig, MeshConfig) for each in dataclasses.fields(group)
]
"""Options of the whole list: weights are loaded once."""
REFUSED = {
    **{name: "is of the whole list; give it on the command line" for name in (*OF_ALL, "restart", "config", "cache")},
    "save_conditions": "makes no video; give it to a run of its own",
}
SUMMARY = "summary.jsonl"
"""The file in the output directory that tells what became of every video."""
MOST_TOLD = 100
"""Faults that are listed; a file that is no list has one in every line."""
LONGEST_ENDING = ".error.txt"


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A video of a list."""

    line: int
    """Line of the file, from 1."""
    config: SampleConfig
    """Its options."""
    fault: str = ""
    """Why it cannot be made, where an option has a value that it does not take."""

    @property
    def output(self) -> Path:
        """The video."""
        return self.config.keeping.output

    @property
    def record(self) -> Path:
        """Options and inputs that the video beside it was made with."""
        return self.output.with_suffix(".json")

    @property
    def error_file(self) -> Path:
        """Why the video was not made."""
        return self.output.with_suffix(LONGEST_ENDING)


def read_jobs(config: SampleConfig) -> list[Listed]:
    """The videos of a command line's list. Raises Mistake with all faults of the list."""
    path, folder = config.several.jobs, config.several.output_dir
    assert path is not None and folder is not None
    check_file(path)
    of_one = {
        "--output": config.keeping.output != Keeping().output, "--latents": config.keeping.latents,
        "--save-conditions": config.keeping.save_conditions, "--preview": config.keeping.preview,
        "--audio -": is_live(config.inputs.audio),
    }  # fmt: skip
    for option in [option for option, given in of_one.items() if given]:
        raise Mistake(f'{option} is of one video; those of a list are told in it, as in {{"output": "talk.mp4"}}')
    reader = _Reader(config, path.parent, folder)
    listed = [job for line, text in _lines(path) if (job := reader.job(line, text))]
    faults = reader.faults or _clashes(listed, path, folder)
    if faults:
        more = [f"and {len(faults) - MOST_TOLD} more"] if len(faults) > MOST_TOLD else []
        told = [f"line {line}: {text}" for line, text in faults[:MOST_TOLD]] + more
        raise Mistake("\n".join([f"{path}: nothing is made of a list with {count(len(faults), 'fault')}", *told]))
    if not listed:
        raise Mistake(f'{path}: no videos are listed; write a line for each, as {{"image": "a.png", "audio": "a.wav"}}')
    return listed


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank and begin with no `#`, with their numbers."""
    for number, line in enumerate(path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        if (text := line.strip()) and not text.startswith(b"#"):
            yield number, text


class _Reader:
    """Reads lines, and gathers their faults."""

    def __init__(self, config: SampleConfig, inputs: Path, outputs: Path):
        """`inputs` and `outputs` are what the names of files are relative to."""
        self._base = dataclasses.replace(config, several=Several(), distributed=DistributedConfig())
        self._inputs, self._outputs = inputs, outputs
        self._kinds = _kinds(SampleConfig)
        self.faults: list[tuple[int, str]] = []

    def job(self, line: int, text: bytes) -> Listed | None:
        """The video of a line; None where it is no object."""
        try:
            plain = _object(text)
        except (ValueError, RecursionError) as error:
            self.faults.append((line, f'is no JSON object ({error}), such as {{"image": "a.png", "audio": "a.wav"}}'))
            return None
        values: dict[str, Any] = {"output": self._outputs / f"{line:04d}.mp4"}
        untaken = []
        for name, value in plain.items():
            try:
                values |= self._values(name, value)
            except Mistake as error:
                if error.reason == UNKNOWN and isinstance(value, str):
                    untaken.append(str(error))
                else:
                    self.faults.append((line, str(error)))
        try:
            config = change(self._base, **values)
        except Mistake as error:
            untaken.append(str(error))
            config = change(self._base, **{name: values[name] for name in READ + ("output",) if name in values})
        for name in missing(config):
            if name not in plain:
                self.faults.append((line, f"{name} is missing: a video is made from image and audio"))
        return Listed(line=line, config=config, fault="; ".join(untaken))

    def _values(self, name: str, value: Any) -> dict[str, Any]:
        """The options that a key of a line stands for. Raises Mistake."""
        if name in REFUSED:
            raise Mistake(f"{name} {REFUSED[name]}")
        if name == "size":
            if not isinstance(value, str) or not (sides := re.fullmatch(r"(\d{1,5})x(\d{1,5})", value)):
                raise Mistake(f'size is {json.dumps(value)}, rows x columns are needed, as "480x832"')
            return {"height": int(sides[1]), "width": int(sides[2])}
        if name not in self._kinds:
            near = nearest(name, [f"--{each.replace('_', '-')}" for each in self._kinds])
            advice = f"did you mean {near.lstrip('-').replace('-', '_')}?" if near else "see --help"
            raise Mistake(f"{name} is not an option; {advice}")
        value = read_value(self._kinds[name], value, name, "")
        if isinstance(value, Path):
            return {name: self._placed(name, value)}
        return {name: value}

    def _placed(self, name: str, path: Path) -> Path:
        """A file of a line. Raises Mistake for an output that is no place in the output directory."""
        if name == "audio" and is_live(path):
            raise Mistake("audio is a live sound, which one video alone can have; give a recording")
        if "\0" in str(path):
            raise Mistake(f"{name} is {json.dumps(str(path))}, no file has such a name")
        if name in READ:
            return self._inputs / path
        if path.is_absolute() or os.path.normpath(path).startswith(".."):
            raise Mistake(f"{name} is {path}, a place in --output-dir is needed")
        if name == "output" and path.suffix.lower() != ".mp4":
            raise Mistake(f"output is {path}, a name that ends in .mp4 is needed")
        if len(os.fsencode(path.with_suffix(LONGEST_ENDING).name)) > NAME_BYTES:
            raise Mistake(f"{name} is {path}, a shorter name is needed")
        return Path(os.path.normpath(self._outputs / path))


def _object(text: bytes) -> dict[str, Any]:
    """A JSON object with keys as options are named in Python. Raises ValueError."""
    plain = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_constant)
    if not isinstance(plain, dict):
        raise ValueError(f"it is {plain!r:.40}")
    json.dumps(plain, ensure_ascii=False).encode()  # half of a pair of surrogates is no text
    return plain


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if (name := key.replace("-", "_")) in found:
            raise ValueError(f"{key} is there twice")
        found[name] = value
    return found


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _kinds(cls: type[Any]) -> dict[str, Any]:
    """The types of all options by their names, those of groups included."""
    found: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(cls).items():
        if name != "model":
            found |= _kinds(kind) if dataclasses.is_dataclass(kind) else {name: kind}  # type: ignore[arg-type]
    return found


def _clashes(listed: list[Listed], path: Path, folder: Path) -> list[tuple[int, str]]:
    """Files that two videos would write, and files that are written and read."""
    faults, written = [], {os.path.realpath(folder / SUMMARY): "the summary"}
    for job in listed:
        keeping = job.config.keeping
        for each in (job.output, job.record, job.error_file, keeping.latents, keeping.preview):
            if each and (other := written.setdefault(os.path.realpath(each), f"line {job.line}")) != f"line {job.line}":
                faults.append((job.line, f"{each} is written by {other} too; give each a name of its own"))
                break
    for job in listed:
        for each in (path, *(getattr(job.config.inputs, name) for name in READ)):
            if each and (writer := written.get(os.path.realpath(each))):
                faults.append((job.line, f"{each} is read, and would be written over by {writer}"))
    return faults
