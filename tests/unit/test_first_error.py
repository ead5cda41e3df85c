"""The cause of a failed build is the first line that reports an error, and some lines name a cause by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.diagnose import first
from buildkit.diagnose.first import explain_failure, first_error, tail
from buildkit.errors import BadBackendAnswer, BuildFailed, CudabuildError, DiskFull, MissingHeaders, OutOfMemory


def explained(tmp_path: Path, text: str, error: BuildFailed | None = None) -> CudabuildError:
    log = tmp_path / "build.log"
    log.write_text(text, encoding="utf-8")
    found = explain_failure(error or BuildFailed("the build backend ended with exit status 1"), log)
    assert found.log == str(log)
    return found


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("nvcc error   : 'cicc' died due to signal 9 (Kill signal)", OutOfMemory),
        ("c++: fatal error: Killed signal terminated program cc1plus", OutOfMemory),
        ("cc1plus: out of memory allocating 65536 bytes after a total of 1 bytes", OutOfMemory),
        ("terminate called after throwing an instance of 'std::bad_alloc'", OutOfMemory),
        ("virtual memory exhausted: Cannot allocate memory", OutOfMemory),
        ("Killed", OutOfMemory),
        ("LLVM ERROR: out of memory", OutOfMemory),
        ("fatal error: error writing to /tmp/x.s: No space left on device", DiskFull),
        ("OSError: [Errno 122] Disk quota exceeded", DiskFull),
        ("module.cpp:1:10: fatal error: Python.h: No such file or directory", MissingHeaders),
    ],
)
def test_lines_that_name_a_cause(tmp_path: Path, line: str, cause: type[CudabuildError]) -> None:
    found = explained(tmp_path, f"[1/2] c++ -c x.cpp\n{line}\nninja: build stopped: subcommand failed.\n")
    assert type(found) is cause
    assert found.evidence == line
    assert found.hint


@pytest.mark.parametrize("line", ["The Killed process is a film", "-- Killed: no", "1 warning about memory"])
def test_lines_that_only_look_like_it(tmp_path: Path, line: str) -> None:
    assert type(explained(tmp_path, f"{line}\n")) is BuildFailed


@pytest.mark.parametrize(
    "line",
    [
        'csrc/x.cu(12): error: identifier "foo" is undefined',
        "csrc/x.cpp:3:10: fatal error: missing.h: No such file or directory",
        "csrc/x.cpp:7:1: error: expected ';'",
        "CMake Error at CMakeLists.txt:3 (find_package):",
        "nvcc fatal   : Unsupported gpu architecture 'compute_35'",
        "ModuleNotFoundError: No module named 'numpy'",
        "RuntimeError: no CUDA",
        "/usr/bin/ld: cannot find -lfoo: No such file or directory",
        "x.o: in function `f': undefined reference to `g'",
        "x86_64-conda-linux-gnu-ld: cannot find crti.o",
        "ld.gold: error: cannot open x.o",
        "ERROR: something is wrong",
        "AssertionError",
    ],
)
def test_the_first_error_counts_not_the_last(line: str) -> None:
    before = ["[1/2] c++ -Werror=format -c error.cpp", "warning: no error here", "/usr/bin/ld: warning: x.o: no note"]
    after = [
        "ninja: build stopped",
        "subprocess.CalledProcessError: Command '['ninja']' returned non-zero exit status 1.",
        "RuntimeError: Error compiling objects for extension",
    ]
    for around in ("", "      "):
        lines = [around + each for each in [*before, line, "  detail", "  ^~~", *after]]
        assert first_error(lines) == [around + each for each in (line, "  detail", "  ^~~")]


def test_what_no_rule_knows_shows_its_first_error(tmp_path: Path) -> None:
    found = explained(tmp_path, "note\nx.cpp:7:1: error: expected ';'\n  detail\n  ^~~\nninja: build stopped\n")
    assert (type(found), found.rule) == (BuildFailed, "")
    assert found.evidence.splitlines() == ["x.cpp:7:1: error: expected ';'", "  detail", "  ^~~"]
    assert found.hint == f"read the whole log: less {tmp_path / 'build.log'}"


def test_what_only_repeats_that_something_failed_is_passed_over() -> None:
    lines = [
        "error: command '/usr/bin/g++' failed with exit code 1",
        "RuntimeError: Error compiling objects for extension",
        "x.cpp:1:1: error: the cause",
    ]
    assert first_error(lines)[0] == lines[2]


def test_a_log_without_errors_gives_its_end() -> None:
    assert first_error([str(number) for number in range(9)]) == ["4", "5", "6", "7", "8"]
    assert first_error([]) == []


def test_the_class_and_hint_of_the_failure_stay(tmp_path: Path) -> None:
    found = explained(tmp_path, "x\n", BadBackendAnswer("no wheel", hint="look"))
    assert type(found) is BadBackendAnswer
    assert (found.message, found.hint) == ("no wheel", "look")


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first, "LOG_TAIL", 40)
    log = tmp_path / "long.log"
    log.write_bytes(b"error: old\n" * 100 + b"caf\xe9\nx.cpp:1:1: error: new\n")
    lines = tail(log)
    assert lines[-2:] == ["caf\\xe9", "x.cpp:1:1: error: new"]
    assert sum(map(len, lines)) <= 44


@pytest.mark.parametrize(
    "line",
    [
        "-- Could NOT find Git (missing: GIT_EXECUTABLE)",
        "-- Could NOT find Python3 (missing: Python3_INCLUDE_DIRS Development.Embed)",
        "UserWarning: CUDA initialization: The NVIDIA driver on your system is too old (found version 11040).",
        "UserWarning: Failed to initialize NumPy: _ARRAY_API not found",
        "cc1plus: note: unrecognized command-line option may have been intended to silence earlier diagnostics",
        "RuntimeError: CUDA error: no kernel image is available for execution on the device",
        "nvcc not found, building for CPU",
        "Building example without CUDA support",
    ],
)
def test_what_a_build_went_on_without_changes_no_exit_code(tmp_path: Path, line: str) -> None:
    """Whatever a rule makes of such a line: the build failed, and the error that it failed with is shown."""
    found = explained(tmp_path, f"{line}\nx.cpp:7:1: error: expected ';' before '}}' token\n")
    assert (type(found), found.exit_code) == (BuildFailed, 6)
    assert "x.cpp:7:1: error: expected ';'" in found.evidence


def test_the_class_of_a_kind_is_the_one_that_the_kind_was_made_for(tmp_path: Path) -> None:
    """Others of its kind take other arguments."""

    class Own(DiskFull):
        def __init__(self) -> None:
            super().__init__("mine")

    found = explained(tmp_path, "cc1plus: error: No space left on device\n")
    assert (type(found), Own.kind) == (DiskFull, DiskFull.kind)
