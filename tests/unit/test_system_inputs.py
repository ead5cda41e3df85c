"""What a build finds without being told: each change of it changes a fingerprint, and asking again is cheap."""

from __future__ import annotations

import os
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.machine import identity, system_inputs
from buildkit.machine.compiler import HostCompiler
from buildkit.machine.identity import Memo
from buildkit.machine.interpreter import Interpreter
from buildkit.machine.system_inputs import (
    interpreter_sha256,
    linkable_sha256,
    program_hashes,
    read_system_inputs,
    search_folders,
    tree_sha256,
)

GCC = """#!/bin/sh
echo "$*" >> {root}/asked
case "$*" in
"-E -v -x c++ /dev/null") cat >&2 <<'END'
ignoring nonexistent directory "/nowhere"
#include <...> search starts here:
 {root}/include/c++/12
 {root}/include
 {root}/gcc/include
 {root}/nowhere
End of search list.
END
;;
-print-search-dirs) echo "install: /x"; echo "libraries: ={root}/lib/../lib/:{root}/lib/:{root}/nowhere/" ;;
esac
"""


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of this test are young; what is found out about them is remembered nevertheless."""
    monkeypatch.setattr(identity, "SETTLED_NS", -(10**12))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system: headers, libraries, a compiler that tells where they are, and a /usr/local."""
    files = (
        "include/a.h",
        "include/c++/12/vector",
        "include/sys/b.h",
        "gcc/include/stddef.h",
        "lib/libz.so.1.2",
        "lib/crt1.o",
    )
    for name in (*files, "lib/libs.a", "lib/readme", "local/include/own.h", "local/lib/libown.so"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")
    (tmp_path / "lib" / "libz.so").symlink_to("libz.so.1.2")
    (tmp_path / "bin").mkdir()
    gcc = tmp_path / "bin" / "g++"
    gcc.write_text(GCC.format(root=tmp_path), encoding="utf-8")
    gcc.chmod(0o755)
    (tmp_path / "system").mkdir()
    (tmp_path / "system" / "cat").symlink_to("/bin/cat")  # which the compiler runs
    monkeypatch.setattr(system_inputs, "_LOCAL", str(tmp_path / "local"))
    monkeypatch.setattr(system_inputs, "SYSTEM_FOLDERS", (str(tmp_path / "system"),))
    return tmp_path


@pytest.fixture
def compiler(root: Path) -> HostCompiler:
    return HostCompiler(root / "bin" / "g++", "gcc", "12.2.0", "x86_64-linux-gnu", "content")


@pytest.fixture
def python(root: Path) -> Interpreter:
    """An interpreter of one's own below the root."""
    for name in ("py/bin/python3.11", "py/include/python3.11/Python.h", "py/include/python3.11/pyconfig.h"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name, encoding="utf-8")
    library = root / "py" / "lib" / "python3.11"
    library.mkdir(parents=True)
    (library / "_sysconfigdata__linux_x86_64-linux-gnu.py").write_text("flags", encoding="utf-8")
    return Interpreter(
        executable=root / "venv" / "bin" / "python",
        version="3.11.2",
        implementation="cpython",
        abi="cp311",
        platform="linux_x86_64",
        machine="x86_64",
        prefix=root / "venv",
        base_executable=root / "py" / "bin" / "python3.11",
        site_packages=(),
        include=root / "py" / "include" / "python3.11",
        has_headers=True,
        externally_managed=False,
    )


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


CHANGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a header is added": ("headers", lambda root: write(root / "include" / "new.h", "x")),
    "a header is replaced": ("headers", lambda root: _replace(root / "include" / "a.h")),
    "a header is added before the system's": ("headers", lambda root: write(root / "local" / "include" / "a.h", "x")),
    "a local header is edited in place": (
        "headers",
        lambda root: write(root / "local/include/own.h", "OTHER-NAME-SAME"),
    ),
    "a library's link leads elsewhere": ("libraries", lambda root: _relink(root / "lib")),
    "a static library changes": ("libraries", lambda root: _replace(root / "lib" / "libs.a")),
    "a start file is added": ("libraries", lambda root: write(root / "lib" / "crt2.o", "x")),
    "specs are added": ("libraries", lambda root: write(root / "lib" / "specs", "x")),
    "a local library changes": ("libraries", lambda root: write(root / "local" / "lib" / "libown.so", "other")),
    "the build settings change": ("interpreter", lambda root: write(_settings(root), "other")),
    "the program changes": ("interpreter", lambda root: write(root / "py" / "bin" / "python3.11", "other")),
    "a Python header is added": ("interpreter", lambda root: write(root / "py/include/python3.11/new.h", "x")),
    "pyconfig.h is edited": ("interpreter", lambda root: write(root / "py/include/python3.11/pyconfig.h", "other")),
    "a sitecustomize appears": ("interpreter", lambda root: write(_settings(root).with_name("sitecustomize.py"), "x")),
    "distutils is configured": (
        "interpreter",
        lambda root: write(_settings(root).parent / "distutils/distutils.cfg", ""),
    ),
}


def _replace(path: Path) -> None:
    fresh = path.with_name("fresh")
    fresh.write_text("another one", encoding="utf-8")
    fresh.replace(path)


def _relink(folder: Path) -> None:
    (folder / "libz.so").unlink()
    write(folder / "libz.so.1.3", "x")
    (folder / "libz.so").symlink_to("libz.so.1.3")


def _settings(root: Path) -> Path:
    return next((root / "py" / "lib" / "python3.11").glob("_sysconfigdata*"))


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_shows_in_its_field(root: Path, compiler: HostCompiler, python: Interpreter, change: str) -> None:
    memo = Memo(root / "memo")
    before = read_system_inputs(python, compiler, memo)
    assert read_system_inputs(python, compiler, memo) == before
    field, act = CHANGES[change]
    time.sleep(0.02)  # the kernel's clock for files ticks every 1 to 10 ms
    act(root)
    after = read_system_inputs(python, compiler, memo)
    fields = ("interpreter", "headers", "libraries", "programs")
    assert [name for name in fields if getattr(before, name) != getattr(after, name)] == [field]
    assert read_system_inputs(python, compiler, Memo(None)) == after, "and not because of what was remembered"


def test_the_compiler_is_asked_once(root: Path, compiler: HostCompiler) -> None:
    memo = Memo(root / "memo")
    found = search_folders(compiler, memo)
    assert found.headers == (f"{root}/include", f"{root}/gcc/include", f"{root}/local/include"), "the outermost ones"
    assert found.libraries == (f"{root}/lib", f"{root}/local/lib")
    assert search_folders(compiler, memo) == found
    assert (root / "asked").read_text(encoding="utf-8").count("\n") == 2
    search_folders(replace(compiler, identity="another"), memo)
    assert (root / "asked").read_text(encoding="utf-8").count("\n") == 4


def test_a_packaged_library_is_told_by_its_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def packaged(_folder: str) -> str:
        return "upper"

    monkeypatch.setattr(system_inputs, "_watch", packaged)
    before = linkable_sha256(str(root / "lib"), Memo(None))
    write(root / "lib" / "libz.so.1.2", "a security update in place")
    assert linkable_sha256(str(root / "lib"), Memo(None)) == before
    write(root / "lib" / "libs.a", "static code is taken in")
    assert linkable_sha256(str(root / "lib"), Memo(None)) != before


@pytest.mark.parametrize("watch", ["upper", "folders", "files"])
def test_names_in_the_tree_count(root: Path, watch: system_inputs.Watch) -> None:
    before = tree_sha256(str(root / "include"), Memo(None), watch=watch)
    (root / "include" / "a.h").rename(root / "include" / "c.h")
    assert tree_sha256(str(root / "include"), Memo(None), watch=watch) != before


def test_programs_by_content_and_first_folder(root: Path) -> None:
    memo, folders = Memo(root / "memo"), [str(root / "bin"), str(root / "other")]
    for name in ("bin/gcc", "other/gcc", "other/cmake", "other/unrelated", "mine/cc-13"):
        write(root / name, name)
    found = program_hashes(folders, memo, {})
    assert found.keys() == {"g++", "gcc", "cmake"}
    assert program_hashes(folders, memo, {}) == found
    named = program_hashes(folders, memo, {"CC": f"unrelated -pipe {root}/mine/cc-13"})
    assert named.keys() - found.keys() == {"unrelated", f"{root}/mine/cc-13"}
    (root / "bin" / "gcc").unlink()
    assert program_hashes(folders, memo, {})["gcc"] != found["gcc"]


def test_this_machine_again_and_again(tmp_path: Path) -> None:
    """Real folders. (What a look costs: benchmarks/parts.py.)"""
    from buildkit.machine.compiler import find_host_compiler
    from buildkit.machine.interpreter import active_interpreter

    memo = Memo(tmp_path / "memo")
    compiler = find_host_compiler(os.environ, memo)
    python = active_interpreter(Path(sys.executable), os.environ, tmp_path, memo)
    first = read_system_inputs(python, compiler, memo)
    assert read_system_inputs(python, compiler, memo) == first
    assert "/usr/include" in search_folders(compiler, memo).headers
    assert {"g++", "ld"} <= first.programs.keys()
    settings = f"{sysconfig.get_config_var('prefix')}"
    assert interpreter_sha256(python, Memo(None)) == interpreter_sha256(python, memo), settings
