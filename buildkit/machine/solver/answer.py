"""What the solver answers: whether it works, what breaks where, and what to change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from buildkit.machine.solver.host import Host

Verdict = Literal["works", "warning", "cannot"]

Step = Literal["plan", "install", "configure", "compile", "link", "import", "run"]
"""Where an ordinary build (pip, no cudabuild) breaks. Nothing that the tables hold breaks first at ``import``."""

STEPS: tuple[Step, ...] = get_args(Step)

Kind = Literal["targets", "setuptools", "torch", "toolkit", "compiler", "driver", "python"]
"""What can be changed, the smallest first."""

KINDS: tuple[Kind, ...] = get_args(Kind)

Cause = Literal[
    "no-target",
    "torch-missing",
    "torch-python",
    "torch-variant",
    "torch-glibc",
    "torch-cpu",
    "torch-rocm",
    "setuptools-new",
    "no-toolkit",
    "toolkit-major",
    "toolkit-minor",
    "toolkit-incomplete",
    "no-compiler",
    "compiler-new",
    "compiler-old",
    "cxx-standard",
    "glibc-math",
    "target-unknown",
    "target-toolkit",
    "driver-old",
    "torch-lacks-gpu",
    "wrong-target",
    "ptx-driver",
    "ptx-jit",
    "unknown-release",
]

CAUSES: tuple[Cause, ...] = get_args(Cause)

Tool = Literal["cudabuild", "uv", "pip", "apt", "conda", "module", "shell", "by-hand"]
"""What the lines are for; ``by-hand`` is what no command on this machine can do."""


@dataclass(frozen=True)
class Problem:
    """One thing that does not fit. ``blocking`` is False for what works, but is worth knowing."""

    step: Step
    cause: Cause
    sentence: str
    blocking: bool = True


@dataclass(frozen=True)
class Way:
    """One way to make a change: lines to type one after the other, or for ``by-hand`` to do."""

    tool: Tool
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """One thing to change, in words, and the ways to do it: alternatives, the usual one first."""

    kind: Kind
    sentence: str
    ways: tuple[Way, ...]


@dataclass(frozen=True)
class Advice:
    """Changes that together make it work, the machine after them, and what is then left to know."""

    changes: tuple[Change, ...]
    host: Host
    verdict: Verdict
    problems: tuple[Problem, ...]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What is changed, the smallest kind first."""
        return tuple(change.kind for change in self.changes)


@dataclass(frozen=True)
class Answer:
    """``problems`` in the order in which a build meets them; ``advice`` with the smallest change first."""

    verdict: Verdict
    problems: tuple[Problem, ...]
    advice: tuple[Advice, ...] = ()

    @property
    def first(self) -> Problem | None:
        """What breaks first; of a warning, what is to be known first."""
        blocking = [problem for problem in self.problems if problem.blocking]
        return next(iter(blocking or self.problems), None)


def verdict_of(problems: tuple[Problem, ...]) -> Verdict:
    """``cannot`` where anything blocks, ``warning`` where anything is worth knowing."""
    if any(problem.blocking for problem in problems):
        return "cannot"
    return "warning" if problems else "works"


def in_order(problems: list[Problem]) -> tuple[Problem, ...]:
    """As a build meets them; within a step as they were found."""
    return tuple(sorted(problems, key=lambda problem: STEPS.index(problem.step)))
