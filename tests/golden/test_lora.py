"""LoRA against the release's numbers: key names, the forward with it beside and merged into the kernels."""

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from stableavatar_jax.models import lora as loras
from stableavatar_jax.models.avatar import abstract_params
from stableavatar_jax.models.dit import DiT
from stableavatar_jax.weights import rules
from stableavatar_jax.weights.lora import import_lora
from stableavatar_jax.weights.lora_writer import export_lora
from stableavatar_jax.weights.names import dit as names
from tests.golden import cases, sizes
from tests.golden.test_training import features

GROUPS = {"lora"}


def test_lora(case):
    info, stored = case.info, case.tensors
    config = sizes.dit(info["config"], info["state_dict"])
    model, seed = DiT(config), info["seed"]
    params, _ = rules.load(names.NAMINGS[0], config, cases.weights(info["state_dict"], seed), abstract_params(model))
    source = cases.weights(info["lora_state_dict"], seed)
    source |= {key: np.float32(info["alpha"]) for key in source if key.endswith(".alpha")}
    lora = import_lora(source)

    exported = dict(export_lora(lora))
    assert {key: list(tensor.shape) for key, tensor in exported.items()} == info["lora_state_dict"]
    for key, tensor in exported.items():
        np.testing.assert_array_equal(tensor, source[key], err_msg=key)
    fresh = loras.init(jax.random.key(0), params, loras.LoRAConfig(rank=info["rank"], alpha=float(info["alpha"])))
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, lora)

    z, reference = (jnp.asarray(stored[f"in/{name}"].transpose(0, 2, 3, 4, 1)) for name in ("x", "y"))
    text, mask = features(stored, config)
    t, image, audio = (jnp.asarray(stored[f"in/{name}"]) for name in ("t", "clip_fea", "vocal"))
    inputs = z, t, reference, text, mask, image, audio
    forward = jax.jit(lambda variables: rearrange(model.apply(variables, *inputs), "B F H W C -> B C F H W"))
    merged = jax.jit(loras.merge, static_argnums=2)(params, lora, info["multiplier"])
    tensors = dict(rules.export(names.NAMINGS[0], config, merged))
    for name in [n for n in stored if n.startswith("out/merged/")]:
        case.check(name, tensors[name.removeprefix("out/merged/")], **info["tolerance"]["merged"])
    tolerance = info["tolerance"]["out"]
    case.check("out/noise_pred_base", forward({"params": params}), **tolerance)
    case.check("out/noise_pred_lora_applied_mult1", forward({"params": params, "lora": lora}), **tolerance)
    case.check("out/noise_pred_merged", forward({"params": merged}), **tolerance)
