"""Shared by the tests that prepare clips."""

import pytest

from stableavatar_jax.data.clips import prepare
from tests.data.preparing import SquareFinder, one


@pytest.fixture
def finder(monkeypatch):
    SquareFinder.seen = 0
    monkeypatch.setattr(prepare, "FaceFinder", SquareFinder)
    monkeypatch.setattr(prepare, "everyone", one)
