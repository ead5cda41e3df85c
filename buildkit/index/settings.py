"""What an index is asked to serve, and to whom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from buildkit.index.tokens import Tokens
from buildkit.index.uploads_settings import UploadSettings

Grade = Literal["none", "built", "audited", "imported", "executed"]
GRADES: tuple[str, ...] = ("none", "built", "audited", "imported", "executed")
"""Each contains the ones before it."""


@dataclass(frozen=True)
class IndexSettings:
    """Resolved and complete; the commands make it from their options."""

    owned: frozenset[str] = frozenset()
    """Normalised names that recipes own; those of releases are owned as well."""
    upstream: str = ""
    """Simple index (its URL) that names which nobody here owns are redirected to; empty: they are not found."""
    min_grade: Grade = "none"
    """Wheels whose proof reached less are not served."""
    shared: bool = False
    """Others than this machine's people use it: no ``linux_*`` tags, and nothing that may not be passed on."""
    allow_non_redistributable: bool = False
    """The operator has checked that these people may have what a licence does not let everybody have."""
    uploads: UploadSettings | None = None
    """Who may upload what; None: nobody."""
    readers: Tokens | None = None
    """Whose tokens it takes to read; None: anybody may."""
    share_store: bool = False
    """Whether other cudabuilds may ask for entries by key (their ``--store URL``)."""
    signing_key: Path | None = None
    """The file of the key that those entries are signed with, where it is there."""
