"""Whether a stored wheel is what its place in the store says.

Two depths. :func:`quick_flaws` is asked on every hit and reads a few kilobytes; :func:`check_entry` opens the whole
wheel, and is asked by ``cache verify`` and wherever an entry comes from somebody else's store. Each flaw is a sentence
that names what is wrong; none means that the entry may be used.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

from buildkit.errors import CudabuildError, StoreError
from buildkit.machine.arch import parse_targets
from buildkit.plan.key import family_of_fields, key_of_fields
from buildkit.store.model import Entry, Lookup, Problem
from buildkit.store.store import Store
from buildkit.verify.verdict import is_current, read_verdict

if TYPE_CHECKING:
    from buildkit.verify.wheel import WheelFile

_FACTS_FILE = "cudabuild.json"
"""As in :mod:`buildkit.build.final`, whose imports a hit does without."""
_MOST_FACTS = 1 << 20
"""Bytes of a wheel's build facts that are read; ours are a few hundred."""


def sound(key: str, store: Store) -> Lookup:
    """What the store may serve for a key: an entry with a flaw is a miss, and ``note`` names the flaw."""
    lookup = store.get(key)
    if lookup.entry is None or not (flaws := quick_flaws(lookup.entry, store.wheel(lookup.entry))):
        return lookup
    return Lookup(None, refusal(lookup.entry, flaws))


def refusal(entry: Entry, flaws: list[str]) -> str:
    """The sentence that names an entry and what is wrong with it."""
    return f"the stored entry {entry.key[:12]} ({entry.filename}) is refused: {'; '.join(flaws)}"


def require_sound(entry: Entry, store: Store) -> None:
    """Raise StoreError for an entry that may not be served."""
    if flaws := quick_flaws(entry, store.wheel(entry)):
        raise StoreError(
            refusal(entry, flaws), hint="run the build again; `cudabuild cache verify` looks at all of them"
        )


def quick_flaws(entry: Entry, wheel: Path) -> list[str]:
    """What can be seen without reading the wheel's bytes (their hash is the store's to check).

    The entry is the one of its key, its verdict is about this wheel and these inputs, and the wheel itself says that
    it was made under this key. ``wheel`` may lie under any name.
    """
    return [*_entry_flaws(entry), *_fact_flaws(entry, wheel)]


def check_entry(entry: Entry, wheel: Path, *, scratch: Path | None = None) -> list[str]:
    """The whole inspection of an entry from elsewhere: all of the above, then every member of the wheel.

    RECORD tells the truth, name, version and torch pin are those of the inputs, and a wheel for CUDA holds device code
    for its targets. Not judged here: linkage and import, which need the torch that it was made for. The wheel is
    unpacked below ``scratch`` (default: the temporary folder) and nothing of it is run.
    """
    flaws = quick_flaws(entry, wheel)
    try:
        with tempfile.TemporaryDirectory(prefix="inspect-", dir=scratch) as folder:
            named = Path(folder) / entry.filename
            named.symlink_to(wheel.absolute())
            flaws += _inspected(entry, named, Path(folder) / "unpacked")
    except CudabuildError as error:
        flaws.append(error.message)
    except (LookupError, TypeError, ValueError, OSError) as error:
        flaws.append(f"it cannot be inspected: {error}")
    return list(dict.fromkeys(flaws))


def verify_entries(store: Store, *, scratch: Path | None = None) -> list[Problem]:
    """What :meth:`Store.verify_all` finds, and each entry whose wheel is as it was stored and not what it says."""
    problems = store.verify_all()
    damaged = {problem.key for problem in problems}
    for entry in store.entries():
        if entry.key in damaged:
            continue
        flaws = check_entry(entry, store.wheel(entry), scratch=scratch)
        told = [flaw if flaw.startswith(entry.filename) else f"{entry.filename}: {flaw}" for flaw in flaws]
        problems += [Problem(entry.key, str(store.wheel(entry)), text) for text in told]
    return problems


def _entry_flaws(entry: Entry) -> Iterator[str]:
    inputs = entry.inputs
    try:
        key, family = key_of_fields(inputs), family_of_fields(inputs)
    except (ValueError, LookupError, TypeError, AttributeError):
        yield "its inputs are not those of a key"
        return
    if key != entry.key:
        yield f"it is claimed under a foreign key: its inputs are those of {key[:12]}"
    if family != entry.family:
        yield "it is claimed under a foreign family"
    if entry.recipe != inputs.get("recipe"):
        yield f"it says {entry.recipe}, and its inputs {inputs.get('recipe')}"
    yield from _verdict_flaws(entry)


def _verdict_flaws(entry: Entry) -> Iterator[str]:
    """A verdict of another schema is no flaw: it is not read, and the wheel is proven again."""
    if not is_current(entry.verdict):
        return
    verdict, inputs = read_verdict(entry.verdict), entry.inputs
    if verdict is None:
        yield f"its verdict does not hold together: the grade {entry.verdict.get('grade')!r} does not follow from it"
        return
    if verdict.wheel_sha256 != entry.sha256:
        yield f"its verdict is about another wheel (sha256 {verdict.wheel_sha256[:12]})"
    torch, _, rest = str(inputs.get("torch", "")).partition(" ")
    told = {
        "device": (verdict.device, inputs.get("device")),
        "targets": (list(verdict.targets), inputs.get("targets")),
        "torch": (verdict.torch, torch),
        "hash of torch's RECORD": (verdict.torch_record_sha256, rest.rpartition(" ")[2]),
        "Python": (verdict.python, str(inputs.get("python", "")).rpartition(" ")[2]),
    }
    for name, (said, wanted) in told.items():
        if said != wanted:
            yield f"its verdict is for another {name}: {_short(said)}, where its key has {_short(wanted)}"


def _fact_flaws(entry: Entry, wheel: Path) -> Iterator[str]:
    """What the wheel says of its own making; cudabuild writes that into each."""
    try:
        with ZipFile(wheel) as archive:
            named = [name for name in archive.namelist() if name.endswith(f".dist-info/{_FACTS_FILE}")]
            if len(named) != 1 or archive.getinfo(named[0]).file_size > _MOST_FACTS:
                yield f"the wheel does not say under which key it was made ({_FACTS_FILE})"
                return
            facts: Any = json.loads(archive.read(named[0]))
    except (BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        yield f"the wheel cannot be read: {error}"
        return
    told = facts if isinstance(facts, dict) else {}
    if told.get("key") != entry.key:
        yield f"the wheel says that it was made {_made(told)}, under the key {str(told.get('key'))[:12]}"
    version = named[0].partition("/")[0].removesuffix(".dist-info").rpartition("-")[2]
    for whose, other in (
        ("the entry", entry.version),
        ("its file name", entry.filename.partition("-")[2].partition("-")[0]),
    ):
        if other != version:
            yield f"the wheel is of version {version}, and {whose} says {other}"


def _made(facts: dict[str, Any]) -> str:
    """``for the CPU``, ``for cuda 8.6;12.0 beside torch 2.12.0+cu130``: what the wheel says."""
    targets = facts.get("targets")
    what = f"cuda {';'.join(map(str, targets))}" if isinstance(targets, list) and targets else "the CPU"
    return f"for {what}" + (f" beside torch {facts['torch']}" if facts.get("torch") else "")


def _inspected(entry: Entry, wheel: Path, folder: Path) -> Iterator[str]:
    from buildkit.verify.device_code import find_cuobjdump, inspect_device_code
    from buildkit.verify.judge import judge_device_code
    from buildkit.verify.wheel import open_wheel, unpack_wheel

    opened = open_wheel(wheel)
    inputs = entry.inputs
    device, targets = inputs["device"], parse_targets(inputs["targets"])
    if opened.version != entry.version:
        yield f"its METADATA says version {opened.version}, and the entry {entry.version}"
    yield from _label_flaws(opened, str(inputs["torch"]).partition(" ")[0])
    if device == "cuda":
        folder.mkdir()
        unpack_wheel(opened, folder)
        judge_device_code(inspect_device_code(folder, find_cuobjdump()), targets)


def _label_flaws(opened: WheelFile, torch: str) -> Iterator[str]:
    """Whether name and requirements say the torch that the wheel was made for."""
    from packaging.metadata import parse_email
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
    from packaging.version import Version

    from buildkit.build.label import torch_pin

    if not torch:
        return
    pin, local = Requirement(torch_pin(torch)), Version(opened.version).local or ""
    label = f"pt{str(pin.specifier).removeprefix('==').removesuffix('.*')}"
    if f".{label}." not in f".{local}.":
        yield f"it is a wheel for another torch: its version {opened.version} does not say {label}"
    required = [Requirement(text) for text in parse_email(opened.metadata)[0].get("requires_dist", ())]
    pins = [str(each.specifier) for each in required if canonicalize_name(each.name) == "torch" and not each.marker]
    if pins != [str(pin.specifier)]:
        yield f"it is a wheel for another torch: it requires torch{', '.join(pins) or ' of any version'}, not {pin}"


def _short(value: object) -> str:
    text = ";".join(map(str, value)) if isinstance(value, list) else str(value)
    return text[:40] or "none"
