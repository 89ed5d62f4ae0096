"""The wavefront order gives what the plain order gives, bit for bit, in any division into calls."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from stableavatar_jax.diffusion import solvers
from stableavatar_jax.diffusion.windows import WindowConfig
from stableavatar_jax.errors import Mistake
from stableavatar_jax.sampling.plain import make_plain
from stableavatar_jax.sampling.program import Source, without_memory
from stableavatar_jax.sampling.progress import Denoised, Standing
from stableavatar_jax.sampling.wavefront import make_wavefront

SHAPE = (2, 3, 4)
STEPS = 3


def velocity(shared, own, z, t):
    """A stand-in network: mixes all frames of a window, knows the video, the sound, the time and the place."""
    mixed = z / 2 + z[:, ::-1] / 4 + jnp.roll(z, 1, 1) * own.sound[..., None, None, None]
    return mixed * shared[own.video][:, None, None, None, None] + (t / 1024).reshape(-1, 1, 1, 1, 1)


def source(config, windows, seed=0, counted=True):
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(config.padded(windows + 3), *SHAPE)).astype(np.float32)
    sounds = rng.normal(size=(windows, config.window)).astype(np.float32)
    return Source(
        noise=lambda start, count: jnp.asarray(noise[start : start + count]),
        sounds=lambda first: iter(jnp.asarray(sounds[first:])),
        windows=windows if counted else None,
        shared=np.float32(0.5 + seed),
    )


def run(make, config, sources, name="euler", steps=STEPS, tell=lambda event: None, state=None):
    """Finished latents of every source, cut to its windows."""
    denoise = make(without_memory(velocity), solvers.solver(name, steps), config, join=lambda each: jnp.stack(each))
    blocks = [[] for _ in sources]
    for number, start, z in denoise(sources, tell, state):
        assert start == sum(map(len, blocks[number]))
        blocks[number].append(z)
    lengths = [config.padded(len(list(source.sounds(0)))) for source in sources]
    return [np.concatenate(each)[:length] for each, length in zip(blocks, lengths, strict=True)]


@pytest.mark.parametrize("name", ["euler", "unipc", "dpm++"])
@pytest.mark.parametrize("overlap", [0, 2, 5, 10, 11, 15, 20])
def test_wavefront_equals_plain(name, overlap):
    """One program each serves every number of windows."""
    config = WindowConfig(window=21, overlap=overlap, rows=2, batches=2)
    for windows in (1, 2, 7):
        given = [source(config, windows)]
        plain, wavefront = (run(make, config, given, name) for make in (make_plain, make_wavefront))
        assert_array_equal(wavefront[0], plain[0])


@pytest.mark.parametrize("fusion", ["linear", "fixed"])
@pytest.mark.parametrize("rows, batches, first", [(1, 1, 0), (3, 1, 1), (4, 2, 2)])
def test_any_division_into_calls(fusion, rows, batches, first):
    config = WindowConfig(window=7, overlap=3, rows=rows, batches=batches, fusion=fusion, first_fused_step=first)
    given = [source(config, 5, counted=False)]
    plain = run(make_plain, config, given, "dpm++", 4)
    assert_array_equal(run(make_wavefront, config, given, "dpm++", 4)[0], plain[0])


@pytest.mark.parametrize("overlap", [0, 3, 5])
def test_several_videos_on_the_line_each_as_if_alone(overlap):
    config = WindowConfig(window=7, overlap=overlap, rows=2, batches=1)
    given = [source(config, windows, seed) for seed, windows in enumerate([1, 4, 1, 1, 2, 1, 1, 1, 3])]
    together = run(make_wavefront, config, given, "unipc")
    for each, alone in zip(together, given, strict=True):
        assert_array_equal(each, run(make_plain, config, [alone], "unipc")[0])


@pytest.mark.parametrize("make", [make_plain, make_wavefront])
def test_goes_on_from_every_place(make):
    """From the state that any event offers the rest is the same to the bit, and what is behind it is not done again."""
    config = WindowConfig(window=7, overlap=3, rows=1, batches=2)
    given, states = [source(config, 4)], []
    solver = solvers.solver("unipc", STEPS)
    denoise = make(without_memory(velocity), solver, config, join=jnp.stack)
    keep = lambda event: states.append(event.state()) if isinstance(event, Standing) else None  # noqa: E731
    blocks = np.concatenate([z for _, _, z in denoise(given, keep)])
    assert len(states) > 5
    for state in states:
        told = []
        rest = [z for _, _, z in denoise(given, told.append, state)]
        assert_array_equal(np.concatenate([blocks[: len(blocks) - sum(map(len, rest))], *rest]), blocks)
        done = [event.done for event in told if isinstance(event, Denoised)]
        assert done == sorted(done) and done[-1:] in ([], [4 * STEPS])
    assert len(done) < len(states)


@pytest.mark.parametrize("make", [make_plain, make_wavefront])
def test_one_trace_for_every_length(make):
    traced = []

    def counted(shared, own, z, t):
        traced.append(z.shape)
        return velocity(shared, own, z, t)

    config = WindowConfig(window=5, overlap=2, rows=2, batches=2)
    denoise = make(without_memory(counted), solvers.solver("euler", STEPS), config, join=jnp.stack)
    for windows in (1, 3, 6):
        events = []
        list(denoise([source(config, windows)], events.append))
        done = [event for event in events if isinstance(event, Denoised)]
        assert done[-1] == Denoised(STEPS * windows, STEPS * windows)
    assert traced == [(2, 5, *SHAPE)]


@pytest.mark.parametrize("make", [make_plain, make_wavefront])
def test_a_velocity_that_is_not_finite_ends_its_own_video_alone(make):
    def broken(shared, own, z, t):
        bad = (shared[own.video] == 1.5) & (t < 900)
        return jnp.where(bad[:, None, None, None, None], jnp.nan, velocity(shared, own, z, t))

    config, solver = WindowConfig(window=5, overlap=2, rows=2), solvers.solver("euler", 5)
    given = [source(config, windows, seed) for seed, windows in enumerate([2, 3, 1])]
    made = list(make(without_memory(broken), solver, config, join=jnp.stack)(given))
    step = 1 + int(np.argmax(np.asarray(solver.t) < 900))
    [error] = [z for _, _, z in made if isinstance(z, Mistake)]
    assert f"step {step} gave numbers that are not finite" in str(error)
    assert [number for number, _, z in made if isinstance(z, Mistake)] == [1]
    for number in (0, 2):
        alone = run(make_plain, config, [given[number]], steps=5)[0]
        found = np.concatenate([z for n, _, z in made if n == number])
        assert_array_equal(found[: config.padded(given[number].windows)], alone[: config.padded(given[number].windows)])
