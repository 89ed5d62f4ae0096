"""The data set of clips: a `tensorflow_datasets` builder that writes ArrayRecord, and the clips read back from it.

Encoded pictures, sounds and masks go in as they are, so the data set is as large as its source and nothing is lost.
Each clip is written when it comes, so memory holds one or two, however many there are. TensorFlow is not needed.
"""

import contextlib
import dataclasses
import errno
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.dataset_builder import FileReaderBuilder
from tqdm import tqdm

from stableavatar_jax.data.clips.clip import MAKE_MASKS, PROMPTS, Clip
from stableavatar_jax.data.clips.config import BuildConfig
from stableavatar_jax.data.clips.layouts import MASKS_SUFFIX, WORDS, has_masks, kind_of, named_clips, read_clip
from stableavatar_jax.data.clips.tally import Tally
from stableavatar_jax.data.kinds import CLIPS
from stableavatar_jax.errors import Mistake
from stableavatar_jax.whole import whole
from stableavatar_jax.words import count

INDEX = CLIPS
"""One entry a clip, in order, with all that needs no decoding."""
MANY = ("images", "face_masks", "lip_masks")
TEXTS = ("id", "kind", "prompt", "labels")
SPLIT = "train"
LOG = logging.getLogger(__name__)
CLIPS_PER_SHARD = 256
"""Clips in a file. Few files, as a reader keeps all of them open, and a process may often have no more than 1024."""


class Clips(FileReaderBuilder):
    """Clips with face and lip masks, for training a talking avatar."""

    VERSION = tfds.core.Version("1.0.0")
    name = "clips"
    code_path = None  # there is nothing to download: no list of checksums is looked for beside this file

    def __init__(self, *, clips: Callable[[], Iterator[Clip]], **options: Any):
        self._clips = clips
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        text, data = tfds.features.Text(), tfds.features.Scalar(np.str_)  # a string may hold any bytes
        whole = {name: np.int64 for name in ("frames", "height", "width", "sound_rate")}
        features = {
            "id": text, "kind": text, "prompt": text, "labels": text,
            "fps": np.float64, **whole, "video": data, "sound": data,
            **{name: tfds.features.Sequence(data) for name in MANY},
        }  # fmt: skip
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,  # the order of batches is drawn from the seed of a run
        )

    def _download_and_prepare(self, dl_manager: Any, download_config: Any = None) -> None:
        """Write the clips in order, each when it comes.

        tfds' `GeneratorBasedBuilder` would gather them in memory up to 1 GB, and beyond that sort them through files
        that it opens with TensorFlow; its `ShardBasedBuilder` would need the number of files before the first clip.
        """
        info = self._info()  # `self.info` names the folder to be; the files go into one that is renamed at the end
        writer = tfds.core.SequentialWriter(info, CLIPS_PER_SHARD, file_format=self.info.file_format)
        writer.initialize_splits([SPLIT])
        for clip in self._clips():
            writer.add_examples({SPLIT: [to_example(clip)]})
        writer.close_all()
        self.info.set_splits(info.splits)


def to_example(clip: Clip) -> dict[str, Any]:
    """A clip as the data set stores it."""
    values = {field.name: getattr(clip, field.name) for field in dataclasses.fields(clip)}
    return {name: list(value) if name in MANY else value for name, value in values.items()}


def from_example(example: dict[str, Any]) -> Clip:
    """The inverse of `to_example`. Fields that an older data set does not have are as in a clip without them."""
    values: dict[str, Any] = {name: tuple(value) if name in MANY else value for name, value in example.items()}
    values |= {name: values[name].decode() for name in TEXTS if name in values}
    return Clip(**{name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()})


def build(config: BuildConfig) -> Tally:
    """Build the data set of a source; returns what was left out. Raises Mistake."""
    found = named_clips(config.source)
    tally = Tally(config.on_bad, config.missing_masks)
    kinds = {name: kind_of(name, config.source) for name in found}
    if unsaid := [name for name, kind in kinds.items() if kind is None]:
        LOG.warning(
            "taken as %s (--kind), as the path has none of the words %s: %d of %d clips, %s%s", config.kind,
            ", ".join(WORDS), len(unsaid), len(found), ", ".join(unsaid[:3]), ", ..." if len(unsaid) > 3 else "",
        )  # fmt: skip

    bare = [name for name, path in found.items() if not has_masks(path)]
    if bare and config.missing_masks == "error":
        raise Mistake(
            f"{config.source}: {len(bare)} of {count(len(found), 'clip')} without masks, {', '.join(bare[:3])}"
            f"{', ...' if len(bare) > 3 else ''}; {MAKE_MASKS}",
            "missing masks",
        )

    def clips() -> Iterator[Clip]:
        for name, path in found.items():
            try:
                clip = read_clip(path, name, kinds[name] or config.kind)
                clip.check()
                if config.missing_masks != "ones":
                    clip.check_masks()
            except Mistake as error:
                tally.refuse(error)
                continue
            if clip.masks_missing:
                tally.fill(clip.id, clip.masks_missing)
            tally.used += 1
            yield clip
        if not tally.used:
            raise Mistake(f"{config.source}: no clip can be used: {tally}")

    space = sum(_size(path) for path in found.values())
    write_clips(
        config.output, clips, total=len(found), replace=config.overwrite, inputs=[config.source, *found.values()],
        space=space,
    )  # fmt: skip
    return tally


def write_clips(
    output: Path,
    clips: Callable[[], Iterator[Clip]],
    *,
    total: int | None = None,
    replace: bool | None = None,
    inputs: Sequence[Path] = (),
    space: int = 0,
) -> int:
    """Write clips as a data set, whole or not at all; returns how many. `total` is for the progress bar.

    Raises Mistake where the folder is not to be written (`whole`), or cannot be.
    """
    index: list[dict[str, Any]] = []

    def noted() -> Iterator[Clip]:
        for clip in tqdm(clips(), desc="clips", unit="clip", total=total):
            index.append(to_entry(clip))
            yield clip

    tfds.disable_progress_bar()
    with whole(output, folder=True, replace=replace, inputs=inputs, space=space) as partial:
        try:
            with contextlib.redirect_stdout(None):  # it speaks of downloads
                Clips(clips=noted, data_dir=str(partial), file_format="array_record").download_and_prepare()
        except RuntimeError as error:  # of array_record, without a cause
            raise OSError(errno.ENOSPC, str(error)) from error
        shutil.rmtree(partial / "downloads", ignore_errors=True)  # tfds makes it, and nothing goes in
        (partial / INDEX).write_text(json.dumps(index, indent=0) + "\n")
    return len(index)


def _size(path: Path) -> int:
    """Bytes of a clip, with what lies beside it."""
    files = path.rglob("*") if path.is_dir() else (path, path.with_suffix(MASKS_SUFFIX), path.with_suffix(".wav"))
    return sum(file.stat().st_size for file in files if file.is_file())


def to_entry(clip: Clip) -> dict[str, Any]:
    """What the index says of a clip."""
    names = ("id", "kind", "prompt", "fps", "frames", "height", "width", "sound_rate", "masks_missing")
    return {name: getattr(clip, name) for name in names}


class ClipDataset(Sequence[Clip]):
    """The clips of a data set, by number."""

    def __init__(self, folder: Path):
        """Raises Mistake where the folder holds no finished data set."""
        self.folder = folder
        path = folder / INDEX
        try:
            self.entries: list[dict[str, Any]] = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            advice = "`python -m stableavatar_jax.data build` makes one"
            raise Mistake(f"{path}: no finished data set ({error}); {advice}") from error
        try:
            builder = tfds.builder_from_directory(str(folder / Clips.name / str(Clips.VERSION)))
            self._source = builder.as_data_source(SPLIT)
        except Exception as error:  # of tfds and of array_record, which have no class of their own
            raise Mistake(f"{folder}: its files are damaged or missing ({error}); build it again") from error
        if len(self._source) != len(self.entries):
            raise Mistake(f"{folder}: {len(self._source)} clips, {len(self.entries)} in {INDEX}; build it again")

    @property
    def prompts(self) -> tuple[str, ...]:
        """Every text that some clip may need: those of the kinds, then the clips' own."""
        own = {entry.get("prompt", "") for entry in self.entries} - {"", *PROMPTS.values()}
        return (*PROMPTS.values(), *sorted(own))

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, number):  # type: ignore[no-untyped-def]
        try:
            return from_example(self._source[number])
        except Exception as error:
            raise Mistake(f"{self.folder}: clip {number} cannot be read ({error}); build it again") from error
