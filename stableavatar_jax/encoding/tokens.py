"""Prompts to token ids."""

import logging
from pathlib import Path

import numpy as np

from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.shapes import Bool, Int

LOG = logging.getLogger(__name__)
PADDING = 0


def tokenize(
    prompts: list[str], model: AvatarConfig, directory: Path | None
) -> tuple[Int[np.ndarray, "T L"], Bool[np.ndarray, "T L"]]:
    """Token ids, cut and padded to the transformer's text length, and which of them are text.

    Raises Mistake where the model directory has no tokenizer.json, or one of another vocabulary.
    """
    length = model.dit.text_len
    words = [_bytes(prompt) for prompt in prompts] if model.tokenizer == "bytes" else _words(prompts, directory)
    ids = np.full((len(prompts), length), PADDING, np.int32)
    for row, prompt, found in zip(ids, prompts, words, strict=True):
        if len(found) > length:
            LOG.warning("a prompt of %d tokens is cut to %d: %s...", len(found), length, prompt[:60])
            found = [*found[: length - 1], found[-1]]  # the last token says that the text ends
        row[: len(found)] = found
    if ids.max() >= model.umt5.vocab:
        raise Mistake(f"tokenizer.json makes id {ids.max()}, the text encoder knows {model.umt5.vocab} tokens")
    lengths = np.asarray([min(len(found), length) for found in words])
    return ids, np.arange(length) < lengths[:, None]


def _words(prompts: list[str], directory: Path | None) -> list[list[int]]:
    """Token ids by a model directory's tokenizer.json."""
    from tokenizers import Tokenizer  # and not transformers, whose import takes seconds, 10 where PyTorch is there too

    file = Path(directory or ".") / "tokenizer.json"
    if directory is None or not file.is_file():
        raise Mistake(f"{file}: no such file; copy UMT5's tokenizer.json there (import --part umt5 does)")
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return [encoding.ids for encoding in tokenizer.encode_batch(prompts)]


def _bytes(prompt: str) -> list[int]:
    """One token for each byte, as ByT5 has it: after the ids of padding, end and unknown."""
    return [byte + 3 for byte in prompt.encode()] + [1]
