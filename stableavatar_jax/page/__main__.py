"""`python -m stableavatar_jax.page`: the page, until Ctrl-C."""

import dataclasses
import functools
import os
import shutil
import socket
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stableavatar_jax import commands
from stableavatar_jax.errors import Mistake, need
from stableavatar_jax.sampling.config import SampleConfig, Weights
from stableavatar_jax.sampling.defaults import with_defaults
from stableavatar_jax.sampling.paths import check_weights
from stableavatar_jax.whole import check_folder

if TYPE_CHECKING:
    from stableavatar_jax.page.queue import Queue

DEMO = """The model is the small avatar of the demo. It knows **drawn cartoon characters, seen from the front, head and
shoulders, at 96x96 pixels**. Of a photograph, a painting or another drawing it makes a blurred face whose mouth hardly
speaks, or none; those need real weights (`--checkpoint`)."""
REAL = "The model is `{checkpoint}`. One face, from the front, with nothing before the mouth, works best."


@dataclass(frozen=True, kw_only=True)
class Page:
    """Open a page for the browser that makes talking videos; Ctrl-C ends it.

    python -m stableavatar_jax.page
    python -m stableavatar_jax.page --checkpoint DIR --port 7860

    Without a checkpoint it is the demo's small avatar, for drawn characters. It needs the extra `ui`.
    """

    checkpoint: Path | None = None
    """Model directory, made by `python -m convert import` or `train.py --export`; otherwise the demo's small avatar is
    used, with its distilled transformer."""
    transformer: Path | None = None
    """Model directory whose transformer takes the place of the checkpoint's, of the same sizes, such as a distilled
    student."""
    lora: tuple[str, ...] = ()
    """LoRA files to add to the transformer's weights: PATH or PATH:SCALE, several if you like."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Precision of weights and computation; the demo's small avatar is always computed in float32."""
    host: str = "127.0.0.1"
    """Address that the page is bound to: by default nobody but this machine can open it. 0.0.0.0 lets everybody in who
    can reach the machine."""
    port: int | None = None
    """Port of the page; otherwise the first that is free from 7860 on."""
    folder: Path = Path("page")
    """Folder of the videos that are made, each in a folder of its own, and of uploads, which go when the page ends."""
    largest: int = 200
    """Megabytes that an uploaded file may have."""

    def __post_init__(self):
        if self.largest < 1:
            raise Mistake(f"largest is {self.largest}, at least 1 megabyte is needed")
        if self.port is not None and not 1 <= self.port <= 65535:
            raise Mistake(f"port is {self.port}, 1 to 65535 is needed")

    def run(self) -> None:
        """Serve the page until Ctrl-C. Raises Mistake."""
        need("ui", "gradio")
        config = self._config()
        check_weights(config)
        self._check_address()
        check_folder(self.folder, inputs=[config.weights.checkpoint])
        uploads = self.folder.absolute() / "uploads"
        # Read by gradio when it is imported. Nothing is told to anybody, and nothing is written elsewhere.
        os.environ |= {"GRADIO_TEMP_DIR": str(uploads), "GRADIO_ANALYTICS_ENABLED": "False"}
        os.environ |= {"MPLCONFIGDIR": str(uploads), "HF_HUB_DISABLE_TELEMETRY": "1"}
        from stableavatar_jax import startup
        from stableavatar_jax.compiling import keep_compiled
        from stableavatar_jax.page.queue import Queue
        from stableavatar_jax.sampling.avatar import open_avatar
        from stableavatar_jax.sampling.loras import read_loras

        startup.watch()
        keep_compiled()
        avatar = open_avatar(config, read_loras(config.weights.lora))
        with Queue(config, avatar, self.folder) as queue:
            try:
                self._serve(queue, dataclasses.replace(config, model=avatar.model))
            finally:
                shutil.rmtree(uploads, ignore_errors=True)

    def _config(self) -> SampleConfig:
        """The defaults of every video."""
        from stableavatar_jax.demo.preset import student

        if self.checkpoint is None:
            config, weights = student, student.weights
        else:
            config, weights = SampleConfig(), Weights(checkpoint=self.checkpoint, dtype=self.dtype)
        weights = dataclasses.replace(weights, transformer=self.transformer or weights.transformer, lora=self.lora)
        folders = [folder for folder in (self.checkpoint, self.transformer) if folder]
        return functools.reduce(with_defaults, folders, dataclasses.replace(config, weights=weights))

    def _check_address(self) -> None:
        """Raise Mistake where nothing can be served at the host and port."""
        try:
            family, kind, *_, address = socket.getaddrinfo(self.host, self.port or 0, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind(address)
        except OSError as error:
            place = f"{self.host}, port {self.port}" if self.port else self.host
            raise Mistake(f"the page cannot be opened at {place} ({error.strerror}); give another") from error

    def _serve(self, queue: "Queue", config: SampleConfig) -> None:
        import gradio as gr

        from stableavatar_jax.demo.check import verdict
        from stableavatar_jax.demo.preset import MODEL
        from stableavatar_jax.page import html, view

        demo = config.weights.checkpoint == MODEL

        def check(picture: Path) -> str | None:
            near, text = verdict(picture, MODEL) if demo else (True, "")
            return None if near else " ".join(text.replace(str(picture), picture.name).split())

        limits = DEMO if demo else REAL.format(checkpoint=config.weights.checkpoint)
        page = view.build(queue, config, limits, check)
        page.queue(max_size=100)
        font = ["system-ui", "sans-serif"]  # gradio's own theme asks a server elsewhere for its letters
        try:
            page.launch(
                server_name=self.host, server_port=self.port, quiet=True, share=False, prevent_thread_lock=True,
                allowed_paths=[str(self.folder.absolute())], max_file_size=f"{self.largest}mb", run_history=False,
                footer_links=[], theme=gr.themes.Base(font=font, font_mono=["monospace"]), css=html.STYLE,
            )  # fmt: skip
        except OSError as error:
            raise Mistake(f"{error}; give --port another") from error
        try:
            print(f"the page is open at {page.local_url} (Ctrl-C ends it); videos are put in {self.folder}", flush=True)
            threading.Event().wait()
        finally:
            page.close(verbose=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the page; returns the exit status."""
    return commands.main(Page, argv)


if __name__ == "__main__":
    sys.exit(main())
