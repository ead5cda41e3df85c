"""Who may start (pure): compilations in line, upper bounds of their memory, pools that the memory comes from.

A *pool* is memory that several units share: the machine's, a control group's, what ``--memory`` gives. Its budget is
what its units may hold together. The *line* is in order of arrival (or longest first within a build, where history
says that this is better); a unit that runs is *older* than one in line if it stands before it.

The rule (per pool, for the first in line that waits, the *head*):

- ``safe_jobs`` (j*): the largest j such that the j largest bounds fit the budget: the best static number of jobs that
  is provably safe. The head starts if fewer than j* older units run, or if its bound fits what is free.
- Behind a head that cannot start, others *backfill* if they fit, unless they are known to be in its way later.
- When the head could start but for the memory that backfilled units hold, the newest of these are sent back in line;
  if the head's bound is only a guess, they are let run out, and no others start meanwhile: no work is thrown away
  for a guess.

Any j* units fit, so with fewer than j* older ones running the head fits as soon as younger ones have gone: no unit
starts later than it would under a static j*. A unit that does not fit even an empty pool runs alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

_WAITING = 4 << 20
_SHORT_LINE = 64  # that many may always wait, if there are as many processors
MOST_PREEMPTIONS = 2
"""A unit that was sent back so often waits for its turn."""


@dataclass(frozen=True)
class Unit:
    """One compilation. ``bound``: bytes at most. ``slot``: its place in line, smaller is earlier.

    ``seconds``: how long it will take (running: from now on), 0 where unknown. ``ending``: it has been told to end
    and holds its memory until it has. ``preempted``: how often it was sent back. ``build``: whose it is.
    ``sure``: the bound was measured, not guessed.
    """

    name: int
    slot: int
    bound: int
    pools: tuple[str, ...]
    cores: int = 1
    seconds: float = 0.0
    ending: bool = False
    preempted: int = 0
    build: str = ""
    sure: bool = True


@dataclass(frozen=True)
class Cores:
    """How many units may run at once on the machine, and of each build (absent: as many).

    More may be asked for than there are processors. ``processors``: a unit whose bound is a guess starts only where
    fewer than these many run (None: as many as ``machine``): beyond them it would win no time, and put what the others
    have done at risk.
    """

    machine: int
    jobs: Mapping[str, int] = field(default_factory=dict)
    processors: int | None = None


@dataclass(frozen=True)
class Pool:
    """Memory to share: bytes for all its units together, and the bounds of units that have not come yet.

    ``held``: nothing more starts beside what runs; ``starved``: nothing starts even if nothing runs.
    """

    budget: int
    to_come: tuple[int, ...] = ()
    held: bool = False
    starved: bool = False


@dataclass(frozen=True)
class Decision:
    """Units to start, units to send back in line, and the safe static number per pool (for people)."""

    start: tuple[int, ...] = ()
    send_back: tuple[int, ...] = ()
    safe_jobs: Mapping[str, int] = field(default_factory=dict)


def safe_jobs(budget: int, bounds: Iterable[int]) -> int:
    """The largest j such that the j largest bounds fit; at least 1, since one unit may run alone."""
    total = fitting = 0
    for bound in sorted(bounds, reverse=True):
        total += bound
        if total > budget:
            break
        fitting += 1
    return max(1, fitting)


class _Board:
    """What runs, as the decision grows."""

    def __init__(self, running: Iterable[Unit], pools: Mapping[str, Pool], cores: Cores) -> None:
        self.running = {unit.name: unit for unit in running}
        self.pools = pools
        self.cores = cores
        self.started: list[int] = []
        self.sent_back: list[int] = []
        self.draining: set[str] = set()

    def inside(self, pool: str) -> list[Unit]:
        return [unit for unit in self.running.values() if pool in unit.pools]

    def crowded(self) -> bool:
        """All cores are taken."""
        return sum(unit.cores for unit in self.running.values()) >= self.cores.machine

    def at_its_jobs(self, unit: Unit) -> bool:
        """Its build runs as many as it may."""
        most = self.cores.jobs.get(unit.build, self.cores.machine)
        return sum(one.build == unit.build for one in self.running.values()) >= most

    def older(self, head: Unit, pool: str) -> int:
        return sum(unit.slot < head.slot for unit in self.inside(pool))

    def free(self, pool: str) -> int:
        return self.pools[pool].budget - sum(unit.bound for unit in self.inside(pool))

    def fits(self, unit: Unit) -> bool:
        """In what is free of each pool; whatever its size where nothing else is."""
        return all(not self.inside(pool) or unit.bound <= self.free(pool) for pool in unit.pools)

    def may_start(self, unit: Unit) -> bool:
        """A core is free, for a guess a processor too, and no pool is held (one that is empty is not: something must
        go on) or starved."""
        for name in unit.pools:
            pool = self.pools[name]
            if pool.starved or (pool.held and self.inside(name)):
                return False
        return not self.crowded() and (unit.sure or not self.at_its_processors(unit))

    def at_its_processors(self, unit: Unit) -> bool:
        """As many run as there are processors, and one of them is its build's: no build stands still for a guess."""
        most = self.cores.processors
        return most is not None and len(self.running) >= most and self.has_running(unit.build)

    def has_running(self, build: str) -> bool:
        return any(one.build == build for one in self.running.values())

    def start(self, unit: Unit) -> None:
        self.running[unit.name] = unit
        self.started.append(unit.name)


def line_length(cores: int, budget: int) -> int:
    """How many units a build should have started or in line (ninja's ``-j``): the more the schedule can choose from,
    the better, but each waiting one costs some 4 MiB with its shell; 2 % of the memory may go to that. So a number of
    cores that was only asked for cannot fill the memory with what waits."""
    return max(min(2 * cores, _SHORT_LINE), min(8 * cores, budget // 50 // _WAITING))


def decide(waiting: Sequence[Unit], running: Iterable[Unit], pools: Mapping[str, Pool], cores: Cores) -> Decision:
    """What to do now. ``waiting`` in any order; every unit's pools must be in ``pools``."""
    running = list(running)
    line = sorted(waiting, key=lambda unit: unit.slot)
    board = _Board(running, pools, cores)
    jobs = {name: safe_jobs(pool.budget, _bounds(name, pool, [*line, *running])) for name, pool in pools.items()}
    blocked: list[Unit] = []
    claimed: set[str] = set()
    for unit in line:
        if board.at_its_jobs(unit):
            continue
        if claimed.isdisjoint(unit.pools):
            if not _head(unit, board, jobs):
                blocked.append(unit)
                claimed.update(unit.pools)
        elif _backfills(unit, blocked, board, jobs):
            board.start(unit)
    return Decision(tuple(board.started), tuple(board.sent_back), jobs)


def _bounds(name: str, pool: Pool, units: Iterable[Unit]) -> list[int]:
    return [*pool.to_come, *(unit.bound for unit in units if name in unit.pools)]


def _head(head: Unit, board: _Board, jobs: Mapping[str, int]) -> bool:
    """Start the first in line of its pools, or make room for it; False while it must wait."""
    if not board.may_start(head):
        return False
    if board.fits(head):
        board.start(head)
        return True
    if all(board.older(head, pool) < jobs[pool] for pool in head.pools):
        board.draining.update(head.pools)
        if head.sure:
            _make_room(head, board)
    return False


def _make_room(head: Unit, board: _Board) -> None:
    """Send back the newest of the younger units until the head would fit; none if that does not help."""
    chosen: list[Unit] = []
    for pool in head.pools:
        staying = [unit for unit in board.inside(pool) if not unit.ending and unit not in chosen]
        younger = sorted((unit for unit in staying if unit.slot > head.slot), key=lambda unit: unit.slot)
        while younger and staying and sum(unit.bound for unit in staying) + head.bound > board.pools[pool].budget:
            newest = younger.pop()
            staying.remove(newest)
            chosen.append(newest)
        if staying and sum(unit.bound for unit in staying) + head.bound > board.pools[pool].budget:
            return
    board.sent_back += [unit.name for unit in chosen]


def _backfills(unit: Unit, blocked: Sequence[Unit], board: _Board, jobs: Mapping[str, int]) -> bool:
    """Whether a unit behind a blocked one starts: it fits, and is not known to be sent back before it ends."""
    if unit.preempted >= MOST_PREEMPTIONS or not board.draining.isdisjoint(unit.pools):
        return False
    if not board.may_start(unit) or not board.fits(unit):
        return False
    head = next(one for one in blocked if not set(one.pools).isdisjoint(unit.pools))
    return all(_beside(unit, head, pool, board, jobs[pool]) for pool in set(head.pools) & set(unit.pools))


def _beside(unit: Unit, head: Unit, pool: str, board: _Board, jobs: int) -> bool:
    """Whether it ends before the head's turn comes or fits beside it then; yes where nobody knows."""
    older = sorted(one.seconds for one in board.inside(pool) if one.slot < head.slot)
    if not unit.seconds or not all(older):
        return True
    turn = older[len(older) - jobs] if len(older) >= jobs else 0.0
    if unit.seconds <= turn:
        return True
    then = [one.bound for one in board.inside(pool) if one.seconds > turn or not one.seconds]
    return sum(then) + head.bound + unit.bound <= board.pools[pool].budget
