"""Memory of making a long video, against that of a short one.

    python -m benchmarks.memory stub
    python -m benchmarks.memory tiny

`stub` goes the way of the command line with stubs for the networks, at the size of the released models (480x832, or
60x104x16 latents, and sound features of 768 numbers); wavefront order, run folder, segments and joining are real.
Host memory (the peak of the process) and device memory (the peak of the arrays that live) may grow from `--short` to
`--long` by less than 2 % of the bytes of the frames, latents and features that come in addition.
`tiny` runs `sample.py --config tiny --order wavefront --steps 4`; the peaks lie within 5 %.
The exit status is 1 where a bound is broken.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
from PIL import Image

from benchmarks.stub import Stub, recording, stub_video
from stableavatar_jax.sampling.config import SampleConfig, change
from stableavatar_jax.sampling.progress import Event

GROWTH, NEARNESS = 0.02, 0.05


def measure(folder: Path, seconds: int) -> dict[str, int]:
    """Make a video with the stub in this process; peaks of memory, and the bytes of all that passed through."""
    config = change(
        SampleConfig(), audio=recording(folder / "noise.wav", seconds), output=folder / "out.mp4", steps=4,
        order="wavefront",
    )  # fmt: skip
    device = 0

    def tell(event: Event) -> None:
        nonlocal device
        device = max(device, sum(array.nbytes for array in jax.live_arrays()))

    job = stub_video(config, tell)
    time, size, model = job.known, config.frame, config.model
    height, width = size.latent_size
    return {
        "host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "device": device,
        "frames": time.frames * size.height * size.width * 3,
        "latents": time.windows.frames * height * width * model.dit.out_channels * 4,
        "features": time.windows.count * Stub(model).tokens(job) * model.wav2vec2.dim * 4,
    }


def stub(short: int, long: int) -> bool:
    """Whether memory grows by less than GROWTH of all that passes through; prints the figures."""
    found = []
    for seconds in (short, long):
        command = [sys.executable, "-m", "benchmarks.memory", "child", "--long", str(seconds)]
        found.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1]))
        print(f"stub, {seconds} s: " + ", ".join(f"{k} {v / 1e6:.0f} MB" for k, v in found[-1].items()), flush=True)
    before, after = found
    grown = {name: after[name] - before[name] for name in after}
    passed = grown["frames"] + grown["latents"] + grown["features"]
    for name in ("host", "device"):
        print(f"{name} memory grew by {grown[name] / 1e6:.1f} MB, {grown[name] / passed:.3%} of {passed / 1e6:.0f} MB")
    return max(grown["host"], grown["device"]) < GROWTH * passed


def tiny(short: int, long: int) -> bool:
    """Whether the peaks of `sample.py` lie within NEARNESS; prints them."""
    peaks = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Image.radial_gradient("L").convert("RGB").save(folder / "face.png")
        for seconds in (short, long):
            command = [sys.executable, "-m", "stableavatar_jax.sampling", "--config", "tiny", "--order", "wavefront"]
            command += ["--steps", "4", "--image", str(folder / "face.png"), "--output", str(folder / "out.mp4")]
            process = subprocess.Popen(
                [*command, "--audio", str(recording(folder / "noise.wav", seconds))], stdout=sys.stderr
            )
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                sys.exit(f"{' '.join(command)}: failed")
            peaks.append(usage.ru_maxrss)
            print(f"tiny, {seconds} s: peak {usage.ru_maxrss / 1024:.0f} MiB", flush=True)
    print(f"{peaks[1] / peaks[0] - 1:+.1%}")
    return peaks[1] < peaks[0] * (1 + NEARNESS)


def main() -> int:
    """Print the figures; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["stub", "tiny", "child"], help="`child` is one process of `stub`")
    parser.add_argument("--short", type=int, default=60, help="seconds of the short recording")
    parser.add_argument("--long", type=int, default=600, help="seconds of the long recording")
    args = parser.parse_args()
    if args.what == "child":
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(Path(folder), args.long)))
        return 0
    return not {"stub": stub, "tiny": tiny}[args.what](args.short, args.long)


if __name__ == "__main__":
    sys.exit(main())
