"""A package without torch: nothing of torch in its label, requirements, targets or environment; the toolkit whole."""

from __future__ import annotations

import base64
import hashlib
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.build.borrow import NO_LOAN
from buildkit.build.context import Context
from buildkit.build.environ import backend_environment
from buildkit.build.final import finalise
from buildkit.build.label import local_label, torch_pin
from buildkit.build.metadata import rewrite
from buildkit.build.places import Places
from buildkit.build.survey import Survey, survey, with_targets
from buildkit.build.toolkit_choice import ToolkitChoice
from buildkit.build.without_torch import headers_sha256
from buildkit.errors import TorchMismatch, UnsupportedTarget
from buildkit.machine import identity
from buildkit.machine.arch import parse_targets
from buildkit.machine.compat import check_targets, makeable_targets
from buildkit.machine.gpus import Gpus
from buildkit.machine.identity import Memo
from buildkit.machine.toolkit import Toolkit
from buildkit.machine.toolkit_layout import Layout
from buildkit.machine.torch_identity import NO_TORCH, TorchIdentity
from buildkit.plan.request import Request
from buildkit.progress import Silent
from buildkit.source.index_settings import read_index_settings
from buildkit.store.store import Store

T120 = parse_targets(["12.0"])


def row(name: str, text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
    return f"{name},sha256={digest},{len(text)}\n"


def plain_wheel(folder: Path) -> Path:
    """The smallest wheel that opens."""
    path, info = folder / "kernel-1.0-cp311-cp311-linux_x86_64.whl", "kernel-1.0.dist-info"
    members = {
        "kernel.so": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: kernel\nVersion: 1.0\nRequires-Dist: numpy\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp311-cp311-linux_x86_64\n",
    }
    members[f"{info}/RECORD"] = "".join([*map(row, members, members.values()), f"{info}/RECORD,,\n"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize(("device", "label"), [("cuda", "cu130.sm120"), ("cpu", "cpu")])
def test_the_label_names_the_toolkit_and_the_targets(device: str, label: str) -> None:
    made = local_label(torch_version="", cuda="13.0", targets=T120, variant=(), device=device)  # type: ignore[arg-type]
    assert made == label


def test_no_pin_is_added_and_none_taken_away() -> None:
    assert torch_pin("") == ""
    text = "Name: a\nVersion: 1\nRequires-Dist: torch>=2\n\nbody"
    assert rewrite(text, version="1+cu130", torch_pin="", requires=["numpy"]) == (
        "Name: a\nVersion: 1+cu130\nRequires-Dist: numpy\nRequires-Dist: torch>=2\n\nbody"
    )


def test_the_final_wheel_knows_nothing_of_torch(tmp_path: Path) -> None:
    path = finalise(plain_wheel(tmp_path), tmp_path, torch_version="", cuda="13.0", targets=T120, device="cuda")
    assert path.name == "kernel-1.0+cu130.sm120-cp311-cp311-linux_x86_64.whl"
    with zipfile.ZipFile(path) as archive:
        metadata = archive.read("kernel-1.0+cu130.sm120.dist-info/METADATA").decode()
    assert metadata.count("Requires-Dist") == 1
    assert "torch" not in metadata


def test_no_variable_speaks_to_torch() -> None:
    found = backend_environment(
        device="cuda",
        targets=T120,
        compiler=Path("/usr/bin/g++"),
        recipe_environment={},
        passed={},
        chosen_compiler={},
        torch=False,
    )
    assert not [name for name in found if "TORCH" in name]
    assert (found["CUDAARCHS"], found["CUDACXX"]) == ("120-real", "{view}/bin/nvcc")


def test_the_toolkit_alone_decides_on_targets() -> None:
    assert parse_targets(["8.8"])[0] in makeable_targets(toolkit="13.0", torch=None)
    assert check_targets(parse_targets(["8.8;12.0f"]), toolkit="13.0", torch=None).notes == ()
    with pytest.raises(UnsupportedTarget, match=r"CUDA 13\.0 cannot build for 5\.0") as caught:
        check_targets(parse_targets(["5.0"]), toolkit="13.0", torch=None)
    assert "None" not in caught.value.message + caught.value.hint


def toolkit(root: Path, *, shared: bool = False) -> Toolkit:
    for name in ("bin/nvcc", "include/cuda.h", "include/other.h", "include/cccl/cub/cub.cuh"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name, encoding="utf-8")
    include = (root / "include", root / "include" / "cccl")
    layout = Layout(
        nvcc=root / "bin" / "nvcc",
        root=root,
        binaries=(root / "bin",),
        cicc=root / "nvvm",
        libdevice=root / "nvvm",
        include=include,
        library=(),
        shared=shared,
    )
    return Toolkit(root, "13.0", "13.0.88", "test", include, (), "identity", (), layout)


def test_what_is_said_of_the_machine_is_the_same_beside_torch_and_without_it(tmp_path: Path) -> None:
    """One function makes both surveys: torch only narrows the targets, and has to fit the toolkit."""
    context = Context(
        places=Places(tmp_path), memo=Memo(None), store=Store(tmp_path), index=read_index_settings({}),
        reporter=Silent(), environ=dict(os.environ), cwd=tmp_path,
    )  # fmt: skip
    machine = replace(survey(Request("x"), context), gpus=Gpus((), "535.54.03", "nvml"))  # too old for CUDA 13
    choice = ToolkitChoice(toolkit(tmp_path / "tk"))
    torch = TorchIdentity("2.13.0+cu130", "13.0", "", "", tmp_path, None)
    surveys = [
        with_targets(Survey(machine, known, NO_LOAN, choice), choice, Request("x", targets=("12.0",)), (), context)
        for known in (NO_TORCH, torch)
    ]
    assert [found.targets for found in surveys] == [T120, T120]
    assert surveys[0].notes == surveys[1].notes
    assert any("535.54.03" in note for note in surveys[0].notes)
    other = replace(torch, version="2.8.0+cu126", cuda="12.6")
    with pytest.raises(TorchMismatch):
        with_targets(Survey(machine, other, NO_LOAN, choice), choice, Request("x", targets=("12.0",)), (), context)


def told(found: Toolkit, *fill: Toolkit, memo: Memo | None = None) -> str:
    return headers_sha256(ToolkitChoice(found, fill), memo or Memo(None))


def test_every_header_counts_wherever_the_toolkit_lies(tmp_path: Path) -> None:
    one, two = toolkit(tmp_path / "one"), toolkit(tmp_path / "two")
    first = told(one)
    assert first == told(two)
    assert told(one, two) != first
    header = tmp_path / "one" / "include" / "cccl" / "cub" / "cub.cuh"
    header.write_text("broken", encoding="utf-8")
    second = told(one)
    assert second != first
    header.unlink()
    assert told(one) not in {first, second}


def test_folders_that_are_links_are_gone_into_once(tmp_path: Path) -> None:
    found = toolkit(tmp_path / "tk")
    cub = tmp_path / "tk" / "include" / "cccl" / "cub"
    before = told(found)
    cub.rename(tmp_path / "cub")
    cub.symlink_to(tmp_path / "cub")
    assert told(found) == before
    (tmp_path / "cub" / "loop").symlink_to(tmp_path / "cub")
    assert told(found) == before
    (tmp_path / "cub" / "cub.cuh").write_text("broken", encoding="utf-8")
    assert told(found) != before


def test_in_a_shared_folder_only_cudas_headers_count(tmp_path: Path) -> None:
    own, shared = toolkit(tmp_path / "own"), toolkit(tmp_path / "shared", shared=True)
    before = (told(own), told(shared))
    for root in ("own", "shared"):
        (tmp_path / root / "include" / "other.h").write_text("changed", encoding="utf-8")
    assert told(own) != before[0]
    assert told(shared) == before[1]
    (tmp_path / "shared" / "include" / "cuda.h").write_text("changed", encoding="utf-8")
    assert told(shared) != before[1]


def test_it_is_remembered_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "SETTLED_NS", -(10**12))
    found, memo = toolkit(tmp_path / "tk"), Memo(tmp_path / "memo")
    first = told(found, memo=memo)
    with monkeypatch.context() as patched:
        patched.setattr("buildkit.build.without_torch.hash_file", lambda _path: pytest.fail("it is known"))
        assert told(found, memo=memo) == first
    (tmp_path / "tk" / "include" / "cuda.h").write_text("changed now", encoding="utf-8")
    assert told(found, memo=memo) != first
