"""The connection to a Dask scheduler: submitted cells outlive it, and are found again by who connects next.

A task has its cell's name for a key, and is published: it belongs to the scheduler, not to a client. So a client that
is killed and started again waits for the very builds that it had started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from distributed import Client

from buildkit.errors import CudabuildError
from buildkit.matrix.dask_policy import security
from buildkit.matrix.dask_task import TOPIC, Task, key_of
from buildkit.matrix.dask_worker import no_scheduler, run_cell, stop_cell
from buildkit.matrix.worker_survey import VERSION

Told = Callable[[str, Mapping[str, Any]], None]
"""Called with what happened (``began``, ``done``) and to which cell, from a thread of Dask's."""


@dataclass(frozen=True)
class Seat:
    """A worker as the scheduler knows it."""

    address: str
    name: str
    cells: int
    offers: Mapping[str, float]


@dataclass
class Link:
    """One client of the scheduler at ``address``; of no use any more once it was :attr:`lost`."""

    address: str
    patience: float
    told: Told
    _client: Any = field(init=False)
    _futures: dict[str, Any] = field(default_factory=dict, init=False)

    def connect(self) -> Link:
        """Raises MachineError where nobody answers within ``patience`` seconds."""
        protection = security(self.address)
        make: Any = Client
        try:
            self._client = make(
                self.address, timeout=self.patience, security=protection, set_as_default=False, name="cudabuild-matrix"
            )
        except (OSError, TimeoutError) as error:
            raise no_scheduler(self.address, self.patience, error) from error
        self._client.subscribe_topic(TOPIC, self._event)
        return self

    @property
    def lost(self) -> bool:
        """Whether the scheduler has gone away."""
        return bool(self._client.status != "running")

    def seats(self) -> list[Seat]:
        """The workers that offer to work for this version. Raises OSError where the scheduler is gone."""
        known = self._client.scheduler_info(n_workers=-1)["workers"]
        return [
            Seat(address, str(each["name"]), int(each["nthreads"]), dict(each["resources"]))
            for address, each in known.items()
            if VERSION in each.get("resources", {})
        ]

    def submit(self, task: Task, taken: Mapping[str, float], *, priority: float, at: str = "") -> None:
        """Have a cell made, at best by the worker with the address ``at``; or wait for the task that is there."""
        name = key_of(task)
        future = self._left_behind(name)
        if future is None:
            future = self._client.submit(
                run_cell, task, key=name, resources=dict(taken), priority=priority, retries=0, pure=False,
                **({"workers": [at], "allow_other_workers": True} if at else {}),
            )  # fmt: skip
            self._client.publish_dataset(future, name=name, override=True)
        self._futures[task.cell] = future
        future.add_done_callback(lambda done: self.told("done", {"cell": task.cell, "future": done}))

    def release(self, task: Task) -> None:
        """The result was read: the scheduler need not keep it."""
        self._futures.pop(task.cell, None)
        with suppress(OSError, KeyError, TimeoutError):
            self._client.unpublish_dataset(key_of(task))

    def stop(self, cell: str) -> None:
        """End a cell, on whichever worker it runs."""
        with suppress(OSError, TimeoutError):
            self._client.run(stop_cell, cell, on_error="ignore")

    def withdraw(self, task: Task) -> None:
        """Take back a cell that no worker has begun."""
        future = self._futures.get(task.cell)
        if future is not None:
            with suppress(OSError, TimeoutError):
                self._client.cancel([future], force=True)

    def close(self) -> None:
        """Let go."""
        with suppress(OSError, TimeoutError, CudabuildError):
            self._client.close(timeout=5)

    def _left_behind(self, name: str) -> Any:
        """The task of an earlier client that still runs or went well; a failed one is tried anew."""
        if name not in self._client.list_datasets():
            return None
        future = self._client.get_dataset(name, None)
        if future is None or future.status in {"error", "cancelled", "lost"}:
            return None
        if future.status == "finished":
            with suppress(Exception):
                if future.result(timeout=30).exit_code == 0:
                    return future
            self._client.unpublish_dataset(name)
            return None
        return future

    def _event(self, event: tuple[float, Mapping[str, Any]]) -> None:
        self.told("began", event[1])
