"""Objects that the shim keeps: when the next try of a build gets one, and when the compiler runs again. With gcc."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from stub_broker import StubBroker, short_folder

from buildkit.guard.native import shim_program
from buildkit.guard.shim import make_shims, unit_places

SOURCE = """#include "one.h"
#include <deep/Two>
#include <stddef.h>
namespace { int hidden; }
int answer(int unused) { return VALUE + TWO + (int)sizeof(size_t) + hidden; }
"""


class Bench:
    """A build folder with a source, gcc behind its shim, and a broker that lets everything start."""

    def __init__(self) -> None:
        self.folder = short_folder()
        self.build = self.folder / "build"
        self.objects = self.build / "objects"
        self.source = self.build / "src"
        for folder in (self.objects, self.source / "include", self.build / "tmp", self.folder / "real"):
            folder.mkdir(parents=True)
        (self.source / "a.cpp").write_text(SOURCE, encoding="utf-8")
        (self.source / "include" / "one.h").write_text("#define VALUE 1\n", encoding="utf-8")
        (self.source / "early").mkdir()
        (self.source / "include" / "deep").mkdir()
        (self.source / "include" / "deep" / "Two").write_text("#define TWO 2\n", encoding="utf-8")
        # Another file than /usr/bin/g++, so that a test can put another compiler in its place.
        self.compiler = self.folder / "real" / "g++"
        self.be_compiler("exec g++")
        self.shims = make_shims(self.folder / "shims", {"g++": self.compiler}, shim_program())
        self.broker = StubBroker(self.folder / "s")
        self.broker.open_door = True

    def be_compiler(self, how: str) -> None:
        text = f'#!/bin/sh\necho "$@" >> {self.folder}/calls\n{how} "$@"\n'
        self.compiler.write_text(text, encoding="utf-8")
        self.compiler.chmod(0o755)

    def run(self, words: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.shims}:/usr/bin:/bin",
            "TMPDIR": str(self.build / "tmp"),
            "LC_ALL": "C",
            "CUDABUILD_SOCKET": str(self.broker.path),
            "CUDABUILD_TOKEN": "0" * 32,
            "CUDABUILD_PLACES": unit_places(self.source, temporary=self.build / "tmp"),
            "CUDABUILD_OBJECTS": str(self.objects),
            **env,
        }
        time.sleep(0.012)  # a file that is as new as the compile's beginning could have been written after it
        done = subprocess.run(
            words.split(), cwd=cwd or self.source, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done

    def direct(self, words: str) -> subprocess.CompletedProcess[str]:
        """Without a shim."""
        env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
        return subprocess.run(words.split(), cwd=self.source, env=env, capture_output=True, text=True, check=True)

    def calls(self) -> int:
        """How often the compiler has really run since the last time that this was asked."""
        calls = self.folder / "calls"
        count = len(calls.read_text("utf-8").splitlines()) if calls.exists() else 0
        calls.unlink(missing_ok=True)
        return count

    def entries(self) -> list[Path]:
        return sorted(path for path in self.objects.iterdir() if len(path.name) == 64)

    def close(self) -> None:
        self.broker.close()
        shutil.rmtree(self.folder)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


COMPILE = "g++ -O1 -Wall -Wextra -Iearly -Iinclude -c a.cpp -o a.o"
LISTS = ["", "-MD -MF a.d", "-MMD -MF a.d", "-MMD", "-MD -MP -MT any"]


@pytest.mark.parametrize("lists", LISTS)
def test_a_finished_object_is_given_back_with_all_that_the_compiler_gave(bench: Bench, lists: str) -> None:
    words = f"{COMPILE} {lists}".strip()
    direct = bench.direct(words)
    wanted = {path.name: path.read_bytes() for path in bench.source.glob("a.*")}
    assert "unused" in direct.stderr
    assert ("a.d" in wanted) == bool(lists)
    for times in (1, 0):
        for made in ("a.o", "a.d"):
            (bench.source / made).unlink(missing_ok=True)
        done = bench.run(words)
        assert (done.stdout, done.stderr) == ("", direct.stderr)
        assert {path.name: path.read_bytes() for path in bench.source.glob("a.*")} == wanted
        assert bench.calls() == times
    assert (bench.objects / "given").read_text("utf-8") == "a.cpp\n"
    assert len(bench.entries()) == 1
    assert list((bench.build / "tmp").iterdir()) == []


def change_source(bench: Bench) -> str:
    (bench.source / "a.cpp").write_text(SOURCE + "int more;\n", encoding="utf-8")
    return COMPILE


def change_header(bench: Bench) -> str:
    header = bench.source / "include" / "one.h"
    before = header.stat()
    header.write_text("#define VALUE 2\n", encoding="utf-8")  # as long as before, and as old
    os.utime(header, ns=(before.st_atime_ns, before.st_mtime_ns))
    return COMPILE


def change_compiler(bench: Bench) -> str:
    bench.be_compiler("exec g++ -DX")
    return COMPILE


def shadow_header(bench: Bench) -> str:
    (bench.source / "one.h").write_text("#define VALUE 3\n", encoding="utf-8")
    return COMPILE


def shadow_header_in_a_new_folder(bench: Bench) -> str:
    """It stands before the one that was read, by a folder that was not there then."""
    (bench.source / "early" / "deep").mkdir()
    (bench.source / "early" / "deep" / "Two").write_text("#define TWO 3\n", encoding="utf-8")
    return COMPILE


def cut_entry(bench: Bench) -> str:
    (entry,) = bench.entries()
    entry.write_bytes(entry.read_bytes()[:-100])
    return COMPILE


def flip_entry(bench: Bench) -> str:
    (entry,) = bench.entries()
    data = bytearray(entry.read_bytes())
    data[data.index(b"\x7fELF") + 300] ^= 1
    entry.write_bytes(data)
    return COMPILE


def empty_entry(bench: Bench) -> str:
    (entry,) = bench.entries()
    entry.write_bytes(b"")
    return COMPILE


def other_flag(bench: Bench) -> str:
    return COMPILE.replace("-O1", "-O2")


def other_define(bench: Bench) -> str:
    return f"{COMPILE} -DB=1"


CHANGES = [
    change_source, change_header, change_compiler, shadow_header, shadow_header_in_a_new_folder,
    cut_entry, flip_entry, empty_entry, other_flag,
    other_define,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=[change.__name__ for change in CHANGES])
def test_whatever_has_changed_is_compiled_again(bench: Bench, change: object) -> None:
    assert callable(change)
    bench.run(COMPILE)
    bench.run(COMPILE)
    assert bench.calls() == 1
    words = change(bench)
    (bench.source / "a.o").unlink()
    bench.run(words)
    assert bench.calls() == 1
    bench.direct(f"{words} -o wanted.o{' -DX' if change is change_compiler else ''}")
    assert (bench.source / "a.o").read_bytes() == (bench.source / "wanted.o").read_bytes()


def test_the_environment_counts_but_for_the_number_of_jobs(bench: Bench) -> None:
    bench.run(COMPILE, MAX_JOBS="4", CPATH="")
    bench.run(COMPILE, MAX_JOBS="2", CPATH="", MAKEFLAGS="-j2")
    assert bench.calls() == 1
    bench.run(COMPILE, CPATH=str(bench.source / "include"))
    bench.run(COMPILE, CPATH="", SOURCE_DATE_EPOCH="1")
    assert bench.calls() == 2
    kept = bench.entries()
    bench.run(COMPILE, CPATH="", DEPENDENCIES_OUTPUT=str(bench.folder / "list"))
    assert (bench.calls(), bench.entries()) == (1, kept)
    assert (bench.folder / "list").read_text("utf-8").startswith("a.o: a.cpp include/one.h")


def test_an_object_path_used_twice_with_other_defines_gets_each_its_own(bench: Bench) -> None:
    def both() -> list[bytes]:
        found = []
        for define in ("-DTWICE=1", "-DTWICE=2 -DVALUE2"):
            bench.run(f"{COMPILE} {define}")
            found.append((bench.source / "a.o").read_bytes())
        return found

    source = bench.source / "a.cpp"
    source.write_text(SOURCE + "int twice() { return TWICE; }\n", encoding="utf-8")
    first = both()
    assert first[0] != first[1]
    assert bench.calls() == 2
    assert both() == first
    assert bench.calls() == 0


def test_a_source_overwritten_between_two_calls_is_another(bench: Bench) -> None:
    bench.run(COMPILE)
    first = (bench.source / "a.o").read_bytes()
    change_source(bench)
    bench.run(COMPILE)
    assert (bench.source / "a.o").read_bytes() != first
    (bench.source / "a.cpp").write_text(SOURCE, encoding="utf-8")
    bench.run(COMPILE)
    assert (bench.source / "a.o").read_bytes() == first
    assert bench.calls() == 3


NOT_KEPT = [
    "g++ -Iinclude -c a.cpp -o a.o -save-temps", "g++ -Iinclude -S a.cpp -o a.s", "g++ -c b.s -o b.o",
    "g++ -Iinclude --coverage -c a.cpp -o a.o", "g++ -Iinclude -c a.cpp c.cpp", "g++ -Iinclude -c i.cpp -o i.o",
    "g++ -c t.cpp -o t.o", "g++ -shared a.o -o a.so",
    "g++ -x c++-header -c include/one.h -o one.gch",
]  # fmt: skip


@pytest.mark.parametrize("words", NOT_KEPT)
def test_what_reads_or_makes_more_than_is_known_is_not_kept(bench: Bench, words: str) -> None:
    subprocess.run(["gcc", "-shared", "-x", "c", "/dev/null", "-o", "a.o"], cwd=bench.source, check=True)
    (bench.source / "b.s").write_text(".globl x\nx:\n", encoding="utf-8")
    (bench.source / "c.cpp").write_text("int c;\n", encoding="utf-8")
    (bench.source / "i.cpp").write_text('asm(".incbin \\"b.s\\"");\n', encoding="utf-8")
    (bench.source / "t.cpp").write_text("const char *t = __TIMESTAMP__;\n", encoding="utf-8")
    for _ in range(2):
        bench.run(words)
    assert bench.calls() == 2
    assert bench.entries() == []


MADE = "#define MADE 1\n#ifdef PLACE\nextern const char place[] = __FILE__;\n#endif\n"


def test_a_folder_with_another_name_in_each_run(bench: Bench) -> None:
    """scikit-build-core works in one: what it is called does not matter unless it is in the object."""
    source = bench.source / "a.cpp"
    source.write_text('#include "made.h"\nint f() { return MADE; }\n', encoding="utf-8")
    named = bench.source / "n.cpp"
    named.write_text('#define PLACE\n#include "made.h"\n', encoding="utf-8")
    lists: list[bytes] = []

    def compile_in(name: str, words: str, made: str = MADE) -> bytes:
        work = bench.build / "tmp" / name / "build"
        (work / "gen").mkdir(parents=True, exist_ok=True)
        (work / "gen" / "made.h").write_text(made, encoding="utf-8")
        bench.run(f"g++ -I{work}/gen -MD -MF x.d -c {words} -o x.o", cwd=work)
        lists.append((work / "x.d").read_bytes())
        return (work / "x.o").read_bytes()

    first = compile_in("tmpaaaa", str(source))
    assert compile_in("tmpbb", str(source)) == first
    assert bench.calls() == 1
    assert lists[1] == lists[0].replace(b"tmpaaaa", b"tmpbb")
    assert b"tmpbb" in lists[1]
    assert compile_in("tmpc", str(source), "#define MADE 2\n") != first
    assert bench.calls() == 1
    for name in ("tmpd", "tmpe"):
        assert f"/{name}/".encode() in compile_in(name, str(named))
        assert f"/{name}/".encode() in compile_in(name, f"-g {source}")
        assert f"/{name}/".encode() in compile_in(name, f"-DHERE={bench.build}/tmp/{name}/x {named}")
    assert bench.calls() == 6


def test_a_long_story_is_told_again(bench: Bench) -> None:
    """What the compiler said is given back whole: more than is held back at a time, with its list taken out."""
    noise = "".join(f'#warning "{number} {"x" * 300}"\n' for number in range(400))
    (bench.source / "a.cpp").write_text(noise + SOURCE, encoding="utf-8")
    words = f"{COMPILE} -MMD -fdiagnostics-color=never"
    direct = bench.direct(words)
    assert len(direct.stderr) > 1 << 17
    for times in (1, 0):
        assert bench.run(words).stderr == direct.stderr
        assert bench.calls() == times


def test_nothing_is_kept_of_a_compile_that_fails_or_of_inputs_that_change_meanwhile(bench: Bench) -> None:
    bench.be_compiler(f"touch {bench.source}/include/one.h; exec g++")
    bench.run(COMPILE)
    assert bench.entries() == []
    bench.be_compiler("exec g++")
    (bench.source / "a.cpp").write_text("#error no\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="#error no"):
        bench.run(COMPILE)
    assert bench.entries() == []


def test_without_a_folder_nothing_is_kept_or_added(bench: Bench) -> None:
    for place in ("", "relative"):
        bench.run(COMPILE, CUDABUILD_OBJECTS=place)
        assert (bench.folder / "calls").read_text("utf-8").splitlines()[-1] == COMPILE.removeprefix("g++ ")
    bench.run(COMPILE, CUDABUILD_OBJECTS=str(bench.folder / "none"))  # cannot be written to
    assert bench.calls() == 3
