"""A folder of safetensors shards with an index, as diffusers and transformers write and read it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from stableavatar_jax.weights.formats.safetensors import write_safetensors
from stableavatar_jax.weights.formats.tensors import LazyTensor

FORMAT = {"format": "pt"}  # transformers refuses a file that does not say it


def write_sharded(
    folder: Path,
    stem: str,
    tensors: Mapping[str, LazyTensor],
    shard_size: int,
    tell: Callable[[int], None] = lambda size: None,
) -> None:
    """Write `STEM.safetensors`, or above `shard_size` bytes `STEM-00001-of-0000N.safetensors` and their index.

    A tensor is never cut, so a shard of one tensor may be larger.
    """
    shards: list[dict[str, LazyTensor]] = [{}]
    for name, tensor in tensors.items():
        if shards[-1] and sum(x.nbytes for x in shards[-1].values()) + tensor.nbytes > shard_size:
            shards.append({})
        shards[-1][name] = tensor
    if len(shards) == 1:
        write_safetensors(folder / f"{stem}.safetensors", tensors, FORMAT, tell)
        return
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"{stem}-{number:05}-of-{len(shards):05}.safetensors"
        write_safetensors(folder / file, shard, FORMAT, tell)
        places |= dict.fromkeys(shard, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
