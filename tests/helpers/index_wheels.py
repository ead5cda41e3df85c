"""Small wheels of pure Python under the names that compiled ones bear, and the releases that go with them."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from buildkit.machine.variants import variant_targets
from buildkit.store.release import Release
from buildkit.store.store import Store

DECLARED = tuple(str(target) for target in variant_targets("13.0"))
CREATED = "2026-03-01T12:00:00.000000Z"


def metadata_of(project: str, version: str, requires: Sequence[str] = (), requires_python: str = ">=3.9") -> bytes:
    """A METADATA file."""
    lines = [f"Name: {project}", f"Version: {version}", f"Requires-Python: {requires_python}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    return ("Metadata-Version: 2.1\n" + "\n".join(lines) + "\n\nA test's wheel.\n").encode()


def wheel_bytes(
    project: str, version: str, *, requires: Sequence[str] = (), filler: int = 0, requires_python: str = ">=3.9"
) -> bytes:
    """A wheel whose one module says which version it is; the same bytes for the same arguments.

    ``filler`` is how many bytes of a file that does not compress it holds as well.
    """
    name = project.replace("-", "_")
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": f"VERSION = {version!r}\n".encode(),
        f"{info}/METADATA": metadata_of(project, version, requires, requires_python),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if filler:
        files[f"{name}/filler.bin"] = bytes(range(256)) * (filler // 256 + 1)
    record = "".join(f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path, data in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0)), data)
    return stream.getvalue()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def release_of(
    project: str,
    version: str,
    content: bytes,
    *,
    requires: Sequence[str] = (),
    requires_python: str = ">=3.9",
    tags: str = "py3-none-any",
    **fields: Any,
) -> Release:
    """The release of a wheel; of torch 2.13.0+cu130 for its declared targets, unless ``fields`` say otherwise."""
    given: dict[str, Any] = {
        "created": CREATED,
        "torch": "2.13.0+cu130",
        "cuda": "13.0",
        "device": "cuda",
        "targets": DECLARED,
        "python": tags.partition("-")[0],
        "origin": "build",
        "verdict": {"schema": 2, "grade": "imported", "stages": []},
        **fields,
    }
    return Release(
        filename=f"{project.replace('-', '_')}-{version}-{tags}.whl",
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        project=project,
        version=version,
        metadata_sha256=hashlib.sha256(metadata_of(project, version, requires, requires_python)).hexdigest(),
        requires_python=requires_python,
        **given,
    )


def publish(store: Store, folder: Path, project: str, version: str, *, filler: int = 0, **fields: Any) -> Release:
    """Make a wheel and put it into a store; ``fields`` as in :func:`release_of`."""
    own = {name: fields[name] for name in ("requires", "requires_python") if name in fields}
    content = wheel_bytes(project, version, filler=filler, **own)
    release = release_of(project, version, content, **fields)
    wheel = folder / release.filename
    wheel.write_bytes(content)
    return store.publish(wheel, release)
