"""What a wheel is called and what it says of itself, from builds of a package without torch; built again, too."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buildkit.store.store import Store

pytestmark = pytest.mark.integration

Build = Callable[..., dict[str, Any]]
SETUP = """
from setuptools import Extension, setup
setup(name="counted", version="1.0", ext_modules=[Extension("counted", ["counted.c"])])
"""
CODE = """
#include <Python.h>
static struct PyModuleDef module = {{PyModuleDef_HEAD_INIT, "counted", "{doc}", -1, NULL}};
PyMODINIT_FUNC PyInit_counted(void) {{ return PyModule_Create(&module); }}
"""


@pytest.fixture
def build(cudabuild: Callable[..., Any], tmp_path: Path) -> Build:
    """Build the package, whose one module says ``doc``, and return the command's answer."""
    recipe = f"""
edition = 1
name = "counted"
summary = "one module in C"
license = {{ spdx = "MIT", redistributable = true }}
[[version]]
version = "1.0"
folder = "{tmp_path / "source"}"
[build]
torch = false
[verify]
imports = ["counted"]
"""
    for name, text in {"recipes/counted/recipe.toml": recipe, "source/setup.py": SETUP}.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text, encoding="utf-8")

    def run(doc: str) -> dict[str, Any]:
        (tmp_path / "source" / "counted.c").write_text(CODE.format(doc=doc), encoding="utf-8")
        places = ("--recipes", str(tmp_path / "recipes"), "--out", str(tmp_path / "out"))
        done = cudabuild(
            "counted", "--device", "cpu", *places, "--json", env={"CUDABUILD_CACHE": str(tmp_path / "cache")}
        )
        assert done.code == 0, done.err
        return dict(done.json)

    return run


def test_names_are_never_given_twice(build: Build, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache" / "store")
    first = build("one")
    (release,) = store.releases()
    name = str(first["wheel"]["filename"])
    assert name.startswith("counted-1.0+cpu-cp3")
    assert "manylinux" in name
    assert (release.filename, release.sha256, release.key) == (name, first["wheel"]["sha256"], first["key"])
    assert (release.license, release.redistributable, release.grade) == ("MIT", True, "imported")
    assert release.verdict == first["verdict"]
    assert len(release.built_sha256) == 64
    assert release.built_sha256 != release.sha256
    check_bill(Path(first["wheel"]["path"]), first)

    other = build("two")
    renamed = str(other["wheel"]["filename"])
    assert renamed == name.replace("1.0+cpu-", "1.0+cpu-1-")
    known = {each.filename: each for each in store.releases()}
    assert known[name].yanked == f"built again as {renamed}"
    assert known[renamed].yanked == ""
    assert any("is yanked" in note for note in other["notes"])
    assert not store.blobs.flaw(release.sha256, release.size)
    assert build("one")["wheel"]["filename"] == name, "a key keeps its wheel"
    with zipfile.ZipFile(other["wheel"]["path"]) as archive:
        assert b"Build: 1\n" in archive.read("counted-1.0+cpu.dist-info/WHEEL")


def check_bill(wheel: Path, answer: dict[str, Any]) -> None:
    """The record and the bill of materials inside."""
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == answer["wheel"]["sha256"]
    with zipfile.ZipFile(wheel) as archive:
        facts = json.loads(archive.read("counted-1.0+cpu.dist-info/cudabuild.json"))
        bill = json.loads(archive.read("counted-1.0+cpu.dist-info/sboms/cudabuild.cdx.json"))
    assert (facts["key"], facts["licence"], facts["redistributable"]) == (answer["key"], "MIT", True)
    assert len(facts["built_record_sha256"]) == 64
    assert bill["metadata"]["component"]["version"] == "1.0+cpu"
    names = {part["name"] for part in bill["components"]}
    assert {"counted (source)", "setuptools", "gcc"} <= names
    assert str(wheel.parent) not in json.dumps([facts, bill]), "no path of the machine that made it"
