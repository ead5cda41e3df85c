"""The canary's own decisions: when a compiler's word is not believed, and which failures are the toolchain's."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.build.canary import WITHOUT, explained
from buildkit.cli.options import Asked
from buildkit.cli.settings import Settings
from buildkit.errors import (
    BuildFailed,
    CanaryFailed,
    CudabuildError,
    Interrupted,
    NotCached,
    NoToolkit,
    OutOfMemory,
    TimedOut,
    TooLittleMemory,
    VerificationFailed,
)
from buildkit.machine.compiler import HostCompiler, check_word
from buildkit.machine.identity import Memo


def compiler(folder: Path, version: str, defines: str, kind: str = "gcc") -> HostCompiler:
    """A script in the place of a compiler: it prints what it defines, and keeps count of being asked."""
    script = folder / "g++"
    script.write_text(f'#!/bin/sh\necho "$*" >> {folder}/asked\nprintf "{defines}"\n', encoding="utf-8")
    script.chmod(0o755)
    return HostCompiler(script, kind, version, "x86_64-linux-gnu", f"{version} {defines}")  # type: ignore[arg-type]


GNU12 = "#define __cplusplus 201703L\\n#define __GNUC__ 12\\n#define __GNUC_MINOR__ 2\\n"
CLANG14 = "#define __GNUC__ 4\\n#define __clang_major__ 14\\n"


@pytest.mark.parametrize(
    ("kind", "version", "defines"), [("gcc", "12.2.0", GNU12), ("gcc", "12", GNU12), ("clang", "14.0.6", CLANG14)]
)
def test_a_compiler_that_is_what_it_says(tmp_path: Path, kind: str, version: str, defines: str) -> None:
    found, memo = compiler(tmp_path, version, defines, kind), Memo(tmp_path / "memo")
    for _again in range(2):
        check_word(found, {}, memo)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == ["-dM -E -x c++ /dev/null"], "asked once, and remembered"


@pytest.mark.parametrize(
    ("kind", "version", "defines", "line"),
    [
        ("gcc", "9.4.0", GNU12, "#define __GNUC__ 12"),
        ("gcc", "16.1.0", GNU12, "#define __GNUC__ 12"),
        ("gcc", "1.2.0", GNU12, "#define __GNUC__ 12"),
        ("clang", "19.0.0", CLANG14, "#define __clang_major__ 14"),
        ("gcc", "12.2.0", "nothing", "it defines neither __GNUC__ nor __clang_major__"),
    ],
)
def test_a_compiler_that_lies(tmp_path: Path, kind: str, version: str, defines: str, line: str) -> None:
    with pytest.raises(CanaryFailed, match=f"says that it is {kind} {version}") as caught:
        check_word(compiler(tmp_path, version, defines, kind), {}, Memo(None))
    assert caught.value.evidence.startswith(line)
    assert "CXX=" in caught.value.hint


def test_a_compiler_that_does_not_preprocess(tmp_path: Path) -> None:
    found = compiler(tmp_path, "12.2.0", GNU12)
    found.path.write_text("#!/bin/sh\necho 'cc1plus: bad file' >&2; exit 1\n", encoding="utf-8")
    with pytest.raises(CanaryFailed) as caught:
        check_word(found, {}, Memo(None))
    assert "cc1plus: bad file" in caught.value.evidence


def test_a_failed_build_is_the_toolchains_and_shows_its_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("ok\nsh: 1: ptxas: not found\n", encoding="utf-8")
    found = explained(BuildFailed("the build backend ended with exit status 1", evidence="CMake Error"), log)
    assert isinstance(found, CanaryFailed)
    assert (found.kind, found.exit_code, found.log) == ("canary-failed", 5, str(log))
    assert "the toolkit's ptxas cannot be started" in found.message
    assert found.evidence == "sh: 1: ptxas: not found"
    assert found.hint.endswith(WITHOUT)


def test_what_a_rule_says_of_its_log_is_the_toolchains_too(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("ok\n/bin/sh: 1: nvcc: not found\n", encoding="utf-8")
    error = NoToolkit("the CUDA compiler nvcc was not found", evidence="nvcc: not found", hint="install one")
    error.rule = "nvcc-not-found"
    found = explained(error, log)
    assert isinstance(found, CanaryFailed)
    assert found.message.endswith("the CUDA compiler nvcc was not found")
    assert found.evidence == "/bin/sh: 1: nvcc: not found"
    error = NoToolkit("no toolkit fits", hint="install one")
    assert explained(error, log) is error, "said before anything was built"


@pytest.mark.parametrize(
    "error",
    [
        VerificationFailed("wrong result of the smoke test on the CPU", evidence="sphere: 3 instead of 2", hint="h"),
        TimedOut("the build was ended after 600 s", evidence="", hint="give it more time"),
    ],
)
def test_wrong_numbers_and_endless_compilers_are_the_toolchains(error: CudabuildError, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("sh: 1: ptxas: not found\n", encoding="utf-8")
    found = explained(error, tmp_path / "log")
    assert isinstance(found, CanaryFailed)
    assert error.message in found.message
    assert found.evidence == error.evidence
    assert found.hint == f"{error.hint}; {WITHOUT}"


@pytest.mark.parametrize("error", [OutOfMemory("killed", hint="--jobs 1"), Interrupted("interrupted (Ctrl-C)")])
def test_what_is_no_fault_of_the_toolchain_stays_what_it_is(error: CudabuildError) -> None:
    hint = error.hint
    assert explained(error, None) is error
    assert error.hint == hint


@pytest.mark.parametrize(
    "error",
    [
        NotCached("not in the cache: cmake", hint="run `cudabuild fetch`"),
        TooLittleMemory("not one compilation fits", hint="--memory"),
    ],
)
def test_where_it_cannot_be_had_the_way_without_it_is_named(error: CudabuildError) -> None:
    kind, hint = error.kind, error.hint
    found = explained(error, None)
    assert found.kind == kind
    assert found.hint == f"{hint}; {WITHOUT}"


@pytest.mark.parametrize(("typed", "canary"), [({}, True), ({"no_canary": True}, False)])
def test_the_option_switches_it_off(typed: dict[str, bool], canary: bool) -> None:
    settings = Settings.model_construct(pass_env=(), torch=None, memory=None, jobs=None, timeout=None, recipes=None)
    assert Asked(settings, typed, {}, Path("/")).request("x").canary is canary
