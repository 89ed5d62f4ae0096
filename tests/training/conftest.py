"""Shared by the tests that encode windows."""

from pathlib import Path

import pytest

from stableavatar_jax.encoding.online import WindowEncoder
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.presets import load_preset


@pytest.fixture(scope="session")
def encoder():
    """The encoders of configs/tiny.py: loading and compiling take most of the time, so all tests share them."""
    return WindowEncoder(load_preset(Path(__file__).parents[2] / "configs" / "tiny.py", AvatarConfig))
