"""Attention as two matrix products with a softmax between them: for few scores, or for scores with a bias."""

import jax
import jax.numpy as jnp
from einops import rearrange

from stableavatar_jax.shapes import Array, Float, Int


def direct(
    q: Float[Array, "B L N K"],
    k: Float[Array, "B M N K"],
    v: Float[Array, "B M N K"],
    lengths: Int[Array, "B"] | None,
    bias: Float[Array, "B N L M"] | Float[Array, "1 N L M"] | None,
    scale: float,
) -> tuple[Float[Array, "B L N K"], Float[Array, "B N L"]]:
    """Attention (see `attention`) and the logarithm of its softmax's sum."""
    scores = jnp.einsum("blnk,bmnk->bnlm", q, k, preferred_element_type=jnp.float32) * scale
    if bias is not None:
        scores = scores + bias
    if lengths is not None:
        read = jnp.arange(k.shape[1]) < lengths[:, None]
        scores = jnp.where(read[:, None, None, :], scores, -jnp.inf)
    top = jax.lax.stop_gradient(jnp.maximum(scores.max(-1, keepdims=True), -1e30))  # keeps a row without keys finite
    weights = jnp.exp(scores - top)
    total = jnp.maximum(weights.sum(-1), 1e-30)
    out = jnp.einsum("bnlm,bmnk->blnk", weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
    return (out / rearrange(total, "b n l -> b l n 1")).astype(q.dtype), top[..., 0] + jnp.log(total)
