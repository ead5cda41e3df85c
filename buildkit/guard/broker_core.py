"""The broker's decisions as they happen: looks, the ladder, the schedule, what a unit's end means.

No sockets and no clock here: :mod:`buildkit.guard.broker` brings messages and the time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from buildkit.guard import unit_sampling
from buildkit.guard.broker_learning import failure_text, learn, raise_bound
from buildkit.guard.broker_line import place_in_line, schedule_pools, schedule_unit, settling, starved
from buildkit.guard.broker_pools import PoolWatch, kills_by_kernel
from buildkit.guard.broker_units import STRIKES, Build, Cooling, Reason, UnitState
from buildkit.guard.pace import pause
from buildkit.guard.pressure import Holder, Relief, relieve
from buildkit.guard.profile import bound_of
from buildkit.guard.schedule import Cores, decide

OBEY = 1.0
"""Seconds until the broker kills the tree of a unit whose shim does not answer."""


class Core:
    """All builds, units and pools. ``save`` is told which package's profile of a build has changed."""

    def __init__(self, save: Callable[[Build, bool], None]) -> None:
        self.builds: dict[str, Build] = {}
        self.units: dict[int, UnitState] = {}
        self.pools: dict[str, PoolWatch] = {}
        self._save = save
        self._relief: dict[str, Relief] = {}
        self._starved_since: dict[str, float] = {}
        self._safe_jobs: Mapping[str, int] = {}
        self._cooling: dict[str, Cooling] = {}

    # looks

    def look(self, now: float) -> None:
        """Read every running tree, then every pool."""
        for unit in self.units.values():
            if unit.holds:
                _look_at(unit)
        self.read_pools(now, fresh=True)

    def read_pools(self, now: float, *, fresh: bool = False) -> None:
        """Read the pools, with the last looks at the units unless those are ``fresh``."""
        for pool in self.pools.values():
            pool.update(now, sum(unit.usage for unit in self._inside(pool.name)), fresh=fresh)

    def _inside(self, pool: str) -> list[UnitState]:
        return [unit for unit in self.units.values() if unit.holds and pool in unit.build.pools]

    def pause(self, now: float, cost: float) -> float:
        """Seconds until the next look, where the last one took ``cost``."""
        return pause(
            [pool.reading for pool in self.pools.values()],
            processors=max((build.processors for build in self.builds.values()), default=1),
            youngest=min((now - unit.started for unit in self.units.values() if unit.holds), default=0.0),
            cost=cost,
        )

    def report(self, now: float) -> None:
        """Tell each build what its tightest pool has, for the curve of its trace."""
        for build in self.builds.values():
            own = [unit for unit in self.units.values() if unit.build is build]
            pool = min((self.pools[name] for name in build.pools), key=lambda pool: pool.budget)
            build.tell(
                "memory", at=now, budget=pool.budget, limit=pool.limit, available=pool.reading.available,
                pool=pool.source, units=sum(unit.usage for unit in own), safe=self._safe_jobs.get(pool.name, 1),
                running=sum(unit.holds for unit in own), waiting=sum(unit.state == "waiting" for unit in own),
            )  # fmt: skip

    # the ladder

    def ease(self, now: float) -> None:
        """End units where memory runs short, and kill those whose shim does not."""
        for name, pool in self.pools.items():
            holders = [
                Holder(
                    unit.number,
                    unit.slot,
                    unit.usage,
                    unit.state == "ending" and now - unit.told < 2 * OBEY,
                    unit.room(),
                )
                for unit in self._inside(name)
            ]
            relief = relieve(pool.reading, holders)
            cooling = self._cooling.get(name, Cooling())
            if relief.end:
                cooling = self._cooling[name] = cooling.again(now)
            self._relief[name] = replace(relief, hold=relief.hold or now < cooling.until)
            for number in relief.end:
                unit = self.units[number]
                self._end(unit, "exceeded" if unit.usage > unit.bound.memory else "pressure", now)
            if relief.lone is not None:
                self._end(self.units[relief.lone], "alone", now)
        for unit in list(self.units.values()):
            if unit.state == "ending" and now - unit.told > OBEY:
                unit_sampling.kill_tree(unit.root)

    def _end(self, unit: UnitState, reason: Reason, now: float) -> None:
        if unit.state == "running":
            unit.state, unit.reason, unit.told = "ending", reason, now
            unit.link.send("kill")

    # the schedule

    def schedule(self, now: float) -> None:
        """Start and send back what the rule says."""
        waiting = [unit for unit in self.units.values() if unit.state == "waiting" and not settling(unit, now)]
        if not waiting:
            return
        for build in self.builds.values():
            if build.longest_first or build.unknown:
                place_in_line([unit for unit in waiting if unit.build is build])
        for name, pool in self.pools.items():
            if starved(pool, self._inside(name), [one for one in waiting if name in one.build.pools]):
                self._starved_since.setdefault(name, now)
            else:
                self._starved_since.pop(name, None)
        pools = schedule_pools(self.pools, self.builds.values(), self._relief, self._starved_since, now)
        running = [schedule_unit(unit, now) for unit in self.units.values() if unit.holds]
        cores = Cores(
            max((build.cpus for build in self.builds.values()), default=1),
            {build.token: build.jobs for build in self.builds.values()},
            max((build.processors for build in self.builds.values()), default=1),
        )
        decision = decide([schedule_unit(unit, now) for unit in waiting], running, pools, cores)
        self._safe_jobs = decision.safe_jobs
        for number in decision.send_back:
            self._end(self.units[number], "preempted", now)
        for number in decision.start:
            self._start(self.units[number], cores.machine, len(waiting), now)

    def _start(self, unit: UnitState, cores: int, waiting: int, now: float) -> None:
        unit.granted = 1
        if unit.threads != 1 and waiting == 1:
            self._grant_threads(unit, cores)
        unit.state, unit.reason, unit.started = "running", "", now
        unit.usage = unit.peak = unit.largest = 0
        unit.pids, unit.cpu = frozenset(), 0.0
        unit.cpu_before = unit_sampling.seconds_of_ended(unit.root)
        unit.known.clear()
        unit.kills_before = kills_by_kernel()
        unit.link.send("go", **({"threads": unit.granted} if unit.threads != 1 else {}))
        unit.build.tell(
            "started", unit=unit.number, name=unit.name, kind=unit.kind, key=unit.key, pid=unit.root,
            waited=now - unit.arrived, at=now, bound=unit.bound.memory, source=unit.bound.source,
            threads=unit.granted, order=unit.order,
        )  # fmt: skip

    def _grant_threads(self, unit: UnitState, cores: int) -> None:
        """Several threads for the only one in line, if the cores and the memory are free: memory goes with threads."""
        running = [one for one in self.units.values() if one.holds]
        free = max(1, cores - sum(one.granted for one in running))
        room = min(
            (self.pools[name].budget - sum(one.effective_bound() for one in self._inside(name)))
            for name in unit.build.pools
        )
        for threads in range(min(unit.threads or free, free), 1, -1):
            unit.granted = threads
            known = bound_of(unit.id(), unit.build.profile.packages, prior=unit.build.prior)
            bound = known if known.source == "seen" else replace(unit.bound, memory=unit.bound.memory * threads)
            if bound.memory <= room:
                unit.bound = bound
                return
        unit.granted = 1

    # ends

    def unit_ended(self, unit: UnitState, now: float, *, code: int, signal: int, maxrss: int, cpu: float) -> None:
        """It ended by itself, or was killed by somebody else, or ended while it was told to."""
        unit.peak += max(0, maxrss - unit.largest)  # it has grown after the last look
        seconds, unit.cpu = now - unit.started, cpu
        if unit.state == "ending" and (code or signal):
            unit.link.send("again")
            self.unit_killed(unit, now)
            return
        oom = bool(code or signal) and kills_by_kernel() > unit.kills_before
        if signal == 9 or (oom and not unit.doubted):
            unit.doubted = True
            self._strike(unit, now, "out-of-memory" if oom else "killed-outside")
            return
        for name in unit.build.pools:
            self._cooling.pop(name, None)
        if code == 0 and signal == 0:
            unit.build.done += 1
            learn(unit, seconds, self.units.values())
            self._save(unit.build, False)
        unit.build.tell(
            "ended", unit=unit.number, name=unit.name, kind=unit.kind, key=unit.key, code=code, signal=signal,
            at=now, seconds=seconds, peak=unit.peak, cpu=cpu, bound=unit.bound.memory, order=unit.order,
        )  # fmt: skip
        unit.link.send("done")
        self.forget(unit)

    def unit_killed(self, unit: UnitState, now: float) -> None:
        """It has obeyed: back in line, or the end of its build."""
        reason = unit.reason
        if reason == "alone":
            self._alone(unit, now)
        elif reason == "exceeded":
            self._strike(unit, now, "memory")
        else:
            unit.preempted += reason == "preempted"
            self._requeue(unit, now, reason or "unknown")

    def _alone(self, unit: UnitState, now: float) -> None:
        """Too big, unless what is not of this build took the memory."""
        pools = [self.pools[name] for name in unit.build.pools]
        if any(unit.peak + unit.peak // 20 >= pool.most() * 3 // 4 for pool in pools):
            raise_bound(unit)
            self._save(unit.build, True)
            self._fail(unit, now, "too-big")
        else:
            self._strike(unit, now, "memory")

    def _strike(self, unit: UnitState, now: float, why: str) -> None:
        unit.strikes += 1
        raise_bound(unit)
        self._save(unit.build, True)
        if unit.strikes >= STRIKES:
            self._fail(unit, now, why)
            return
        if unit.strikes == STRIKES - 1:  # the last try: alone
            most = max((self.pools[name].most() for name in unit.build.pools), default=0)
            unit.bound = replace(unit.bound, memory=max(unit.bound.memory, most))
        if unit.state != "ending":
            unit.link.send("again")
        self._requeue(unit, now, why)

    def _requeue(self, unit: UnitState, now: float, why: str) -> None:
        unit.build.killed += 1
        unit.build.tell(
            "killed", unit=unit.number, name=unit.name, reason=why, at=now, seconds=now - unit.started,
            peak=unit.peak, cpu=_seconds_used(unit), bound=unit.bound.memory, strikes=unit.strikes,
        )  # fmt: skip
        unit.state, unit.reason, unit.usage = "waiting", "", 0

    def _fail(self, unit: UnitState, now: float, why: str) -> None:
        text = failure_text(unit, [self.pools[name] for name in unit.build.pools], why)
        unit.build.tell(
            "failed", unit=unit.number, name=unit.name, reason=why, at=now, seconds=now - unit.started,
            peak=unit.peak, cpu=_seconds_used(unit), text=text,
        )  # fmt: skip
        unit.link.send("fail", text=text)
        self.forget(unit)

    def forget(self, unit: UnitState) -> None:
        """It needs nothing any more."""
        unit.state = "gone"
        self.units.pop(unit.number, None)


def _seconds_used(unit: UnitState) -> float:
    """Processor seconds of a run that was ended: its shim has waited for the whole tree, and the kernel counts that."""
    return unit.cpu or max(0.0, unit_sampling.seconds_of_ended(unit.root) - unit.cpu_before)


def _look_at(unit: UnitState) -> None:
    memory = unit_sampling.look(unit.root)
    new = tuple(pid for pid in memory.pids if pid not in unit.pids)
    if new:
        unit_sampling.offer_to_the_kernel(new)
        unit.known.update(unit_sampling.starts(new))
        unit.pids = frozenset(memory.pids)
    unit.usage = memory.usage
    unit.peak = max(unit.peak, memory.peak)
    unit.largest = max(unit.largest, memory.largest)
