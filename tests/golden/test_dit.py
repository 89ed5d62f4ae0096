"""The transformer against the release's numbers: whole evaluations with their intermediates, and the rotary tables."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from stableavatar_jax.models.config import AudioAdapterConfig, DiTConfig
from stableavatar_jax.models.dit import DiT
from stableavatar_jax.models.rope import rope_frequencies, rope_tables, rotate, sinusoid
from stableavatar_jax.weights import rules
from stableavatar_jax.weights.names import dit as names
from tests.golden import cases
from tests.params import abstract_params

GROUPS = {"dit_1b", "dit_14b"}


def config_of(case) -> DiTConfig:
    """Our config of a case: the two variants differ in the audio projection and in what a null branch is."""
    c, hidden = case.info["config"], (2048,) if case.info["variant"] == "14b" else ()
    adapter = AudioAdapterConfig(audio_dim=c["audio_in_dim"], dim=c["dim"], projection_dims=hidden)
    return DiTConfig(
        dim=c["dim"], ffn_dim=c["ffn_dim"], heads=c["num_heads"], layers=c["num_layers"], in_channels=c["in_dim"],
        out_channels=c["out_dim"], text_dim=c["text_dim"], text_len=c["text_len"], image_dim=c["clip_dim"],
        time_dim=c["freq_dim"], adapter=adapter, mask_padding=bool(case.info["call"].get("honor_k_lens")),
    )


def load(module: nn.Module, naming, config, info) -> dict:
    weights = cases.weights(info["state_dict"], info["seed"])
    params, _ = rules.load(naming, config, weights, abstract_params(module))
    return params


def test_evaluation(case):
    check_tables(case) if case.path.stem == "rope_tables" else check_evaluation(case)


def check_evaluation(case):
    config, info, stored = config_of(case), case.info, case.tensors
    model = DiT(config)
    params = load(model, names.NAMINGS[0], config, info)
    z, reference = (jnp.asarray(stored[f"in/{n}"][:1].transpose(0, 2, 3, 4, 1)) for n in ("x", "y"))
    texts = [stored[f"in/context_{i}"] for i in range(len([n for n in stored if n.startswith("in/context_")]))]
    text = np.zeros((1, len(texts), config.text_len, config.text_dim), np.float32)
    mask = np.zeros(text.shape[:-1], bool)
    for i, rows in enumerate(texts):
        text[0, i, : len(rows)], mask[0, i, : len(rows)] = rows, True
    audio, branches = stored["in/vocal"], ((0, 0),)
    if len(texts) == 3 and info["variant"] == "1b":  # one audio for all; the first branch gets zero refined audio
        audio, branches = audio[-1:], ((0, None), (1, 0), (2, 0))
    elif len(texts) == 3:
        branches = ((0, 0), (1, 1), (2, 2))
    frames = info["call"].get("video_sample_n_frames")

    def evaluate(params):
        bound = model.bind({"params": params})
        context = bound.context(jnp.asarray(text), jnp.asarray(mask), jnp.asarray(stored["in/clip_fea"][:1]))
        slots = bound.slots(jnp.asarray(audio), z.shape[1], frames)
        slots = slots._replace(tokens=slots.tokens[None])
        return slots, bound.velocity(
            z, jnp.asarray(stored["in/t"][:1]), reference, context, slots,
            branches=branches, clip_level=bool(info["call"]["is_clip_level_modeling"]),
        )

    slots, out = jax.jit(evaluate)(params)
    if "mid/vocal_k_lens" in stored:
        lengths = np.tile(slots.mask.sum(1), len(stored["mid/vocal_k_lens"]) // len(slots.mask))
        np.testing.assert_array_equal(lengths, stored["mid/vocal_k_lens"])
    case.check("out/noise_pred", rearrange(out[0], "K F H W C -> K C F H W"))
    check_intermediates(case, model, params, slots, text, mask)


def check_intermediates(case, model, params, slots, text, mask):
    """What the release computes on the way, where our model computes the same thing by a name of its own."""
    bound, stored, c = model.bind({"params": params}), case.tensors, model.config
    t = jnp.asarray(stored["in/t"][:1])
    e = bound.time_embedding(sinusoid(t, c.time_dim))
    checks = {
        "mid/sinusoid": lambda: sinusoid(t, c.time_dim),
        "mid/e": lambda: e,
        "mid/e0": lambda: rearrange(bound.time_projection(nn.silu(e)), "B (six D) -> B six D", six=6),
        "mid/text_context": lambda: bound.text_embedding(jnp.where(mask[..., None], text, 0)[0]),
        "mid/clip_context": lambda: bound.image_embedding(jnp.asarray(stored["in/clip_fea"])),
        "mid/audio_proj": lambda: bound.audio_adapter.projection(jnp.asarray(stored["in/vocal"])),
        "mid/audio_split": lambda: slots.tokens[0],
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
        turned = rotate(jnp.asarray(q[:, :tokens]), *rope_tables(grid, size))
        np.testing.assert_allclose(turned, stored[f"out/rope_d{size}"][:, :tokens], rtol=0, **tolerance["rope"])
    for name in [n for n in stored if n.startswith("out/sinusoidal_")]:
        ours = sinusoid(jnp.asarray(stored["in/t"]), int(name.rsplit("_", 1)[1]))
        case.check(name, ours, rtol=0, **tolerance["sinusoidal"])
