"""Fixtures shared by all tests, and a compiler set up for many small programs that run once."""

import os
from pathlib import Path

import pytest

# Compiling is most of a test's time: without LLVM's costly passes it takes half, the results are as exact.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_backend_optimization_level=1", "--xla_llvm_disable_expensive_passes=true"]
)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real pictures, sounds and models beside the checkout; tests that need it skip without it."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing: the real pictures and recordings lie beside the project, not in it")
    return folder
