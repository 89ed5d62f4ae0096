"""A run that can be taken up again: everything of it lies in `.NAME.run/` beside its output until that is whole.

There are the conditions, the state of denoising with the latents that are not decoded for good, and the closed
segments of the video. What is in them is what an uninterrupted run has, to the bit, so nothing shows where it stopped.
"""

import contextlib
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stableavatar_jax.config import to_json
from stableavatar_jax.encoding.conditions import Conditions, load_conditions, save_conditions
from stableavatar_jax.errors import Mistake, explained
from stableavatar_jax.frames import FRAMES_PER_LATENT
from stableavatar_jax.locks import alone
from stableavatar_jax.sampling.config import SampleConfig
from stableavatar_jax.sampling.paths import run_folder, split_scale
from stableavatar_jax.sampling.progress import Event, Finished, Standing, State
from stableavatar_jax.shapes import Float
from stableavatar_jax.weights.formats.safetensors import open_safetensors, read_metadata, write_safetensors
from stableavatar_jax.weights.formats.tensors import lazy
from stableavatar_jax.whole import whole

SAVE_EVERY = 180.0
"""Seconds between two savings of the state."""
FEWEST = 8
"""Latent frames that a segment has at least: 32 frames, more than a second."""
WITHOUT = ("output", "restart", "latents", "preview")
"""Options that may change when a run is taken up again."""


class Run:
    """A run in progress. As a listener it keeps the state of denoising; `resumable` opens it."""

    def __init__(self, folder: Path, *, stride: int, reach: int, at_once: int):
        """`stride` latent frames are finished at a time. `reach` and `at_once` are the decoder's: latent frames that a
        frame depends on, and those of one call.
        """
        self.folder, self._reach, self._at_once = folder, reach, at_once
        latents = max((stride - 1) // at_once, -(-FEWEST // at_once)) * at_once
        self.segment = FRAMES_PER_LATENT * latents
        """Frames of a segment of the video: no more than the first stride makes, where that is enough to play."""
        self.closed = 0
        """Frames of the video in closed segments."""
        self.state: State | None = None
        """What denoising goes on from."""
        self.begin = 0
        """Latent frame at which `recent` begins."""
        self.recent: list[Float[np.ndarray, "n H W C"]] = []
        """Finished latents that frames of segments still depend on that are not closed."""
        self._standing: tuple[Standing, int, list[Any]] | None = None
        self._saved = time.monotonic()
        self._told = False
        self._read()

    def __call__(self, event: Event) -> None:
        """Keep what is finished, and from time to time the state."""
        if isinstance(event, Finished):
            self.recent.append(event.z)
        elif isinstance(event, Standing):
            self._forget(self.needed(self.closed))
            self._standing = event, self.begin, list(self.recent)
            if time.monotonic() - self._saved > SAVE_EVERY:
                self.save()

    def needed(self, frame: int) -> int:
        """The latent frame from which the decoder has to begin for a frame of the video and those after it."""
        latent = -(-frame // FRAMES_PER_LATENT)
        return max(0, latent - self._reach) // self._at_once * self._at_once

    def _forget(self, before: int) -> None:
        """Let go of latents before one, on which nothing depends any more."""
        while self.recent and self.begin + len(self.recent[0]) <= before:
            self.begin += len(self.recent.pop(0))

    def save(self) -> None:
        """Write the state that denoising last stood at. On a full disk the run goes on, and one line says so."""
        if self._standing is None:
            return
        event, begin, recent = self._standing
        place, arrays = event.state()
        # Always there, so that one file has one layout.
        latents = np.concatenate([np.zeros((0, *next(iter(arrays.values())).shape[-3:]), np.float32), *recent])
        about = {"place": json.dumps(place), "begin": json.dumps(begin)}
        try:
            with whole(self.folder / "state.safetensors") as partial:
                write_safetensors(partial, {k: lazy(v) for k, v in {**arrays, "recent": latents}.items()}, about)
        except Mistake as error:
            if not self._told:
                print(f"{error}\nthe run goes on, but could not be taken up from here", file=sys.stderr)
            self._told = True
        self._saved, self._standing = time.monotonic(), None

    def _read(self) -> None:
        path = self.folder / "state.safetensors"
        if not path.exists():
            return
        arrays = {name: tensor.read() for name, tensor in open_safetensors(path).items()}
        about = read_metadata(path)
        recent = arrays.pop("recent")
        self.begin, self.recent = json.loads(about["begin"]), [recent] if len(recent) else []
        self.state = State(json.loads(about["place"]), arrays)

    def conditions(self) -> Conditions | None:
        """Those that were kept, None where there are none."""
        path = self.folder / "conditions.safetensors"
        try:
            return load_conditions(path, {}) if path.exists() else None
        except Mistake as error:
            print(f"{error}\nthe encoders run again", file=sys.stderr)
            return None

    def keep_conditions(self, conditions: Conditions) -> None:
        """Keep what the encoders made, so that none of them is needed again but that of sound, which is encoded as it
        comes.
        """
        save_conditions(self.folder / "conditions.safetensors", conditions, {})

    @property
    def is_worth_keeping(self) -> bool:
        """Whether another run would save work by it."""
        return _is_begun(self.folder)


def discard(output: Path) -> None:
    """Throw away the run of an output. Raises Mistake where a process is at it."""
    folder = run_folder(output)
    with alone(folder), explained(folder):
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def resumable(output: Path, options: dict[str, Any], *, stride: int, reach: int, at_once: int) -> Iterator[Run]:
    """The run of an output, taken up where another was interrupted with the same `options`; gone when all went well.

    Raises Mistake where another process is at it, and where options changed. After an interruption it stays, with the
    state that denoising last stood at. The rest is as for `Run`.
    """
    folder = run_folder(output)
    with alone(folder), explained(folder, only=(str(folder),)):
        folder.mkdir(exist_ok=True)
        _agree(folder, output, options)
        try:
            run = Run(folder, stride=stride, reach=reach, at_once=at_once)
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(output, folder, error) from error
        if run.is_worth_keeping:
            print(f"{output}: goes on from {folder} (--restart begins anew)", file=sys.stderr, flush=True)
        try:
            yield run
        except BaseException as error:
            useless = getattr(error, "reason", "") == "not finite"
            with contextlib.suppress(RuntimeError):  # the state has been handed to a call that is under way
                if not useless:
                    run.save()
            if useless or not run.is_worth_keeping:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                print(f"the run is kept in {folder}: the same command goes on with it", file=sys.stderr)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def _agree(folder: Path, output: Path, options: dict[str, Any]) -> None:
    """Whether a run goes on as it began. Raises Mistake with the options that do not agree."""
    path = folder / "run.json"
    if not path.exists() and _is_begun(folder):
        raise _damaged(output, folder, "run.json is missing")
    if path.exists():
        try:
            began = dict(json.loads(path.read_text()))
        except (TypeError, ValueError) as error:
            raise _damaged(output, folder, f"run.json: {error}") from error
        changed = sorted(name for name in began.keys() | options.keys() if began.get(name) != options.get(name))
        if changed:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
            raise Mistake(
                f"{output}: its run in {folder} began with another {names}; give the options it began with, or "
                "--restart to begin anew"
            )
    with whole(path) as partial:
        partial.write_text(json.dumps(options, indent=1))


def _is_begun(folder: Path) -> bool:
    """Whether work of a run is in its folder."""
    return any(folder.glob("segment-*.mp4")) or (folder / "state.safetensors").exists()


def _damaged(output: Path, folder: Path, found: object) -> Mistake:
    return Mistake(f"{output}: its run in {folder} is damaged, or of another version ({found}); --restart begins anew")


def identity(config: SampleConfig) -> dict[str, Any]:
    """Everything that a video depends on, by the names of the options: their values, and for files what is in them."""
    groups = {name: value for name, value in to_json(config).items() if name not in ("several", "distributed")}
    plain = {name: value for name, value in _flat(groups).items() if name not in WITHOUT and value is not None}
    plain["latents"] = config.keeping.latents is not None  # where they go may change, but they are kept from the start
    for name in ("image", "audio", "conditions", "decode_only", "cache"):
        if name in plain and Path(plain[name]).is_file():
            plain[name] = _hash(Path(plain[name]))
    plain["lora"] = [[_hash(path), scale] for path, scale in map(split_scale, plain.get("lora", []))]
    for name in ("checkpoint", "transformer"):
        if folder := getattr(config.weights, name):
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            sizes = [[str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
            plain[name] = hashlib.sha256(json.dumps(sizes).encode()).hexdigest()
    return plain


def _flat(plain: dict[str, Any]) -> dict[str, Any]:
    """Options by their names on the command line, where groups do not show; the model is one of them."""
    found: dict[str, Any] = {}
    for name, value in plain.items():
        found |= _flat(value) if isinstance(value, dict) and name != "model" else {name: value}
    return found


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def trimmed(latents: Iterable[Float[np.ndarray, "_ H W C"]], count: int) -> Iterator[Float[np.ndarray, "_ H W C"]]:
    """Latents without the first so many."""
    for z in latents:
        skipped = min(count, len(z))
        count -= skipped
        if skipped < len(z):
            yield z[skipped:]
