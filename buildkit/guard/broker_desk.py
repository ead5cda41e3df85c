"""What clients say, and what that changes: builds and units come, end, obey and go."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from buildkit.guard.broker_core import Core
from buildkit.guard.broker_line import longest_first
from buildkit.guard.broker_pools import (
    MACHINE,
    given_pool,
    group_names,
    group_pool,
    limited,
    machine_pool,
    memory_groups,
)
from buildkit.guard.broker_status import status_of
from buildkit.guard.broker_units import Build, Link, UnitState
from buildkit.guard.profile import UnitId, bound_of
from buildkit.guard.profile_store import ProfileFolder
from buildkit.guard.schedule import line_length
from buildkit.guard.unit_sampling import look
from buildkit.guard.unit_sweep import sweep
from buildkit.guard.wire import VERSION, Message

_TREES = 1.0  # seconds between two looks at what a build holds beside its units
_GROUPS = 2.0  # seconds between two looks at a build's control groups

Saver = Callable[[ProfileFolder, str, bool], None]


class Desk:
    """Clients by connection. Times are of the monotonic clock, in seconds."""

    def __init__(self, save: Saver, began: float, grace: float) -> None:
        self.core = Core(lambda build, now: save(build.profile, build.package, now))
        self._save = save
        self._until = began + grace
        self._builds: dict[Link, Build] = {}
        self._units: dict[Link, UnitState] = {}
        self._early: dict[Link, Message] = {}
        self._profiles: dict[str, ProfileFolder] = {}
        self._number = 0
        self._looked = self._grouped = 0.0

    def hear(self, link: Link, message: Message, now: float) -> None:
        """One message. Raises BadMessage for numbers that are none."""
        build, unit = self._builds.get(link), self._units.get(link)
        if message.verb in {"build", "unit", "status"} and (build or unit or message.number("v") != VERSION):
            link.send("fail", text=f"this broker speaks version {VERSION}: end what runs, and start again")
            link.close()
        elif message.verb == "build":
            self._build(link, message, now)
        elif message.verb == "unit":
            self._unit(link, message, now)
        elif message.verb == "status":
            status_of(self.core, link, now)
            link.close()
        elif unit is not None and unit.state != "gone":
            self._answer(unit, message, now)

    def knows(self, link: Link) -> bool:
        """Whether it has said who it is."""
        return link in self._builds or link in self._units or link in self._early

    def _answer(self, unit: UnitState, message: Message, now: float) -> None:
        if message.verb == "started" and unit.link.pid == 0:
            unit.root = message.number("pid")
        elif message.verb == "ended" and unit.holds:
            self.core.unit_ended(
                unit,
                now,
                code=message.number("code"),
                signal=message.number("signal"),
                maxrss=message.number("maxrss"),
                cpu=message.seconds("cpu"),
            )
        elif message.verb == "killed" and unit.state == "ending":
            self.core.unit_killed(unit, now)

    def lost(self, link: Link, now: float) -> None:
        """A connection has ended. A build's units that wait have nothing to wait for; those that run are watched on."""
        self._early.pop(link, None)
        unit = self._units.pop(link, None)
        if unit is not None and unit.state != "gone":
            unit.build.tell("lost", unit=unit.number, name=unit.name, at=now, peak=unit.peak)
            if unit.holds and link.pid:
                _sweep_aside(unit)
            self.core.forget(unit)
        build = self._builds.pop(link, None)
        if build is not None:
            self._save(build.profile, build.package, True)
            self.core.builds.pop(build.token, None)
            for one in [one for one in self._units.values() if one.build is build and one.state == "waiting"]:
                one.link.send("fail", text="the build that this compilation belongs to has ended")
                one.link.close()
                self.core.forget(one)
        self._drop_pools()

    # builds

    def _build(self, link: Link, message: Message, now: float) -> None:
        token = message.text("token")
        if len(token) < 16 or token in self.core.builds:
            link.send("fail", text="the build's token is too short, or another's")
            link.close()
            return
        profile = self._profile(message.text("profile"))
        package = message.text("package") or "unnamed"
        serial = profile.package(package).builds = profile.package(package).builds + 1
        cpus = max(1, message.number("cpus", os.cpu_count() or 1))
        build = Build(
            link, token, package, message.text("toolkit"), max(1, min(cpus, message.number("jobs", cpus) or cpus)),
            cpus, message.number("budget"), message.number("slurm"), message.text("job"), message.number("prior"),
            profile, serial, Path(message.text("tmpdir")) if message.text("tmpdir") else None,
        )  # fmt: skip
        build.name, build.began = message.text("id"), now
        build.processors = max(1, message.number("processors", cpus))
        build.to_come = dict(profile.package(package).expected_units(build.toolkit))
        build.unknown = not build.to_come
        self._builds[link] = self.core.builds[token] = build
        self._look_at_groups(build, link.pid, now)
        self._choose_line(build)
        link.send("registered", known=len(build.to_come))
        for other, early in list(self._early.items()):
            if early.text("token") == token:
                del self._early[other]
                self._unit(other, early, now)

    def _profile(self, folder: str) -> ProfileFolder:
        if folder not in self._profiles:
            self._profiles[folder] = ProfileFolder(Path(folder) if folder else None)
        return self._profiles[folder]

    def _choose_line(self, build: Build) -> None:
        budget = min(self.core.pools[name].budget for name in build.pools)
        records, window = list(build.to_come.values()), line_length(build.cpus, budget)

        def choose() -> None:
            build.longest_first = longest_first(
                records, budget=budget, cores=build.cpus, jobs=build.jobs, window=window
            )

        # It takes a while, and memory must be looked at meanwhile.
        threading.Thread(target=choose, daemon=True).start()

    def _look_at_groups(self, build: Build, pid: int, now: float) -> None:
        """Where the build's memory is counted now: in the groups of one of its shims, for a guard may have put them
        into one below the build's own. An ended process has no groups, and says nothing."""
        build.groups = memory_groups(pid) or build.groups
        self._pools_of(build, now)

    def _follow(self, build: Build, pid: int, now: float) -> None:
        """The same for a shim that has just come: most are where the last one was, and looking takes milliseconds."""
        place = group_names(pid)
        if place and place != build.place:
            build.place = place
            self._look_at_groups(build, pid, now)

    def _pools_of(self, build: Build, now: float) -> None:
        """Its pools: limits come and go."""
        names = [MACHINE]
        self.core.pools.setdefault(MACHINE, machine_pool())
        for group in limited(build.groups):
            self.core.pools.setdefault(str(group.folder), group_pool(group))
            names.append(str(group.folder))
        if build.budget:
            name = f"memory:{build.token}"
            if name not in self.core.pools:
                pool = given_pool(name, "--memory", lambda: build.budget, lambda: build.overhead)
                self.core.pools[name] = pool
            names.append(name)
        if build.slurm:
            name = f"slurm:{build.job}"
            self.core.pools.setdefault(
                name, given_pool(name, "Slurm", lambda: build.slurm, lambda: self._job_overhead(build.job))
            )
            names.append(name)
        build.pools = tuple(names)
        self._drop_pools()
        self.core.read_pools(now)
        build.pools = tuple(name for name in names if not self.core.pools[name].gone)

    def _drop_pools(self) -> None:
        users = [*self.core.builds.values(), *(unit.build for unit in self._units.values())]
        used = {name for build in users for name in build.pools}
        for name in [name for name in self.core.pools if name not in used]:
            del self.core.pools[name]

    def refresh(self, now: float) -> None:
        """What needs no look at each turn: control groups, and what builds hold beside their units."""
        if now - self._grouped >= _GROUPS:
            self._grouped = now
            for build in self.core.builds.values():
                shims = [link.pid for link, unit in self._units.items() if unit.build is build]
                self._look_at_groups(build, shims[-1] if shims else build.link.pid, now)
        if now - self._looked >= _TREES:
            self._looked = now
            for build in self.core.builds.values():
                if build.budget or build.slurm:
                    build.overhead = self._overhead(build)
            for link in [link for link in self._early if now >= self._until]:
                self._unknown(link)

    def _job_overhead(self, job: str) -> int:
        return sum(build.overhead for build in self.core.builds.values() if build.job == job)

    def _overhead(self, build: Build) -> int:
        """Bytes of the build's tree that are no unit's, and of its temporary files on a tmpfs."""
        units = frozenset(pid for unit in self._units.values() if unit.holds for pid in unit.pids)
        files = _tmpfs_bytes(build.tmpdir) if build.tmpdir else 0
        return look(build.link.pid, units).usage + files

    # units

    def _unit(self, link: Link, message: Message, now: float) -> None:
        build = self.core.builds.get(message.text("token"))
        if build is None:
            self._early[link] = message
            if now >= self._until:
                self._unknown(link)
            return
        self._number += 1
        running = message.number("running")
        slot = self._number - (1 << 40 if running else 0)  # what runs is older than all that waits
        who = UnitId(build.package, build.toolkit, message.text("key"), message.text("name"), message.text("kind"))
        unit = UnitState(
            self._number, link, build, who.kind, who.name, who.key, link.pid or message.number("pid"),
            message.number("threads", 1), slot, build.arrived, now,
            bound_of(who, build.profile.packages, prior=build.prior),
        )  # fmt: skip
        if build.tmpdir is not None and message.number("pid"):
            unit.scratch = f"{build.tmpdir}/u{message.number('pid')}"
        build.arrived += 1
        if not any(one.build is build for one in self._units.values()):
            build.burst, build.bursts = now, build.bursts + 1
            if link.pid:
                self._follow(build, link.pid, now)
        self._units[link] = self.core.units[unit.number] = unit
        build.to_come.pop(unit.key, None)
        link.send("queued")
        build.tell(
            "queued", unit=unit.number, name=unit.name, kind=unit.kind, key=unit.key, pid=unit.root, at=now,
            order=unit.order, running=running,
        )  # fmt: skip
        if running:
            unit.state, unit.started = "running", now

    def _unknown(self, link: Link) -> None:
        self._early.pop(link, None)
        link.send("fail", text="the broker knows no build with this token")
        link.close()


def _sweep_aside(unit: UnitState) -> None:
    """Its shim was killed, it seems. Memory must be looked at meanwhile."""
    threading.Thread(target=sweep, args=(unit.root, dict(unit.known), unit.scratch), daemon=True).start()


def _tmpfs_bytes(folder: Path) -> int:
    """What lies in a folder, if that is on a tmpfs: such files are memory."""
    total = 0
    with contextlib.suppress(OSError):
        if not _on_tmpfs(folder):
            return 0
        for place, _, files in os.walk(folder):
            for name in files:
                with contextlib.suppress(OSError):
                    total += Path(place, name).lstat().st_blocks * 512
    return total


def _on_tmpfs(folder: Path) -> bool:
    device = folder.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == wanted:
            return after.split()[0] in {"tmpfs", "ramfs"}
    return False
