"""What the store keeps of a wheel that was built and proven: the entry of its key, the release under its file name."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from email import message_from_bytes
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

from buildkit.build.canary import RECIPE as CANARY
from buildkit.build.context import Context
from buildkit.build.final import FACTS_FILE
from buildkit.build.label import cuda_of_torch
from buildkit.store.blobs import file_sha256
from buildkit.store.model import Entry, utc_now
from buildkit.store.rebuilds import yank_older
from buildkit.store.release import Release
from buildkit.store.releases import NameTaken
from buildkit.store.store import Store
from buildkit.verify.verdict import Verdict

if TYPE_CHECKING:
    from buildkit.build.make import Made
    from buildkit.build.pipeline import BuildResult
    from buildkit.build.prepare import Prepared


def keep(prepared: Prepared, made: Made, verdict: Verdict, result: BuildResult, context: Context) -> Entry:
    """Store a proven wheel with its entry and its release, and yank what it was built again of; all of it lasts."""
    entry = entry_of(prepared, made, verdict, result)
    release = release_of(entry, made.wheel, context.store, built_sha256=made.built_sha256)
    context.store.put(made.wheel, entry, release)
    for older in yank_older(release, context.store) if release is not None else ():
        result.notes.append(f"{older.filename} is yanked: {older.yanked}")
        context.reporter.note(result.notes[-1])
    return entry


def entry_of(prepared: Prepared, made: Made, verdict: Verdict, result: BuildResult) -> Entry:
    """The entry of a build that was done just now."""
    return Entry(
        key=prepared.key,
        family=prepared.family,
        recipe=prepared.package.name,
        version=made.version,
        build=result.build or "",
        created=utc_now(),
        filename=made.wheel.name,
        sha256=file_sha256(made.wheel),
        size=made.wheel.stat().st_size,
        inputs=prepared.inputs.as_dict(),
        verdict=verdict.model_dump(by_alias=True, mode="json"),
        plan=result.plan.model_dump(mode="json") if result.plan else {},
        guard=result.guard,
        seconds=made.seconds,
        grafted=made.grafted,
    )


def release_of(entry: Entry, wheel: Path, store: Store, *, built_sha256: str = "") -> Release | None:
    """The release of an entry's wheel, whose bytes lie at ``wheel``; None for the canary, which nobody installs.

    What was said of the same bytes under the same name before (since when, whether yanked) still holds. Raises OSError
    and BadZipFile for a file that is no wheel.
    """
    if entry.recipe == CANARY:
        return None
    from packaging.utils import canonicalize_name, parse_wheel_filename

    name, _version, _build, tags = parse_wheel_filename(entry.filename)
    metadata, facts = _said_by(wheel)
    headers = message_from_bytes(metadata)
    device = "cpu" if entry.inputs.get("device") == "cpu" else "cuda"
    known = store.release(entry.filename)
    same = known if known is not None and known.sha256 == entry.sha256 else None
    return Release(
        filename=entry.filename,
        sha256=entry.sha256,
        size=entry.size,
        project=canonicalize_name(name),
        version=str(headers["Version"]),
        created=same.created if same else entry.created,
        metadata_sha256=hashlib.sha256(metadata).hexdigest(),
        requires_python=str(headers["Requires-Python"] or ""),
        torch=torch_of(entry),
        cuda=_cuda(entry, facts) if device == "cuda" else "",
        device=device,
        targets=targets_found(entry.verdict) if device == "cuda" else (),
        python=".".join(sorted({tag.interpreter for tag in tags})),
        key=entry.key,
        origin="build",
        built_sha256=built_sha256 or (same.built_sha256 if same else ""),
        license=str(facts.get("licence", "")),
        redistributable=facts.get("redistributable") is True,
        yanked=same.yanked if same else "",
        verdict=entry.verdict,
    )


def complete_releases(store: Store) -> None:
    """Give entries that have no release theirs, newest first; one whose name or wheel is not to be had gets none."""
    named = {release.filename for release in store.releases()}
    for entry in store.entries():
        if entry.filename in named:
            continue
        with suppress(NameTaken, OSError, BadZipFile, ValueError):
            release = release_of(entry, store.wheel(entry), store)
            if release is not None:
                store.add_release(release)
                named.add(entry.filename)


def torch_of(entry: Entry) -> str:
    """torch's own version, as the key has it in front of its hashes; empty without torch."""
    return str(entry.inputs.get("torch", "")).partition(" ")[0]


def targets_found(verdict: dict[str, Any]) -> tuple[str, ...]:
    """The device code that the audit of a stored verdict found in every object of the wheel."""
    for stage in verdict.get("stages", ()):
        if isinstance(stage, dict) and stage.get("name") == "audit":
            return tuple(str(target) for target in stage.get("evidence", {}).get("targets", ()))
    return ()


def _cuda(entry: Entry, facts: dict[str, Any]) -> str:
    """The CUDA release of the wheel's label; of older wheels what torch's version says, else the toolkit's."""
    return str(facts.get("cuda") or cuda_of_torch(torch_of(entry)) or entry.plan.get("cuda") or "")


def _said_by(wheel: Path) -> tuple[bytes, dict[str, Any]]:
    """METADATA of a wheel, and what cudabuild wrote into it about its making."""
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        folder = next((name for name in names if name.endswith(".dist-info/METADATA")), "").rpartition("/")[0]
        if not folder:
            raise BadZipFile("there is no METADATA in it")
        facts = json.loads(archive.read(f"{folder}/{FACTS_FILE}")) if f"{folder}/{FACTS_FILE}" in names else {}
        return archive.read(f"{folder}/METADATA"), facts if isinstance(facts, dict) else {}
