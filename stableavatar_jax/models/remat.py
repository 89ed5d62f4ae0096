"""What the backward pass keeps of a block, as policies of `jax.checkpoint`."""

from collections.abc import Callable
from typing import Any

import jax

from stableavatar_jax.models.compute import Remat

SELF_ATTENTION, CROSS_ATTENTION, FFN_UP = "self_attention", "cross_attention", "ffn_up"
"""What attention read, before its output projection, and the feed-forward before its activation: the dearest results
of a block."""

CUDNN = "dot_product_attention_fwd_wrapper"
"""The primitive of cuDNN's attention. Its backward pass needs the softmax's statistics beside the result; no name can
be given to them, and without them the whole kernel runs again."""


def policy(remat: Remat) -> Callable[..., Any] | None:
    """The policy of a choice; None keeps nothing within a block (`none` does not use one)."""
    kept = (SELF_ATTENTION,) if remat == "attention" else (SELF_ATTENTION, CROSS_ATTENTION, FFN_UP)
    if remat in ("none", "full"):
        return None
    if remat == "offload":
        named = jax.checkpoint_policies.save_and_offload_only_these_names(
            names_which_can_be_saved=[], names_which_can_be_offloaded=list(kept),
            offload_src="device", offload_dst="pinned_host",
        )  # fmt: skip
    else:
        named = jax.checkpoint_policies.save_only_these_names(*kept)

    def keep(primitive: Any, *inputs: Any, **options: Any) -> Any:
        if primitive.name == CUDNN:  # of self-attention alone: cross-attention's few keys are cheap to read again
            query, key = inputs[:2]
            return query.shape == key.shape
        return named(primitive, *inputs, **options)

    return keep
