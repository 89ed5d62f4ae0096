"""A picture and a recording become a talking video: `python sample.py --help`."""

import sys
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from stableavatar_jax import media
from stableavatar_jax.checkpoint import load_part
from stableavatar_jax.commands import parse
from stableavatar_jax.compiling import keep_compiled
from stableavatar_jax.encoding.conditions import Conditions, load_conditions, save_conditions
from stableavatar_jax.encoding.encoders import Encoders
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models import lora
from stableavatar_jax.models.avatar import abstract_params, part
from stableavatar_jax.plan import cost as plan
from stableavatar_jax.plan.cost import Plan
from stableavatar_jax.sampling.config import SampleConfig, check
from stableavatar_jax.sampling.decode import LatentsWriter, decode, read_latents
from stableavatar_jax.sampling.sampler import denoise, load_transformer
from stableavatar_jax.weights.lora import load_lora


def main(argv: list[str] | None = None) -> None:
    """The command line; a mistake ends with one screen on stderr and status 1."""
    config = parse(SampleConfig, argv)
    keep_compiled()
    try:
        run(config)
    except (ValueError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped")


def run(config: SampleConfig) -> None:
    """One job: inputs -> encoders -> latents -> frames -> file."""
    config = check(config)
    assert config.audio is not None  # seen to by check
    picture = media.read_picture(config.image) if config.image else None
    samples = media.read_sound(config.audio)
    loras = read_loras(config)
    cost = plan.plan(config, len(samples))
    if config.save_conditions:
        save_conditions(config.save_conditions, encode(config, cost, picture, samples), about(config, cost))
        return print(config.save_conditions)

    size = {"height": config.height * config.enlarge, "width": config.width * config.enlarge}
    with media.VideoWriter(config.output, fps=config.fps, crf=config.crf, sound=config.audio, **size) as video:
        print(plan.describe(config, cost, plan.matrix_speed(config.dtype)), flush=True)
        latents = config.decode_only or config.latents or config.output.with_suffix(".latents.npy")
        shape = (cost.windows.frames, *config.latent_size(), config.model.vae.z_dim)
        if not config.decode_only:
            with LatentsWriter(latents, shape) as file:
                file.append(sample_latents(config, cost, picture, samples, loras))
        try:
            vae, params = load_part(config.checkpoint, config.model, "vae", seed=config.seed)
            with tqdm(total=cost.frames, desc="decode", unit="frame") as progress:
                for frames in decode(vae, params, read_latents(latents, shape), cost.frames):
                    video.write(media.enlarge(frames, config.enlarge))
                    progress.update(len(frames))
        except BaseException:
            print(f"the finished latents are in {latents}: go on from them with --decode-only", file=sys.stderr)
            raise
    if latents not in (config.latents, config.decode_only):
        latents.unlink()
    return print(config.output)


def read_loras(config: SampleConfig) -> list[tuple[Any, float]]:
    """LoRA trees and their scales; raises ValueError for one that does not fit the transformer."""
    abstract = abstract_params(part(config.model, "dit"))
    loras = []
    for path, scale in config.loras():
        tree = load_lora(path)
        try:
            jax.eval_shape(lora.merge, abstract, tree)
        except ValueError as error:
            raise Mistake(f"{path}: {error}; it was trained on another model") from None
        loras.append((tree, scale))
    return loras


def sample_latents(config: SampleConfig, cost: Plan, picture: Any, samples: np.ndarray, loras: Any) -> np.ndarray:
    """Conditions, from the encoders or a file, and the latents denoised under them."""
    if config.conditions:
        conditions = load_conditions(config.conditions, about(config, cost))
    else:
        conditions = encode(config, cost, picture, samples)
    with tqdm(total=config.steps * cost.windows.count, desc="denoise", unit="window") as progress:
        waiting: list[tuple[int, int, jax.Array]] = []

        def report(step: int, windows: int, finite: jax.Array) -> None:
            """Show a call of the program when a later one is on its way, so that the device never waits for us."""
            waiting.append((step, windows, finite))
            if len(waiting) > 2:
                show(*waiting.pop(0))

        def show(step: int, windows: int, finite: jax.Array) -> None:
            if not finite:
                raise FloatingPointError(
                    f"step {step + 1} gave numbers that are not finite; try --dtype float32, lower guidance scales, "
                    "and `python -m convert verify` on the checkpoint"
                )
            progress.update(step * cost.windows.count + windows - progress.n)

        latents = denoise(config, *load_transformer(config, loras), conditions, cost.windows, report)
        for call in waiting:
            show(*call)
    return latents


def encode(config: SampleConfig, cost: Plan, picture: Any, samples: np.ndarray) -> Conditions:
    """Run every encoder, one after another."""
    with tqdm(total=4, desc="encode") as progress:

        def report(name: str) -> None:
            progress.set_postfix_str(name)
            progress.update(1)

        encoders = Encoders(config.model, config.checkpoint, config.dtype, config.seed, report)
        fitted = media.fit_picture(picture, config.height, config.width, config.fit, config.crop)
        prompts = [config.prompt, config.negative_prompt]
        return encoders.conditions(fitted, samples, prompts, cost.windows, config.fps)


def about(config: SampleConfig, cost: Plan) -> dict[str, Any]:
    """What conditions are made for: the options that may not change between saving and using them."""
    return {
        "height": config.height, "width": config.width, "fps": config.fps, "window": cost.windows.window,
        "overlap": cost.windows.overlap, "audio": f"of {cost.frames} frames",
    }  # fmt: skip


if __name__ == "__main__":
    main()
