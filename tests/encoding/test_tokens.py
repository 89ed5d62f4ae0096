"""Token ids are those of transformers' tokenizers, which are not imported for them."""

import dataclasses

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from stableavatar_jax.configs import tiny
from stableavatar_jax.encoding.tokens import tokenize

PROMPTS = ["a man talks", "", "一个人 talks — naïvely", "word " * 60]


@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_ids_are_those_of_transformers(kind, tmp_path):
    names = ["<pad>", "</s>", "<unk>", *sorted(set(" ".join(PROMPTS).split()) - {"naïvely"})]
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    theirs = ByT5Tokenizer() if kind == "bytes" else PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"), pad_token="<pad>", eos_token="</s>"
    )  # fmt: skip
    model = dataclasses.replace(tiny.model, tokenizer=kind)
    want = theirs(PROMPTS, padding="max_length", truncation=True, max_length=model.dit.text_len, return_tensors="np")
    ids, mask = tokenize(PROMPTS, model, tmp_path)
    np.testing.assert_array_equal(ids, want["input_ids"])
    np.testing.assert_array_equal(mask, want["attention_mask"])
