"""What ``install`` says to keep an installation by: in a project, in its Dockerfile, in a container."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from images import make_wheel

from buildkit.build.installation import keeping_lines

WHEEL = "sample-1.0+pt2.13.cu130-cp311-cp311-linux_x86_64.whl"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return make_wheel(tmp_path / "made", WHEEL)


@pytest.mark.parametrize(("container", "tool"), [("Docker", "docker"), ("Podman", "podman"), ("a container", "docker")])
def test_in_a_container_the_lines_for_its_dockerfile(container: str, tool: str, wheel: Path, tmp_path: Path) -> None:
    lines = keeping_lines(wheel, "sample", tmp_path, container=container, host="c0ffee")
    copied, run, whole = [line.partition("   #")[0] for line in lines]
    assert shlex.split(copied) == [tool, "cp", f"c0ffee:{wheel}", "wheelhouse/"]
    assert run.startswith("RUN --mount=type=bind,source=wheelhouse,target=/wheelhouse pip install --no-deps ")
    assert f"/wheelhouse/{WHEEL} && pip check && python -c 'import torch, sample'" in run
    assert whole == "cudabuild docker sample --out ."


def test_its_dockerfile_is_here(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian:12\n", encoding="utf-8")
    for container in ("", "Docker"):
        lines = keeping_lines(wheel, "sample", tmp_path, container=container, host="c0ffee")
        assert [line.split()[0] for line in lines] == ["COPY", "RUN"]


@pytest.mark.parametrize("container", ["", "Apptainer"])
def test_what_lasts_by_itself_needs_no_lines(container: str, wheel: Path, tmp_path: Path) -> None:
    assert keeping_lines(wheel, "sample", tmp_path, container=container, host="c0ffee") == []


def test_what_knows_nothing_of_torch_is_imported_alone(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "made", "sample-1.0+cu130-cp311-cp311-linux_x86_64.whl")
    lines = keeping_lines(wheel, "sample", tmp_path, container="Docker", host="c0ffee")
    assert "python -c 'import sample'" in lines[1]
