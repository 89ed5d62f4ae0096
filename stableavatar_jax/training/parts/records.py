"""Whether precomputed records are of the model that is trained, seen before anything is allocated."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stableavatar_jax.data.kinds import expect
from stableavatar_jax.data.sources.records import FIELDS, RecordReader
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.training.logs import say


def check_records(folder: Path, model: AvatarConfig) -> None:
    """Raise Mistake where a folder holds no records, or records whose shapes or encoders are not the model's."""
    records = RecordReader(expect(folder, "records", "--data"))
    problems = [
        f"{found} ({line['id']})"
        for line in _one_of_each(records.index)
        for found in _misfits(line["shapes"], records.dtypes, model)
    ]
    before = records.meta.get("after_picture", model.after_picture)
    if before != model.after_picture:
        problems.append(f"the picture is followed by `{before}`, the model reads `{model.after_picture}` there")
    shapes = len(_one_of_each(records.index))
    say(f"records: {len(records)} in {folder}, of {shapes} shape{'s' if shapes > 1 else ''}")
    if problems:
        listed = "".join(f"\n  {each}" for each in dict.fromkeys(problems))
        raise Mistake(
            f"--data {folder}: these records are of another model:{listed}\n"
            f"they were made with the encoders of {records.meta.get('weights')}; give that model with --checkpoint (or "
            "its preset with --config), or make records for this one with `python -m stableavatar_jax.data precompute`"
        )


def _one_of_each(index: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One record of every shape."""
    return list({repr(line["shapes"]): line for line in index}.values())


def _misfits(shapes: Mapping[str, list[int]], dtypes: Mapping[str, str], model: AvatarConfig) -> list[str]:
    c = model.dit
    missing = [f"{name} is missing" for name in FIELDS if name not in shapes or name not in dtypes]
    if missing:
        return missing
    widths = {
        "latents_mean": c.out_channels, "latents_logvar": c.out_channels, "reference_mean": c.out_channels,
        "reference_logvar": c.out_channels, "text": c.text_dim, "image": c.image_dim, "audio": c.adapter.audio_dim,
    }  # fmt: skip
    found = [
        f"{name} has width {shapes[name][-1]}, the model reads {width}"
        for name, width in widths.items()
        if shapes[name][-1] != width
    ]
    if shapes["text"][0] > c.text_len:
        found.append(f"text has {shapes['text'][0]} tokens, the model reads up to {c.text_len}")
    odd = [size for size, step in zip(shapes["latents_mean"][:3], c.patch, strict=True) if size % step]
    if odd:
        found.append(f"latents of {shapes['latents_mean'][:3]} cannot be cut into patches of {list(c.patch)}")
    return found
