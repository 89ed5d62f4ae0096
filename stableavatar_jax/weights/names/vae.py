"""Wan2.1_VAE.pth: the names of the original release."""

import re
from dataclasses import replace

from stableavatar_jax.models.config import VAEConfig
from stableavatar_jax.weights.table import CONV2D, CONV3D, FLAT, Naming, Op, Rule

POINTWISE = Op(lambda x: x.reshape(x.shape[:2]).T, lambda x: x.T)  # (out, in, 1, ...) -> [in, out]


def rules(config: VAEConfig) -> list[Rule]:
    """All 194 tensors (at Wan's sizes), in the file's order."""
    dim, wide = config.dim, config.dim * config.dim_mult[-1]
    down = [dim * mult for mult in config.dim_mult]
    up = down[::-1]
    stages = len(down)

    table = _conv("encoder.conv1", "encoder/conv_in")
    width, index = down[0], 0
    for stage in range(stages):
        for block in range(config.num_res_blocks):
            source, target = f"encoder.downsamples.{index}", f"encoder/down{stage}_block{block}"
            table += _block(source, target, width, down[stage])
            width, index = down[stage], index + 1
        if stage < stages - 1:
            source, target = f"encoder.downsamples.{index}", f"encoder/down{stage}_resample"
            table += _resample(source, target, config.temporal_downsample[stage])
            index += 1
    table += _middle("encoder", wide) + _head("encoder", wide)

    table += _pointwise("conv1", "moments", config.z_dim * 2, config.z_dim * 2, ones=3)
    table += _pointwise("conv2", "entry", config.z_dim, config.z_dim, ones=3)

    table += _conv("decoder.conv1", "decoder/conv_in") + _middle("decoder", wide)
    width, index = up[0], 0
    for stage in range(stages):
        for block in range(config.num_res_blocks + 1):
            source, target = f"decoder.upsamples.{index}", f"decoder/up{stage}_block{block}"
            table += _block(source, target, width, up[stage])
            width, index = up[stage], index + 1
        if stage < stages - 1:
            source, target = f"decoder.upsamples.{index}", f"decoder/up{stage}_resample"
            table += _resample(source, target, config.temporal_downsample[-1 - stage])
            width, index = width // 2, index + 1
    return table + _head("decoder", width)


def _conv(source: str, target: str, op: Op = CONV3D) -> list[Rule]:
    return [
        Rule(source=f"{source}.weight", target=f"{target}/kernel", op=op),
        Rule(source=f"{source}.bias", target=f"{target}/bias"),
    ]


def _pointwise(source: str, target: str, width: int, features: int, *, ones: int) -> list[Rule]:
    """A 1x1 convolution over `ones` axes, here a linear map."""
    shape = (features, width, *(1,) * ones)
    return [
        Rule(source=f"{source}.weight", target=f"{target}/kernel", op=POINTWISE, source_shape=shape),
        Rule(source=f"{source}.bias", target=f"{target}/bias"),
    ]


def _norm(source: str, target: str, width: int, *, ones: int = 3) -> Rule:
    shape = (width, *(1,) * ones)
    return Rule(source=f"{source}.gamma", target=f"{target}/scale", op=FLAT, source_shape=shape)


def _block(source: str, target: str, width: int, features: int) -> list[Rule]:
    table = [_norm(f"{source}.residual.0", f"{target}/norm1", width)]
    table += _conv(f"{source}.residual.2", f"{target}/conv1")
    table += [_norm(f"{source}.residual.3", f"{target}/norm2", features)]
    table += _conv(f"{source}.residual.6", f"{target}/conv2")
    if width != features:
        table += _pointwise(f"{source}.shortcut", f"{target}/shortcut", width, features, ones=3)
    return table


def _resample(source: str, target: str, time: bool) -> list[Rule]:
    table = _conv(f"{source}.resample.1", f"{target}/conv", CONV2D)
    return table + (_conv(f"{source}.time_conv", f"{target}/time_conv") if time else [])


def _middle(part: str, width: int) -> list[Rule]:
    source, target = f"{part}.middle.1", f"{part}/middle_attention"
    attention = [_norm(f"{source}.norm", f"{target}/norm", width, ones=2)]
    attention += _pointwise(f"{source}.to_qkv", f"{target}/qkv", width, 3 * width, ones=2)
    attention += _pointwise(f"{source}.proj", f"{target}/out", width, width, ones=2)
    first = _block(f"{part}.middle.0", f"{part}/middle_block0", width, width)
    return first + attention + _block(f"{part}.middle.2", f"{part}/middle_block1", width, width)


def _head(part: str, width: int) -> list[Rule]:
    return [_norm(f"{part}.head.0", f"{part}/head/norm", width), *_conv(f"{part}.head.2", f"{part}/head/conv")]


# Modules of Wan2.1's file by those of diffusers' AutoencoderKLWan; stages of the decoder are counted in `_diffusers`.
RENAMED = (
    (r"^conv1\.", "quant_conv."),
    (r"^conv2\.", "post_quant_conv."),
    (r"^(encoder|decoder)\.conv1\.", r"\1.conv_in."),
    (r"\.downsamples\.", ".down_blocks."),
    (r"\.middle\.0\.", ".mid_block.resnets.0."),
    (r"\.middle\.1\.", ".mid_block.attentions.0."),
    (r"\.middle\.2\.", ".mid_block.resnets.1."),
    (r"\.head\.0\.", ".norm_out."),
    (r"\.head\.2\.", ".conv_out."),
    (r"\.residual\.0\.", ".norm1."),
    (r"\.residual\.2\.", ".conv1."),
    (r"\.residual\.3\.", ".norm2."),
    (r"\.residual\.6\.", ".conv2."),
    (r"\.shortcut\.", ".conv_shortcut."),
)


def diffusers_rules(config: VAEConfig) -> list[Rule]:
    """The same tensors by the names of diffusers."""
    return [replace(rule, source=_diffusers(rule.source, config.num_res_blocks + 2)) for rule in rules(config)]


def _diffusers(name: str, modules: int) -> str:
    """The name in diffusers; a stage of the decoder has so many modules, its upsampling the last of them."""

    def stage(match: re.Match[str]) -> str:
        index, module = divmod(int(match[1]), modules)
        return f".up_blocks.{index}." + ("upsamplers.0." if module == modules - 1 else f"resnets.{module}.")

    name = re.sub(r"\.upsamples\.(\d+)\.", stage, name)
    for pattern, new in RENAMED:
        name = re.sub(pattern, new, name)
    return name


ORIGINAL = Naming(name="Wan2.1", rules=rules)
DIFFUSERS = Naming(name="diffusers", rules=diffusers_rules)
NAMINGS = (ORIGINAL, DIFFUSERS)
