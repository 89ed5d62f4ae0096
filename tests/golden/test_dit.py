"""The transformer against the release's numbers: whole evaluations with their intermediates, and the rotary tables."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from stableavatar_jax.models.dit import DiT
from stableavatar_jax.models.rope import pairs_apart, rope_frequencies, rope_tables, rotate, sinusoid, swapped
from stableavatar_jax.weights import rules
from stableavatar_jax.weights.names import dit as names
from tests.golden import cases, sizes
from tests.params import abstract_params

GROUPS = {"dit_1b", "dit_14b"}


def load(module: nn.Module, naming, config, info) -> dict:
    weights = cases.weights(info["state_dict"], info["seed"])
    params, _ = rules.load(naming, config, weights, abstract_params(module))
    return params


def test_evaluation(case):
    check_tables(case) if case.path.stem == "rope_tables" else check_evaluation(case)


def check_evaluation(case):
    info, stored = case.info, case.tensors
    config = sizes.dit(info["config"], info["state_dict"], bool(info["call"].get("honor_k_lens")))
    model = DiT(config)
    params = load(model, names.NAMINGS[0], config, info)
    z, t, reference, image, texts, audio, heard = inputs_of(case)
    text = np.zeros((len(texts), config.text_len, config.text_dim), np.float32)
    mask = np.zeros(text.shape[:-1], bool)
    for i, rows in enumerate(texts):
        text[i, : len(rows)], mask[i, : len(rows)] = rows, True
    frames = info["call"].get("video_sample_n_frames")

    def evaluate(params):
        bound = model.bind({"params": params})
        repeat = lambda a: jnp.repeat(a, len(texts) // len(a), 0)  # noqa: E731
        context = bound.context(jnp.asarray(text), jnp.asarray(mask), repeat(image))
        slots = bound.slots(audio, z.shape[1], frames)
        embedded = jax.tree.map(repeat, bound.embed(z, t, reference))
        refined = bound.refine(slots.tokens[jnp.asarray([i or 0 for i in heard])], embedded)
        refined = refined * jnp.asarray([i is not None for i in heard]).reshape(-1, 1, 1, 1)
        clip_level = bool(info["call"]["is_clip_level_modeling"])
        x = bound.run_blocks(embedded, refined, context, lengths=slots.lengths, clip_level=clip_level)
        return slots, bound.read_out(x, embedded.e)

    slots, out = jax.jit(evaluate)(params)
    if "mid/vocal_k_lens" in stored:
        lengths = np.tile(slots.lengths, len(stored["mid/vocal_k_lens"]) // len(slots.lengths))
        np.testing.assert_array_equal(lengths, stored["mid/vocal_k_lens"])
    case.check("out/noise_pred", rearrange(out, "B F H W C -> B C F H W"))
    check_intermediates(case, model, params, t, slots, np.where(mask[..., None], text, 0))


def inputs_of(case):
    """Latents, time, reference, picture, texts and audios of a case, and which audio each text is evaluated with.

    Rows that differ in nothing but text and audio are the branches of one row. In 1.3B these share the last audio, and
    the first of them gets zeros in place of refined audio, as in the release.
    """
    stored = case.tensors
    names = "x", "t", "y", "clip_fea"
    texts = [stored[f"in/context_{i}"] for i in range(sum(n.startswith("in/context_") for n in stored))]
    one = all((stored[f"in/{name}"] == stored[f"in/{name}"][:1]).all() for name in names)
    x, t, y, image = (jnp.asarray(stored[f"in/{name}"][: 1 if one else None]) for name in names)
    audio, heard = jnp.asarray(stored["in/vocal"]), list(range(len(texts)))
    if one and len(texts) > 1 and case.info["variant"] == "1b":
        audio, heard = audio[-1:], [None, *[0] * (len(texts) - 1)]
    return last(x), t, last(y), image, texts, audio, heard


def last(x):
    """Channels last."""
    return jnp.moveaxis(x, 1, -1)


def check_intermediates(case, model, params, t, slots, text):
    """What the release computes on the way, where our model computes the same thing by a name of its own."""
    bound, stored, c = model.bind({"params": params}), case.tensors, model.config
    e = bound.time_embedding(sinusoid(t, c.time_dim))
    checks = {
        "mid/sinusoid": lambda: sinusoid(t, c.time_dim),
        "mid/e": lambda: e,
        "mid/e0": lambda: rearrange(bound.time_projection(nn.silu(e)), "B (six D) -> B six D", six=6),
        "mid/text_context": lambda: bound.text_embedding(jnp.asarray(text)),
        "mid/clip_context": lambda: bound.image_embedding(jnp.asarray(stored["in/clip_fea"])),
        "mid/audio_proj": lambda: bound.audio_adapter.projection(jnp.asarray(stored["in/vocal"])),
        "mid/audio_split": lambda: slots.tokens,
    }
    for name, compute in checks.items():
        if name in stored:
            ours, theirs = np.asarray(compute()), stored[name]
            case.check(name, ours[-len(theirs):] if ours.shape != theirs.shape else ours)


def check_tables(case):
    """Rotary tables and rotation at every head size of the case, and the sinusoids of the noise level."""
    stored, info = case.tensors, case.info
    grid, tolerance = tuple(info["grid"]), info["tolerance"]
    for size in info["head_dims"]:
        angles = np.concatenate([np.outer(np.arange(info["positions"]), f) for f in rope_frequencies(size)], 1)
        for part, ours in (("angle", angles), ("real", np.cos(angles)), ("imag", np.sin(angles))):
            if part != "angle":
                case.check(f"out/freqs_d{size}_{part}", ours, atol=tolerance["freqs"]["atol"], rtol=0)
        q, tokens = stored[f"in/q_d{size}"], int(np.prod(grid))
        apart = pairs_apart(jnp.asarray(q[:, :tokens]), 1)
        turned = rotate(apart, swapped(apart), *rope_tables(grid, size))
        turned = rearrange(turned, "B L N (two P) -> B L N (P two)", two=2)
        np.testing.assert_allclose(turned, stored[f"out/rope_d{size}"][:, :tokens], rtol=0, **tolerance["rope"])
    for name in [n for n in stored if n.startswith("out/sinusoidal_")]:
        ours = sinusoid(jnp.asarray(stored["in/t"]), int(name.rsplit("_", 1)[1]))
        case.check(name, ours, rtol=0, **tolerance["sinusoidal"])
