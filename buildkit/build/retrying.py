"""A build that failed for lack of memory all the same is made once more, with fewer compilations at a time.

The shim and the broker make a killed compilation again by themselves. What is left is a kill that neither sees: of the
backend itself, of ninja, of a program that is no compiler. The kernel counts its kills (proc_vmstat's ``oom_kill``,
for the machine and all groups, so a neighbour's kill that hit this build counts, too).
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path

from buildkit.diagnose.first import tail
from buildkit.errors import OutOfMemory
from buildkit.guard.broker_pools import kills_by_kernel
from buildkit.guard.broker_units import gibibytes

HINT = (
    "free memory or raise the limit (--memory, the container's, the WSL2 VM's, the Slurm job's); "
    "the same command again goes on with what is finished"
)
_KILLED = re.compile(
    r"\bKilled\b|\bSIGKILL\b|[Ss]ignal:? 9\b|exit (?:status|code):? (?:137|-9)\b|returned (?:non-zero exit status )?"
    r"(?:137|-9)\b|Error 137\b|<Signals\.SIGKILL"
)
_NO_MEMORY = re.compile(
    r"virtual memory exhausted|std::bad_alloc|Cannot allocate memory|out of memory allocating|^MemoryError\b|"
    r"LLVM ERROR: out of memory"
)


@dataclass(frozen=True)
class Try:
    """One run of the backend: what the kernel had killed before it, and where its part of the log begins (bytes)."""

    kills: int
    offset: int

    @classmethod
    def begin(cls, log: Path) -> Try:
        """Now."""
        return cls(kills_by_kernel(), log.stat().st_size if log.exists() else 0)

    def out_of_memory(self, returncode: int, log: Path) -> str:
        """The line that shows that memory had run out; empty where nothing says so.

        A killed program alone does not: it counts where the kernel has killed something meanwhile.
        """
        lines = tail(log, since=self.offset)
        for line in lines:
            if _NO_MEMORY.search(line):
                return line.strip()
        kills = kills_by_kernel() - self.kills
        if kills <= 0:
            return ""
        shown = next((line.strip() for line in lines if _KILLED.search(line)), "")
        shown = shown or ("the build backend was killed" if returncode == -signal.SIGKILL else "")
        return f"{shown} (the kernel has ended {kills} for lack of memory meanwhile)" if shown else ""


def fewer(jobs: int) -> int:
    """How many at a time after memory has run out."""
    return max(1, jobs // 2)


def gave_up(evidence: str, *, jobs: int, peak: int, limit: int, log: Path) -> OutOfMemory:
    """The error after the second try, which had ``jobs`` at a time. Sizes in bytes."""
    return OutOfMemory(
        f"memory ran out again with {jobs} at a time; the build held up to {gibibytes(peak)}, in {gibibytes(limit)}",
        evidence=evidence,
        hint=HINT,
        log=str(log),
    )
