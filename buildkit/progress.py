"""How library code tells people what it does: a small protocol that is passed in. Only ``cli/`` prints."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Receives progress; every text is plain (never parsed as markup)."""

    def phase(self, name: str, detail: str = "") -> None:
        """A new phase begins: ``fetch``, ``environment``, ``build``, ``audit`` ..."""

    def note(self, text: str) -> None:
        """Something worth a line, once."""

    def warn(self, text: str) -> None:
        """Something that a person should act on."""

    def line(self, text: str) -> None:
        """One line of a running program's output (foreign text)."""

    def gauge(self, *, memory: int, elapsed: float) -> None:
        """A sample of the running build: bytes resident in its process tree, seconds since it began."""

    def units(self, done: int, total: int) -> None:
        """How many files are compiled, of how many (where the build says so)."""

    def transfer(self, done: int, total: int) -> None:
        """Bytes of a download that are here, and all there will be."""

    def admission(self, *, running: int, waiting: int, done: int, memory: int, budget: int) -> None:
        """Compilations under the broker: that run, stand in line, have ended; what they hold and may hold (bytes)."""

    def expect(self, seconds: float | None) -> None:
        """How long the build is expected to take, as far as is known."""


class Silent:
    """A reporter for callers that want none."""

    def phase(self, name: str, detail: str = "") -> None:
        """Ignore."""

    def note(self, text: str) -> None:
        """Ignore."""

    def warn(self, text: str) -> None:
        """Ignore."""

    def line(self, text: str) -> None:
        """Ignore."""

    def gauge(self, *, memory: int, elapsed: float) -> None:
        """Ignore."""

    def units(self, done: int, total: int) -> None:
        """Ignore."""

    def transfer(self, done: int, total: int) -> None:
        """Ignore."""

    def admission(self, *, running: int, waiting: int, done: int, memory: int, budget: int) -> None:
        """Ignore."""

    def expect(self, seconds: float | None) -> None:
        """Ignore."""
