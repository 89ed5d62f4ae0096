"""Prompts to token ids."""

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.shapes import Bool, Int

LOG = logging.getLogger(__name__)


def tokenize(
    prompts: list[str], model: AvatarConfig, directory: Path | None
) -> tuple[Int[np.ndarray, "T L"], Bool[np.ndarray, "T L"]]:
    """Token ids, cut and padded to the transformer's text length, and which of them are text.

    Raises Mistake where the model directory has no tokenizer.json, or one of another vocabulary.
    """
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # it misses PyTorch, which is not needed here
    from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

    if model.tokenizer == "bytes":
        tokenizer: Any = ByT5Tokenizer()
    else:
        file = Path(directory or ".") / "tokenizer.json"
        if directory is None or not file.is_file():
            raise Mistake(f"{file}: no such file; copy UMT5's tokenizer.json there (import --part umt5 does)")
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file), pad_token="<pad>", eos_token="</s>")
    length = model.dit.text_len
    for prompt, words in zip(prompts, tokenizer(prompts)["input_ids"], strict=True):
        if len(words) > length:
            LOG.warning("a prompt of %d tokens is cut to %d: %s...", len(words), length, prompt[:60])
    out = tokenizer(prompts, padding="max_length", truncation=True, max_length=length, return_tensors="np")
    ids = np.asarray(out["input_ids"], np.int32)
    if ids.max() >= model.umt5.vocab:
        raise Mistake(f"tokenizer.json makes id {ids.max()}, the text encoder knows {model.umt5.vocab} tokens")
    return ids, np.asarray(out["attention_mask"], bool)
