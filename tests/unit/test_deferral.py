"""Which calls may be promised, who waits for them, and in which order they are kept."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from buildkit.build.deferral import output, start
from buildkit.build.deferral.commands import mentions, read_compilation, reads_link
from buildkit.build.deferral.promises import FOLDER, Line
from buildkit.build.deferral.watch import must_wait

SOURCES = frozenset({"/src/csrc/a.cpp", "/src/csrc/b.cu"})


def read(words: str) -> tuple[str, str] | None:
    found = read_compilation(words.split(), SOURCES, "/build/tmp")
    return None if found is None else (found.source, found.output)


@pytest.mark.parametrize(
    "words",
    [
        "g++ -O2 -fPIC -I/inc -DX=-E -c /src/csrc/a.cpp -o build/a.o -std=c++17",
        "nvcc --compiler-options '-fPIC' -arch=sm_75 -c /src/csrc/../csrc/b.cu -o build/b.o -maxrregcount 32",
        "gcc -Wp,-D_FORTIFY_SOURCE=2 -specs=/usr/lib/hardened -c /src/csrc/a.cpp -o /elsewhere/a.o",
    ],
)
def test_a_compilation_of_a_listed_source_can_be_promised(words: str) -> None:
    assert read(words) is not None


@pytest.mark.parametrize(
    "words",
    [
        "g++ /src/csrc/a.cpp -o a.out",
        "g++ -c /src/csrc/a.cpp",
        "g++ -c /src/csrc/probe.cpp -o probe.o",
        "g++ -c /build/tmp/a.cpp -o a.o",
        "g++ -c /src/csrc/a.cpp -o /build/tmp/a.o",
        "g++ -c /src/csrc/a.cpp -o /dev/null",
        "g++ -c /src/csrc/a.cpp /src/csrc/b.cu -o a.o",
        "g++ -E -c /src/csrc/a.cpp -o a.o",
        "g++ -fsyntax-only -c /src/csrc/a.cpp -o a.o",
        "g++ -MD -c /src/csrc/a.cpp -o a.o",
        "nvcc -Xcompiler=-fPIC,-MMD -c /src/csrc/b.cu -o b.o",
        "nvcc --keep -c /src/csrc/b.cu -o b.o",
        "nvcc --options-file more -c /src/csrc/b.cu -o b.o",
        "g++ -gsplit-dwarf -c /src/csrc/a.cpp -o a.o",
        "g++ --coverage -c /src/csrc/a.cpp -o a.o",
        "g++ @words -c /src/csrc/a.cpp -o a.o",
        "g++ -c /src/csrc/a.cpp -o",
        "g++ -c /src/csrc/a.cpp -o a.o -o b.o",
    ],
)
def test_anything_else_is_done_at_once(words: str) -> None:
    assert read(words) is None


def test_a_link_is_one_to_the_extensions_own_file() -> None:
    assert reads_link(["g++", "-shared", "a.o", "-o", "/out/x.so"], "/out/x.so")
    assert not reads_link(["g++", "-shared", "a.o", "-o", "/out/y.so"], "/out/x.so")
    assert not reads_link(["g++", "-c", "a.c", "-o", "/out/x.so"], "/out/x.so")
    assert mentions(["-fplugin=out/x.so"], {"x.so"})


PATHS = frozenset({"/build/temp/a.o"})
OBSERVERS: dict[str, tuple[object, ...]] = {
    "open": ("/build/temp/a.o", "rb", os.O_RDONLY),
    "os.remove": ("/src/csrc/a.cpp", -1),
    "os.rename": ("/src/x", "/src/csrc/a.cpp", -1, -1),
    "shutil.rmtree": ("/src", None),
    "os.chdir": ("/",),
    "os.putenv": (b"CPATH", b"/x"),
    "subprocess.Popen": ("nm", ["nm"], None, None),
    "os.listdir": ("/build/temp",),
    "import": ("one", None, None, None, None),
}


@pytest.mark.parametrize("event", OBSERVERS)
def test_who_could_notice_waits(event: str) -> None:
    assert must_wait(event, OBSERVERS[event], PATHS)


@pytest.mark.parametrize(
    ("event", "arguments"),
    [
        ("open", ("/src/csrc/a.cpp", "r", os.O_RDONLY)),
        ("open", ("/dev/null", "wb", os.O_WRONLY | os.O_CREAT)),
        ("open", (3, "wb", os.O_WRONLY)),
        ("os.mkdir", ("/build/temp/csrc", 511, -1)),
        ("os.listdir", ("/src",)),
        ("import", ("json", None, None, None, None)),
        ("compile", (None, None)),
    ],
)
def test_who_cannot_notice_goes_on(event: str, arguments: tuple[object, ...]) -> None:
    assert not must_wait(event, arguments, PATHS)


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_APPEND])
def test_whoever_writes_anything_waits(flags: int) -> None:
    assert must_wait("open", ("/src/csrc/a.h", None, flags), PATHS)


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script, "sh"]


def promise(line: Line, script: str, path: Path, *, first: bool = False) -> None:
    """A "compiler" that gets the object as $1."""
    words = [*shell(script), str(path)]
    line.compilation(words, f"{path.name}\n".encode(), str(path), len(words) - 1, first=first)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    heard: list[bytes] = []
    monkeypatch.setattr(output, "say", lambda _number, text: heard.append(text))
    return heard


def test_each_link_gets_the_newest_object_made_before_it(tmp_path: Path, said: list[bytes]) -> None:
    line, shared = Line(4, 4), tmp_path / "same.o"
    for number in (1, 2):
        promise(line, f"echo {number} > $1; echo said {number}", shared)
        product = tmp_path / f"{number}.so"
        line.link(shell(f"cat {shared} > {product}"), f"link {number}\n".encode(), str(product))
    line.wait()
    assert [(tmp_path / f"{number}.so").read_text() for number in (1, 2)] == ["1\n", "2\n"]
    assert b"".join(said) == b"same.o\nsaid 1\nlink 1\nsame.o\nsaid 2\nlink 2\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.so", "2.so", "same.o"]
    assert line.pending == []


def test_all_slots_run_at_the_same_time_and_no_more(tmp_path: Path, said: list[bytes]) -> None:
    """Three that wait for each other, and three more."""
    line, met = Line(3, 1), tmp_path / "met"
    met.mkdir()
    for number in range(6):
        wait = f"touch {met}/{number}; until [ $(ls {met} | wc -l) -ge 3 ]; do sleep 0.01; done; echo > $1"
        promise(line, wait, tmp_path / f"{number}.o")
    line.wait()
    assert line.most == 3
    assert [text for text in said if text] == [f"{number}.o\n".encode() for number in range(6)]


def test_what_takes_longest_starts_first(tmp_path: Path, said: list[bytes]) -> None:
    line, gate, order = Line(1, 1), tmp_path / "gate", tmp_path / "order"
    promise(line, f"until [ -e {gate} ]; do sleep 0.01; done; echo > $1", tmp_path / "0.o")
    for number, first in ((1, False), (2, True), (3, False)):
        promise(line, f"echo {number} >> {order}; echo > $1", tmp_path / f"{number}.o", first=first)
    gate.touch()
    line.wait()
    assert order.read_text().split() == ["2", "1", "3"]


def test_the_first_call_that_failed_counts_and_the_later_ones_are_ended(tmp_path: Path, said: list[bytes]) -> None:
    line, ready = Line(3, 3), tmp_path / "ready"
    until = f"until [ -e {ready} ]; do sleep 0.01; done"
    promise(line, f"{until}; sleep 0.2; echo first; exit 3", tmp_path / "0.o")
    promise(line, f"{until}; echo second; exit 4", tmp_path / "1.o")
    promise(line, f"echo third; touch {ready}; sleep 300; echo > $1", tmp_path / "2.o")
    line.wait()
    assert line.failure is not None
    assert (line.failure.number, line.failure.status) == (1, 3)
    assert b"".join(said) == b"0.o\nfirst\n"
    line.end()
    assert list(tmp_path.iterdir()) == [ready]


def test_what_a_killed_build_left_is_not_used(tmp_path: Path, said: list[bytes]) -> None:
    left = tmp_path / FOLDER / "1"
    left.mkdir(parents=True)
    for name in ("x.o", "x.gcno"):
        (left / name).write_text("half")
    line = Line(1, 1)
    promise(line, "echo whole > $1; echo more > $1.more", tmp_path / "x.o")
    line.wait()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"x.o": "whole\n", "x.o.more": "more\n"}


def test_a_program_that_is_not_there_is_a_failure(tmp_path: Path, said: list[bytes]) -> None:
    line = Line(1, 1)
    line.compilation([str(tmp_path / "none"), "x"], b"", str(tmp_path / "x.o"), 1, first=False)
    line.wait()
    assert line.failure is not None
    assert isinstance(line.failure.trouble, FileNotFoundError)


def test_the_end_leaves_nothing(tmp_path: Path, said: list[bytes]) -> None:
    line, started = Line(2, 2), tmp_path / "started"
    for number in range(3):
        promise(line, f"echo $$ >> {started}; sleep 300", tmp_path / f"{number}.o")
    while not started.exists():
        threading.Event().wait(0.01)
    line.end()
    assert line.pending == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in started.read_text().split())
    assert not (tmp_path / FOLDER).exists()


def run(words: Sequence[str], cwd: Path) -> str:
    return subprocess.run(words, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True).stdout


def test_the_script_sees_what_it_would_have_seen_by_itself(tmp_path: Path) -> None:
    script = tmp_path / "hook" / "script.py"
    script.parent.mkdir()
    script.write_text(
        "import sys, __main__\nprint(sys.argv, sys.path, __name__, __file__, __main__.__file__)\n"
        "print(sorted(name for name in sys.modules if name.startswith('buildkit')))\n"
    )
    by_itself = run([sys.executable, str(script), "a", "b c"], tmp_path)
    assert run([sys.executable, str(start.__file__), str(script), "a", "b c"], tmp_path) == by_itself
    assert by_itself.endswith("[]\n")
