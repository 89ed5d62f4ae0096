"""The demo: a picture speaks a recording."""

import sys

from stableavatar_jax.demo.check import check
from stableavatar_jax.demo.config import Make
from stableavatar_jax.demo.preset import MODEL, config
from stableavatar_jax.sampling.__main__ import main

ABOUT = """\
The small avatar that comes with the package makes drawn cartoon characters speak: {height}x{width} pixels, enlarged to
{tall}x{wide}."""
NEAR = "{output}: the picture speaks the recording."
FAR = """\
{output}: made, but the picture is not of the kind that the small avatar was made for. Expect a blurred face whose mouth
hardly speaks, or none; see the warning above."""


def make(options: Make) -> int:
    """Say what the avatar is for, make the video, and say what to expect of it; returns the exit status."""
    frame = config.frame
    tall, wide = (side * frame.enlarge for side in (frame.height, frame.width))
    print(ABOUT.format(height=frame.height, width=frame.width, tall=tall, wide=wide), flush=True)
    near = check(options.image, MODEL)
    told = {"image": options.image, "audio": options.audio, "output": options.output}
    if status := main(["--config=demo_student", *(f"--{name}={path}" for name, path in told.items())]):
        return status
    print((NEAR if near else FAR).format(output=options.output), file=sys.stdout if near else sys.stderr)
    return 0
