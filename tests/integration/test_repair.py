"""Repair of real wheels: which systems they fit, what is copied in, and what never is."""

from __future__ import annotations

import ctypes
import hashlib
import json
import re
import subprocess
import zipfile
from pathlib import Path

import pytest
from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename
from wheels import wheel

from buildkit.build.final import finalise
from buildkit.build.repair import Repaired, repair, rules
from buildkit.machine.arch import parse_targets
from buildkit.verify.symbols import read_dynamic
from buildkit.verify.wheel import open_wheel, unpack_wheel

pytestmark = pytest.mark.integration

EXTENSION = """
#include <stdio.h>
{declared}
__attribute__((noinline)) static int hidden(void) {{ return 7; }}
int answer(void) {{ printf("%s", ""); return hidden(){added}; }}
"""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small stand-ins: a library of the system, and some that torch and CUDA bring, needed by it or by itself."""
    folder = tmp_path_factory.mktemp("libraries")
    for name in ("libgomp.so.1", "libcudart.so.13", "libtorch.so", "libnppc.so.13"):
        compiled(folder / name, f"int {re.sub(r'[^a-z]', '_', name)}(void) {{ return 1; }}")
    compiled(
        folder / "libgrid.so.2", "int libcudart_so___(void); int grid(void) { return 35; }", folder / "libcudart.so.13"
    )
    return folder


def compiled(path: Path, code: str, *needed: Path) -> bytes:
    command = ["cc", "-shared", "-fPIC", "-O1", f"-Wl,-soname,{path.name}", "-Wl,--no-as-needed", "-x", "c", "-"]
    search = [f"-Wl,-rpath,{needed[0].parent}"] if needed else []
    subprocess.run([*command, "-o", path, "-x", "none", *needed, *search], input=code.encode(), check=True)
    return path.read_bytes()


def extension(folder: Path, *needed: Path, declared: str = "", added: str = "") -> Path:
    """A wheel as a backend makes it, with one object that needs these libraries."""
    folder.mkdir()
    code = compiled(folder / "_C.so", EXTENSION.format(declared=declared, added=added), *needed)
    return wheel(folder / "in", objects={"pack_age/_C.so": code})


def grid(folder: Path, libraries: Path) -> Path:
    return extension(folder, libraries / "libgrid.so.2", declared="int grid(void);", added=" + grid()")


def final(repaired: Repaired, folder: Path) -> Path:
    return finalise(
        repaired.wheel,
        folder,
        torch_version="2.13.0+cu130",
        targets=parse_targets(["12.0"]),
        device="cuda",
        platforms=repaired.platforms,
        bill=lambda name, version: f"{name} {version}".encode(),
    )


def test_the_tag_is_what_the_symbols_need(tmp_path: Path) -> None:
    made = extension(tmp_path / "made")
    repaired = repair(made, tmp_path / "repaired", torch=None)
    assert (repaired.wheel, repaired.grafted, repaired.reason) == (made, {}, "")
    path = final(repaired, tmp_path / "final")
    assert re.search(r"-cp311-cp311-(manylinux\w+\.)*manylinux_2_\d+_x86_64\.whl$", path.name), path.name
    opened = open_wheel(path)  # WHEEL says the same as the name
    assert not any("linux_x86_64" in tag and "many" not in tag for tag in opened.tags)
    here = {tag.platform for tag in sys_tags()}
    assert {tag.platform for tag in parse_wheel_filename(path.name)[3]} <= here, "it installs where it was made"


def test_a_library_of_the_system_is_copied_in_and_found(tmp_path: Path, libraries: Path) -> None:
    repaired = repair(grid(tmp_path / "made", libraries), tmp_path / "repaired", torch=None)
    source = libraries / "libgrid.so.2"
    assert repaired.grafted == {str(source): hashlib.sha256(source.read_bytes()).hexdigest()}
    opened = open_wheel(final(repaired, tmp_path / "final"))
    (copied,) = [name for name in opened.members if ".libs/" in name]
    assert re.fullmatch(r"Pack_Age\.libs/libgrid-[0-9a-f]{8}\.so\.2", copied)
    unpacked = unpack_wheel(opened, tmp_path / "unpacked")
    dynamic = read_dynamic(unpacked / "pack_age" / "_C.so")
    assert dynamic is not None
    assert Path(copied).name in dynamic.needed
    assert str(libraries) not in " ".join(dynamic.search)
    ctypes.CDLL(str(libraries / "libcudart.so.13"))  # which stays out, and is there already, as with torch
    assert ctypes.CDLL(str(unpacked / "pack_age" / "_C.so")).answer() == 42
    shown = subprocess.run(["nm", unpacked / "pack_age" / "_C.so"], capture_output=True, text=True, check=True).stdout
    assert " t hidden" in shown, "nothing is stripped"


def test_the_same_wheel_gives_the_same_bytes(tmp_path: Path, libraries: Path) -> None:
    made = grid(tmp_path / "made", libraries)
    one, two = (final(repair(made, tmp_path / name / "r", torch=None), tmp_path / name) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as archive:
        bills = {name: archive.read(name) for name in archive.namelist() if "/sboms/" in name}
    assert list(bills.values()) == [b"pack-age 1.0+pt2.13.cu130.sm120"], "auditwheel's own is taken over into ours"


def test_what_torch_and_cuda_bring_is_never_copied(tmp_path: Path, libraries: Path) -> None:
    site = tmp_path / "site"
    (site / "torch" / "lib").mkdir(parents=True)
    (site / "torch" / "lib" / "libgomp.so.1").write_bytes((libraries / "libgomp.so.1").read_bytes())
    names = ("libgomp.so.1", "libcudart.so.13", "libtorch.so", "libnppc.so.13")
    made = extension(tmp_path / "made", *(libraries / name for name in names))
    repaired = repair(made, tmp_path / "repaired", torch=site)
    assert (repaired.wheel, repaired.grafted) == (made, {})
    assert repaired.platforms
    alone = repair(made, tmp_path / "alone", torch=None)
    assert [Path(path).name for path in alone.grafted] == ["libgomp.so.1"], "without torch nobody else brings it"


def test_a_library_that_is_nowhere_leaves_the_tag(tmp_path: Path, libraries: Path) -> None:
    gone = tmp_path / "gone" / "libgone.so.3"
    gone.parent.mkdir()
    compiled(gone, "int gone(void) { return 1; }")
    made = extension(tmp_path / "made", gone)
    gone.unlink()
    repaired = repair(made, tmp_path / "repaired", torch=None)
    assert (repaired.wheel, repaired.platforms) == (made, ())
    assert repaired.reason == "it needs libgone.so.3, which is not here"
    assert final(repaired, tmp_path / "final").name.endswith("-cp311-cp311-linux_x86_64.whl")


def test_a_wheel_without_machine_code_is_left_alone(tmp_path: Path) -> None:
    made = wheel(tmp_path, objects={})
    repaired = repair(made, tmp_path / "repaired", torch=None)
    assert (repaired.wheel, repaired.platforms) == (made, ())
    assert repaired.reason
    assert re.fullmatch(r"\d+ auditwheel \d\S+ patchelf \d\S+", rules())
    assert json.dumps(repaired.reason)
