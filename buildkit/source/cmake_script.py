"""What a CMake project will do, read from its text line by line; nothing is configured. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from buildkit.source.marks import DOWNLOADS, Mark

_LANGUAGE = re.compile(
    r"(?:enable_language|check_language)\s*\(\s*CUDA\b|project\s*\([^)]{0,400}\bCUDA\b|find_package\s*\(\s*CUDA(?:Toolkit)?\b|"
    r"cuda_add_(?:library|executable)\s*\(|\bCMAKE_CUDA_(?:COMPILER|STANDARD|FLAGS|ARCHITECTURES)\b|CUDA::\w+",
    re.IGNORECASE,
)
_CHECKS = re.compile(r"check_language\s*\(\s*CUDA\b", re.IGNORECASE)
_TORCH = re.compile(r"find_package\s*\(\s*(?:Torch|Caffe2)\b", re.IGNORECASE)
_STANDARD = re.compile(r"CMAKE_(?:CXX|CUDA)_STANDARD\s+\d+|cxx_std_\d+|[-/]std[=:](?:gnu|c)\+\+\w+")
_TARGETS = re.compile(
    r"set\s*\(\s*(?:CMAKE_CUDA_ARCHITECTURES|TORCH_CUDA_ARCH_LIST)\b[^)]{0,200}|-gencode\b[^)\n]*", re.I
)
_NETWORK = re.compile(
    rf"\b(?:FetchContent_(?:Declare|MakeAvailable|Populate)|ExternalProject_Add|CPMAddPackage)\b|"
    rf"file\s*\(\s*DOWNLOAD\b|{DOWNLOADS.pattern}",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class CMakeScript:
    """What was found in all of a project's CMake files."""

    cuda: tuple[Mark, ...]
    falls_back: tuple[Mark, ...]
    """Where it asks whether there is a CUDA compiler: without one, such projects are built for the CPU in silence."""
    torch: tuple[Mark, ...]
    standards: tuple[Mark, ...]
    targets: tuple[Mark, ...]
    network: tuple[Mark, ...]


def read_cmake(files: Mapping[str, str]) -> CMakeScript:
    """Read CMakeLists.txt files and modules, given by name."""
    plain = {name: _uncommented(text) for name, text in files.items()}

    def found(pattern: re.Pattern[str]) -> tuple[Mark, ...]:
        marks = (
            Mark(_shown(match[0]), name, text.count("\n", 0, match.start()) + 1)
            for name, text in plain.items()
            for match in pattern.finditer(text)
        )
        return tuple(dict.fromkeys(marks))

    return CMakeScript(
        cuda=found(_LANGUAGE),
        falls_back=found(_CHECKS),
        torch=found(_TORCH),
        standards=found(_STANDARD),
        targets=found(_TARGETS),
        network=found(_NETWORK),
    )


def _shown(text: str) -> str:
    """On one line, with the bracket that the pattern left open."""
    return " ".join(text.split()) + (")" if "(" in text and ")" not in text else "")


def _uncommented(text: str) -> str:
    """Comments go, lines stay."""
    kept: list[str] = []
    place, last = 0, text.rfind("]]")
    while (start := text.find("#", place)) >= 0:
        # What is never closed is looked for once, not from each opening anew: the text may be anybody's.
        closed = text.startswith("#[[", start) and last >= start + 3
        end = text.index("]]", start + 3) + 2 if closed else text.find("\n", start)
        end = len(text) if end < 0 else end
        kept += [text[place:start], "\n" * text.count("\n", start, end)]
        place = end
    return "".join([*kept, text[place:]])
