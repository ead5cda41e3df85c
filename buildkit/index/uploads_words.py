"""What people are told of wheels that are not taken, and programs of verdicts that are."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from buildkit.errors import CudabuildError


def told(error: CudabuildError) -> str:
    """A cause in one line, with its evidence where that says more."""
    shown = f" ({error.evidence})" if error.evidence and error.evidence not in error.message else ""
    return f"{error.kind}: {error.message}{shown}"


def linux_tag_refused(filename: str, tag: str) -> str:
    """Why an index that others install from has no wheels with such a tag."""
    return (
        f"{filename} has the platform tag {tag}, which says nothing about the C library that it needs: it would be "
        "installed where it cannot be loaded; `cudabuild build` gives it a manylinux tag"
    )


class VerdictAnswer(BaseModel):
    """What became of a verdict: the grade that the index shows of the wheel now, and whether it changed anything."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sha256: str
    filenames: tuple[str, ...]
    grade: str
    changed: bool
