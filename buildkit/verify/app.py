"""A person's own program as a stage: which of its words make a Python program, and what its kernels show. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SCRIPT = Path(__file__).with_name("app_script.py")
_PYTHON = re.compile(r"python(\d+(\.\d+)*t?)?")
_FLAGS = re.compile(r"-[bBdEIOPqsSuvxR]+")
_WITH_VALUE = frozenset({"-W", "-X", "--check-hash-based-pycs"})


@dataclass(frozen=True)
class PythonProgram:
    """``python OPTIONS WHAT ARGUMENTS``, WHAT being a script's path, a module's name or code."""

    options: tuple[str, ...]
    kind: Literal["script", "module", "code"]
    what: str
    arguments: tuple[str, ...]


def read_python_words(words: Sequence[str]) -> PythonProgram | None:
    """What the words after ``python`` say; None where they run no program that is known (``-``, ``-V``, nothing)."""
    options: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in {"-m", "-c"} and rest:
            return PythonProgram(tuple(options), "module" if word == "-m" else "code", rest[0], tuple(rest[1:]))
        if word in _WITH_VALUE and rest:
            options += [word, rest.pop(0)]
        elif _FLAGS.fullmatch(word) or word[:2] in {"-W", "-X"}:
            options.append(word)
        elif word.startswith("-"):
            return None
        else:
            return PythonProgram(tuple(options), "script", word, tuple(rest))
    return None


def read_program(words: Sequence[str], executable: Path | None, python: Path) -> PythonProgram | None:
    """The Python program that a command starts in the environment of ``python``; None for anything else.

    ``executable`` is what the first word means on PATH: that environment's Python, or a script that names it in its
    first line.
    """
    if executable is None:
        return None
    if _PYTHON.fullmatch(executable.name) and executable.parent == python.parent:
        return read_python_words(words[1:])
    first = _first_line(executable)
    if first.startswith(b"#!") and Path(first[2:].decode("utf-8", "replace").strip()).parent == python.parent:
        return PythonProgram((), "script", str(executable), tuple(words[1:]))
    return None


def recording_command(python: Path, program: PythonProgram, answer: Path) -> list[str]:
    """The same program, with the recorder between."""
    words = [str(python), *program.options, str(SCRIPT), str(answer), program.kind, program.what]
    return [*words, *program.arguments]


def own_kernels(recorded: Mapping[str, int], own: Collection[str]) -> dict[str, int]:
    """Of the kernels that were recorded, those whose names are in the package's own objects, with their launches."""
    return {name: count for name, count in sorted(recorded.items()) if name in own}


def _first_line(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.readline(512)
    except OSError:
        return b""
