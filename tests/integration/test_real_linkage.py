"""Linkage of real objects: what the dynamic linker would refuse is named before anything is run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from buildkit.errors import VerificationFailed
from buildkit.verify.linkage import Linkage, inspect_linkage, judge_linkage

pytestmark = pytest.mark.integration


def compile_library(folder: Path, name: str, source: str, *flags: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    command = ["g++", "-shared", "-fPIC", "-o", str(folder / name), "-x", "c++", "-", "-x", "none", *flags]
    subprocess.run(command, input=source.encode(), check=True, timeout=300)
    return folder / name


def look(folder: Path, *sites: Path) -> Linkage:
    return inspect_linkage(folder, site_packages=sites, interpreter=Path(sys.executable))


def test_python_and_the_system_define_what_an_extension_needs(tmp_path: Path) -> None:
    source = 'extern "C" int PyList_Size(void*); extern "C" int f(void* x) { return PyList_Size(x); }'
    compile_library(tmp_path, "_C.so", source + "\n#include <string>\nstd::string g() { return std::to_string(f(0)); }")
    evidence = judge_linkage(look(tmp_path))
    assert "GLIBCXX" in evidence["needs"]
    assert "libstdc++.so.6" in evidence["libraries"]["_C.so"]


def test_a_symbol_that_nothing_defines_is_named(tmp_path: Path) -> None:
    compile_library(tmp_path, "_C.so", "int nowhere_defined(); int f() { return nowhere_defined(); }")
    with pytest.raises(VerificationFailed, match=r"_C\.so has undefined symbols .*_Z15nowhere_definedv"):
        judge_linkage(look(tmp_path))


def test_a_weak_symbol_may_stay_undefined(tmp_path: Path) -> None:
    compile_library(tmp_path, "_C.so", "__attribute__((weak)) int may_be(); int f() { return may_be ? may_be() : 0; }")
    judge_linkage(look(tmp_path))


def test_a_library_of_the_wheel_itself_is_found_and_one_of_the_build_tree_is_not(tmp_path: Path) -> None:
    helper = compile_library(tmp_path / "build", "libhelper.so", 'extern "C" int helper() { return 1; }')
    source = 'extern "C" int helper(); int f() { return helper(); }'
    compile_library(tmp_path / "wheel" / "pack", "_C.so", source, f"-L{helper.parent}", "-lhelper")
    with pytest.raises(VerificationFailed, match=r"pack/_C\.so needs libraries that are not here: libhelper\.so"):
        judge_linkage(look(tmp_path / "wheel"))
    (tmp_path / "wheel" / "pack" / "lib").mkdir()
    helper.rename(tmp_path / "wheel" / "pack" / "lib" / "libhelper.so")
    judge_linkage(look(tmp_path / "wheel"))


def test_a_driver_library_may_be_absent(tmp_path: Path) -> None:
    """On a machine with a driver the library is found; without, only the driver is missing. Both pass."""
    soname = "-Wl,-soname,libcuda.so.1"
    stub = compile_library(tmp_path / "stub", "libcuda.so", 'extern "C" int cuInit(unsigned) { return 0; }', soname)
    source = 'extern "C" int cuInit(unsigned); int f() { return cuInit(0); }'
    compile_library(tmp_path / "wheel", "_C.so", source, f"-L{stub.parent}", "-lcuda")
    found = look(tmp_path / "wheel")
    assert judge_linkage(found)["driver_missing"] == [
        name for name in ("libcuda.so.1",) if name not in found.objects[0].found
    ]


def test_a_symbol_version_that_is_not_here_is_named(tmp_path: Path) -> None:
    source = 'extern "C" int versioned() { return 1; }'
    for version in ("OWN_1", "OWN_2"):
        (tmp_path / "map").write_text(f"{version} {{ global: versioned; local: *; }};")
        flags = (f"-Wl,--version-script={tmp_path / 'map'}", "-Wl,-soname,libown.so")
        compile_library(tmp_path / version, "libown.so", source, *flags)
    user = 'extern "C" int versioned(); int f() { return versioned(); }'
    compile_library(tmp_path / "wheel", "_C.so", user, f"-L{tmp_path / 'OWN_2'}", "-lown")
    (tmp_path / "OWN_1" / "libown.so").rename(tmp_path / "wheel" / "libown.so")
    with pytest.raises(VerificationFailed, match=r"libown\.so: OWN_2"):
        judge_linkage(look(tmp_path / "wheel"))


def test_a_grafted_library_is_refused_by_file_name_and_by_soname(tmp_path: Path) -> None:
    compile_library(tmp_path / "a", "libc10.so", "int f() { return 0; }")
    compile_library(tmp_path / "b", "disguised.so", "int f() { return 0; }", "-Wl,-soname,libcudart-0123abcd.so.13")
    assert look(tmp_path).grafted == ("a/libc10.so", "b/disguised.so")
    with pytest.raises(VerificationFailed, match=r"a/libc10\.so, b/disguised\.so"):
        judge_linkage(look(tmp_path))


def test_torchs_libraries_are_in_scope(tmp_path: Path, torch_site: Path) -> None:
    """Against the real torch: its symbols are found by their names, and a wrong one is not."""
    c10 = torch_site / "torch" / "lib" / "libc10.so"
    source = 'extern int other() asm("{name}"); int f() {{ return other(); }}'
    for name, folder in (("_ZN3c1013no_such_checkEv", "wrong"), (a_function_of(c10), "right")):
        compile_library(
            tmp_path / folder, "_C.so", source.format(name=name), str(c10), "-Wl,--unresolved-symbols=ignore-all"
        )
    with pytest.raises(VerificationFailed, match="no_such_check"):
        judge_linkage(look(tmp_path / "wrong", torch_site))
    evidence = judge_linkage(look(tmp_path / "right", torch_site))
    assert evidence["libraries"]["_C.so"]["libc10.so"] == str(c10)


def a_function_of(path: Path) -> str:
    """The mangled name of a function that a library exports."""
    done = subprocess.run(["nm", "-D", "--defined-only", str(path)], capture_output=True, text=True, check=True)
    return next(line.split()[2] for line in done.stdout.splitlines() if line.split()[1] == "T" and "TensorImpl" in line)
