"""Noise levels, time inputs and whole trajectories of the three solvers."""

import re

import jax
import jax.numpy as jnp
import numpy as np

from stableavatar_jax.diffusion import flow, solvers

GROUPS = {"scheduler"}
NAMES = {"euler": "euler", "unipc": "unipc", "dpm": "dpm++"}


def test_arrays(case):
    for name in case.tensors:
        kind, setting, quantity = re.fullmatch(r"out/([a-z]+)_(.+)_(timesteps|sigmas)", name).groups()
        s, t = levels(kind, setting)
        case.check(name, s if quantity == "sigmas" else t, atol=case.info["tolerance"][quantity]["atol"], rtol=0)


test_arrays.cases = "arrays*.json"


def levels(kind, setting):
    """The levels and times of a setting such as `shift5_n10`, `ctor1_call5_n10`, `shift3_train`."""
    if train := re.fullmatch(r"shift([\d.]+)_train", setting):
        last = 1 if kind == "euler" else 0
        s = flow.shift(np.arange(flow.LEVELS - 1 + last, last - 1, -1) / flow.LEVELS, float(train[1]))
        return s, flow.LEVELS * s
    built, called, steps = re.fullmatch(r"(?:shift|ctor)([\d.]+)(?:_call([\d.]+))?_n(\d+)", setting).groups()
    if called is None or called == built:
        return flow.schedule("release" if kind == "euler" else "wan_twice", int(steps), float(built))
    assert float(built) == 1, "the levels' upper end is shifted by the constructor's shift, 1 for our default rule"
    assert kind != "euler", "the release gives Euler its shift when it is built"
    return flow.schedule("wan", int(steps), float(called))


def test_trajectory(case):
    config = case.info["config"]
    solver = solvers.solver(
        NAMES[config["kind"]], config["num_inference_steps"], config["shift"], order=config.get("solver_order", 2),
        variant=config.get("solver_type"), rule="release" if config["kind"] == "euler" else "wan_twice",
    )
    case.check("out/sigmas", solver.s, atol=1e-6)
    case.check("out/timesteps", solver.t, atol=1e-3)
    a, b = case.tensors["in/A"], case.tensors["in/b"][:, None, None, None]

    @jax.jit
    def step(i, z, kept):
        velocity = jnp.einsum("cd,bdfhw->bcfhw", a, z) + solver.t[i] / 1000 * b + 0.1 * jnp.sin(z)
        return solvers.step(solver, i, z, velocity, kept)

    z = jnp.asarray(case.tensors["in/x0"])
    kept, trajectory = solvers.init(solver, z), [z]
    for i in range(solver.steps):
        z, kept = step(i, z, kept)
        trajectory.append(z)
    case.check("out/trajectory", np.stack(trajectory))


test_trajectory.cases = "traj_*.json"
