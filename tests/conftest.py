"""Fixtures shared by all tests, and a compiler set up for many small programs that run once."""

import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Compiling is most of a test's time. Unoptimised code compiles in a quarter of it and computes the same numbers; a
# program that several tests share is compiled once.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

# A shell that runs tests in the background, or nohup, ignores these, and so would every command that a test interrupts.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real pictures, sounds and models beside the checkout; tests that need it skip without it."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing: the real pictures and recordings lie beside the project, not in it")
    return folder
