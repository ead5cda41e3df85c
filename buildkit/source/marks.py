"""Places in a source that say something, and the patterns that several readers look for. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

STANDARD = re.compile(r"[-/]std[=:](?:gnu|c)\+\+\w+")
TARGET_FLAG = re.compile(r"-gencode\b.*|arch=(?:compute|sm)_\w+|-arch[= ]?(?:sm|compute|native|all)\S*")
DOWNLOADS = re.compile(
    r"\b(?:git (?:clone|fetch|submodule)|(?:curl|wget) \S|pip3? install|-m pip install)|^(?:urlopen|urlretrieve)\b"
)


@dataclass(frozen=True)
class Mark:
    """What stands at a line of a file."""

    text: str
    file: str
    line: int

    @property
    def place(self) -> str:
        """``setup.py:12``."""
        return f"{self.file}:{self.line}"


def in_lines(text: str, file: str, pattern: re.Pattern[str]) -> list[Mark]:
    """Every line that the pattern is found in, with what it found there."""
    return [
        Mark(match[0].strip(), file, number)
        for number, line in enumerate(text.splitlines(), 1)
        if (match := pattern.search(line))
    ]
