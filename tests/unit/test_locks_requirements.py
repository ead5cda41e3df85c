"""Build requirements: which are asked for, under which name they are locked, and that a lock needs no network."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from buildkit.build.borrow import Loan
from buildkit.build.installer import Installer
from buildkit.build.locks import BASELINE_REQUIRES, find_lock, lock_id, requirement_set, resolve_lock
from buildkit.errors import NotCached
from buildkit.machine.interpreter import Interpreter
from buildkit.progress import Silent

PYTHON = Interpreter(
    executable=Path("/usr/bin/python3"),
    version="3.11.2",
    implementation="cpython",
    abi="cp311",
    platform="linux_x86_64",
    machine="x86_64",
    prefix=Path("/usr"),
    base_executable=Path("/usr/bin/python3"),
    site_packages=(),
    include=Path("/usr/include/python3.11"),
    has_headers=True,
    externally_managed=False,
)
LOAN = Loan(Path("/site"), (("torch", "2.13.0+cu130"),), ("torch",))


class FakeInstaller:
    """Resolves to a fixed text and keeps what it was asked."""

    def __init__(self, *, offline: bool = False) -> None:
        self.offline = offline
        self.asked: list[tuple[str, ...]] = []
        self.excluded = ""

    def compile(self, requirements: Any, *, python: Path, excludes: Path) -> str:
        assert python == PYTHON.executable
        self.asked.append(tuple(requirements))
        self.excluded = excludes.read_text(encoding="utf-8")
        return "ninja==1.13.0 --hash=sha256:00\n"


def resolve(folder: Path, installer: FakeInstaller) -> Any:
    return resolve_lock(folder, "abc", ["ninja"], LOAN, PYTHON, cast(Installer, installer), Silent())


def test_the_baseline_is_always_there() -> None:
    assert set(requirement_set([], [], [])) == set(BASELINE_REQUIRES)


def test_a_recipe_replaces_the_baseline_and_a_source_does_not() -> None:
    found = requirement_set(["setuptools==69.5"], ["setuptools==40", "numpy<2"], ["pybind11==2.6", "cmake>=3.18"])
    assert "setuptools==69.5" in found
    assert not [text for text in found if text in {"setuptools==40", "pybind11==2.6"}]
    assert found[-2:] == ("cmake>=3.18", "numpy<2")
    assert requirement_set(["Setuptools>=70"], ["SETUPTOOLS==40"], []).count("Setuptools>=70") == 1


def test_order_and_repetition_do_not_matter() -> None:
    assert requirement_set(["a", "b"], ["d", "c"], ["c"]) == requirement_set(["b", "a"], ["c"], ["d", "c"])


def test_a_lock_is_named_by_all_that_decides_it() -> None:
    base = lock_id(["ninja"], LOAN, PYTHON, "index")
    assert lock_id(["ninja"], LOAN, PYTHON, "index") == base
    others = [
        lock_id(["ninja", "wheel"], LOAN, PYTHON, "index"),
        lock_id(["ninja"], replace(LOAN, versions=(("torch", "2.12.0"),)), PYTHON, "index"),
        lock_id(["ninja"], LOAN, replace(PYTHON, version="3.11.3"), "index"),
        lock_id(["ninja"], LOAN, replace(PYTHON, abi="cp311t"), "index"),
        lock_id(["ninja"], LOAN, replace(PYTHON, platform="linux_aarch64"), "index"),
        lock_id(["ninja"], LOAN, PYTHON, "another index"),
    ]
    assert len({base, *others}) == len(others) + 1
    assert lock_id(["ninja"], replace(LOAN, site=Path("/elsewhere")), PYTHON, "index") == base


def test_resolved_once_then_found_without_asking(tmp_path: Path) -> None:
    installer = FakeInstaller()
    assert find_lock(tmp_path / "locks", "abc") is None
    lock = resolve(tmp_path / "locks", installer)
    assert installer.asked == [("ninja",)]
    assert installer.excluded == "torch\n", "what is lent is not installed again"
    assert lock == find_lock(tmp_path / "locks", "abc")
    assert lock.sha256 == hashlib.sha256(lock.path.read_bytes()).hexdigest()
    assert [path.name for path in (tmp_path / "locks").iterdir()] == ["abc.txt"], "nothing temporary is left"


def test_offline_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(NotCached, match="never resolved") as caught:
        resolve(tmp_path, FakeInstaller(offline=True))
    assert caught.value.exit_code == 4
    assert "cudabuild fetch" in caught.value.hint
