"""What runs here now: the machine's use, the broker's builds, and builds that the records say are running."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from buildkit.build.running import host_of, is_running
from buildkit.errors import MachineError
from buildkit.guard.broker_place import broker_folder
from buildkit.guard.broker_view import BrokerView, BuildView, view_broker
from buildkit.guard.unit_sampling import look
from buildkit.machine.limits import Limits, read_limits
from buildkit.machine.usage import CpuWatch, GpusUse, GpuWatch, Pressure, read_pressure
from buildkit.store.builds import BuildRecord, BuildRecords
from buildkit.store.model import utc_now


@dataclass(frozen=True)
class RunningBuild:
    """A build. ``view`` is what the broker knows of it; None for one whose compilations it does not admit now.
    ``started`` is known of builds in this cache, ``memory`` is in bytes. ``host``: another machine that runs it, whose
    processes and memory are not seen here."""

    build: str
    recipe: str
    pid: int
    started: str | None
    memory: int
    view: BuildView | None
    host: str | None = None


@dataclass(frozen=True)
class Now:
    """One look."""

    at: str
    cpu: float
    limits: Limits
    pressure: Mapping[str, Pressure]
    gpus: GpusUse
    broker: BrokerView | None
    builds: tuple[RunningBuild, ...]


@dataclass(frozen=True)
class Compilations:
    """What the broker admits now, over all builds: how many run and wait, the bytes they hold and may hold in all."""

    running: int
    waiting: int
    memory: int
    budget: int


def compilations(environ: Mapping[str, str]) -> Compilations:
    """One look; nothing runs, and the budget is 0, where there is no broker."""
    broker = _broker_of(environ)
    builds = broker.builds if broker is not None else ()
    states = [unit.state for build in builds for unit in build.units]
    return Compilations(
        running=states.count("running"),
        waiting=states.count("waiting"),
        memory=sum(build.usage for build in builds),
        budget=sum(pool.budget for pool in broker.pools[:1]) if broker is not None else 0,
    )


def _broker_of(environ: Mapping[str, str]) -> BrokerView | None:
    try:
        return view_broker(broker_folder(environ))
    except MachineError:  # no folder of this user's own: then there is no broker either
        return None


class Monitor:
    """Looks again and again. Starts nothing, and writes nothing."""

    def __init__(self, store: Path, environ: Mapping[str, str]) -> None:
        self._records = BuildRecords(store)
        self._environ = environ
        self._cpu = CpuWatch()
        self._gpus = GpuWatch()

    def look(self) -> Now:
        """Everything as it is now."""
        broker = self._broker()
        return Now(
            at=utc_now(),
            cpu=self._cpu.percent(),
            limits=read_limits(self._environ),
            pressure=read_pressure(),
            gpus=self._gpus.look(),
            broker=broker,
            builds=tuple(self._builds(broker.builds if broker is not None else ())),
        )

    def close(self) -> None:
        """Give back what is held open."""
        self._gpus.close()

    def _broker(self) -> BrokerView | None:
        return _broker_of(self._environ)

    def _builds(self, views: tuple[BuildView, ...]) -> list[RunningBuild]:
        """Those under the broker, whatever cache they are of; then those of this cache that it does not know."""
        running = {record.id: record for record in self._running()}
        found = [self._admitted(view, running.pop(view.id, None)) for view in views]
        for record in running.values():
            pid = record.process.pid if record.process is not None else 0
            host = host_of(record)
            memory = look(pid).usage if host is None else 0
            found.append(RunningBuild(record.id, record.recipe, pid, record.started, memory, None, host))
        return found

    @staticmethod
    def _admitted(view: BuildView, record: BuildRecord | None) -> RunningBuild:
        recipe, started = (record.recipe, record.started) if record is not None else (view.package, None)
        return RunningBuild(view.id, recipe, view.pid, started, look(view.pid).usage, view)

    def _running(self) -> list[BuildRecord]:
        every = self._records.newest_first()
        return [record for record in every if is_running(record, self._records)]
