"""Small wheels with their entries and releases, for tests of what is stored."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any

from buildkit.build.final import FACTS_FILE
from buildkit.plan.key import KeyInputs, family_of, key_of
from buildkit.store.model import Entry
from buildkit.store.release import Release


def wheel_of(folder: Path, number: int, inputs: KeyInputs | None = None) -> Path:
    """A sound wheel ``sample 1.NUMBER`` that says it was made under a key; the same number gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"sample-1.{number}.dist-info"
    files = {
        "sample.py": f"NUMBER = {number}\n" * 500,
        f"{stem}/METADATA": f"Metadata-Version: 2.1\nName: sample\nVersion: 1.{number}\n",
        f"{stem}/{FACTS_FILE}": json.dumps({"key": key_of(inputs or inputs_of(number))}),
        f"{stem}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(text)}\n"
    files[f"{stem}/RECORD"] = f"{record}{stem}/RECORD,,\n"
    path = folder / f"sample-1.{number}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), text)
    return path


def inputs_of(number: int, **changes: Any) -> KeyInputs:
    """What a wheel for the CPU with this number would be made from."""
    values: dict[str, Any] = {
        field.name: {"str": "", "list[str]": [], "dict[str, str]": {}, "int": 1}[str(field.type)]
        for field in fields(KeyInputs)
    }
    own = {
        "recipe": "sample",
        "version": f"1.{number}",
        "device": "cpu",
        "torch": "2.13.0+cu130 x",
        "python": "c cp311",
    }
    return KeyInputs(**{**values, **own, **changes})


def entry_of(wheel: Path, number: int, **changes: Any) -> Entry:
    """An entry for it, whose key is that of its inputs."""
    data = wheel.read_bytes()
    inputs = inputs_of(number)
    values: dict[str, Any] = {
        "key": key_of(inputs),
        "family": family_of(inputs),
        "recipe": "sample",
        "version": f"1.{number}",
        "build": f"20261121-{number:04x}",
        "created": f"2026-11-21T10:00:{number % 60:02}.000000Z",
        "filename": wheel.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "inputs": inputs.as_dict(),
        "verdict": {"grade": "imported"},
        "plan": {},
        "seconds": 1.0,
    }
    return Entry(**{**values, **changes})


def release_of(wheel: Path, entry: Entry) -> Release:
    """A release of the same bytes under the entry's file name."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(archive.read(name) for name in archive.namelist() if name.endswith("/METADATA"))
    return Release(
        filename=entry.filename,
        sha256=entry.sha256,
        size=entry.size,
        project="sample",
        version=entry.version,
        created=entry.created,
        metadata_sha256=hashlib.sha256(metadata).hexdigest(),
        device="cuda",
        targets=("12.0",),
        python="py3",
        key=entry.key,
        origin="build",
    )
