"""What another store says of a wheel, judged here: by its bytes, or believed for its signature.

An entry's key must be the hash of its inputs, and its wheel must be sound and be of the name and version that the
entry says. What is not signed by a trusted key keeps no verdict: it is proven again before it is handed out.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from buildkit.build.admit_entry import quick_flaws
from buildkit.build.context import Context
from buildkit.errors import CudabuildError, NoSuchBuild, StoreError, VerificationFailed
from buildkit.plan.key import KeyInputs, family_of, key_of
from buildkit.store.model import Entry
from buildkit.store.release import Release

UNPROVEN = "brought from"
"""In place of a verdict, beside the grade: where an entry came from that was not proven here yet."""


class ForeignLies(StoreError):
    """An entry or a wheel of another store is not what it says of itself."""

    kind = "foreign-entry"


def check_inputs(entry: Entry) -> None:
    """Raise ForeignLies for an entry whose key or family is not that of its inputs."""
    try:
        inputs = KeyInputs(**entry.inputs)
        right = (key_of(inputs), family_of(inputs)) == (entry.key, entry.family)
        named = (inputs.recipe, inputs.version.partition("+")[0]) == (entry.recipe, entry.version.partition("+")[0])
    except (TypeError, ValueError, AttributeError) as error:
        raise _lie(entry.filename, "the inputs of its key are not those of this cudabuild", str(error)) from error
    if not right:
        raise _lie(entry.filename, f"key {entry.key[:12]} is not the hash of the inputs that it names", "")
    if not named and inputs.version:
        raise _lie(entry.filename, "it is stored as a wheel of another recipe or version", "")


def check_wheel(path: Path, entry: Entry | None, release: Release | None) -> None:
    """Open the wheel as a stranger's. Raises UnsafeWheel, and ForeignLies where it is another one than was said."""
    from buildkit.verify.wheel import open_wheel

    wheel = open_wheel(path)
    version = entry.version if entry is not None else release.version if release is not None else wheel.version
    if wheel.version != version:
        raise _lie(path.name, f"it is version {wheel.version}", f"announced: {version}")
    if entry is not None and (flaws := quick_flaws(entry, path)):
        raise _lie(path.name, flaws[0], "\n".join(flaws[1:]))
    if release is not None:
        found = hashlib.sha256(wheel.metadata.encode("utf-8")).hexdigest()
        if wheel.name != release.project or release.metadata_sha256 != found:
            raise _lie(path.name, "its metadata is not what was announced", f"{wheel.name} {found}")


def as_brought(entry: Entry, origin: str, *, trusted: bool) -> Entry:
    """The entry as it is kept here: without a verdict where nobody who is trusted vouches for it."""
    return entry if trusted else entry.model_copy(update={"verdict": {"grade": "none", UNPROVEN: origin}})


def is_unproven(entry: Entry) -> bool:
    """Whether an entry was brought from elsewhere and not proven here yet."""
    return UNPROVEN in entry.verdict


def refused(entry: Entry, error: CudabuildError | None, context: Context) -> bool:
    """Whether an entry from elsewhere that fails its first proof here was put away, so that its wheel is built here.

    Not where the failure says nothing of the wheel (memory, disk, a network that is away, Ctrl-C).
    """
    if not is_unproven(entry) or not isinstance(error, VerificationFailed):
        return False
    with suppress(NoSuchBuild):
        context.store.remove(entry.key)
    context.reporter.warn(
        f"{entry.filename} {UNPROVEN} {entry.verdict[UNPROVEN]} is refused and built here instead: {error.message}"
    )
    return True


def _lie(filename: str, what: str, evidence: str) -> ForeignLies:
    return ForeignLies(f"{filename} is refused: {what}", evidence=evidence, hint="ask whoever keeps that store")
