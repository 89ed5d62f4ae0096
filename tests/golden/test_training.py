"""Training against the release's numbers: noising, losses, masks, the optimizer, and whole steps."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from stableavatar_jax.diffusion import flow, losses, masks
from stableavatar_jax.diffusion.config import LossConfig
from stableavatar_jax.models.avatar import abstract_params
from stableavatar_jax.models.config import LoRAConfig
from stableavatar_jax.models.dit import DiT
from stableavatar_jax.training import optimizer as optimizers
from stableavatar_jax.training import state as states
from stableavatar_jax.training.config import OptimizerConfig
from stableavatar_jax.training.parts.config import StepConfig
from stableavatar_jax.training.parts.dit_step import Draws, gradients, measure
from stableavatar_jax.training.step import told
from stableavatar_jax.weights import rules
from stableavatar_jax.weights.names import dit as names
from tests.golden import cases, sizes

GROUPS = {"training"}


def features(stored, config):
    """Text rows of a case, padded, and which of them are text."""
    rows = [stored[f"in/context_{i}"] for i in range(sum(n.startswith("in/context_") for n in stored))]
    text = np.zeros((len(rows), config.text_len, config.text_dim), np.float32)
    mask = np.zeros(text.shape[:2], bool)
    for i, row in enumerate(rows):
        text[i, : len(row)], mask[i, : len(row)] = row, True
    return jnp.asarray(text), jnp.asarray(mask)


def last(x):
    """Channels last."""
    return jnp.asarray(np.moveaxis(x, 1, -1))


def test_noising(case):
    level = flow.training_level(jnp.asarray(case.tensors["in/indices"]), case.info["config"]["shift"])
    latents, noise = last(case.tensors["in/latents"]), last(case.tensors["in/noise"])
    case.check("out/sigmas", level)
    case.check("out/timesteps", flow.LEVELS * level)
    case.check("out/noisy_latents", np.moveaxis(flow.add_noise(latents, noise, level), -1, 1))
    case.check("out/target", np.moveaxis(flow.target_velocity(latents, noise), -1, 1))


test_noising.cases = "noising*.json"


def test_losses(case):
    config = LossConfig(motion_axis="channels")
    velocity, target = last(case.tensors["in/noise_pred"]), last(case.tensors["in/target"])
    face, lip = (jnp.asarray(case.tensors[f"in/{n}_mask_latent"][:, 0]) for n in ("face", "lip"))
    motion = losses.motion_error(velocity, target, "channels").mean()
    loss = []
    for flag in case.info["flags"]:
        branch = losses.branch_of(jnp.full(len(velocity), flag), config)
        loss.append(losses.squared_error(velocity, target, losses.branch_weight(branch, face, lip)).mean())
    case.check("out/loss_by_flag", jnp.stack(loss))
    case.check("out/motion_sub_loss", motion[None])
    case.check("out/combined_by_flag", jnp.stack([losses.combine(x, motion, config) for x in loss]))
    case.check("out/plain_mse", losses.squared_error(velocity, target).mean()[None])


test_losses.cases = "loss_branches*.json"


def test_masks(case):
    stored = case.tensors
    frames, height, width = stored["out/mask_latent"].shape[2:]
    given = masks.given_mask(jnp.asarray(stored["in/pixel_value_masks"][:, :, 0]), (height, width))
    case.check("out/mask_latent", np.moveaxis(given, -1, 1))
    reference = jnp.concatenate([given, last(stored["in/masked_latents"])], -1)
    reference = reference * stored["in/t2v_flag"][:, None, None, None, None]
    case.check("out/inpaint_latents", np.moveaxis(reference, -1, 1))
    for name in ("face", "lip"):
        mask = jnp.asarray(stored[f"in/{name}_masks"][:, 0])
        case.check(f"out/{name}_mask_latent", masks.latent_masks(mask, (frames, height, width))[:, None])


test_masks.cases = "masks_*.json"


def test_optimizer(case):
    """The trajectory under given gradients; the schedule's rate 0 at the first step included."""
    c, stored = case.info["config"], case.tensors
    config = OptimizerConfig(
        learning_rate=c["lr"], warmup=case.info["warmup"], betas=tuple(c["betas"]), eps=c["eps"],
        weight_decay=c["weight_decay"],
    )
    optimizer = optimizers.adamw(config)
    count = sum(name.startswith("in/p") for name in stored)
    params = {i: jnp.asarray(stored[f"in/p{i}"]) for i in range(count)}
    moments, rates = optimizer.init(params), []
    for step in range(case.info["steps"]):
        grads = {i: jnp.asarray(stored[f"in/g{i}"][step]) for i in range(count)}
        updates, moments = optimizer.update(grads, moments, params)
        params = optax.apply_updates(params, updates)
        rates.append(optimizers.learning_rate(config)(step))
        for i in range(count):
            case.check(f"out/step{step}_p{i}", params[i])
    case.check("out/lr", rates)


test_optimizer.cases = "adamw_*.json"


def test_clip_and_schedule(case):
    info, tolerance = case.info, case.info["tolerance"]
    c = info["constants"]
    final, steps = c["max_grad_norm"], c["abnormal_norm_clip_start"]
    config = OptimizerConfig(clip=(final * c["initial_grad_norm_ratio"], final), clip_steps=steps)
    for row in info["rows"]:
        norm, step = jnp.asarray(row["total_grad_norm"]), jnp.asarray(row["global_step"])
        limit = optimizers.clip_limit(norm, step, config)
        np.testing.assert_allclose(limit, row["actual_max_grad_norm"], **tolerance)
        scaled, _ = optimizers.clip_gradients(config).update({"g": norm}, optimizers.ClipState(step))
        np.testing.assert_allclose(scaled["g"] / norm, row["scale"], **tolerance)
    tables = {name: rates for name, rates in info.items() if name.startswith("lr_by_step")}
    assert tables
    for name, rates in tables.items():
        warmup, base = re.fullmatch(r"lr_by_step_warmup(\d+)_base(.+)", name).groups()
        schedule = optimizers.learning_rate(OptimizerConfig(learning_rate=float(base), warmup=int(warmup)))
        np.testing.assert_allclose([schedule(step) for step in range(len(rates))], rates, err_msg=name, **tolerance)
    for strata in info["timestep_strata"]:
        np.testing.assert_array_equal(flow.strata(strata["world_size"]), strata["index_range_per_rank"])


test_clip_and_schedule.cases = "clip_and_schedule*.json"


def test_full_step(case):
    """One step of the released training, by the case's own draws."""
    info, stored, tolerance = case.info, case.tensors, case.info["tolerance"]
    config, o = sizes.dit(info["config"], info["state_dict"]), info["optimizer"]
    model = DiT(config)
    params, _ = rules.load(
        names.NAMINGS[0], config, cases.weights(info["state_dict"], info["seed"]), abstract_params(model)
    )
    optimizer = OptimizerConfig(
        learning_rate=o["lr"], warmup=0, betas=tuple(o["betas"]), eps=o["eps"], weight_decay=o["weight_decay"],
        clip=(info["max_grad_norm_at_step0"], 0.05), ema=0.0,
    )
    step = StepConfig(loss=LossConfig(motion=info["motion_sub_loss_ratio"], motion_axis="channels"))
    state = states.begin(params, "release", optimizer, LoRAConfig(), seed=0, dtype="float32")
    start = jnp.asarray(info["global_step"], jnp.int32)
    state = dataclasses.replace(state, step=start, optimizer=(optimizers.ClipState(start), *state.optimizer[1:]))
    frozen = {rule.target for rule in names.rules(config) if rule.source in info["frozen_params"]}
    assert set(traverse_util.flatten_dict(state.frozen["params"], sep="/")) == frozen

    latents, zero = last(stored["in/latents"]), jnp.zeros_like(last(stored["in/latents"]))
    text, mask = features(stored, config)
    size = latents.shape[1:4]
    batch = {
        "latents_mean": latents, "latents_logvar": zero, "reference_mean": last(stored["in/masked_latents"]),
        "reference_logvar": zero, "text": text, "text_mask": mask, "image": jnp.asarray(stored["in/clip_fea"]),
        "audio": jnp.asarray(stored["in/vocal"]),
        "face_mask": masks.latent_masks(jnp.asarray(stored["in/face_masks"][:, 0], jnp.float32), size),
        "lip_mask": masks.latent_masks(jnp.asarray(stored["in/lip_masks"][:, 0], jnp.float32), size),
    }
    rows = len(latents)
    draws = Draws(
        posterior=zero, reference_posterior=zero, noise=last(stored["in/noise"]),
        level=flow.training_level(jnp.asarray(stored["in/indices"], jnp.float32)),
        branch=losses.branch_of(jnp.full(rows, info["mask_loss_flag"]), step.loss),
        silent=jnp.full(rows, bool(info.get("zero_audio"))), blind=jnp.zeros(rows, bool),
        clip_level=jnp.asarray(info["is_clip_level_modeling"]),
    )
    given = masks.given_mask(jnp.asarray(stored["in/pixel_value_masks"][:, :, 0], jnp.float32), size[1:])
    np.testing.assert_array_equal(given, jnp.broadcast_to(masks.first_frame_given(size), given.shape))

    @jax.jit
    def run(state, batch, draws):
        grads, errors = gradients(model, state, batch, draws, step)
        after = states.advance(state, grads, optimizers.make_optimizer(optimizer), 0.0)
        return grads, measure(errors, draws, step) | told(grads, state.step, optimizer), after

    grads, metrics, after = run(state, batch, draws)
    for name, ours in (("rec_loss", "reconstruction"), ("motion_sub_loss", "motion"), ("loss", "loss")):
        case.check(f"out/{name}", metrics[ours][None], **tolerance["loss"])
    case.check("out/total_grad_norm", metrics["gradient_norm"][None], **tolerance["grad_norms"])
    np.testing.assert_allclose(metrics["clip"], info["actual_max_grad_norm"], rtol=1e-6)

    scale = min(1.0, float(metrics["clip"] / (metrics["gradient_norm"] + 1e-6)))
    exported = dict(exported_trained(config, grads["params"]))
    assert exported.keys() == info["grad_norms"].keys()
    for name, norm in info["grad_norms"].items():
        if name in info["noise_dominated_grad_norms"]:
            assert np.linalg.norm(exported[name]) < 1e-5, name
        else:
            np.testing.assert_allclose(np.linalg.norm(exported[name]), norm, err_msg=name, **tolerance["grad_norms"])
    updated = dict(exported_trained(config, after.params["params"]))
    for name in [n.removeprefix("out/grad/") for n in stored if n.startswith("out/grad/")]:
        grad = stored[f"out/grad/{name}"]
        case.check(f"out/grad/{name}", exported[name], **tolerance["grad"])
        case.check(f"out/clipped_grad/{name}", scale * exported[name], **tolerance["grad"])
        if f"out/param_after/{name}" not in info["noise_dominated_param_after"]:
            sure = np.abs(grad) > 1e-5 * np.abs(grad).max()  # below, the first step is the sign of rounding noise
            ours, theirs = updated[name][sure], stored[f"out/param_after/{name}"][sure]
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance["param_after"]["atol"], err_msg=name)


test_full_step.cases = "full_step_*.json"


def exported_trained(config, params):
    """The release's names and tensors of the trained part of a params tree."""
    flat = rules.flatten(params)
    for rule in names.rules(config):
        if rule.target in flat:
            value = rule.op.inverse(rule.slot(np.asarray(flat[rule.target])))
            yield rule.source, value if rule.source_shape is None else value.reshape(rule.source_shape)
