"""A toolkit from wheels: what is asked for, installed once, checked, made again when it was changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from buildkit.build.toolkit_wheels import ensure_wheel_toolkit, wheel_requirement
from buildkit.errors import IncompleteToolkit, IndexUnreachable, NoToolkit
from buildkit.machine.toolkit import REQUIRED_HEADERS
from buildkit.progress import Silent

NVCC = '#!/bin/sh\n[ "$1" = --version ] && echo "release {release}, V{release}.88"\nexit 0\n'


class Index:
    """Plays the installer: puts a toolkit of scripts where the wheels put theirs."""

    def __init__(self, release: str = "13.0", headers: Sequence[str] = REQUIRED_HEADERS) -> None:
        self.release, self.headers = release, headers
        self.asked: list[list[str]] = []
        self.fails = False

    def __call__(self, requirements: Sequence[str], target: Path) -> None:
        if self.fails:
            raise IndexUnreachable("the index does not answer")
        self.asked.append(list(requirements))
        root = target / "nvidia" / "cu13"
        for name in ("bin/nvcc", "bin/nvcc.profile", *(f"include/{header}" for header in self.headers)):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(NVCC.format(release=self.release), encoding="utf-8")
        (root / "bin" / "nvcc").chmod(0o755)


class Warnings(Silent):
    """Keeps what was warned of."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def warn(self, text: str) -> None:
        self.texts.append(text)


def test_requirement_names_every_part_of_one_release() -> None:
    requirement = wheel_requirement("13.0")
    assert requirement.startswith("cuda-toolkit[cccl,crt,cublas,")
    assert requirement.endswith("]==13.0.*")
    assert "nvcc" in requirement
    assert "nvvm" in requirement


@pytest.mark.parametrize("release", ["12.8", "11.8", "14.0", "13", "newest", ""])
def test_other_releases_have_no_wheels_and_both_ways_out_are_named(release: str) -> None:
    with pytest.raises(NoToolkit) as caught:
        wheel_requirement(release)
    assert f"--cuda-home /usr/local/cuda-{release}" in caught.value.hint
    assert "--torch" in caught.value.hint


def test_installed_once(tmp_path: Path) -> None:
    index = Index()
    first = ensure_wheel_toolkit("13.0", folder=tmp_path / "toolkits", install=index)
    again = ensure_wheel_toolkit("13.0", folder=tmp_path / "toolkits", install=index)
    assert first == again
    assert index.asked == [[wheel_requirement("13.0")]]
    assert (first.root, first.release, first.origin) == (tmp_path / "toolkits/cuda-13.0/nvidia/cu13", "13.0", "wheels")
    assert sorted(path.name for path in (tmp_path / "toolkits").iterdir()) == [
        "cuda-13.0",
        "cuda-13.0.lock",
        "cuda-13.0.manifest.json",
    ]


def test_a_changed_one_is_said_and_made_again(tmp_path: Path) -> None:
    index, reporter = Index(), Warnings()
    toolkit = ensure_wheel_toolkit("13.0", folder=tmp_path, install=index)
    (toolkit.root / "include" / "cuda.h").write_text("#error planted", encoding="utf-8")
    ensure_wheel_toolkit("13.0", folder=tmp_path, install=index, reporter=reporter)
    assert len(index.asked) == 2
    assert "include/cuda.h" in reporter.texts[0]
    assert "planted" not in (toolkit.root / "include" / "cuda.h").read_text(encoding="utf-8")


def test_a_changed_one_that_cannot_be_made_again_is_refused(tmp_path: Path) -> None:
    index = Index()
    toolkit = ensure_wheel_toolkit("13.0", folder=tmp_path, install=index)
    (toolkit.root / "bin" / "sitecustomize.pyc").write_bytes(b"")
    index.fails = True
    with pytest.raises(Exception, match="no longer what was installed") as caught:
        ensure_wheel_toolkit("13.0", folder=tmp_path, install=index)
    assert isinstance(caught.value.__cause__, IndexUnreachable)


def test_a_failed_install_leaves_nothing(tmp_path: Path) -> None:
    index = Index()
    index.fails = True
    (tmp_path / ".cuda-13.0-left-by-a-crash").mkdir()
    with pytest.raises(IndexUnreachable):
        ensure_wheel_toolkit("13.0", folder=tmp_path, install=index)
    assert [path.name for path in tmp_path.iterdir()] == ["cuda-13.0.lock"]


def test_wheels_that_are_not_what_was_asked_for(tmp_path: Path) -> None:
    def nothing(requirements: Sequence[str], target: Path) -> None:
        """Installs no compiler."""

    with pytest.raises(NoToolkit, match="without a compiler"):
        ensure_wheel_toolkit("13.0", folder=tmp_path / "a", install=nothing)
    with pytest.raises(NoToolkit, match="another compiler"):
        ensure_wheel_toolkit("13.0", folder=tmp_path / "b", install=Index("13.1"))
    with pytest.raises(IncompleteToolkit, match=r"cusparse\.h"):
        ensure_wheel_toolkit("13.0", folder=tmp_path / "c", install=Index(headers=("cuda.h",)))
