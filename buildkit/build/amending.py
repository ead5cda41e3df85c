"""What the store keeps of proofs: a later and better one takes the place of the verdict that lies beside the wheel."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from buildkit.build.context import Context
from buildkit.errors import StoreError
from buildkit.store.model import Entry
from buildkit.store.release import Release
from buildkit.verify.verdict import (
    Grade,
    Stage,
    Verdict,
    meets,
    merged,
    raised,
    read_verdict,
    stored_grade,
    with_stages,
)


@dataclass(frozen=True)
class Raised:
    """An entry whose stored verdict was replaced: its key, the grade before, and the one now."""

    key: str
    before: Grade
    now: Grade


def amended(entry: Entry, verdict: Verdict, context: Context) -> Entry:
    """The entry with what is now known of its wheel, kept in the store (a read-only one keeps its older verdict).

    So does the release of the same bytes: an index shows what the store knows.
    What only the older verdict shows stays: how the wheel was made, and other GPUs that ran it. A verdict that says
    less is not kept.
    """
    old = read_verdict(entry.verdict)
    best = _as_built(merged(old, verdict) if old is not None else verdict, entry)
    if old is not None and (best == old or not meets(best.grade, old.grade)):
        return entry
    with suppress(StoreError):
        entry = context.store.amend(entry.model_copy(update={"verdict": best.model_dump(by_alias=True, mode="json")}))
        release = context.store.release(entry.filename)
        if release is not None and release.sha256 == entry.sha256:
            context.store.amend_release(release, partial(_proven, verdict=best))
    return entry


def raise_stored(verdict: Verdict, context: Context) -> list[Raised]:
    """Raise every entry of the very wheel that a verdict is about, where it shows more of it than what is stored.

    Only for what is comparable: the same bytes, device, targets, Python and torch.
    """
    found = []
    for entry in context.store.entries():
        if entry.sha256 != verdict.wheel_sha256 or not _comparable(entry, verdict):
            continue
        old, new = read_verdict(entry.verdict), read_verdict(amended(entry, verdict, context).verdict)
        before = stored_grade(entry.verdict)
        if new is not None and (new.grade != before or (old is not None and new.rows != old.rows)):
            found.append(Raised(entry.key, before, new.grade))
    _raise_releases(verdict, context)
    return found


def _raise_releases(verdict: Verdict, context: Context) -> None:
    """The same for releases of that wheel which no entry stands for: uploaded ones, and older builds."""

    def change(known: Release) -> Release:
        old = read_verdict(known.verdict)
        same = old is None or (old.targets, old.python) == (verdict.targets, verdict.python)
        return _proven(known, verdict) if same else known

    for release in context.store.releases():
        if (release.sha256, release.device, release.torch) == (verdict.wheel_sha256, verdict.device, verdict.torch):
            with suppress(StoreError):
                context.store.amend_release(release, change)


def _proven(release: Release, verdict: Verdict) -> Release:
    """The release with a verdict that shows more; what a strange one holds is known from its first proof here on."""
    best = raised(read_verdict(release.verdict), verdict)
    if best is None:
        return release
    kept = best.model_dump(by_alias=True, mode="json")
    targets = release.targets
    if release.origin == "import" and release.device == "cuda" and not targets:
        from buildkit.build.release import targets_found

        targets = targets_found(kept)
    return release.model_copy(update={"verdict": kept, "targets": targets})


def _as_built(verdict: Verdict, entry: Entry) -> Verdict:
    """With the stage of its build, of which a stored wheel is the evidence, where that was not recorded otherwise."""
    if any(stage.name == "build" for stage in verdict.stages):
        return verdict
    built = Stage(name="build", outcome="passed", seconds=entry.seconds, evidence={"device": verdict.device})
    before = [stage for stage in verdict.stages if stage.name == "canary"]
    return with_stages(verdict, [*before, built, *(stage for stage in verdict.stages if stage.name != "canary")])


def _comparable(entry: Entry, verdict: Verdict) -> bool:
    """Whether the entry was made for what the verdict was given for; by its inputs, which outlast verdicts' schemas."""
    inputs = entry.inputs
    return (
        inputs.get("device") == verdict.device
        and tuple(inputs.get("targets", ())) == verdict.targets
        and str(inputs.get("torch", "")).endswith(verdict.torch_record_sha256)
        and str(inputs.get("torch", "")).startswith(verdict.torch)
        and str(inputs.get("python", "")).split(" ")[-1] == verdict.python
    )
