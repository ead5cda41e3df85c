"""A Dask worker for cells, under a nanny that starts it again when it is killed.

Loses no build to its scheduler: when that is gone, running builds come to their end (or, after a while, to a point
from which they go on), and the worker joins again under its own name when there is a scheduler again. The nanny and
the worker have no memory limits: each build has its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Nanny, Worker, get_worker
from distributed.comm.core import connect

from buildkit.errors import MachineError
from buildkit.matrix.dask_policy import security
from buildkit.matrix.dask_task import TOPIC, CellDone, Cells, Task
from buildkit.matrix.worker_delivery import Delivery

LINGER = 60.0
"""Seconds for running builds to come to their end when the scheduler is gone; then they are ended, to go on later."""
_LOST = frozenset({"worker-handle-scheduler-connection-broken", "worker-heartbeat-missing", "worker-heartbeat-error"})
"""Dask's reasons for closing a worker that nobody has asked to close."""


@dataclass(frozen=True)
class WorkerSettings:
    """One worker. ``cells``: how many builds at a time; ``resources``: what it offers."""

    address: str
    name: str
    cells: int
    resources: Mapping[str, float]
    folder: Path
    cache: Path
    delivery: Delivery
    patience: float
    """Seconds to wait for a scheduler, at the beginning and when one was lost."""
    linger: float = LINGER


class CellWorker(Worker):
    """Dask's worker, with the cells that run in it."""

    def __init__(self, *args: Any, settings: WorkerSettings, environ: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.linger = settings.linger
        self.cells = Cells(settings.folder / "cells", settings.cache, environ, settings.delivery)

    async def close(  # type: ignore[override]
        self, timeout: float = 30, executor_wait: bool = True, nanny: bool = True, reason: str = "worker-close"
    ) -> str | None:
        """Close; where the scheduler was lost, not before the running builds have had their time."""
        await asyncio.to_thread(self.cells.close, self.linger if reason in _LOST else 0.0)
        return await super().close(timeout=timeout, executor_wait=executor_wait, nanny=nanny, reason=reason)


class CellNanny(Nanny):
    """Dask's nanny, which remembers whether its worker has left because there was no scheduler."""

    lost = False

    def close_gracefully(self, reason: str = "nanny-close-gracefully") -> None:
        """The worker's word that it is about to close."""
        self.lost = reason in _LOST
        super().close_gracefully(reason=reason)


def run_cell(task: Task) -> CellDone:
    """The task."""
    worker: Any = get_worker()
    where = str(worker.name)
    cells: Cells = worker.cells
    return cells.run(task, where=where, began=lambda: worker.log_event(TOPIC, {"cell": task.cell, "where": where}))


def stop_cell(cell: str, dask_worker: Any) -> bool:
    """Have a cell end on a worker."""
    stopped: bool = dask_worker.cells.stop(cell)
    return stopped


def serve(settings: WorkerSettings, environ: Mapping[str, str], tell: Callable[[str], None]) -> None:
    """Work until told to end (SIGTERM, Ctrl-C), or until the scheduler dismisses its workers.

    Raises MachineError where there is no scheduler for ``patience`` seconds.
    """
    try:
        asyncio.run(_serve(settings, environ, tell))
    finally:
        shutil.rmtree(settings.folder, ignore_errors=True)


async def _serve(settings: WorkerSettings, environ: Mapping[str, str], tell: Callable[[str], None]) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)
    while not ended.is_set():
        await _scheduler_there(settings, ended)
        if ended.is_set():
            return
        nanny: Any = CellNanny(
            settings.address,
            nthreads=settings.cells,
            name=settings.name,
            resources=dict(settings.resources),
            local_directory=str(settings.folder),
            memory_limit=0,
            death_timeout=settings.patience,
            security=security(settings.address),
            worker_class=CellWorker,
            settings=settings,
            environ=dict(environ),
            silence_logs=30,
        )
        async with nanny:
            tell(f"worker {settings.name} (process {os.getpid()}) works for {settings.address}")
            await asyncio.wait(
                [asyncio.create_task(ended.wait()), asyncio.create_task(nanny.finished())],
                return_when=asyncio.FIRST_COMPLETED,
            )
        if not nanny.lost:
            return
        tell(f"the scheduler {settings.address} is gone: waiting for one")


async def _scheduler_there(settings: WorkerSettings, ended: asyncio.Event) -> None:
    """Wait until the scheduler takes connections."""
    deadline = time.monotonic() + settings.patience
    arguments = security(settings.address).get_connection_args("worker")
    while not ended.is_set() and (error := await _trouble(settings.address, arguments)) is not None:
        if time.monotonic() > deadline:
            raise no_scheduler(settings.address, settings.patience, error) from error
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(ended.wait(), 0.5)


async def _trouble(address: str, arguments: Mapping[str, Any]) -> OSError | None:
    """What is against a connection."""
    reach: Any = connect
    try:
        comm = await reach(address, timeout=5, **arguments)
    except OSError as error:
        return error
    await comm.close()
    return None


def no_scheduler(address: str, patience: float, error: BaseException) -> MachineError:
    """Nobody answers at an address."""
    return MachineError(
        f"no Dask scheduler answers at {address} for {patience:g} s",
        evidence=str(error) or type(error).__name__,
        hint="start one there: dask scheduler --host HOST --port PORT",
    )
