"""What a wheel says of itself has to agree with itself and with what it holds: each lie is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from upload_wheels import WheelMaker, fake_cuobjdump, marked_object

from buildkit.errors import CpuOnlyWheel, MissingTargets, UnsafeWheel, VerificationFailed
from buildkit.index.checks import Checked, check_wheel, release_of
from buildkit.verify import zip_structure

FULL = ("75", "80", "86", "90", "100", "120", "120P")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    fake_cuobjdump(tmp_path)
    (tmp_path / "objects").mkdir()
    return tmp_path


def checked(place: Path, *, filename: str = "", **changes: Any) -> Checked:
    wheel = WheelMaker(**changes).write(place, filename=filename)
    return check_wheel(wheel, place / "objects", cuobjdump=place / "cuobjdump")


def refused(place: Path, cause: type[VerificationFailed], text: str, **changes: Any) -> VerificationFailed:
    with pytest.raises(cause, match=text) as caught:
        checked(place, **changes)
    assert type(caught.value) is cause
    assert list((place / "objects").iterdir()) in ([], [place / "objects" / "object"])
    return caught.value


def facts(**changes: Any) -> bytes:
    said = {"schema": 1, "device": "cuda", "targets": ["12.0"], "torch": "2.13.0+cu130", "toolkit": "13.0.88"}
    return json.dumps({**said, **changes}).encode()


def test_a_wheel_that_is_what_it_says_makes_a_release(place: Path) -> None:
    found = checked(place)
    release = release_of(found, sha256="a" * 64, size=9, by="ci", redistributable=False, origin="upload")
    assert (release.project, release.version, release.python) == ("fast-voxels", "1.0+pt2.13.cu130.sm120", "cp311")
    assert (release.torch, release.cuda, release.device, release.targets) == ("2.13.0+cu130", "13.0", "cuda", ("12.0",))
    assert (release.requires_python, release.license, release.redistributable) == (">=3.10", "MIT", False)
    assert (release.grade, release.by, release.origin, release.key) == ("none", "ci", "upload", None)
    assert found.linux_tag == ""


def test_the_declared_set_needs_no_targets_in_the_name(place: Path) -> None:
    targets = ["7.5", "8.0", "8.6", "9.0", "10.0", "12.0+PTX"]
    found = checked(place, version="1.0+pt2.13.cu130", targets=targets, code=marked_object(*FULL))
    assert found.targets == tuple(targets)


def test_what_is_there_counts_and_not_what_is_claimed(place: Path) -> None:
    assert checked(place, code=marked_object("86", "120")).targets == ("8.6", "12.0")


def test_a_cpu_wheel_and_one_without_torch(place: Path) -> None:
    cpu = checked(place, version="1.0+pt2.13.cpu", device="cpu", targets=(), torch="2.13.0+cpu", toolkit=None,
                  code=marked_object())  # fmt: skip
    assert (cpu.cuda, cpu.targets) == ("", ())
    bare = checked(place, version="1.0+abc.cu130.sm120", torch=None, requires="")
    assert (bare.cuda, bare.facts.torch) == ("13.0", None)


def test_a_cpu_only_wheel_named_as_cuda_is_refused(place: Path) -> None:
    refused(place, CpuOnlyWheel, "no shared object of the wheel holds device code", code=marked_object())
    refused(place, CpuOnlyWheel, "no shared object of the wheel holds device code", code=b"")


def test_device_code_that_does_not_cover_the_name_is_refused(place: Path) -> None:
    refused(place, MissingTargets, "lacks sm_120", code=marked_object("86"))
    every = ["7.5", "8.0", "8.6", "9.0", "10.0", "12.0+PTX"]
    refused(place, MissingTargets, "lacks PTX of 12.0", version="1.0+pt2.13.cu130", targets=every,
            code=marked_object(*FULL[:-1]))  # fmt: skip


def test_device_code_in_a_wheel_for_the_cpu_is_refused(place: Path) -> None:
    refused(place, VerificationFailed, r"for the CPU, and fast_voxels/_C\.so holds device code",
            version="1.0+pt2.13.cpu", device="cpu", targets=(), torch="2.13.0+cpu", toolkit=None)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"version": "1.0"}, "has the local version ''"),
        ({"version": "1.0+pt2.12.cu130.sm120"}, "has the local version 'pt2.12.cu130.sm120', and its contents"),
        ({"version": "1.0+pt2.13.cu130"}, "its contents were made as 'pt2.13.cu130.sm120'"),
        ({"version": "1.0+pt2.13.cu128.sm120"}, "names another CUDA than the torch"),
        ({"torch": "2.13.0", "version": "1.0+pt2.13.cu128.sm120"}, "names another CUDA than the toolkit"),
        ({"targets": ("8.6",)}, "its contents were made as 'pt2.13.cu130.sm86'"),
        ({"targets": ("fast",)}, "names targets that do not fit"),
        ({"targets": ()}, "names targets that do not fit"),
        ({"torch": "newest", "toolkit": None}, "whose version does not parse"),
        ({"requires": ""}, "does not require torch|which its own requirements do not ask for"),
        ({"requires": "torch==2.12.*"}, "was made for torch 2.13.0"),
        ({"requires": 'torch==2.13.*; extra == "gpu"'}, "was made for torch 2.13.0"),
        ({"facts": b""}, "does not say which torch, CUDA and targets"),
        ({"facts": b"{"}, "is not what cudabuild writes"),
        ({"facts": facts(schema=2)}, "is not what cudabuild writes"),
        ({"facts": facts(device="rocm")}, "is not what cudabuild writes"),
        ({"more": {"fast_voxels.libs/libcudart-1a2b3c4d.so.13": marked_object()}}, "carries a copy of one of torch's"),
        ({"code": b"\x7fELF and no more"}, r"holds a shared object that cannot be read: fast_voxels/_C\.so"),
    ],
)
def test_each_disagreement_has_its_words(place: Path, changes: dict[str, Any], text: str) -> None:
    refused(place, VerificationFailed, text, **changes)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"filename": "other-1.0+pt2.13.cu130.sm120-cp311-cp311-manylinux_2_28_x86_64.whl"}, "not what the file name"),
        ({"filename": "fast_voxels-1.1+pt2.13.cu130.sm120-cp311-cp311-manylinux_2_28_x86_64.whl"}, "not what the file"),
        ({"filename": "fast_voxels-1.0+pt2.13.cu130.sm120-cp312-cp312-manylinux_2_28_x86_64.whl"}, "names other tags"),
        ({"more": {"../evil": b"x"}}, "outside the wheel's folder"),
        ({"more": {"torch/__init__.py": b"x"}}, "belongs to another distribution"),
        ({"more": {"nvidia/cuda_runtime/lib/x": b"x"}}, "belongs to another distribution"),
    ],
)
def test_names_and_places_are_checked(place: Path, changes: dict[str, Any], text: str) -> None:
    refused(place, UnsafeWheel, text, **changes)


def test_the_plain_linux_tag_is_told(place: Path) -> None:
    assert checked(place, tags="cp311-cp311-linux_x86_64").linux_tag == "linux_x86_64"


def test_a_whole_that_packs_too_well_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_structure, "RATIO_FLOOR", 1 << 20)
    members = {f"fast_voxels/{number}": bytes(700 << 10) for number in range(3)}
    refused(place, UnsafeWheel, "unpacks to", more=members)
