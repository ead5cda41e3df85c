"""Who may upload what to an index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from buildkit.index.tokens import Tokens

UPLOAD_LIMIT = 2 * 2**30
"""Bytes of one wheel; the largest CUDA extensions known have a quarter of that."""


@dataclass(frozen=True)
class UploadSettings:
    """Who may upload what."""

    tokens: Tokens
    owned: Mapping[str, bool]
    """Normalised names that may be uploaded, and whether their licence lets others have the wheel."""
    limit: int = UPLOAD_LIMIT
    """Bytes of one wheel."""
    linux_tags: bool = False
    """Whether wheels are taken whose platform tag promises nothing about the C library."""
    cuobjdump: Path | None = None
    """The program that lists device code; None: the one of this installation."""
