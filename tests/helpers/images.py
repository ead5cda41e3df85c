"""What images are made of in tests: small wheels in a store, recipes for them."""

from __future__ import annotations

import base64
import hashlib
import itertools
import zipfile
from collections.abc import Sequence
from pathlib import Path

from buildkit.docker.model import Image, Origin, Package
from buildkit.machine.arch import parse_targets
from buildkit.store.model import Entry
from buildkit.store.store import Store


def make_wheel(
    folder: Path, filename: str, *, code: str = "", requires: Sequence[str] = (), extension: bytes = b""
) -> Path:
    """A wheel of one module, which is called like its project, in Python or (``extension``) compiled."""
    name, version = filename.split("-")[:2]
    info = f"{name}-{version}.dist-info"
    required = "".join(f"Requires-Dist: {one}\n" for one in requires)
    tag = filename.removesuffix(".whl").split("-", 2)[2]
    source = code or f"# answered by {name}\n"
    files = {
        f"{name}.abi3.so" if extension else f"{name}.py": extension or source.encode(),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{required}".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
    }
    rows = [f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in files.items()]
    files[f"{info}/RECORD"] = "".join([*rows, f"{info}/RECORD,,\n"]).encode()
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / filename, "w") as archive:
        for path, data in files.items():
            archive.writestr(zipfile.ZipInfo(path), data)
    return folder / filename


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def put_wheel(
    store: Store,
    wheel: Path,
    recipe: str,
    *,
    targets: Sequence[str] = (),
    torch: str = "2.13.0+cu130",
    created: str = "2026-11-21T10:00:00.000000Z",
) -> Entry:
    """Store a wheel as a build of the recipe would have. ``targets`` empty: for the CPU."""
    data = wheel.read_bytes()
    device = "cuda" if targets else "cpu"
    entry = Entry(
        key=hashlib.sha256(wheel.name.encode()).hexdigest(),
        family="f" * 64,
        recipe=recipe,
        version=wheel.name.split("-")[1].partition("+")[0],
        build="20261121-3f2a",
        created=created,
        filename=wheel.name,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        inputs={"targets": list(targets), "torch": f"{torch} 0123 4567" if torch else "", "device": device},
        verdict={"grade": "imported"},
        plan={},
        seconds=1.0,
    )
    return store.put(wheel, entry)


def write_recipe(folder: Path, name: str, *, version: str = "1.0", torch: bool = False, more: str = "") -> None:
    """A recipe of a package whose wheel is in the store: nobody will build it."""
    text = f"""\
edition = 1
name = "{name}"
summary = "made by a test"
license = {{ spdx = "MIT", redistributable = true }}
[[version]]
version = "{version}"
folder = "source"
[build]
torch = {str(torch).lower()}
[verify]
imports = ["{name.replace("-", "_")}"]
{more}"""
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "recipe.toml").write_text(text, encoding="utf-8")


ORIGINS: tuple[Origin, ...] = ("wheelhouse", "index", "build")

IMAGES = [
    Image(
        command="cudabuild docker 'a b'", origin=origin, packages=packages, torch=torch, torch_on_index=on_index,
        device="cuda" if targets else "cpu", targets=parse_targets([targets]) if targets else (),
        variant="pt2.13-cu130",        python="3.11", base=base, requirements=requirements, index="http://127.0.0.1:8000/pt2.13-cu130/simple/",
        toolkit=toolkit, recipes="recipes" if toolkit else "", notebook=bool(requirements),
    )
    for origin, base, (torch, on_index), targets, requirements, toolkit, packages in itertools.product(
        ORIGINS,
        ("python:3.11-slim-bookworm", "debian:12"),
        (("2.13.0+cu130", True), ("2.8.0+cu126", False), ("", False)),
        ("", "8.6;12.0+PTX"),
        ((), ("requirements.txt", "deps/more.txt")),
        ("", "12.8"),
        (
            (Package("one", "one", "1.0", ("one", "one._C")),),
            (Package("one", "one", "1.0", ("one",), driver=True, apt=("libopenblas0",), build_apt=("libx-dev",)),
             Package("two-three", "two-three", "2!1.0", ("two_three",))),
        ),
    )
]  # fmt: skip
"""Every combination of what decides a line."""
