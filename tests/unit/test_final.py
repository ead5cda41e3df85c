"""Final bytes: label, torch pin, names together, the same bytes from the same input."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from wheels import METADATA, wheel

from buildkit.build.final import final_filename, finalise
from buildkit.build.label import (
    cuda_of_torch,
    local_label,
    torch_pin,
    with_local,
)
from buildkit.build.metadata import rewrite
from buildkit.errors import UnsafeWheel
from buildkit.machine.arch import Target, parse_targets
from buildkit.machine.variants import load_variants, target_label, variant_targets
from buildkit.verify.wheel import open_wheel

TORCH = "2.13.0+cu130"
T120 = parse_targets(["12.0"])


def final(folder: Path, source: Path, targets: Sequence[Target] = T120, requires: Sequence[str] = ()) -> Path:
    return finalise(source, folder, torch_version=TORCH, targets=targets, device="cuda", requires=requires)


@pytest.mark.parametrize(
    ("targets", "label"),
    [
        ("12.0", "pt2.13.cu130.sm120"),
        ("12.0;8.6", "pt2.13.cu130.sm86.sm120"),
        ("8.6;12.0+PTX", "pt2.13.cu130.sm86.sm120ptx"),
        ("9.0a", "pt2.13.cu130.sm90a"),
        ("12.0f", "pt2.13.cu130.sm120f"),
        ("7.5;8.0;8.6;9.0;10.0;12.0", "pt2.13.cu130.sm75.sm80.sm86.sm90.sm100.sm120"),
        ("7.5;8.0;8.6;9.0;10.0;12.0+PTX", "pt2.13.cu130"),
        ("7.5;8.0;8.6;8.9;9.0;10.0;12.0+PTX", "pt2.13.cu130"),
    ],
)
def test_the_label_names_targets_unless_they_cover_the_variant(targets: str, label: str) -> None:
    made = local_label(
        torch_version=TORCH,
        cuda="13.0",
        targets=parse_targets([targets]),
        variant=variant_targets("13.0"),
        device="cuda",
    )
    assert made == label
    assert Version(f"1.0+{made}").local == made


def test_labels_for_the_cpu_and_for_other_torches() -> None:
    def label(torch_version: str, cuda: str | None) -> str:
        device: str = "cuda" if cuda else "cpu"
        return local_label(torch_version=torch_version, cuda=cuda, targets=T120, variant=(), device=device)  # type: ignore[arg-type]

    assert label("2.13.0+cpu", None) == "pt2.13.cpu"
    assert label("2.10.1+cu126", "12.6") == "pt2.10.cu126.sm120"
    assert label("2.14.0.dev20261101+cu130", "13.0") == "pt2.14.0.dev20261101.cu130.sm120"
    assert torch_pin("2.14.0.dev20261101+cu130") == "torch==2.14.0.dev20261101"
    assert torch_pin(TORCH) == "torch==2.13.*"
    assert Version("2.13.1+cu130") in Requirement(torch_pin(TORCH)).specifier
    assert target_label(Target(9, 0, "a", ptx=True)) == "sm90aptx"


@pytest.mark.parametrize(
    ("version", "cuda"),
    [(TORCH, "13.0"), ("2.4.0+cu118", "11.8"), ("2.13.0", None), ("2.13.0+cpu", None), ("2.13.0+git12.cu126", "12.6")],
)
def test_torchs_own_version_names_its_cuda(version: str, cuda: str | None) -> None:
    assert cuda_of_torch(version) == cuda


def test_local_versions_are_joined_once() -> None:
    assert with_local("1.0", "pt2.13.cu130") == "1.0+pt2.13.cu130"
    assert with_local("1.0+abc", "pt2.13.cu130") == "1.0+abc.pt2.13.cu130"
    assert with_local("1.0+abc.pt2.13.cu130", "pt2.13.cu130") == "1.0+abc.pt2.13.cu130"
    assert with_local("v1.0.0-rc1", "pt2.13.cpu") == "1.0.0rc1+pt2.13.cpu"


def test_dots_keep_ten_above_nine() -> None:
    assert Version("1.0+pt2.10.cu130") > Version("1.0+pt2.9.cu130")


def test_every_variant_has_targets_and_a_source() -> None:
    variants = load_variants()
    assert {"cu126", "cu128", "cu130"} <= variants.keys()
    for name, variant in variants.items():
        assert variant.source
        targets = parse_targets([variant.targets])
        assert targets
        assert targets[-1].ptx, name
    assert variant_targets("99.0") == ()
    assert variant_targets(None) == ()


def test_names_metadata_and_record_change_together(tmp_path: Path) -> None:
    path = final(tmp_path / "out", wheel(tmp_path / "in"), requires=["trimesh>=4", "numpy"])
    stem = "Pack_Age-1.0+pt2.13.cu130.sm120"
    assert path.name == f"{stem}-cp311-cp311-linux_x86_64.whl"
    opened = open_wheel(path)
    assert (opened.name, opened.version) == ("pack-age", "1.0+pt2.13.cu130.sm120")
    assert opened.dist_info == f"{stem}.dist-info"
    assert f"{stem}.data/scripts/tool" in opened.members
    assert f"{stem}.dist-info/licenses/LICENSE" in opened.members
    assert not any(name.endswith("RECORD.jws") for name in opened.members)
    with zipfile.ZipFile(path) as archive:
        assert b"Generator: other 1.2\n" in archive.read(f"{stem}.dist-info/WHEEL")


def test_torch_is_pinned_and_everything_else_stays(tmp_path: Path) -> None:
    path = final(tmp_path / "out", wheel(tmp_path / "in"), requires=["trimesh>=4", "numpy"])
    expected = METADATA.replace("Version: 1.0\nS", "Version: 1.0+pt2.13.cu130.sm120\nS")
    head, _, body = expected.partition("\n\n")
    assert open_wheel(path).metadata == (
        head.replace(
            "Requires-Dist: numpy\n", "Requires-Dist: torch==2.13.*\nRequires-Dist: trimesh>=4\nRequires-Dist: numpy\n"
        )
        .replace("Requires-Dist: Torch>=2.0\n", "")
        .replace('Requires-Dist: torch<2.5; python_version < "3.8"\n', "")
        .replace("Requires-Dist: torch (>=1.9) ; extra == 'train'", 'Requires-Dist: torch==2.13.*; extra == "train"')
        + "\n\n"
        + body
    )


def test_metadata_without_requirements_or_description() -> None:
    text = "Metadata-Version: 2.1\nName: x\nVersion: 1\nLicense: a\n  b\nKeywords: c"
    assert rewrite(text, version="1+l", torch_pin="torch==2.13.*", requires=["numpy"]) == (
        "Metadata-Version: 2.1\nName: x\nVersion: 1+l\nLicense: a\n  b\nKeywords: c\n"
        "Requires-Dist: torch==2.13.*\nRequires-Dist: numpy\n"
    )


def test_a_folded_requirement_is_understood() -> None:
    text = "Name: x\nVersion: 1\nRequires-Dist: torch\n  >=1.9\n\nbody\n"
    assert rewrite(text, version="2", torch_pin="torch==2.13.*", requires=[]) == (
        "Name: x\nVersion: 2\nRequires-Dist: torch==2.13.*\n\nbody\n"
    )


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    first = final(tmp_path / "a", wheel(tmp_path / "in1")).read_bytes()
    second = final(tmp_path / "b", wheel(tmp_path / "in2", reverse=True)).read_bytes()
    assert first == second


def test_members_are_sorted_with_record_last_and_modes_are_fixed(tmp_path: Path) -> None:
    path = final(tmp_path / "out", wheel(tmp_path / "in"))
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
    names = [info.filename for info in infos]
    body = [name for name in names if ".dist-info/" not in name]
    assert names[: len(body)] == sorted(body)
    assert names[-1].endswith(".dist-info/RECORD")
    assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
    modes = {info.filename.rsplit("/", 1)[1]: info.external_attr >> 16 for info in infos}
    assert (modes["_C.so"], modes["tool"], modes["__init__.py"]) == (0o100755, 0o100755, 0o100644)


def test_finalising_twice_changes_nothing(tmp_path: Path) -> None:
    first = final(tmp_path / "a", wheel(tmp_path / "in"))
    second = final(tmp_path / "b", first)
    assert (first.name, first.read_bytes()) == (second.name, second.read_bytes())


def test_local_version_and_build_tag_are_kept(tmp_path: Path) -> None:
    path = final(tmp_path / "out", wheel(tmp_path / "in", version="1.0+abc", build="-1"))
    assert path.name == "Pack_Age-1.0+abc.pt2.13.cu130.sm120-1-cp311-cp311-linux_x86_64.whl"
    assert open_wheel(path).build == "1"


def test_build_facts_are_written_and_recorded(tmp_path: Path) -> None:
    facts = {"torch": TORCH, "recipe": "pack-age", "targets": ["12.0"]}
    path = finalise(
        wheel(tmp_path / "in"),
        tmp_path / "out",
        torch_version=TORCH,
        targets=T120,
        device="cuda",
        build_facts=facts,
    )
    opened = open_wheel(path)
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read(f"{opened.dist_info}/cudabuild.json")) == facts
    assert f"{opened.dist_info}/cudabuild.json" in opened.record


def test_an_unsafe_wheel_is_not_made_final(tmp_path: Path) -> None:
    source = wheel(tmp_path / "in")
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr("hook.pth", "import evil")
    with pytest.raises(UnsafeWheel, match=r"hook\.pth"):
        final(tmp_path / "out", source)
    assert not (tmp_path / "out").exists()


def test_platforms_take_the_place_of_linux(tmp_path: Path) -> None:
    path = finalise(
        wheel(tmp_path / "in"),
        tmp_path / "out",
        torch_version=TORCH,
        targets=T120,
        device="cuda",
        platforms=("manylinux_2_17_x86_64", "manylinux2014_x86_64"),
    )
    assert path.name.endswith("-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl")
    with zipfile.ZipFile(path) as archive:
        lines = archive.read(f"{open_wheel(path).dist_info}/WHEEL").decode().splitlines()
    assert [line for line in lines if line.startswith("Tag:")] == [
        "Tag: cp311-cp311-manylinux2014_x86_64",
        "Tag: cp311-cp311-manylinux_2_17_x86_64",
    ]


@pytest.mark.parametrize(
    ("filename", "made"),
    [
        ("a-1-cp311-cp311-linux_aarch64.whl", "a-2-cp311-cp311-manylinux_2_34_aarch64.whl"),
        ("a-1-1-py3-none-linux_aarch64.whl", "a-2-1-py3-none-manylinux_2_34_aarch64.whl"),
        ("a-1-py3-none-any.whl", "a-2-py3-none-any.whl"),
        ("a-1-py3-none-any.linux_aarch64.whl", "a-2-py3-none-any.manylinux_2_34_aarch64.whl"),
        ("a-1-py3-none-musllinux_1_2_x86_64.whl", "a-2-py3-none-musllinux_1_2_x86_64.whl"),
    ],
)
def test_only_the_tag_linux_gives_way(filename: str, made: str) -> None:
    assert final_filename(filename, "2", ["manylinux_2_34_aarch64"]) == made


def test_the_bill_is_of_the_final_name_and_version(tmp_path: Path) -> None:
    source = wheel(tmp_path / "in", objects={"Pack_Age-1.0.dist-info/sboms/auditwheel.cdx.json": b"{}"})
    path = finalise(
        source,
        tmp_path / "out",
        torch_version=TORCH,
        targets=T120,
        device="cuda",
        bill=lambda name, version: f"{name} {version}".encode(),
    )
    with zipfile.ZipFile(path) as archive:
        bills = {name: archive.read(name) for name in archive.namelist() if "/sboms/" in name}
    stem = "Pack_Age-1.0+pt2.13.cu130.sm120"
    assert bills == {f"{stem}.dist-info/sboms/cudabuild.cdx.json": b"pack-age 1.0+pt2.13.cu130.sm120"}
