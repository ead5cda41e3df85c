"""Texts of builds as people are shown them (pure): control characters made visible, evidence on one line."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Categories that could move the cursor, turn the direction of writing, hide text or not be encodable."""


def printable(text: str) -> str:
    """The text with every control character shown instead of obeyed (``\\x1b``, ``\\u202e``); tabs become blanks.

    Escape sequences, C0 and C1 controls, line ends, directions of writing, invisible characters and lone
    surrogates. What comes out is one line.
    """
    text = text.expandtabs()
    if text.isprintable():
        return text
    return "".join(_escaped(c) if unicodedata.category(c) in _UNSAFE else c for c in text)


def _escaped(character: str) -> str:
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def evidence_line(evidence: Mapping[str, Any]) -> str:
    """The parts of a stage's evidence that fit on a line."""
    parts = []
    for name, value in evidence.items():
        if isinstance(value, (str, int, float)):
            parts.append(f"{name} {value}")
        elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            parts.append(f"{name} {', '.join(value)}")
    return "; ".join(parts)[:160]


def shortened(text: str, most: int) -> str:
    """At most so many characters, with a word on how many were left out."""
    return text if len(text) <= most else f"{text[:most]} ... ({len(text) - most} more characters)"
