"""What the store has for a plan, as far as it is what its place in the store says."""

from __future__ import annotations

from pathlib import Path

from buildkit.build.admit_entry import sound
from buildkit.build.context import Context
from buildkit.build.prepare import Prepared
from buildkit.errors import CudabuildError
from buildkit.machine.arch import Target, covers, parse_targets
from buildkit.machine.identity import content_sha256
from buildkit.store.model import Entry


def stored(prepared: Prepared, context: Context) -> Entry | None:
    """The entry of a plan's key, or one with more targets; what is damaged or refused is said and passed over."""
    lookup = sound(prepared.key, context.store)
    if lookup.note:
        context.reporter.warn(lookup.note)
    if lookup.entry is not None and (other := grafts_not_here(lookup.entry, context)):
        context.reporter.warn(f"the stored wheel holds a copy of another {', '.join(other)} than is here: built again")
        return None
    found = _held(lookup.entry, context) or superset_of(prepared, context)
    if found is None and context.shared is not None and context.may_install:
        found = context.shared.bring(
            prepared, context, lambda: _held(sound(prepared.key, context.store).entry, context)
        )
    return found


def grafts_not_here(entry: Entry, context: Context) -> list[str]:
    """Libraries that were copied into a wheel and are other ones on this machine; their content is in no key.

    Which libraries a wheel needs is known when it is built, and an update of a library that it does not hold should
    not make it a miss.
    """
    other = []
    for path, sha256 in entry.grafted.items():
        try:
            same = content_sha256(Path(path), context.memo) == sha256
        except OSError:
            same = False
        if not same:
            other.append(Path(path).name)
    return other


def superset_of(prepared: Prepared, context: Context) -> Entry | None:
    """A sound entry that differs only by holding more targets; one that only seems to be is said and passed over."""
    for candidate in context.store.candidates(prepared.family):
        if candidate.key == prepared.key or not covers(_targets(candidate), prepared.survey.targets):
            continue
        lookup = sound(candidate.key, context.store)
        if lookup.note:
            context.reporter.warn(lookup.note)
        entry = _held(lookup.entry, context)
        if entry is not None and not grafts_not_here(entry, context):
            return entry
    return None


def _held(entry: Entry | None, context: Context) -> Entry | None:
    """The entry, its wheel kept for as long as this command runs; None if it was cleared away just now."""
    return entry if entry is not None and context.store.hold(entry) else None


def _targets(candidate: Entry) -> tuple[Target, ...]:
    """What an entry says that it was made for; whether it may be believed is asked afterwards."""
    try:
        return parse_targets(candidate.inputs["targets"])
    except (LookupError, TypeError, ValueError, AttributeError, CudabuildError):
        return ()
