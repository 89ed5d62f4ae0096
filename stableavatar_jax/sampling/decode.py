"""Latents to frames: a few latent frames at a time through the decoder, while the frames before them are taken away."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from stableavatar_jax.frames import FRAMES_PER_LATENT
from stableavatar_jax.media import postprocess
from stableavatar_jax.models.vae import VAE
from stableavatar_jax.sampling.progress import Decoded, Tell, silent
from stableavatar_jax.shapes import Array, Float, UInt8

AT_ONCE = {"cpu": 1}
"""Latent frames of one call of the decoder, by platform; on an accelerator more of them fill it better."""
AT_ONCE_SMALL, AT_ONCE_LARGE = 2, 4
"""The same on accelerators: on an H100 a latent frame of 480x832 took 46.5 ms with 2 and 44.6 with 4, which work in 3.2
and 6.0 GiB."""
LARGE = 40e9
"""Bytes of memory from which a device counts as large."""

LEAST = 4
"""Latent rows and columns that a device's piece of a picture has at least. Of smaller ones most of what a convolution
reads is its neighbours', and pieces of one place XLA (jax 0.10.2, CPU) computes wrongly."""


def at_once(platform: str) -> int:
    """Latent frames of one call of the decoder on such devices, of which this process has one."""
    if platform in AT_ONCE:
        return AT_ONCE[platform]
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 0)
    return AT_ONCE_LARGE if limit > LARGE else AT_ONCE_SMALL


@functools.lru_cache(maxsize=4)
def decoder(vae: VAE, place: NamedSharding | None = None) -> Callable[..., tuple[Array, Any]]:
    """Latent frames to uint8 frames, jitted: `decoder(vae)(params, z [n H W C], cache) -> frames, cache`.

    With a `place` of pictures (`pieces`) every device decodes its piece of each; what convolutions read beyond its
    edges XLA fetches from its neighbours.
    """

    def cut(x: Array) -> Array:
        return x if place is None else jax.lax.with_sharding_constraint(x, place)

    def run(params: Any, z: Array, cache: Any) -> tuple[Array, Any]:
        video, cache = vae.apply({"params": params}, cut(z[None]), cache, method="decode")  # type: ignore[misc]
        return postprocess(cut(video)[0]), jax.tree.map(cut, cache)

    return jax.jit(run, donate_argnums=2)


def pieces(mesh: Mesh | None, rows: int, columns: int) -> NamedSharding | None:
    """Where pictures `[B F H W C]` of so many latent rows and columns lie on the devices of a mesh: equal pieces, on as
    many devices as can have one. None where only one can.
    """
    if mesh is None:
        return None
    down = _parts(mesh.size, rows)
    across = _parts(mesh.size // down, columns)
    if down * across == 1:
        return None
    devices = mesh.devices.reshape(-1, down, across)
    names = ("alike", "down", "across")
    cut = Mesh(devices, names, axis_types=(AxisType.Auto,) * len(names))
    return NamedSharding(cut, PartitionSpec(None, None, "down", "across"))


def _parts(devices: int, length: int) -> int:
    """How many equal parts of a length lie on devices: a divisor of both, no part shorter than LEAST."""
    return max(n for n in range(1, devices + 1) if devices % n == length % n == 0 and (n == 1 or length >= LEAST * n))


def decode(
    vae: VAE,
    params: Any,
    latents: Iterable[Float[np.ndarray, "_ H W C"]],
    frames: Callable[[], int | None],
    tell: Tell = silent,
    begin: int = 0,
    place: NamedSharding | None = None,
) -> Iterator[UInt8[np.ndarray, "_ h w 3"]]:
    """The first `frames` frames of the video, as they come; peak memory does not depend on the length.

    The first latent frame is one frame, every other four. How many `frames` there are may be unknown (None) until the
    last latents come. Where latents `begin` in the middle of the video, at a multiple of what one call decodes, frames
    are right after as many as the decoder's reach. The device works on the next ones while frames are taken from it,
    and while whoever asked for them works on them. `place` is where pictures lie on several devices (`pieces`).
    """
    done = FRAMES_PER_LATENT * begin
    for made in _ahead(_calls(vae, params, latents, place)):
        video, length = np.asarray(made), frames()
        video = video[: None if length is None else length - done]
        done += len(video)
        tell(Decoded(done, length))
        yield video
        if done == length:
            return


def _calls(
    vae: VAE, params: Any, latents: Iterable[Float[np.ndarray, "_ H W C"]], place: NamedSharding | None
) -> Iterator[Array | None]:
    """Frames of every call of the decoder, on the device; None before more latents are asked for.

    The first call has the first latent frame alone. The last one is filled up with its last latent frame: no frame
    depends on a later one.
    """
    run, cache, count = decoder(vae, place), None, at_once(vae.compute.platform)
    params = jax.device_put(params, NamedSharding(place.mesh, PartitionSpec())) if place else params
    waiting: list[np.ndarray] = []
    for block in itertools.chain(latents, [None]):
        waiting += list(block) if block is not None else waiting[-1:] * (-len(waiting) % count)
        while len(waiting) >= (size := 1 if cache is None else count):
            frames, cache = run(params, jnp.asarray(np.stack(waiting[:size])), cache)
            frames.copy_to_host_async()
            yield frames
            waiting = waiting[size:]
        yield None


def _ahead(items: Iterator[Array | None]) -> Iterator[Array]:
    """The same items, each given when the next one has been asked for; None gives the last one at once."""
    before = None
    for item in items:
        if before is not None:
            yield before
        before = item
