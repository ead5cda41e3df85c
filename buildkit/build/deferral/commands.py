"""Which command lines can be carried out later: pure.

A compilation must have one source and one object, and nothing that is made beside the object or named after it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

DEVICE_SOURCES = (".cu",)
"""Their compilations take longest."""

_NEVER = re.compile(
    # Nothing is compiled: preprocessing, questions, assembly.
    r"-E|-S|-\#\#\#|-fsyntax-only|-?-dry-?run|-?-version|--?help.*|-print-.*"
    # Other files are written, or their names come from the object's.
    r"|-M.*|-?-generate-.*dependenc.*|-Wa,-a.*|-?-keep.*|-?-save-temps.*|-gsplit-dwarf.*|-?-coverage"
    r"|-ftest-coverage|-fprofile-.*|-fdump-.*|-d[a-zA-Z].*|-fstack-usage|-fcallgraph-info.*|-aux-info.*"
    r"|-?-f?(?:device-)?time.*|-frecord-gcc-switches|-fmodules?.*|-fopt-info.*|-fsave-optimization-record.*"
    # What is read or done cannot be seen from the words.
    r"|@.*|-?-opt(?:ions)?-f(?:ile)?.*|-fplugin.*|-Xpreprocessor|-wrapper|-"
)
_PIECES = re.compile(r"[\s,='\"]+")
"""What separates the words within a word that is passed on: ``-Xcompiler=-fPIC,-MD``."""


@dataclass(frozen=True)
class Compilation:
    """A compile of a source to an object; ``place`` is the object's among the words."""

    source: str
    output: str
    place: int

    @property
    def is_device(self) -> bool:
        """Whether it compiles for the GPU."""
        return self.source.endswith(DEVICE_SOURCES)

    def into(self, words: Sequence[str], output: str) -> list[str]:
        """The same command with another object."""
        return [*words[: self.place], output, *words[self.place + 1 :]]


def read_compilation(words: Sequence[str], sources: Collection[str], temporary: str) -> Compilation | None:
    """The compilation of one of ``sources``, or None for anything else.

    ``sources`` and ``temporary`` (a folder: what lies in it is somebody's probe) are absolute.
    """
    outputs = [place for place, word in enumerate(words) if word == "-o"]
    if words.count("-c") != 1 or len(outputs) != 1 or outputs[0] + 1 >= len(words):
        return None
    place = outputs[0] + 1
    if any(_forbids(word) for number, word in enumerate(words) if number not in {0, place}):
        return None
    found = [word for word in words[1:] if not word.startswith("-") and absolute(word) in sources]
    output = words[place]
    if len(found) != 1 or output.startswith("/dev/"):
        return None
    if any(is_below(path, temporary) for path in (found[0], output)):
        return None
    return Compilation(found[0], output, place)


def _forbids(word: str) -> bool:
    if word.startswith(("-D", "-I", "-L")):
        return False
    return any(_NEVER.fullmatch(each) for each in (word, *_PIECES.split(word)))


def reads_link(words: Sequence[str], output: str) -> bool:
    """Whether the words link a shared object to this absolute path."""
    places = [place for place, word in enumerate(words) if word == "-o"]
    if "-c" in words or len(places) != 1 or places[0] + 1 >= len(words):
        return False
    return absolute(words[places[0] + 1]) == output


def mentions(words: Sequence[str], names: Collection[str]) -> bool:
    """Whether one of the file names stands in one of the words."""
    return any(name in word for word in words for name in names)


def absolute(path: str) -> str:
    """By its words: links are what they are."""
    return os.path.abspath(path)  # noqa: PTH100


def is_below(path: str, folder: str) -> bool:
    """Whether a path lies in a folder, by its words."""
    return bool(folder) and f"{absolute(path)}/".startswith(f"{folder}/")
