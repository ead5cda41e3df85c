"""The key of a build: everything that can change the wheel, in one canonical form.

Pure. Two inputs that could give different wheels never share a key; jobs, memory, timeouts and probes are
left out because they change how a wheel is made or proven, not what it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

BUILD_EDITION = 2
"""Raised by hand when cudabuild itself starts to make other wheels from the same inputs."""


@dataclass(frozen=True)
class KeyInputs:
    """The fields of a key. Each is text or a sorted list or mapping of texts, so that the form is canonical."""

    recipe: str
    """The distribution's name as the recipe says it; two recipes never share a wheel."""
    version: str
    source: str
    """Content hash of the source as fetched (before patches)."""
    subdirectory: str
    patches: list[str]
    """sha256 of each patch that applies, in order."""
    recipe_build: str
    """Hash of the recipe's build section, resolved for this machine."""
    targets: list[str]
    device: str
    torch: str
    """``version.py`` and the hash of torch's RECORD."""
    torch_closure: str
    """Names and versions of everything borrowed with torch."""
    toolkit: str
    """Content identity of nvcc and its parts, and of what fills its gaps; empty for a CPU build."""
    python: str
    """Implementation, version and ABI of the interpreter the wheel is for."""
    interpreter: str
    """Content of the base interpreter, of its build settings and headers: a version alone does not tell them."""
    platform: str
    machine: str
    compiler: str
    glibc: str
    programs: dict[str, str]
    """Content of the compilers and build tools that backends start by name from the system's folders."""
    headers: str
    """Every header that the compiler finds without being told to: /usr/local/include comes before /usr/include."""
    libraries: str
    """What the linker finds without being told to: static code by size and time, shared libraries by file name."""
    environment: dict[str, str]
    """The whole environment the backend sees, with placeholders for folders; see ``build.environ``."""
    requirements: str
    """Hash of the lock of the build requirements."""
    system: dict[str, str]
    """Header or library that the recipe names, to the hash of the file found; for a package without torch also
    ``toolkit``: every header of the toolkit, of which the field of that name holds but the telling ones."""
    variant: list[str]
    """The declared target set of the variant: it decides the local version."""
    repair: str
    """The rules by which libraries are copied in and the platform tag is found, with the programs that do it."""
    build_edition: int = BUILD_EDITION

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, as stored in an entry."""
        return asdict(self)


FIELDS: tuple[str, ...] = tuple(field.name for field in fields(KeyInputs))


def canonical(value: Mapping[str, Any]) -> bytes:
    """One byte string for one meaning: sorted keys, no blanks, plain ASCII with escapes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def key_of(inputs: KeyInputs) -> str:
    """The key: 64 hexadecimal digits."""
    return key_of_fields(inputs.as_dict())


def key_of_fields(values: Mapping[str, Any]) -> str:
    """The key of fields as an entry holds them, an older cudabuild's too. ValueError for what JSON has no word for."""
    return hashlib.sha256(canonical(values)).hexdigest()


def family_of(inputs: KeyInputs) -> str:
    """The key without its targets: entries of one family differ by their target sets only."""
    return family_of_fields(inputs.as_dict())


def family_of_fields(values: Mapping[str, Any]) -> str:
    """The same of fields as an entry holds them."""
    rest = {name: value for name, value in values.items() if name not in {"targets", "environment"}}
    environment = {k: v for k, v in values["environment"].items() if k not in TARGET_VARIABLES}
    return hashlib.sha256(canonical({**rest, "environment": environment})).hexdigest()


TARGET_VARIABLES = frozenset({"TORCH_CUDA_ARCH_LIST", "CUDAARCHS"})
"""Variables that are derived from the targets, so that they do not keep a superset from being a hit."""


def differing(mine: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Which fields differ, most telling first: ``torch: 2.12.0+cu130 -> 2.13.0+cu130``."""
    found: list[str] = []
    for name in FIELDS:
        if mine.get(name) == other.get(name):
            continue
        if isinstance(mine.get(name), dict) and isinstance(other.get(name), dict):
            found += _inside(name, mine[name], other[name])
        else:
            found.append(f"{name}: {_short(other.get(name))} -> {_short(mine.get(name))}")
    return found


def _inside(name: str, mine: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    names = sorted({*mine, *other})
    return [
        f"{name}.{key}: {_short(other.get(key))} -> {_short(mine.get(key))}"
        for key in names
        if mine.get(key) != other.get(key)
    ]


def _short(value: object) -> str:
    if value is None:
        return "(unset)"
    text = ";".join(value) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:24]}…{text[-12:]}"
