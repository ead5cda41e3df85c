"""Does it work, what breaks where, and what is the smallest change: by examining what each change leads to.

The smallest change is the one that changes the fewest things; of as many, the cheapest. Every kind has its price (a
target list costs least, another Python most), the distance from what is here adds to it, and so does a warning that
was not there before. A driver on somebody else's machine is no change that the person can make, so it comes last.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from buildkit.machine.solver.answer import KINDS, Advice, Answer, Cause, Kind, Problem, verdict_of
from buildkit.machine.solver.examine import examine
from buildkit.machine.solver.host import Host
from buildkit.machine.solver.moves import MOST_OFF, Move, moves

MOST_ADVICE = 5

PRICE: dict[Kind, float] = {
    "targets": 10,
    "setuptools": 12,
    "torch": 20,
    "toolkit": 40,
    "compiler": 45,
    "driver": 60,
    "python": 80,
}
_WARNING_PRICE: dict[Cause, float] = {"ptx-jit": 40, "torch-lacks-gpu": 40, "wrong-target": 40, "ptx-driver": 40}
_ANY_WARNING = 10.0
_NOT_ONES_OWN = ("slurm", "container")

_MENDED_BY: dict[Cause, frozenset[Kind]] = {
    "no-target": frozenset({"targets"}),
    "torch-missing": frozenset({"torch"}),
    "torch-python": frozenset({"torch", "python"}),
    "torch-variant": frozenset({"torch"}),
    "torch-glibc": frozenset({"torch"}),
    "torch-cpu": frozenset({"torch"}),
    "torch-rocm": frozenset({"torch"}),
    "setuptools-new": frozenset({"setuptools", "torch"}),
    "no-toolkit": frozenset({"toolkit"}),
    "toolkit-major": frozenset({"torch", "toolkit"}),
    "toolkit-incomplete": frozenset({"torch", "toolkit"}),
    "no-compiler": frozenset({"compiler"}),
    "compiler-new": frozenset({"torch", "toolkit", "compiler"}),
    "compiler-old": frozenset({"torch", "compiler"}),
    "cxx-standard": frozenset({"torch"}),
    "glibc-math": frozenset({"torch", "toolkit"}),
    "target-unknown": frozenset({"targets", "torch"}),
    "target-toolkit": frozenset({"targets", "torch", "toolkit"}),
    "driver-old": frozenset({"torch", "driver"}),
    "torch-lacks-gpu": frozenset({"torch"}),
    "wrong-target": frozenset({"targets"}),
    "ptx-driver": frozenset({"targets", "torch", "toolkit", "driver"}),
}
"""Which changes could mend what: a search that leaves the others out finds the same, sooner."""

_ORDER: tuple[Kind, ...] = ("torch", "toolkit", "python", "compiler", "driver", "setuptools", "targets")
"""What is changed first when several are: each proposal looks at what was changed before it."""


@dataclass(frozen=True)
class _Found:
    """Changes that work, and what they cost."""

    made: tuple[Move, ...]
    problems: tuple[Problem, ...]
    price: float

    @property
    def kinds(self) -> frozenset[Kind]:
        return frozenset(move.change.kind for move in self.made)


def solve(host: Host) -> Answer:
    """The answer for this machine. Advice is given where it cannot work as it is, the smallest change first."""
    problems = examine(host)
    verdict = verdict_of(problems)
    if verdict != "cannot":
        return Answer(verdict, problems)
    found = sorted(_minimal(host, problems), key=lambda one: (_size(one, host), one.price))
    return Answer(verdict, problems, tuple(_advice(one) for one in found[:MOST_ADVICE]))


def _minimal(host: Host, problems: tuple[Problem, ...]) -> list[_Found]:
    """For every set of kinds that works, and of which no part works by itself, its cheapest changes."""
    found: list[_Found] = []
    for size in range(1, len(KINDS) + 1):
        if any(_size(one, host) < size for one in found):
            break
        for kinds in map(frozenset, combinations(KINDS, size)):
            if any(one.kinds <= kinds for one in found) or not _could_mend(kinds, problems):
                continue
            cheapest = _cheapest(host, kinds, problems)
            found += [cheapest] if cheapest is not None else []
    return found


def _size(found: _Found, host: Host) -> int:
    foreign = "driver" in found.kinds and host.place in _NOT_ONES_OWN
    return len(found.kinds) + (len(KINDS) if foreign else 0)


def _could_mend(kinds: frozenset[Kind], problems: tuple[Problem, ...]) -> bool:
    """Whether every blocking problem is one that some of these kinds could mend."""
    return all(not problem.blocking or _MENDED_BY.get(problem.cause, kinds) & kinds for problem in problems)


def _cheapest(host: Host, kinds: frozenset[Kind], before: tuple[Problem, ...]) -> _Found | None:
    search = _Search(frozenset(problem.cause for problem in before))
    search.go_on(host, tuple(kind for kind in _ORDER if kind in kinds), (), 0.0)
    return search.best


@dataclass
class _Search:
    """The cheapest way to make one change of each kind; what cannot become cheaper than that is not followed."""

    known: frozenset[Cause]
    best: _Found | None = None

    def go_on(self, host: Host, kinds: tuple[Kind, ...], made: tuple[Move, ...], price: float) -> None:
        """Try every change of the first of these kinds, and with it the others."""
        kind, rest = kinds[0], kinds[1:]
        least = sum(PRICE[one] - MOST_OFF for one in rest)
        for move in moves(kind, host):
            paid = price + PRICE[kind] + move.extra
            if self.best is not None and paid + least >= self.best.price:
                continue
            problems = examine(move.host)
            if not _could_mend(frozenset(rest), problems):
                continue
            if rest:
                self.go_on(move.host, rest, (*made, move), paid)
            else:
                self._arrived((*made, move), problems, paid)

    def _arrived(self, made: tuple[Move, ...], problems: tuple[Problem, ...], price: float) -> None:
        new = {problem.cause for problem in problems} - self.known
        price += sum(_WARNING_PRICE.get(cause, _ANY_WARNING) for cause in new)
        if self.best is None or price < self.best.price:
            self.best = _Found(made, problems, price)


def _advice(found: _Found) -> Advice:
    changes = sorted((move.change for move in found.made), key=lambda change: KINDS.index(change.kind))
    return Advice(tuple(changes), found.made[-1].host, verdict_of(found.problems), found.problems)
