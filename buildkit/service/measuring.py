"""Where a service's metrics come from."""

from __future__ import annotations

import os
from typing import Any

from buildkit.build.disk_use import measure
from buildkit.build.monitoring import compilations
from buildkit.service.events import Events
from buildkit.service.metrics import Machine, Metrics
from buildkit.service.queue import Row
from buildkit.service.rows import seconds_between
from buildkit.service.service import Service


def metrics_of(service: Service, events: Events) -> Metrics:
    """The metrics; each build that ends here is counted from now on."""
    root = service.catalogue.store.root
    metrics = Metrics(
        queue=service.queue.counts,
        machine=_machine,
        store_size=lambda: measure([root]).size,
        followers=lambda: events.followers,
    )

    def ended(row: Row, values: dict[str, Any]) -> None:
        cache = (values.get("answer") or {}).get("cache")
        seconds = seconds_between(row["started"], values["ended"]) or 0.0
        metrics.ended(values["status"], seconds, hit=None if cache is None else cache == "hit")

    if service.worker is not None:
        service.worker.ended = ended
    return metrics


def _machine() -> Machine:
    now = compilations(os.environ)
    return Machine(now.running, now.waiting, now.memory, now.budget)
