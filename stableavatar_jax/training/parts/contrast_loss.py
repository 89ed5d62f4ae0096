"""What the text and the image encoder minimise together, and what is reported of it."""

import jax.numpy as jnp
import optax

from stableavatar_jax.models.contrast import Compared
from stableavatar_jax.shapes import Array, Float, Int

NEVER = -1e30  # a score that no softmax gives any weight


def contrastive_loss(compared: Compared, ids: Int[Array, "B L"]) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Cross-entropy of finding each picture's prompt in the batch, and each prompt's picture (CLIP), and what is
    reported of it.

    Rows of equal token `ids` are nobody's mistake: they are left out of each other's candidates.
    """
    own = jnp.eye(len(ids), dtype=bool)
    alike = (ids[:, None] == ids[None]).all(-1) & ~own
    scores = jnp.where(alike, NEVER, compared.scale * compared.pictures @ compared.texts.T)
    rows = jnp.arange(len(ids))
    to_text, to_picture = (optax.softmax_cross_entropy_with_integer_labels(s, rows).mean() for s in (scores, scores.T))
    return (to_text + to_picture) / 2, {
        "accuracy": (scores.argmax(1) == rows).mean(),
        "accuracy_of_text": (scores.argmax(0) == rows).mean(),
        "scale": compared.scale,
    }
