"""The values that options of the commands may take."""

from typing import Literal, get_args

PartName = Literal["dit", "vae", "umt5", "clip_vision", "wav2vec2"]
PARTS: tuple[PartName, ...] = get_args(PartName)

Dtype = Literal["float32", "bfloat16", "float16"]

Layout = Literal["original", "diffusers", "transformers", "comfyui", "peft", "kohya"]
