"""The Wan2.1 VAE against the release: the whole video at once, and in the release's own chunks."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from stableavatar_jax.models.vae import VAE, reparameterise
from stableavatar_jax.weights import rules
from stableavatar_jax.weights.names.vae import NAMINGS
from tests.golden import cases, sizes

GROUPS = {"vae"}


def test_vae(case):
    model, variables = build(case)
    video, z, eps = (ours(case.tensors[f"in/{name}"]) for name in ("x", "z", "eps"))

    (mean, logvar, _), layers = with_layers(model, variables, "encode", video)
    case.check("out/mode", theirs(mean))
    case.check("out/logvar", theirs(logvar))
    case.check("out/sample", theirs(reparameterise(mean, logvar, eps)))
    check_layers(case, model, layers, "mid/enc/")

    (frames, _), layers = with_layers(model, variables, "decode", z)
    case.check("out/frames", theirs(frames))
    check_layers(case, model, layers, "mid/dec/")

    # The first frame alone, then four frames or one latent frame at a time; here convolutions are direct.
    model = VAE(dataclasses.replace(model.config, conv="direct"))
    video = video[:, : video.shape[1] - (video.shape[1] - 1) % 4]
    mean, logvar = in_chunks(functools.partial(model.apply, method="encode"), variables, video, 4)
    case.check("out/mode", theirs(mean))
    case.check("out/logvar", theirs(logvar))
    (frames,) = in_chunks(functools.partial(model.apply, method="decode"), variables, z, 1)
    case.check("out/frames", theirs(frames))


def build(case):
    """The case's model and its weights, brought in by the converter's rules."""
    model = VAE(sizes.vae(case.info["config"]))
    abstract = nn.unbox(jax.eval_shape(model.init, jax.random.key(0), *model.example()))["params"]
    source = cases.weights(case.info["weights"], case.info["seed"])
    return model, {"params": rules.load(NAMINGS[0], model.config, source, abstract)[0]}


def ours(x):
    return jnp.asarray(rearrange(x, "b c t h w -> b t h w c"))


def theirs(x):
    return rearrange(np.asarray(x), "b t h w c -> b c t h w")


def in_chunks(call, variables, x, size):
    call, results = jax.jit(call), []
    *result, cache = call(variables, x[:, :1])
    results.append(result)
    for start in range(1, x.shape[1], size):
        *result, cache = call(variables, x[:, start : start + size], cache)
        results.append(result)
    return [np.concatenate(parts, axis=1) for parts in zip(*results, strict=True)]


def with_layers(model, variables, method, x):
    """The result of a method, and the output of every layer by the path of its parameters."""
    call = functools.partial(model.apply, method=method, capture_intermediates=True, mutable="intermediates")
    result, state = jax.jit(call)(variables, x)
    calls = {path.removesuffix("/__call__"): call for path, (call,) in rules.flatten(state["intermediates"]).items()}
    return result, {path: call[0] if isinstance(call, tuple) else call for path, call in calls.items()}


def check_layers(case, model, layers, prefix):
    """Every stored intermediate of an encoding or decoding, found by where the weights of its module went."""
    table = {rule.source: rule.target for rule in NAMINGS[0].rules(model.config)}
    for name in case.tensors:
        if name.startswith(prefix):
            module = name.removeprefix(prefix)
            module = {"moments_raw": "conv1", "frames_unclamped": "decoder.head.2"}.get(module, module)
            paths = [path for source, path in table.items() if source.startswith(module + ".")]
            path = max((path for path in layers if all(p.startswith(path + "/") for p in paths)), key=len)
            case.check(name, theirs(layers[path]))
