"""Window plans, fusion weights, and the release's whole denoising loop with a stand-in for the network."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from stableavatar_jax.diffusion import guidance, solvers
from stableavatar_jax.diffusion.fusion import fusion_weights
from stableavatar_jax.diffusion.windows import WindowConfig, WindowPlan
from stableavatar_jax.frames import latent_frames
from stableavatar_jax.sampling.plain import Stretch, make_sweep
from stableavatar_jax.sampling.program import without_memory

GROUPS = {"windows"}
KINDS = {"log": "logarithmic", "uniform": "linear"}


def test_overlap_weights(case):
    for name in case.tensors:
        kind, overlap = re.fullmatch(r"out/([a-z]+)_(\d+)", name).groups()
        case.check(name, fusion_weights(int(overlap), KINDS[kind]))


test_overlap_weights.cases = "overlap_weights*.json"


def test_plans(case):
    """Rows with whole windows. Of each, `audio_end` and the rounding down of `latent_total` are the release's own.

    Not compared are rows of an overlap we refuse (1, or a window or more), and those in which the release never ends
    (`hang`), has no window (`no_window`: its result is zeros) or a partial last window.
    """
    compared = 0
    for row in case.info["rows"]:
        latents, window, overlap = row["latent_total"], row["frames_per_batch"], row["overlap"]
        if overlap == 1 or overlap >= window:
            with pytest.raises(ValueError, match="impossible"):
                WindowPlan(latents, window, overlap)
            continue
        plan = WindowPlan(latents, window, overlap)
        assert latent_frames(4 * latents - 3) == latents
        if row["status"] == "ok" and plan.padded == latents:
            recorded = [(w["start"], w["end"], w["audio_start"]) for w in row["windows"]]
            sounds = [frame * row["samples_per_frame"] for frame in plan.video_starts]
            assert recorded == [(s, s + window, sound) for s, sound in zip(plan.starts, sounds, strict=True)]
            compared += 1
    assert compared


test_plans.cases = "plans*.json"


def test_trajectory(case):
    """Euler steps over all windows, guided: all frames at every step.

    Those of a partial last window too: the stand-in treats every frame by itself and the sound is the recorded range,
    so a whole window differs from it only in frames the case does not have.
    """
    config, tensors, recorded = case.info["config"], case.tensors, case.info["windows"]
    noise = channels_last(tensors["in/noise"])
    plan = WindowPlan(len(noise), recorded[0]["end"], config["ov"])
    assert [w["start"] for w in recorded] == list(plan.starts)
    solver = solvers.solver("euler", config["steps"], config["scheduler"]["shift"])
    case.check("mid/timesteps", solver.t, atol=1e-3)

    # One part holds the whole video and the frames its last tail runs out over.
    batches = plan.count + plan.overlap // plan.stride + 1
    setting = WindowConfig(
        window=plan.window, overlap=plan.overlap, fusion=KINDS[config["scheme"]], first_fused_step=1, batches=batches
    )
    sweep = make_sweep(without_memory(stand_in(case, solver)), solver, setting)
    z = jnp.pad(noise, ((0, batches * plan.stride - len(noise)), (0, 0), (0, 0), (0, 0)))
    part = Stretch(z, solvers.init(solver, z))
    sound = jnp.pad(sound_means(case, plan), (0, batches - plan.count)).reshape(batches, 1)
    states = []
    for i in range(solver.steps):
        tail, ahead = jnp.zeros((2, plan.overlap, *z.shape[1:]))
        part, _, _ = sweep(part, ahead, tail, i, 0, plan.count, None, sound)
        states.append(np.moveaxis(part.z, -1, 0)[:, : len(noise)])

    expected = np.stack([*tensors["mid/latents_at_step_start"][1:], tensors["out/latents"][0]])
    np.testing.assert_allclose(states, expected, **case.tolerance("out/latents"), err_msg=case.name)


test_trajectory.cases = "traj_*.json"


def stand_in(case, solver):
    """The velocity of the case's `stub_transformer`, guided; with the release's rounding where the case has it."""
    config, tensors = case.info["config"], case.tensors
    guided = guidance.none()
    if config["guidance"]:
        guided = guidance.cfg(config["text_guide_scale"], config["audio_guide_scale"])
    text = {"prompt": tensors["in/context_pos"].mean(), "negative": tensors["in/context_neg"].mean()}
    masked = channels_last(tensors["in/masked_latents"])
    first = np.zeros((*masked.shape[:-1], 4), np.float32)
    first[0] = 1
    picture = np.concatenate([first, masked], -1).mean(-1, keepdims=True)
    frame = np.arange(len(masked), dtype=np.float32).reshape(-1, 1, 1, 1)

    def velocity(context, sound, z, t):
        s = (t / 1000).reshape(-1, 1, 1, 1, 1)
        common = 0.8 * z + 0.3 * s + 0.05 * frame + 0.1 * picture
        heard = {"sound": 0.5 * sound.reshape(-1, 1, 1, 1, 1), "dropped": 0.0}
        branches = [common + heard[branch.audio] + 0.2 * text[branch.text] for branch in guided.branches]
        v = guidance.combine(jnp.stack(branches, 1), guided)
        if not config.get("bf16"):
            return v
        # The release rounds each window's stepped latents to bfloat16: the velocity that steps to the rounded ones.
        i = jnp.argmin(jnp.abs(solver.t - t[0]))
        ds = solver.s[i + 1] - solver.s[i]
        return ((z + ds * v).astype(jnp.bfloat16).astype(jnp.float32) - z) / ds

    return velocity


def sound_means(case, plan):
    """Of every window, the mean of what the case's stand-in for the audio encoder makes of its recorded range."""
    config = case.info["config"]
    means = []
    for frame, window in zip(plan.video_starts, case.info["windows"], strict=True):
        samples = case.tensors["in/audio"][frame * config["samples_per_frame"] :][: window["audio_len"]]
        tokens = samples[: len(samples) // config["pool"] * config["pool"]]
        means.append(tokens.mean() * 2 / 3)  # channels (token, -token, 2 token)
    return np.array(means, np.float32)


def channels_last(x):
    return np.moveaxis(x[0], 0, -1)
