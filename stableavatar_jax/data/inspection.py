"""Describes a folder of training data, and draws a sheet of its pictures with the masks over them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from stableavatar_jax.data.clips.clip import Clip
from stableavatar_jax.data.clips.layouts import kind_of, named_clips, read_clip
from stableavatar_jax.data.sources import records
from stableavatar_jax.errors import Mistake
from stableavatar_jax.frames import evenly
from stableavatar_jax.media import write_picture
from stableavatar_jax.whole import check_output
from stableavatar_jax.words import count

TILE = 160
"""Pixels on the long side of a picture of the sheet."""
CAPTION = 14
"""Rows of text above each clip."""


def open_clips(folder: Path) -> Sequence[Clip]:
    """The clips of a data set, of a prepared folder or of the release's layout. Raises Mistake."""
    from stableavatar_jax.data.clips.dataset import INDEX, ClipDataset

    if (folder / INDEX).exists():
        return ClipDataset(folder)
    return _Lazy(folder)


class _Lazy(Sequence[Clip]):
    """Clips of a folder, read when asked for; one whose path says no kind is taken as talking."""

    def __init__(self, source: Path):
        self.source = source
        self.found = list(named_clips(source).items())
        self.files = [path for _, path in self.found]

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, number):
        name, path = self.found[number]
        return read_clip(path, name, kind_of(name, self.source) or "talking")


def describe_clips(clips: Sequence[Clip]) -> str:
    """A line for each clip, and what they are together."""
    lines, kinds, seconds = [], Counter[str](), 0.0
    for clip in (clips[number] for number in range(len(clips))):
        length = clip.frames / clip.fps
        kinds[clip.kind] += 1
        seconds += length
        masks = f"{count(clip.masks_missing, 'mask')} MISSING" if clip.masks_missing else "masks whole"
        lines.append(
            f"{clip.id}: {clip.kind}, {clip.width}x{clip.height}, {count(clip.frames, 'frame')} at {clip.fps:g} "
            f"({length:.2f} s), sound at {clip.sound_rate} Hz, {masks}"
        )
    together = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    return "\n".join([*lines, f"{count(len(lines), 'clip')} ({together}), {seconds / 60:.1f} minutes"])


def describe_records(folder: Path) -> str:
    """How many records there are of which shapes, and what they were made from."""
    reader = records.RecordReader(folder)
    lines = [f"{count(len(reader), 'record')} ({reader.meta['format']}), encoders: {reader.meta['weights']}"]
    for bucket, number in Counter(reader.buckets).most_common():
        lines.append(f"bucket of {number}:")
        lines += [f"  {name} {list(shape)} {reader.dtypes[name]}" for name, shape in bucket]
    return "\n".join(lines)


def contact_sheet(clips: Sequence[Clip], rows: int = 12, columns: int = 6) -> Image.Image:
    """Evenly spaced frames of each clip, face masks red and lip masks green; a frame without its mask is grey."""
    shown = [clips[number] for number in evenly(rows, len(clips))]
    sheet = Image.new("RGB", (columns * TILE, len(shown) * (TILE + CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, clip in enumerate(shown):
        top = row * (TILE + CAPTION)
        draw.text((2, top), f"{clip.id}  {clip.kind}  {clip.frames} frames at {clip.fps:g}", fill="black")
        numbers = evenly(columns, clip.frames)
        for column, (number, picture) in enumerate(zip(numbers, clip.pictures(numbers), strict=True)):
            sheet.paste(_tile(clip, number, picture), (column * TILE, top + CAPTION))
    return sheet


def _tile(clip: Clip, number: int, picture: Image.Image) -> Image.Image:
    shown = picture.copy()
    try:
        for part, colour in (("face_masks", "red"), ("lip_masks", "lime")):
            mask = clip.mask(part, number).convert("L").resize(shown.size)  # type: ignore[arg-type]
            shown.paste(colour, mask=mask.point(lambda value: value // 3))
    except Mistake:
        shown = picture.convert("L").convert("RGB")
    shown.thumbnail((TILE, TILE))
    return shown


def inspect(folder: Path, sheet: Path | None) -> str:
    """Describe a folder, and write the sheet where there are pictures. Raises Mistake."""
    if (folder / records.META).exists():
        return describe_records(folder)
    clips = open_clips(folder)
    if sheet is None:
        return describe_clips(clips)
    if sheet.suffix.lower() != ".png":
        raise Mistake(f"{sheet}: the sheet is a PNG; give it a name that ends in .png")
    inputs = [folder, *clips.files] if isinstance(clips, _Lazy) else [folder]
    check_output(sheet, inputs=inputs if sheet.exists() else ())  # it may lie beside the clips, but replace none
    text = describe_clips(clips)
    write_picture(sheet, contact_sheet(clips))
    return f"{text}\n{sheet}: frames with face (red) and lips (green)"
