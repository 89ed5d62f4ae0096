"""A rough picture while a video is denoised."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from stableavatar_jax.diffusion.solvers import solver
from stableavatar_jax.diffusion.windows import WindowConfig
from stableavatar_jax.encoding.conditions import Conditions
from stableavatar_jax.sampling.plain import make_plain
from stableavatar_jax.sampling.preview import Preview, colour_map, colours
from stableavatar_jax.sampling.progress import Encoded, Rough
from stableavatar_jax.sampling.wavefront import make_wavefront
from tests.sampling.test_wavefront import run, source

ROWS, COLUMNS, CHANNELS = 6, 5, 16
RNG = np.random.default_rng(0)
MAP = RNG.normal(size=(CHANNELS + 1, 3)).astype(np.float32) / 20
Z = RNG.normal(size=(4, ROWS, COLUMNS, CHANNELS)).astype(np.float32)


def conditions(z):
    mask = np.ones((1, *z.shape[:2], 4), np.float32)
    return Conditions(
        text=np.zeros((2, 3, 4), np.float32), text_mask=np.ones((2, 3), bool), image=np.zeros((5, 6), np.float32),
        reference=np.concatenate([mask, z[None]], -1),
    )  # fmt: skip


def picture(z):
    """A picture of which each square has the colour of a latent, and noise around it."""
    squares = colours(z, MAP).repeat(8, 0).repeat(8, 1)
    noise = RNG.normal(size=squares.shape).reshape(ROWS, 8, COLUMNS, 8, 3)
    return (squares + 0.02 * (noise - noise.mean((1, 3), keepdims=True)).reshape(squares.shape)).astype(np.float32)


def test_the_map_is_found_in_a_picture_and_its_latents():
    np.testing.assert_allclose(colours(Z[1], colour_map(Z[0], picture(Z[0]))), colours(Z[1], MAP), atol=0.01)


@pytest.mark.parametrize("shape", [(1, 1), (3, 4)])
def test_a_picture_of_few_latents_has_a_map_too(shape):
    z = RNG.normal(size=(*shape, CHANNELS)).astype(np.float32)
    found = colours(z, colour_map(z, np.full((8 * shape[0], 8 * shape[1], 3), 0.25, np.float32)))
    np.testing.assert_allclose(found, 0.25, atol=1e-5)


@pytest.mark.parametrize(("steps", "shown"), [(1, [1]), (4, [2, 4]), (30, [*range(3, 31, 3)])])
def test_it_shows_the_end_of_a_straight_line_at_every_point_of_it(tmp_path, steps, shown):
    noise, path, levels = RNG.normal(size=Z.shape), tmp_path / "preview.png", np.asarray(solver("euler", steps).s)
    preview, seen = Preview(path, picture(Z[0]), levels), []
    preview(Encoded(conditions(Z[0])))
    for step, s in enumerate(levels[1:], 1):
        preview(Rough(step, lambda s=s: jnp.asarray((1 - s) * Z + s * noise, jnp.float32)))
        if path.exists():
            seen.append(step)
            found = np.asarray(Image.open(path), float)
            path.unlink()
            assert found.shape == (8 * ROWS, 8 * COLUMNS, 3)
            squares = found.reshape(ROWS, 8, COLUMNS, 8, 3)[:, 3:5, :, 3:5].mean((1, 3))  # between them it is smooth
            expected = 127.5 * (colours(Z[2], MAP).clip(-1, 1) + 1)
            assert np.abs(squares - expected).mean() < 8 < np.abs(expected - expected.mean()).mean()
    assert seen == shown and not list(tmp_path.iterdir())


def test_a_run_that_is_taken_up_again_waits_for_two_steps(tmp_path):
    preview = Preview(tmp_path / "preview.png", picture(Z[0]), np.asarray(solver("euler", 8).s))
    preview(Encoded(conditions(Z[0])))
    preview(Rough(4, lambda: jnp.asarray(Z)))
    assert not list(tmp_path.iterdir())
    preview(Rough(5, lambda: jnp.asarray(Z)))
    preview(Rough(6, lambda: jnp.asarray(Z)))
    assert [path.name for path in tmp_path.iterdir()] == ["preview.png"]


def test_a_full_disk_costs_the_preview_and_not_the_video(tmp_path, capsys):
    preview = Preview(tmp_path / "file" / "preview.png", picture(Z[0]), np.asarray(solver("euler", 1).s))
    (tmp_path / "file").write_text("no folder")
    preview(Encoded(conditions(Z[0])))
    preview(Rough(1, lambda: jnp.asarray(Z)))
    preview(Rough(1, lambda: jnp.asarray(Z)))
    assert capsys.readouterr().err.count("goes on without a preview") == 1


def test_both_orders_tell_of_the_first_window():
    config = WindowConfig(window=5, overlap=2, rows=2)
    told = {}
    for make in (make_plain, make_wavefront):
        found = told[make] = []
        listen = lambda event, found=found: (  # noqa: E731
            found.append((event.steps, np.asarray(event.z()))) if isinstance(event, Rough) else None
        )
        [z] = run(make, config, [source(config, 4)], tell=listen)
        assert [steps for steps, _ in found] == [1, 2, 3]
        np.testing.assert_array_equal(found[-1][1], z[: config.stride])
    for one, other in zip(*told.values(), strict=True):
        np.testing.assert_array_equal(one[1], other[1])
