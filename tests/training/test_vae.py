"""Training of the video autoencoder: it learns, resumes exactly, and what is exported encodes as expected."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import train
from stableavatar_jax.checkpoint import load_part
from stableavatar_jax.config import read_config, write_config
from stableavatar_jax.data.clips.dataset import BuildConfig, ClipDataset, build
from stableavatar_jax.hosts import MeshConfig
from stableavatar_jax.models.config import AvatarConfig, VAEConfig
from stableavatar_jax.training import run as runs
from stableavatar_jax.training.logs import read_rows
from stableavatar_jax.training.parts import vae as module
from stableavatar_jax.training.parts.config import VAELossConfig, VAETrainConfig
from stableavatar_jax.training.parts.vae_loss import reconstruction_loss
from stableavatar_jax.weights.directory import write_part
from stableavatar_jax.weights.formats.tensors import lazy
from tests.data import made
from tests.training import tiny

# The fewest layers between a picture and its latents: what a run does with a network is the same for the smallest.
SMALL = VAEConfig(dim=4, dim_mult=(1, 1, 1, 1), num_res_blocks=0, conv="direct")
MODEL = dataclasses.replace(tiny.MODEL, vae=SMALL)
PRESET = """
import dataclasses
from stableavatar_jax.training.parts.config import VAETrainConfig
from tests.training.test_vae import MODEL
config = VAETrainConfig(model=MODEL, batch=2)
"""


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vae")
    for name in "speech-1", "speech-2":
        made.folder_clip(folder / "raw" / name, 5)
    build(BuildConfig(source=folder / "raw", output=folder / "clips"))
    (folder / "preset.py").write_text(PRESET)
    return folder / "clips"


def run(clips, folder, steps, *more):
    return train.main(["--part", "vae", "--config", str(clips.parent / "preset.py"), "--clips", str(clips), "--run-dir",
                       str(folder), "--steps", str(steps), "--crop.size", "16", "--mesh.fsdp", "1",
                       "--checkpoint-every", "2", *more])  # fmt: skip


def test_a_run_goes_on_and_is_exported(clips, tmp_path):
    options = "--optimizer.warmup", "1", "--validate-every", "4"
    assert run(clips, tmp_path / "whole", 4, *options) == 0
    assert run(clips, tmp_path / "parts", 2, *options) == 0
    assert run(clips, tmp_path / "parts", 4, *options) == 0
    whole, parts = (read_rows(tmp_path / name / "metrics.csv") for name in ("whole", "parts"))
    names = "loss", "absolute", "squared", "psnr", "kl", "latents_std", "gradient_norm", "learning_rate"
    assert [[row[name] for name in names] for row in whole] == [[row[name] for name in names] for row in parts]
    assert len(whole) == 4 and "mfu" not in whole[0]
    measured, = read_rows(tmp_path / "whole" / "validation.csv")
    assert measured["step"] == 4 and measured["psnr"] > 3 and (tmp_path / "whole" / "validation" / "4.png").is_file()

    assert run(clips, tmp_path / "whole", 4, *options, "--export", str(tmp_path / "model")) == 0
    model = read_config(tmp_path / "model", AvatarConfig)
    network, params = load_part(tmp_path / "model", model, "vae")
    videos = np.stack([module.middle(ClipDataset(clips)[number], 1)[0] for number in (0, 1)])
    mean, _, _ = network.apply({"params": params}, jnp.asarray(videos / 127.5 - 1, jnp.float32), method="encode")
    np.testing.assert_allclose(np.asarray(mean).mean((0, 1, 2, 3)), 0, atol=0.05)
    np.testing.assert_allclose(np.asarray(mean).std((0, 1, 2, 3)), 1, atol=0.05)
    # What is there is not written over; another run may begin with it, and leave its latents as they are.
    assert run(clips, tmp_path / "whole", 4, *options, "--export", str(tmp_path / "model")) == 1
    more = ("--checkpoint", str(tmp_path / "model"), "--train", "decoder", "--noise", "0.1", "--optimizer.warmup", "0")
    assert run(clips, tmp_path / "more", 1, *more) == 0
    assert run(clips, tmp_path / "more", 1, *more, "--export", str(tmp_path / "tuned")) == 0
    assert read_config(tmp_path / "tuned", AvatarConfig).vae == model.vae
    _, tuned = load_part(tmp_path / "tuned", model, "vae")
    for half, same in ("encoder", True), ("moments", True), ("decoder", False), ("entry", False):
        equal = jax.tree.map(np.array_equal, params[half], tuned[half])
        assert all(jax.tree.leaves(equal)) == same, half


def test_a_fresh_autoencoder_takes_every_frame_for_a_picture():
    """Time is not mixed: a still video is given back as its picture is, and its later frames are read alone."""
    network = module.network(VAETrainConfig(model=MODEL))
    params = module.one_frame_start(load_part(None, dataclasses.replace(MODEL, vae=network.config), "vae")[1])
    pixels = jax.random.uniform(jax.random.key(0), (1, 1, 16, 16, 3), minval=-1)
    video = jnp.concatenate([jnp.zeros((1, 1, 16, 16, 3)), jnp.repeat(pixels, 8, 1)], 1)
    apply = jax.jit(lambda method, x: network.apply({"params": params}, x, method=method), static_argnums=0)
    mean, logvar, _ = apply("encode", video)
    alone, _, _ = apply("encode", pixels)
    np.testing.assert_allclose(mean[:, 1:], jnp.repeat(alone, 2, 1), atol=1e-4)
    assert abs(float(logvar.mean()) - module.SURE) < 1
    given, picture = apply("decode", mean)[0], apply("decode", alone)[0]
    np.testing.assert_allclose(given[:, 1:], jnp.repeat(picture, 8, 1), atol=1e-4)


def test_the_lips_weigh_more():
    """An error on the lips costs (1 + lip + face) times one elsewhere; the posterior's price is the divergence."""
    video, nothing = jnp.zeros((1, 1, 4, 4, 3)), jnp.zeros((1, 1, 1, 1, 2))
    mask = jnp.zeros((1, 1, 4, 4), bool).at[0, 0, 0, 0].set(True)
    config = VAELossConfig(lip=4.0, face=1.0, squared=1.0, kl=0.5)
    loss = lambda *place: reconstruction_loss(  # noqa: E731
        video, video.at[place].set(0.1), nothing, nothing, mask, mask, config)
    on, off = loss(0, 0, 0, 0), loss(0, 0, 3, 3)
    np.testing.assert_allclose(on[0] / off[0], 6, rtol=1e-5)
    np.testing.assert_allclose([on[1]["lip_psnr"], on[1]["psnr"]], 20 + 10 * np.log10([4, 64]), rtol=1e-5)
    sure = reconstruction_loss(video, video, nothing + 1, nothing, mask, mask, config)
    np.testing.assert_allclose([sure[0], sure[1]["kl"]], [0.25, 0.5])


def test_edges_and_motion_are_differences_of_the_error():
    video = jnp.zeros((1, 3, 4, 4, 3))
    mask = jnp.zeros(video.shape[:-1], bool)
    moments = jnp.zeros((1, 1, 1, 1, 2)), jnp.zeros((1, 1, 1, 1, 2))
    config = VAELossConfig(edge=1.0, motion=1.0, kl=0.0)
    cost = lambda given: float(reconstruction_loss(video, given, *moments, mask, mask, config)[0])  # noqa: E731
    flat = cost(jnp.full(video.shape, 0.5))
    np.testing.assert_allclose(flat, 0.75)
    blinking = jnp.full(video.shape, 0.5) * jnp.array([1, -1, 1])[None, :, None, None, None]
    np.testing.assert_allclose(cost(blinking) - flat, 1.0)
    stripes = jnp.full(video.shape, 0.5) * jnp.array([1, -1, 1, -1])[:, None]
    np.testing.assert_allclose(cost(stripes) - flat, 1.0)


def test_colour_weighs_what_is_not_light():
    """Grey errors cost what they did, and a colour costs its Cb and Cr more."""
    video = jnp.zeros((1, 1, 4, 4, 3))
    mask = jnp.zeros(video.shape[:-1], bool)
    moments = jnp.zeros((1, 1, 1, 1, 2)), jnp.zeros((1, 1, 1, 1, 2))
    cost = lambda weight, *pixel: float(reconstruction_loss(  # noqa: E731
        video, video + jnp.array(pixel), *moments, mask, mask, VAELossConfig(squared=0.0, kl=0.0, colour=weight))[0])
    np.testing.assert_allclose(cost(2.0, 0.5, 0.5, 0.5), cost(0.0, 0.5, 0.5, 0.5), rtol=1e-5)
    np.testing.assert_allclose(cost(2.0, 0, 0, 0.5) - cost(0.0, 0, 0, 0.5), 0.25 + 0.25 * 0.114 / 0.701, rtol=1e-5)


def test_a_run_begins_with_packed_weights(tmp_path):
    """A shipped model has one file for each part in place of a folder."""
    _, params = load_part(None, MODEL, "vae", seed=7)
    write_config(tmp_path, MODEL)
    write_part(tmp_path / "vae", {path: lazy(x) for path, x in flatten_dict(jax.device_get(params), sep="/").items()})
    config = VAETrainConfig(model=MODEL, checkpoint=tmp_path, mesh=MeshConfig(fsdp=1))
    state = runs.fresh_state(module.prepare(config))
    jax.tree.map(np.testing.assert_array_equal, state.params["vae"], params)
