"""A plan without a build: what the store would say, and which field of the key makes it a miss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from buildkit.build.admit_entry import sound
from buildkit.build.canary import foresee_canary
from buildkit.build.context import Context, WouldInstall
from buildkit.build.lookup import grafts_not_here, superset_of
from buildkit.build.prepare import Prepared, prepare
from buildkit.build.sizing import size_build
from buildkit.plan.key import differing
from buildkit.plan.model import PlanSummary, Prediction
from buildkit.plan.request import Request


@dataclass(frozen=True)
class Forecast:
    """What ``cudabuild plan`` prints. ``key`` is None where something has to be installed to know it."""

    recipe: str
    device: str
    version: str | None
    key: str | None
    summary: PlanSummary | None
    prediction: Prediction
    inputs: dict[str, Any] | None


def forecast(request: Request, configured: tuple[str, ...], context: Context) -> Forecast:
    """Plan a request and look it up, installing nothing. Raises the causes that can be known beforehand."""
    try:
        prepared = prepare(request, configured, context)
    except WouldInstall as missing:
        prediction = Prediction(outcome="unknown", note=f"{missing.what} first")
        return Forecast(request.package, request.device, request.version, None, None, prediction, None)
    summary = size_build(prepared, context, estimate=True).summary
    return Forecast(
        prepared.package.name,
        prepared.device,
        prepared.version,
        prepared.key,
        summary.model_copy(update={"canary": foresee_canary(prepared, context)}),
        _predict(prepared, context),
        prepared.inputs.as_dict(),
    )


def _predict(prepared: Prepared, context: Context) -> Prediction:
    lookup = sound(prepared.key, context.store)
    if lookup.entry is not None and (other := grafts_not_here(lookup.entry, context)):
        note = f"the stored wheel holds a copy of another {', '.join(other)} than is here"
        return Prediction(outcome="miss", entry=prepared.key, note=note)
    if lookup.entry is not None:
        return Prediction(outcome="hit", entry=prepared.key)
    wider = superset_of(prepared, context)
    if wider is not None:
        targets = ";".join(wider.inputs["targets"])
        return Prediction(outcome="superset", entry=wider.key, note=f"an entry with the targets {targets} serves")
    nearest = context.store.nearest(prepared.inputs.as_dict(), prepared.package.name)
    if nearest is None:
        return Prediction(outcome="miss", note=lookup.note or "nothing of this package is stored")
    entry, _ = nearest
    return Prediction(
        outcome="miss",
        entry=entry.key,
        differs=tuple(differing(prepared.inputs.as_dict(), entry.inputs)),
        note=lookup.note or f"the nearest entry is {entry.key[:12]} ({entry.filename})",
    )
