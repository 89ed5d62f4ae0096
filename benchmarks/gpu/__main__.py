"""All sections, each in a process of its own, and the table of what they found.

    python -m benchmarks.gpu --output DIR            # every section, within --seconds
    python -m benchmarks.gpu --output DIR --sections forward pytorch
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu.measure import SIZES, Rows

SECTIONS = {
    "product": 40, "attention": 60, "forward": 120, "pytorch": 120, "step": 200, "sample_cold": 180, "sample_warm": 120,
    "decoder": 120,
}  # fmt: skip
"""Each section, in the order of what matters most first, and the most seconds it may take."""


def main() -> int:
    """Run the sections, or one of them in this process; the status is 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for the figures, the table and the logs")
    parser.add_argument("--size", choices=SIZES, default="real", help="what is measured")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="what to run")
    parser.add_argument("--seconds", type=float, default=470, help="time for all sections together")
    parser.add_argument("--each", type=float, default=200, help="most seconds of one section")
    parser.add_argument("--here", action="store_true", help="run one section in this process")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    if args.here:
        (section,) = args.sections
        module = {"sample_cold": "sampling", "sample_warm": "sampling"}.get(section, section)
        importlib.import_module(f"benchmarks.gpu.{module}").main(
            SIZES[args.size], Rows(args.output / f"{section}.json")
        )
        return 0
    until = time.monotonic() + args.seconds
    states = {section: run(section, args, until) for section in args.sections}
    print("\n" + table(args.output, states))
    return int(any(state != "done" for state in states.values()))


def run(section: str, args: argparse.Namespace, until: float) -> str:
    """One section in a process of its own; how it ended, in a word or two."""
    left = min(args.each, SECTIONS[section], until - time.monotonic())
    if left < 15:
        return "no time left"
    print(f"{section}", flush=True)
    command = [sys.executable, "-m", "benchmarks.gpu", "--output", str(args.output), "--size", args.size, "--here",
               "--sections", section]  # fmt: skip
    # Sampling runs twice: the second time its programs are compiled already.
    cache = {"JAX_COMPILATION_CACHE_DIR": str(args.output / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    most = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95"}  # JAX takes three quarters of a GPU unless told
    start = time.monotonic()
    with (args.output / f"{section}.log").open("w") as log:
        try:
            done = subprocess.run(
                command, env=most | os.environ | (cache if "sample" in section else {}), timeout=left, stderr=log
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"stopped after {left:.0f} s"
    print(f"  [{time.monotonic() - start:.0f} s]", flush=True)
    if done.returncode:
        lines = (args.output / f"{section}.log").read_text().strip().splitlines()
        print("  failed: " + "\n  ".join(lines[-3:]), flush=True)
        return f"failed, see {section}.log"
    return "done"


def table(output: Path, states: dict[str, str]) -> str:
    """The figures of all sections as text; also kept as table.txt and, all together, as figures.json."""
    figures = {
        section: json.loads(file.read_text()) for section in states if (file := output / f"{section}.json").is_file()
    }
    lines = [card()]
    for section, state in states.items():
        lines.append(f"{section}: {state}")
        for row in figures.get(section, []):
            rest = ", ".join(f"{name} {value}" for name, value in row.items() if name not in ("what", "ms", "tflops"))
            ms, rate = (f"{row[n]:.2f} {unit}" if n in row else "" for n, unit in (("ms", "ms"), ("tflops", "TFLOP/s")))
            lines.append(f"  {row['what']:58} {ms:>13} {rate:>14}  {rest}")
    text = "\n".join(lines) + "\n"
    (output / "table.txt").write_text(text)
    (output / "figures.json").write_text(json.dumps({"card": lines[0], "states": states, "figures": figures}, indent=1))
    return text


def card() -> str:
    """The device and the versions, from a process of its own: this one must not hold the device."""
    code = (
        "import jax; d = jax.devices()[0]; "
        "print(d.device_kind, '| jax', jax.__version__, '|', d.client.platform_version.replace(chr(10), ' ')[:80])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return found.stdout.strip() or "no device was found"


if __name__ == "__main__":
    sys.exit(main())
