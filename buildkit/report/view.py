"""One build as a page shows it: plain values, gathered by :mod:`buildkit.report.gather`, drawn by :mod:`.html`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from buildkit.guard.trace import Trace
from buildkit.verify.verdict import Verdict

Status = Literal["queued", "running", "succeeded", "failed", "cancelled", "killed"]


@dataclass(frozen=True)
class Shown:
    """A line that shows a cause; its number in the log, from 1, where it is known."""

    text: str
    line: int | None = None


@dataclass(frozen=True)
class Diagnosis:
    """Why a build failed. ``also`` are other causes that its log shows, as sentences."""

    cause: str
    kind: str
    evidence: tuple[Shown, ...] = ()
    hint: str = ""
    links: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wheel:
    """The wheel's file. ``path`` is where it was handed out; empty where that is not known. ``size`` in bytes."""

    filename: str
    sha256: str
    size: int
    path: str = ""


@dataclass(frozen=True)
class Change:
    """Something that was otherwise at the last success."""

    what: str
    before: str
    now: str


@dataclass(frozen=True)
class Since:
    """The last success before a build, and what is not as it was then."""

    build: str
    when: str
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class CopyLine:
    """A line to copy, and for what."""

    title: str
    text: str


@dataclass(frozen=True)
class Excerpt:
    """A log's lines from the first on, and its last ones. ``skipped`` are the lines between the two."""

    head: tuple[str, ...] = ()
    tail: tuple[str, ...] = ()
    skipped: int = 0
    size: int = 0
    """Bytes of the whole log."""
    note: str = ""
    """Why there is none."""

    @property
    def total(self) -> int:
        """Lines of the whole log."""
        return len(self.head) + self.skipped + len(self.tail)


@dataclass(frozen=True)
class BuildView:
    """All that is shown of one build."""

    build: str
    recipe: str
    status: Status
    started: str
    version: str = ""
    key: str = ""
    finished: str | None = None
    seconds: float | None = None
    cause: str = ""
    """The kind of what ended it."""
    grade: str = ""
    asked: tuple[tuple[str, str], ...] = ()
    """What was asked for and what was decided, by name."""
    inputs: tuple[tuple[str, str], ...] = ()
    """The fields of the key."""
    diagnosis: Diagnosis | None = None
    trace: Trace | None = None
    no_trace: str = ""
    """Why there is no trace."""
    verdict: Verdict | None = None
    wheel: Wheel | None = None
    since: Since | None = None
    lines: tuple[CopyLine, ...] = ()
    log: Excerpt = field(default_factory=Excerpt)
