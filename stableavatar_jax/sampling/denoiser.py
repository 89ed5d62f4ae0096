"""The denoising loop that a way of denoising asks for."""

import functools

from jax.sharding import Mesh

from stableavatar_jax.diffusion import solvers
from stableavatar_jax.diffusion.reuse import Schedule
from stableavatar_jax.models.dit import DiT
from stableavatar_jax.sampling.config import Denoising
from stableavatar_jax.sampling.plain import make_plain
from stableavatar_jax.sampling.program import Order
from stableavatar_jax.sampling.velocity import join, make_velocity
from stableavatar_jax.sampling.wavefront import make_wavefront


@functools.lru_cache(maxsize=16)
def denoiser(dit: DiT, denoising: Denoising, schedule: Schedule = (), mesh: Mesh | None = None) -> Order:
    """The denoising loop for a transformer and a settled way of denoising, compiled when first called."""
    make = {"plain": make_plain, "wavefront": make_wavefront}[denoising.order]
    velocity = make_velocity(dit, denoising.guided(), mesh, schedule, denoising.fewer.guidance_reuse)
    return make(velocity, solver_of(denoising), denoising.windows, dit.compute.platform, join)


def solver_of(denoising: Denoising) -> solvers.Solver:
    """The solver of a way of denoising."""
    fewer = denoising.fewer
    return solvers.solver(
        denoising.solver, denoising.steps, denoising.shift, levels=fewer.noise_levels, renoise=fewer.renoises
    )
