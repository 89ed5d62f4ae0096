"""Training and sampling agree: a clip learned by heart is given back by its picture and its sound."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.checkpoint import load_part, save_params
from stableavatar_jax.config import write_config
from stableavatar_jax.diffusion import masks
from stableavatar_jax.diffusion.windows import WindowConfig
from stableavatar_jax.encoding.conditions import Conditions
from stableavatar_jax.media import Samples
from stableavatar_jax.models.config import AvatarConfig, VAEConfig
from stableavatar_jax.sampling.avatar import Avatar
from stableavatar_jax.sampling.config import Denoising, Frame
from stableavatar_jax.sampling.job import Job
from stableavatar_jax.training import run as runs
from stableavatar_jax.training.config import OptimizerConfig
from stableavatar_jax.training.parts import dit
from stableavatar_jax.training.parts.config import StepConfig
from stableavatar_jax.training.state import join, merged
from tests.training import tiny

ROWS, STEPS = 16, 350
DIT = dataclasses.replace(
    tiny.MODEL.dit, dim=64, ffn_dim=128, heads=4, adapter=dataclasses.replace(tiny.MODEL.dit.adapter, dim=64)
)


def moving_clip(frames: int, size: int) -> np.ndarray:
    """A light that wanders over a gradient: [1, T, H, W, 3] in -1..1."""
    y, x = np.mgrid[0:size, 0:size] / size
    light = [np.exp(-((x - 0.5 - 0.3 * np.sin(t / 2)) ** 2 + (y - 0.5) ** 2) * 30) for t in range(frames)]
    return np.stack([np.stack([light_t, x, y], -1) for light_t in light])[None].astype(np.float32) * 1.6 - 0.8


def model_for(video: np.ndarray) -> AvatarConfig:
    """Small networks; the latents' constants are those of this clip, as Wan's are of its data."""
    raw = VAEConfig(dim=8, conv="direct", latents_mean=(0.0,) * 16, latents_std=(1.0,) * 16)
    vae, params = load_part(None, dataclasses.replace(tiny.MODEL, vae=raw), "vae")
    mean, _, _ = jax.jit(lambda video: vae.apply({"params": params}, video, method="encode"))(jnp.asarray(video))
    shift, spread = (tuple(float(x) for x in f(np.asarray(mean), (0, 1, 2, 3))) for f in (np.mean, np.std))
    return dataclasses.replace(
        tiny.MODEL, dit=DIT, vae=dataclasses.replace(raw, latents_mean=shift, latents_std=spread)
    )


def test_a_clip_comes_back(tmp_path):
    video = moving_clip(9, 32)
    model = model_for(video)
    vae, vae_params = load_part(None, model, "vae")
    encode = jax.jit(lambda video: vae.apply({"params": vae_params}, video, method="encode"))
    decode = jax.jit(lambda z: vae.apply({"params": vae_params}, z, method="decode")[0])
    mean, _, _ = encode(jnp.asarray(video))
    reference, _, _ = encode(jnp.asarray(video * (np.arange(9) == 0)[:, None, None, None]))
    one = {name: x[:1] for name, x in tiny.batch(0).items()} | {
        "latents_mean": np.asarray(mean), "reference_mean": np.asarray(reference),
        # A trained VAE is sure of its latents; one with random weights is not.
        "latents_logvar": np.full(mean.shape, -20, np.float32),
        "reference_logvar": np.full(mean.shape, -20, np.float32),
    }  # fmt: skip
    batch = jax.tree.map(lambda x: jnp.repeat(jnp.asarray(x), ROWS, 0), one)
    optimizer = OptimizerConfig(learning_rate=2e-3, warmup=20, clip=(1.0, 1.0), clip_spikes=False, ema=0.98)
    config = tiny.config(model=model, batch=ROWS, train="all", optimizer=optimizer, step=StepConfig(clip_level=0.0))
    run = dit.prepare(config)
    state = runs.fresh_state(run)
    with run.on_mesh():
        for _ in range(STEPS):
            state, _ = run.step(state, batch)

    save_params(tmp_path / "dit", merged(join(state.ema, state.frozen)))
    write_config(tmp_path, model)
    conditions = Conditions(
        text=one["text"], text_mask=one["text_mask"], image=one["image"][0], audio=one["audio"],
        reference=np.concatenate([masks.first_frame_given(tiny.SHAPE), one["reference_mean"][0]], -1),
    )  # fmt: skip
    job = Job(
        sound=Samples(np.zeros(9 * 640, np.float32)), conditions=conditions, frame=Frame(height=32, width=32),
        denoising=Denoising(steps=25, guidance="none", windows=WindowConfig(window=3, overlap=0)),
    )  # fmt: skip
    z = np.concatenate(list(Avatar(model, tmp_path, dtype="float32").latents(job)))
    given_back, round_trip = decode(jnp.asarray(z[None])), decode(mean)
    psnr = 10 * np.log10(4 / np.square(given_back - round_trip).mean())
    still = 10 * np.log10(4 / np.square(round_trip[:, :1] - round_trip).mean())
    print(f"{psnr:.1f} dB; a still picture {still:.1f} dB")
    assert psnr >= 20 and psnr > still + 3
