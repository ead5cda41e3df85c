"""What unit tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("unit", max_examples=40)
"""Fewer than by default: the unit tests are to be run often, and CI adds new examples every time."""
settings.load_profile("unit")


@pytest.fixture
def empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody's settings, an empty cache."""
    for name in [name for name in os.environ if name.startswith("CUDABUILD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CUDABUILD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
