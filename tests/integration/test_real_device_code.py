"""Device code of real objects: nvcc makes them, cuobjdump and the fatbin headers are read, the judge decides."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from buildkit.errors import CpuOnlyWheel, MissingTargets
from buildkit.machine.arch import Target, parse_targets
from buildkit.verify.device_code import find_cuobjdump, inspect_device_code, inspect_object
from buildkit.verify.judge import judge_device_code

pytestmark = pytest.mark.integration

KERNEL = """
__global__ void kernel_{name}(int *value) {{ *value = 1; }}
extern "C" void run_{name}(int *value) {{ kernel_{name}<<<1, 1>>>(value); }}
"""
SM86 = ["-gencode=arch=compute_86,code=sm_86"]
SM90A = ["-gencode=arch=compute_90a,code=sm_90a"]
SM120_PTX = ["-gencode=arch=compute_120,code=[sm_120,compute_120]"]
SM120F = ["-gencode=arch=compute_120f,code=sm_120f"]


@dataclass(frozen=True)
class Tools:
    """nvcc of the toolkit view, and a folder for sources and objects."""

    view: Path
    folder: Path

    def run(self, *command: str) -> None:
        environment = {**os.environ, "CUDA_HOME": str(self.view), "LC_ALL": "C.UTF-8"}
        subprocess.run(command, check=True, cwd=self.folder, env=environment, timeout=300)

    def compile(self, name: str, *flags: str) -> str:
        """The object file of a unit ``name.cu`` with one kernel."""
        (self.folder / f"{name}.cu").write_text(KERNEL.format(name=name))
        compiled = f"{name}.o"
        self.run(str(self.view / "bin" / "nvcc"), "-Xcompiler=-fPIC", *flags, "-c", f"{name}.cu", "-o", compiled)
        return compiled

    def link(self, wheel: Path, name: str, objects: Sequence[str], *flags: str) -> Path:
        """A shared object inside the folder of an unpacked wheel."""
        wheel.mkdir(parents=True, exist_ok=True)
        library = str(self.view / "lib64")
        self.run("g++", "-shared", "-o", str(wheel / name), *objects, f"-L{library}", "-lcudart", *flags)
        return wheel / name


@pytest.fixture(scope="module")
def tools(toolkit_view: Path, tmp_path_factory: pytest.TempPathFactory) -> Tools:
    return Tools(toolkit_view, tmp_path_factory.mktemp("device-code"))


@pytest.fixture(scope="module")
def wide(tools: Tools) -> str:
    """A unit for 8.6 and 12.0+PTX."""
    return tools.compile("wide", *SM86, *SM120_PTX)


@pytest.fixture(scope="module")
def narrow(tools: Tools) -> str:
    """A unit for 8.6 only."""
    return tools.compile("narrow", *SM86)


def targets(text: str) -> tuple[Target, ...]:
    return parse_targets([text])


def test_a_unit_with_fewer_targets_is_named_by_its_source(tools: Tools, wide: str, narrow: str, tmp_path: Path) -> None:
    tools.link(tmp_path / "pack", "_C.so", [wide, narrow])
    objects = inspect_device_code(tmp_path, find_cuobjdump())
    assert judge_device_code(objects, targets("8.6"))["targets"] == ["8.6"]
    with pytest.raises(MissingTargets) as caught:
        judge_device_code(objects, targets("8.6;12.0+PTX"))
    assert "pack/_C.so: narrow (unit 2 of 2) lacks sm_120, PTX of 12.0 (it holds sm_86)" in caught.value.message
    assert "wide" not in caught.value.message


def test_in_a_stripped_object_the_unit_is_named_by_its_kernel(
    tools: Tools, wide: str, narrow: str, tmp_path: Path
) -> None:
    tools.link(tmp_path, "_C.so", [wide, narrow], "-s")
    with pytest.raises(MissingTargets, match=r"unit 2 of 2 \(kernel _Z13kernel_narrowPi\) lacks sm_120"):
        judge_device_code(inspect_device_code(tmp_path, find_cuobjdump()), targets("12.0"))


def test_ptx_counts_only_where_it_is_embedded(tools: Tools, wide: str, tmp_path: Path) -> None:
    path = tools.link(tmp_path, "_C.so", [wide])
    found = inspect_object(path, "_C.so", find_cuobjdump())
    assert (found.elf, found.ptx, len(found.units)) == (targets("8.6;12.0"), targets("12.0"), 1)
    assert judge_device_code([found], targets("8.6;12.0+PTX"))["targets"] == ["8.6", "12.0+PTX"]
    with pytest.raises(MissingTargets, match=r"lacks PTX of 8\.6"):
        judge_device_code([found], targets("8.6+PTX"))


def test_suffixes_are_targets_of_their_own(tools: Tools, tmp_path: Path) -> None:
    path = tools.link(tmp_path, "_C.so", [tools.compile("special", *SM90A, *SM120F)])
    found = inspect_object(path, "_C.so", find_cuobjdump())
    assert found.elf == targets("9.0a;12.0f")
    assert judge_device_code([found], targets("9.0a;12.0f"))["targets"] == ["9.0a", "12.0f"]
    with pytest.raises(MissingTargets, match="lacks sm_120 "):
        judge_device_code([found], targets("12.0"))


def test_compressed_images_are_told_apart_too(tools: Tools, tmp_path: Path) -> None:
    one = tools.compile("packed_one", *SM86, *SM120_PTX, "-Xfatbin=-compress-all")
    two = tools.compile("packed_two", *SM120F, "-Xfatbin=-compress-all")
    found = inspect_object(tools.link(tmp_path, "_C.so", [one, two]), "_C.so", find_cuobjdump())
    assert found.note == ""
    assert [unit.elf for unit in found.units] == [targets("8.6;12.0"), targets("12.0f")]


def test_relocatable_device_code_counts_once_it_is_linked(tools: Tools, tmp_path: Path) -> None:
    flags = ["-rdc=true", *SM86, *SM120_PTX]
    objects = [tools.compile(name, *flags) for name in ("linked_one", "linked_two")]
    nvcc = str(tools.view / "bin" / "nvcc")
    tools.run(nvcc, "-Xcompiler=-fPIC", *SM86, *SM120_PTX, "-dlink", *objects, "-o", "linked.o")
    found = inspect_object(tools.link(tmp_path, "_C.so", [*objects, "linked.o"]), "_C.so", find_cuobjdump())
    assert (found.elf, len(found.units), found.note) == (targets("8.6;12.0"), 1, "")


def test_objects_without_device_code_are_allowed_beside_one_with_it(tools: Tools, wide: str, tmp_path: Path) -> None:
    (tools.folder / "host.cpp").write_text('extern "C" int host() { return 0; }\n')
    tools.run("g++", "-fPIC", "-c", "host.cpp", "-o", "host.o")
    tools.link(tmp_path, "_cpu.so", ["host.o"])
    objects = inspect_device_code(tmp_path, find_cuobjdump())
    with pytest.raises(CpuOnlyWheel) as caught:
        judge_device_code(objects, targets("12.0"), log_text="CUDA not found, building for CPU\n")
    assert caught.value.evidence == "CUDA not found, building for CPU"
    tools.link(tmp_path, "_cuda.so", [wide])
    objects = inspect_device_code(tmp_path, find_cuobjdump())
    assert judge_device_code(objects, targets("12.0"), ["_cuda*"])["without_device_code"] == ["_cpu.so"]
