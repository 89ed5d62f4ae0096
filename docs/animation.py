"""Makes the moving picture of the README from a video: `python docs/animation.py outputs/demo.mp4`."""

import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

import tyro
from PIL import Image

from stableavatar_jax import commands
from stableavatar_jax.errors import Mistake
from stableavatar_jax.inputs import check_file
from stableavatar_jax.whole import check_output, whole


@dataclass(frozen=True, kw_only=True)
class Animation:
    """Make a small animated WebP, without sound, of a part of a video.

    python docs/animation.py outputs/demo.mp4 --output docs/demo.webp
    """

    video: Annotated[Path, tyro.conf.Positional]
    """Any video."""
    output: Path = Path(__file__).with_name("demo.webp")
    """The WebP to write."""
    start: float = 0.0
    """Seconds at which it begins."""
    seconds: float = 4.0
    """Its length."""
    size: int = 256
    """Pixels of its width."""
    every: int = 2
    """Frames of the video for one of its own."""
    quality: int = 70
    """WebP's quality, 0 to 100."""

    def run(self) -> None:
        """Write it. Raises Mistake for a video that is shorter than `start`."""
        if self.seconds <= 0 or self.size < 16 or self.every < 1 or not 0 <= self.quality <= 100 or self.start < 0:
            raise Mistake("seconds is above 0, start 0 or more, size 16 or more, every 1 or more, quality 0 to 100")
        check_file(self.video)
        check_output(self.output, inputs=[self.video])
        from stableavatar_jax import media

        info = media.probe(self.video)
        first, last = (round(at * info.fps) for at in (self.start, self.start + self.seconds))
        height = round(self.size * info.height / info.width)
        shown = islice(media.read_video(self.video), first, last, self.every)
        pictures = [Image.fromarray(frame).resize((self.size, height), Image.Resampling.LANCZOS) for frame in shown]
        if not pictures:
            raise Mistake(f"{self.video}: it lasts {info.seconds:.2f} s, and --start is {self.start:g}")
        shown_for = round(1000 * self.every / info.fps)
        with whole(self.output) as partial:
            pictures[0].save(
                partial, "WEBP", save_all=True, append_images=pictures[1:], duration=shown_for, loop=0,
                quality=self.quality, method=6,
            )  # fmt: skip
        print(f"{self.output}: {len(pictures)} pictures, {self.output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    sys.exit(commands.main(Animation))
