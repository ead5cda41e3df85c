"""How long a build takes, by simulation (pure): under the broker's own rule, a static number of jobs, and at best.

A job takes its seconds at full speed, holds its peak from its start to its end, and ninja has at most ``window`` of
them started or in line. A link waits for everything before it. ``speed[n-1]`` is how fast each of n runs (processors
that share caches or cores are slower side by side).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from buildkit.guard.schedule import Cores, Pool, Unit, decide, safe_jobs

_POOL = "pool"
_WORTH = 0.98
"""Another line is taken if it saves 2 %: less is noise."""


@dataclass(frozen=True)
class Job:
    """One unit: its work in seconds, the bytes it really takes, the bound that was known beforehand (bytes)."""

    name: str
    seconds: float
    peak: int
    bound: int
    kind: str = "nvcc"


@dataclass(frozen=True)
class Simulated:
    """Seconds from the first start to the last end; when each job's last start was; what happened meanwhile."""

    seconds: float
    starts: tuple[float, ...]
    ends: tuple[float, ...]
    most_memory: int
    most_jobs: int
    sent_back: int
    killed: int


@dataclass
class _Live:
    number: int
    job: Job
    slot: int
    left: float = 0.0
    bound: int = 0
    running: bool = False
    preempted: int = 0


Admit = Callable[["_Run"], None]


@dataclass
class _Run:
    """A simulation as it goes."""

    jobs: Sequence[Job]
    budget: int
    cores: int
    window: int
    speed: Sequence[float]
    longest_first: bool = False
    blind: bool = False
    now: float = 0.0
    next: int = 0
    live: list[_Live] = field(default_factory=list)
    starts: dict[int, float] = field(default_factory=dict)
    ends: dict[int, float] = field(default_factory=dict)
    most_memory: int = 0
    most_jobs: int = 0
    sent_back: int = 0
    killed: int = 0

    def running(self) -> list[_Live]:
        return [one for one in self.live if one.running]

    def start(self, one: _Live) -> None:
        one.running, one.left = True, one.job.seconds
        self.starts[one.number] = self.now

    def stop(self, one: _Live) -> None:
        one.running = False

    def arrive(self) -> None:
        """What ninja starts now."""
        while self.next < len(self.jobs) and len(self.live) < self.window:
            job = self.jobs[self.next]
            if job.kind == "link" and self.live:
                return
            self.live.append(_Live(self.next, job, self.next, bound=job.bound))
            self.next += 1

    def step(self) -> None:
        """To the next end."""
        running = self.running()
        used = sum(one.job.peak for one in running)
        self.most_memory, self.most_jobs = max(self.most_memory, used), max(self.most_jobs, len(running))
        speed = self.speed[min(len(running), len(self.speed)) - 1]
        elapsed = min(one.left for one in running) / speed
        self.now += elapsed
        for one in running:
            one.left -= elapsed * speed
            if one.left <= 1e-9:
                self.ends[one.number] = self.now
                self.live.remove(one)

    def to_the_end(self, admit: Admit) -> Simulated:
        while self.next < len(self.jobs) or self.live:
            self.arrive()
            admit(self)
            self.step()
        return Simulated(
            self.now,
            tuple(self.starts[number] for number in range(len(self.jobs))),
            tuple(self.ends[number] for number in range(len(self.jobs))),
            self.most_memory,
            self.most_jobs,
            self.sent_back,
            self.killed,
        )


def simulate_static(
    jobs: Sequence[Job], *, most: int, budget: int = 0, cores: int, speed: Sequence[float] = (1.0,)
) -> Simulated:
    """As ninja with ``-j most`` does it; ``budget`` is not looked at (see ``most_memory`` of the answer)."""

    def admit(run: _Run) -> None:
        for one in run.live:
            if not one.running and len(run.running()) < most:
                run.start(one)

    return _Run(jobs, budget, cores, most, speed).to_the_end(admit)


def simulate_broker(
    jobs: Sequence[Job],
    *,
    budget: int,
    cores: int,
    window: int | None = None,
    longest_first: bool = False,
    speed: Sequence[float] = (1.0,),
    blind: bool = False,
) -> Simulated:
    """As the broker does it. A job that takes more than its bound is found out at once: the newest are ended then.

    ``blind``: bounds are known, but not how long anything takes.
    """
    run = _Run(jobs, budget, cores, window or 2 * cores, speed, longest_first, blind)
    return run.to_the_end(_admit)


def _admit(run: _Run) -> None:
    while True:
        if run.longest_first:
            _reorder([one for one in run.live if not one.running])
        decision = decide(
            [_unit(one, run.blind) for one in run.live if not one.running],
            [_unit(one, run.blind) for one in run.running()],
            {_POOL: Pool(run.budget, tuple(job.bound for job in run.jobs[run.next :]))},
            Cores(run.cores),
        )
        by_number = {one.number: one for one in run.live}
        for number in decision.send_back:
            run.stop(by_number[number])
            by_number[number].preempted += 1
            run.sent_back += 1
        for number in decision.start:
            run.start(by_number[number])
        if not _relieve(run) and not decision.start and not decision.send_back:
            return


def _relieve(run: _Run) -> bool:
    """End the newest while more is held than there is; whether any was."""
    line = sorted(run.running(), key=lambda one: one.slot)
    ended = False
    while len(line) > 1 and sum(one.job.peak for one in line) > run.budget:
        newest = line.pop()
        newest.bound = max(newest.bound, newest.job.peak)
        run.stop(newest)
        run.killed += 1
        ended = True
    return ended


def _reorder(waiting: Sequence[_Live]) -> None:
    slots = sorted(one.slot for one in waiting)
    for one, slot in zip(sorted(waiting, key=lambda one: (-one.job.seconds, one.slot)), slots, strict=True):
        one.slot = slot


def _unit(one: _Live, blind: bool) -> Unit:
    bound = max(one.bound, one.job.peak) if one.running else one.bound
    seconds = 0.0 if blind else one.left if one.running else one.job.seconds
    return Unit(one.number, one.slot, bound, (_POOL,), seconds=seconds, preempted=one.preempted)


def best_line(jobs: Sequence[Job], *, budget: int, cores: int, window: int) -> bool:
    """Whether the longest first is better than the order of arrival, by simulating both."""
    both = [
        simulate_broker(jobs, budget=budget, cores=cores, window=window, longest_first=longest)
        for longest in (False, True)
    ]
    return both[1].seconds < both[0].seconds * _WORTH


def safe_static(
    jobs: Sequence[Job], *, budget: int, cores: int, speed: Sequence[float] = (1.0,)
) -> tuple[int, Simulated]:
    """The best number of jobs that no coincidence of these can take over the budget, and how long it takes."""
    most = min(cores, safe_jobs(budget, (job.peak for job in jobs)))
    return most, simulate_static(jobs, most=most, cores=cores, speed=speed)


def lucky_static(
    jobs: Sequence[Job], *, budget: int, cores: int, speed: Sequence[float] = (1.0,)
) -> tuple[int, Simulated]:
    """The fastest number of jobs that, as it happened, did not go over the budget: what nobody knows beforehand."""
    tried = [(most, simulate_static(jobs, most=most, cores=cores, speed=speed)) for most in range(1, cores + 1)]
    went_well = [one for one in tried if one[1].most_memory <= budget or one[0] == 1]
    return min(went_well, key=lambda one: one[1].seconds)


def lower_bound(jobs: Sequence[Job], *, budget: int, cores: int, speed: Sequence[float] = (1.0,)) -> float:
    """Seconds that no schedule can beat: the longest job; all work on all cores; memory times time."""
    fastest = max(count * speed[min(count, len(speed)) - 1] for count in range(1, cores + 1))
    work = sum(job.seconds for job in jobs)
    area = sum(job.seconds * min(job.peak, budget) for job in jobs) / budget
    longest = max(job.seconds for job in jobs)
    return max(longest, work / fastest, area / max(speed))


def with_bounds(jobs: Sequence[Job], earlier: Sequence[Job]) -> list[Job]:
    """The jobs with what an earlier run of them has taught; one that was not in it is taken as the largest of it."""
    known = {(job.kind, job.name): job.peak for job in earlier}
    largest = max(known.values(), default=0)
    return [replace(job, bound=known.get((job.kind, job.name), largest)) for job in jobs]
