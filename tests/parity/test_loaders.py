"""Files written by us in the loaders of transformers and diffusers: they give our outputs."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from stableavatar_jax.config import write_config
from stableavatar_jax.configs.tiny import model as tiny
from stableavatar_jax.convert import parts
from stableavatar_jax.convert.commands import main
from stableavatar_jax.trees import flatten, unflatten
from stableavatar_jax.weights.directory import open_part, write_part
from stableavatar_jax.weights.formats.tensors import lazy

torch = pytest.importorskip("torch", reason="torch is only in the environment of `make parity`")
transformers = pytest.importorskip("transformers")
diffusers = pytest.importorskip("diffusers")

CLOSE = {"atol": 1e-4, "rtol": 1e-4}
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model directory with drawn weights, and what each part is exported to."""
    folder = tmp_path_factory.mktemp("parity")
    for name in parts.PARTS:
        leaves = flatten(parts.part(name, tiny).abstract)
        write_part(folder / "m" / name, {path: lazy(drawn(path, leaf.shape)) for path, leaf in leaves.items()})
    write_config(folder / "m", tiny)
    layouts = {"dit": "diffusers", "vae": "diffusers"}
    for name in parts.PARTS:
        command = ["export", "--part", name, "--source", str(folder / "m"), "--output", str(folder / name)]
        assert main([*command, "--layout", layouts.get(name, "transformers"), "--shard-size", "0.00005"]) == 0
    return folder


def drawn(path, shape):
    noise = RNG.standard_normal(shape, np.float32)
    if path.endswith(("scale", "gain")):
        return 1 + 0.1 * noise
    return noise * np.float32(0.1 if path.endswith("bias") else 0.5 / np.sqrt(np.prod(shape[-3:-1]) or 1))


def ours(folder, name):
    part = parts.part(name, tiny)
    return part.module, {"params": unflatten({path: x.read() for path, x in open_part(folder / "m" / name).items()})}


def loaded(kind, folder, **options):
    """A model by its program's loader; nothing may be missing, left over or of another shape."""
    network, about = kind.from_pretrained(folder, output_loading_info=True, **options)
    left = [key for key in about["unexpected_keys"] if "vocal" not in key]
    assert not about["missing_keys"] and not left and not about["mismatched_keys"], about
    return network.eval()


def test_umt5(folder):
    theirs = loaded(transformers.UMT5EncoderModel, folder / "umt5")
    ids = RNG.integers(0, tiny.umt5.vocab, (2, 20))
    mask = np.arange(20) < np.array([[20], [11]])
    module, variables = ours(folder, "umt5")
    out = jax.jit(module.apply)(variables, ids.astype(np.int32), mask)
    with torch.no_grad():
        want = theirs(torch.tensor(ids), torch.tensor(mask).long()).last_hidden_state.numpy()
    np.testing.assert_allclose(out, want, **CLOSE)


@pytest.mark.parametrize("kind", ["CLIPVisionModelWithProjection", "CLIPVisionModel"])
def test_clip(folder, kind):
    from stableavatar_jax.models.clip_vision import normalise, resize_bicubic

    network = getattr(transformers, kind)
    if kind == "CLIPVisionModel":
        theirs, about = network.from_pretrained(folder / "clip_vision", output_loading_info=True)
        assert not about["missing_keys"] and set(about["unexpected_keys"]) <= {"visual_projection.weight"}
    else:
        theirs = loaded(network, folder / "clip_vision")
    images = RNG.uniform(-1, 1, (2, 30, 40, 3)).astype(np.float32)
    pixels = normalise(resize_bicubic(images, tiny.clip_vision.image_size))
    module, variables = ours(folder, "clip_vision")
    tokens = jax.jit(module.apply, static_argnums=2)(variables, images, "tokens")
    with torch.no_grad():
        want = theirs.eval()(torch.tensor(np.moveaxis(np.asarray(pixels), -1, 1)), output_hidden_states=True)
    np.testing.assert_allclose(tokens, want.hidden_states[-2].numpy(), **CLOSE)


def test_wav2vec2(folder):
    theirs = loaded(transformers.Wav2Vec2Model, folder / "wav2vec2", attn_implementation="eager")
    sound = RNG.standard_normal((1, 5003)).astype(np.float32)
    module, variables = ours(folder, "wav2vec2")
    with torch.no_grad():
        want = theirs(torch.tensor(sound)).last_hidden_state.numpy()
    np.testing.assert_allclose(jax.jit(module.apply)(variables, sound), want, **CLOSE)


def test_vae(folder):
    theirs = loaded(diffusers.AutoencoderKLWan, folder / "vae")
    module, variables = ours(folder, "vae")
    z = RNG.standard_normal((1, 2, 4, 4, tiny.vae.z_dim)).astype(np.float32)
    frames, _ = jax.jit(lambda v, z: module.apply(v, z, method="decode"))(variables, z)
    mean, std = (np.float32(getattr(tiny.vae, name)[: tiny.vae.z_dim]) for name in ("latents_mean", "latents_std"))
    with torch.no_grad():
        want = theirs.decode(torch.tensor(np.moveaxis(z * std + mean, -1, 1).copy())).sample.numpy()
    np.testing.assert_allclose(np.moveaxis(np.asarray(frames), -1, 1), want, **CLOSE)


def test_transformer_of_the_base_part(folder):
    """Without sound our transformer is diffusers': its audio keys and values weigh nothing here."""
    theirs = loaded(diffusers.WanTransformer3DModel, folder / "dit")
    _, variables = ours(folder, "dit")
    flat = flatten(variables["params"])
    for path in flat:
        if path.startswith("blocks/cross_attention/") and "_audio" in path:
            flat[path] = np.zeros_like(flat[path])
    z = RNG.standard_normal((1, 3, 4, 4, 16)).astype(np.float32)
    reference = RNG.standard_normal((1, 3, 4, 4, 20)).astype(np.float32)
    config = dataclasses.replace(tiny.dit, text_len=512)  # which diffusers takes for granted
    module = parts.part("dit", dataclasses.replace(tiny, dit=config)).module
    text = RNG.standard_normal((1, config.text_len, config.text_dim)).astype(np.float32)
    image = RNG.standard_normal((1, 257, tiny.dit.image_dim)).astype(np.float32)
    audio = np.zeros((1, 30, tiny.dit.adapter.audio_dim), np.float32)
    t = np.float32([640])
    out = jax.jit(module.apply)(
        {"params": unflatten(flat)}, z, t, reference, text, np.ones(text.shape[:2], bool), image, audio
    )
    whole = torch.tensor(rearrange(np.concatenate([z, reference], -1), "B F H W C -> B C F H W").copy())
    with torch.no_grad():
        seen = {"encoder_hidden_states": torch.tensor(text), "encoder_hidden_states_image": torch.tensor(image)}
        want = theirs(whole, torch.tensor(t), **seen).sample
    np.testing.assert_allclose(rearrange(np.asarray(out), "B F H W C -> B C F H W"), want.numpy(), **CLOSE)


@pytest.mark.parametrize("layout", ["comfyui", "diffusers"])
def test_lora_through_diffusers_loader(folder, tmp_path, layout):
    """What diffusers adds to the transformer's weights for a LoRA file of ours is what our merge adds."""
    from stableavatar_jax.models import lora as loras
    from stableavatar_jax.models.config import LoRAConfig
    from stableavatar_jax.weights import rules
    from stableavatar_jax.weights.lora_writer import save_lora
    from stableavatar_jax.weights.names.dit import DIFFUSERS_BACKBONE

    _, variables = ours(folder, "dit")
    lora = loras.init(jax.random.key(0), variables["params"], LoRAConfig(rank=4, alpha=6.0))
    lora = jax.tree_util.tree_map_with_path(
        lambda path, x: 0.1 * jnp.asarray(RNG.standard_normal(x.shape), x.dtype) if path[-1].key == "up" else x, lora
    )
    if layout == "comfyui":
        lora = {"blocks": lora["blocks"]}  # outside the blocks diffusers' reader of these names refuses alphas
    save_lora(tmp_path / "lora.safetensors", lora, layout)
    theirs = loaded(diffusers.WanTransformer3DModel, folder / "dit")
    pipeline = diffusers.WanImageToVideoPipeline(
        tokenizer=None, text_encoder=None, vae=diffusers.AutoencoderKLWan.from_pretrained(folder / "vae"),
        scheduler=diffusers.UniPCMultistepScheduler(), transformer=theirs,
    )  # fmt: skip
    pipeline.load_lora_weights(str(tmp_path), weight_name="lora.safetensors", adapter_name="ours")
    pipeline.fuse_lora(components=["transformer"])
    merged = loras.merge(variables["params"], lora)
    flat = {path: lazy(np.asarray(leaf)) for path, leaf in flatten(merged).items()}
    state = {name.replace(".base_layer", ""): x for name, x in pipeline.transformer.state_dict().items()}
    changed = 0
    for name, tensor in rules.exported(DIFFUSERS_BACKBONE, tiny.dit, flat).items():
        np.testing.assert_allclose(state[name].numpy(), tensor.read(), **CLOSE, err_msg=name)
        changed += name.endswith("to_q.weight")
    assert changed and json.loads((folder / "dit" / "config.json").read_text())["num_layers"] == tiny.dit.layers
