"""The host compiler: which one is taken, and that it is known again by content. Scripts play the compilers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from buildkit.errors import MachineError, NoCompiler
from buildkit.machine import identity
from buildkit.machine.compiler import find_host_compiler, glibc_version
from buildkit.machine.identity import Memo

GCC = """#!/bin/sh
echo "$1" >> {log}
case "$1" in
--version) echo "g++ (Debian 12.2.0) 12.2.0"; echo "Copyright (C) 2022 Free Software Foundation, Inc." ;;
-dumpfullversion) echo 12.2.0 ;;
-dumpmachine) echo x86_64-linux-gnu ;;
-print-prog-name=cc1plus) echo {folder}/cc1plus ;;
-print-prog-name=*) echo "${{1#*=}}" ;;
-print-file-name=*) echo "${{1#*=}}" ;;
esac
"""
CLANG = """#!/bin/sh
case "$1" in
--version) echo "Debian clang version 14.0.6" ;;
-dumpversion) echo 14.0.6 ;;
-dumpmachine) echo x86_64-pc-linux-gnu ;;
*) echo as ;;
esac
"""


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A PATH folder with a g++ whose cc1plus and assembler lie beside it."""
    for name in ("cc1plus", "as"):
        put(tmp_path / "bin" / name, name)
    put(tmp_path / "bin" / "g++", GCC.format(log=tmp_path / "asked", folder=tmp_path / "bin"))
    return tmp_path / "bin"


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "SETTLED_NS", -(10**12))


def test_first_on_path(folder: Path) -> None:
    found = find_host_compiler({"PATH": f"{folder}:/usr/bin:/bin"}, Memo(None))
    assert (found.path, found.kind, found.version, found.machine) == (
        folder / "g++",
        "gcc",
        "12.2.0",
        "x86_64-linux-gnu",
    )


def test_asked_once_and_known_again_by_the_content_of_its_parts(folder: Path, tmp_path: Path) -> None:
    memo, environ = Memo(tmp_path / "memo"), {"PATH": f"{folder}:/usr/bin:/bin"}
    first = find_host_compiler(environ, memo)
    questions = (tmp_path / "asked").read_text(encoding="utf-8").splitlines()
    assert find_host_compiler(environ, memo) == first
    assert (tmp_path / "asked").read_text(encoding="utf-8").splitlines() == questions
    for name in ("cc1plus", "as", "g++"):
        before = find_host_compiler(environ, memo).identity
        with (folder / name).open("a", encoding="utf-8") as stream:
            stream.write("# another build\n")
        assert find_host_compiler(environ, memo).identity != before, name


@pytest.mark.parametrize("cxx", ["ccache {folder}/clang++", "{folder}/clang++ -m64", "clang++ --gcc-toolchain=/usr"])
def test_cxx_with_launcher_and_flags(folder: Path, cxx: str) -> None:
    clang = put(folder / "clang++", CLANG)
    put(folder / "ccache", "#!/bin/sh\nexit 1\n")
    environ = {"PATH": f"{folder}:/usr/bin:/bin", "CXX": cxx.format(folder=folder)}
    found = find_host_compiler(environ, Memo(None))
    assert (found.path, found.kind, found.version) == (clang, "clang", "14.0.6")


def test_launcher_under_the_compilers_name_is_passed_over(folder: Path, tmp_path: Path) -> None:
    ccache = put(tmp_path / "opt" / "ccache", "#!/bin/sh\nexit 1\n")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "g++").symlink_to(ccache)
    environ = {"PATH": f"{tmp_path}/masks:{folder}:/usr/bin:/bin"}
    assert find_host_compiler(environ, Memo(None)).path == folder / "g++"


def test_no_compiler_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(NoCompiler, match="no C\\+\\+ compiler") as caught:
        find_host_compiler({"PATH": str(tmp_path)}, Memo(None))
    assert caught.value.exit_code == 5
    assert all(way in caught.value.hint for way in ("apt-get install g++", "dnf install gcc-c++", "conda install"))


@pytest.mark.parametrize("cxx", ["nowhere++", "'unclosed", "-m64"])
def test_cxx_that_names_nothing_is_not_replaced_by_another(folder: Path, cxx: str) -> None:
    with pytest.raises(NoCompiler, match="CXX"):
        find_host_compiler({"PATH": str(folder), "CXX": cxx}, Memo(None))


def test_broken_and_unknown_compilers(tmp_path: Path) -> None:
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin", "CXX": "mine++"}
    put(tmp_path / "mine++", "#!/bin/sh\necho cannot load libmpc >&2\nexit 1\n")
    with pytest.raises(NoCompiler, match="does not run") as caught:
        find_host_compiler(environ, Memo(None))
    assert caught.value.evidence == "cannot load libmpc"
    put(tmp_path / "mine++", "#!/bin/sh\necho nvc++ 24.1\n")
    with pytest.raises(NoCompiler, match="neither gcc nor clang") as caught:
        find_host_compiler(environ, Memo(None))
    assert caught.value.evidence == "nvc++ 24.1"


def test_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"glibc {glibc_version()}" == os.confstr("CS_GNU_LIBC_VERSION")

    def unknown(name: str) -> str | None:
        return None

    monkeypatch.setattr(os, "confstr", unknown)
    with pytest.raises(MachineError, match="not glibc"):
        glibc_version()
