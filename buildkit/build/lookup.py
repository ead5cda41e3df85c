"""What the store has for a plan, as far as it is what its place in the store says."""

from __future__ import annotations

from buildkit.build.admit_entry import sound
from buildkit.build.context import Context
from buildkit.build.prepare import Prepared
from buildkit.errors import CudabuildError
from buildkit.machine.arch import Target, covers, parse_targets
from buildkit.store.model import Entry


def stored(prepared: Prepared, context: Context) -> Entry | None:
    """The entry of a plan's key, or one with more targets; what is damaged or refused is said and passed over."""
    lookup = sound(prepared.key, context.store)
    if lookup.note:
        context.reporter.warn(lookup.note)
    return lookup.entry or superset_of(prepared, context)


def superset_of(prepared: Prepared, context: Context) -> Entry | None:
    """A sound entry that differs only by holding more targets; one that only seems to be is said and passed over."""
    for candidate in context.store.candidates(prepared.family):
        if candidate.key != prepared.key and covers(_targets(candidate), prepared.survey.targets):
            lookup = sound(candidate.key, context.store)
            if lookup.entry is not None:
                return lookup.entry
            context.reporter.warn(lookup.note)
    return None


def _targets(candidate: Entry) -> tuple[Target, ...]:
    """What an entry says that it was made for; whether it may be believed is asked afterwards."""
    try:
        return parse_targets(candidate.inputs["targets"])
    except (LookupError, TypeError, ValueError, AttributeError, CudabuildError):
        return ()
