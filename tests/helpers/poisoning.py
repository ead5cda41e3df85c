"""A small machine whose every part can be changed, for pairs of builds that differ in one thing only.

What is real: the pipeline from request to key, the store, the host compiler (behind a script, so that folders and parts
of it can be our own), Python, uv's resolver, the builds of packages for the CPU. What stands in for something: a
toolkit of scripts and empty headers, a torch of which only ``version.py`` and the metadata are there, and a few answers
of the system that no test can change (the C library's release, the processor, another Python).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from buildkit.build import survey as surveying
from buildkit.build import system as systems
from buildkit.build.context import Context
from buildkit.build.final import finalise
from buildkit.build.places import Places
from buildkit.build.prepare import Prepared, prepare
from buildkit.machine.identity import Memo
from buildkit.machine.interpreter import Interpreter, active_interpreter
from buildkit.machine.toolkit import REQUIRED_HEADERS
from buildkit.plan.request import Request
from buildkit.progress import Silent
from buildkit.source.index_settings import read_index_settings
from buildkit.store.model import Entry, utc_now
from buildkit.store.store import Store
from buildkit.verify.verdict import Stage, make_verdict

COMPILER = """#!/bin/sh
case "$1" in -print-prog-name=cc1plus) echo {here}/compiler/cc1plus; exit ;; esac
LIBRARY_PATH={here}/lib exec {real} "$@" -isystem {here}/include
"""
NVCC = """#!/bin/sh
case "$*" in
*--version*) echo "Cuda compilation tools, release 13.0, V13.0.88" ;;
*) printf '#$ _HERE_={here}/cuda/bin\\n#$ TOP={here}/cuda\\n' >&2 ;;
esac
"""
TORCH = "__version__ = '2.13.0+cu130'\ncuda = '13.0'\ngit_version = 'aaaa'\nhip = None\n"
MODULE = """#include <Python.h>
#ifndef ANSWER
#define ANSWER 42
#endif
static PyObject* answer(PyObject* self, PyObject* arguments) { return PyLong_FromLong(ANSWER); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_c", NULL, -1, methods};
PyMODINIT_FUNC PyInit__c(void) { return PyModule_Create(&module); }
"""
PROJECT = """[build-system]
requires = ["setuptools>=64"]
build-backend = "setuptools.build_meta"
[project]
name = "{name}"
version = "1.0"
[tool.setuptools]
packages = ["{name}"]
ext-modules = [{{ name = "{name}._c", sources = ["{name}/module.c"] }}]
"""
RECIPE = """edition = 1
name = "{name}"
summary = "for a test"
license = {{ spdx = "MIT", redistributable = true }}
[[version]]
version = "1.0"
folder = "{source}"
[[version]]
version = "1.1"
folder = "{source}"
[[patch]]
file = "a.patch"
reason = "a test"
[build]
torch = {torch}
[system]
headers = ["named.h"]
[verify]
imports = ["{name}"]
"""
PATCH = """--- a/{name}/module.c
+++ b/{name}/module.c
@@ -1,2 +1,3 @@
+{line}
 #include <Python.h>
 #ifndef ANSWER
"""


class Heard(Silent):
    """A reporter that remembers what it warned of."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Remember."""
        self.warnings.append(text)


@dataclass
class World:
    """The machine, in a folder. ``name`` is the package's; ``torch``: whether it is built beside torch, for CUDA.

    ``cache`` is the session's, of which what is only downloaded or compiled from others is used.
    """

    here: Path
    cache: Path
    patch: pytest.MonkeyPatch
    name: str = "pair"
    torch: bool = True
    answers: dict[str, Any] = field(default_factory=dict)
    """What the Python here says of itself instead of the truth."""

    def __post_init__(self) -> None:
        self._tools()
        self._person()
        self._package()

        def active(*words: Any) -> Interpreter:
            python = active_interpreter(*words)
            return replace(python, include=self.here / "python" / python.include.name, **self.answers)

        self.patch.setattr(surveying, "active_interpreter", active)
        self.patch.setattr(systems, "_PLACES", (str(self.here / "usr").lstrip("/"),))

    def write(self, name: str, text: str, *, program: bool = False) -> Path:
        """A file of this world."""
        path = self.here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if program:
            path.chmod(0o755)
        return path

    @contextlib.contextmanager
    def changed(self, name: str, text: str | None = None, *, old: str = "", new: str = "") -> Iterator[None]:
        """A file with another content (or with ``old`` replaced by ``new``), and afterwards as it was."""
        path = self.here / name
        before = path.read_bytes() if path.exists() else None
        if text is None:
            assert before is not None
            assert old in before.decode(), (name, old)
            text = before.decode().replace(old, new)
        path.write_text(text, encoding="utf-8")
        try:
            yield
        finally:
            if before is None:
                path.unlink()
            else:
                path.write_bytes(before)

    def context(self, store: Path | None = None) -> Context:
        """For one command; with a store of its own where one is named."""
        places = Places(self.here / "cache")
        environ = {"PATH": f"{self.here}/compiler:{os.environ['PATH']}", "HOME": str(self.here / "home")}
        environ |= {"VIRTUAL_ENV": str(self.here / "venv"), "CUDA_VISIBLE_DEVICES": ""}
        index = read_index_settings(dict(os.environ))
        return Context(places, Memo(places.memo), Store(store or places.store), index, Heard(), environ, self.here)

    def request(self, **changes: Any) -> Request:
        """What is asked for: the package, for CUDA 8.6 beside torch, or for the CPU without one."""
        asked: dict[str, Any] = {"package": self.name, "recipes": self.here / "recipes", "canary": False}
        cuda = {"targets": ("8.6",), "cuda_home": self.here / "cuda", "torch": "active"}
        return Request(**{**asked, **(cuda if self.torch else {"device": "cpu"}), **changes})

    def prepare(self, **changes: Any) -> Prepared:
        """The plan of it, by the real way."""
        return prepare(self.request(**changes), (), self.context())

    def _tools(self) -> None:
        for name in ("g++", "gcc"):
            script = COMPILER.format(here=self.here, real=shutil.which(name))
            self.write(f"compiler/{name}", script, program=True)
        self.write("compiler/cc1plus", "stands for the compiler proper\n")
        self.write("compiler/swig", "#!/bin/sh\n", program=True)
        self.write("include/found.h", "")
        self.write("lib/libfound.a", "!<arch>\n")
        self.write("usr/include/named.h", "/* one */\n")
        self.write("cuda/bin/nvcc", NVCC.format(here=self.here), program=True)
        self.write("cuda/bin/ptxas", "#!/bin/sh\n", program=True)
        for header in REQUIRED_HEADERS:
            self.write(f"cuda/include/{header}", "")
        self.write("cuda/lib64/libcudart.so", "")

    def _person(self) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(self.here / "venv")], check=True)
        python = self.context()
        real = active_interpreter(None, python.environ, self.here, python.memo)
        headers = self.here / "python" / real.include.name
        headers.mkdir(parents=True)
        for path in real.include.iterdir():
            (headers / path.name).symlink_to(path)
        share(self.cache, self.here / "cache")
        site = next((self.here / "venv").glob("lib/python*/site-packages")).relative_to(self.here)
        self.site = str(site)
        self.write(f"{site}/torch/version.py", TORCH)
        self.installed("torch", "2.13.0", "Requires-Dist: sympy\n")
        self.write(f"{site}/sympy.py", "")
        self.installed("sympy", "1.13.0")

    def installed(self, name: str, version: str, more: str = "") -> None:
        """A distribution's metadata in the active environment."""
        info = f"{self.site}/{name}-{version}.dist-info"
        self.write(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}\n")
        module = "torch/version.py" if name == "torch" else f"{name}.py"
        self.write(f"{info}/RECORD", f"{module},sha256=x,1\n{name}-{version}.dist-info/METADATA,sha256=x,1\n")

    def _package(self) -> None:
        for place in ("source", "source/inside"):
            self.write(f"{place}/{self.name}/module.c", MODULE)
            self.write(f"{place}/{self.name}/__init__.py", f"from {self.name}._c import answer\n")
            self.write(f"{place}/pyproject.toml", PROJECT.format(name=self.name))
        self.recipe(self.name)

    def recipe(self, name: str) -> None:
        """A recipe for the package under this name."""
        text = RECIPE.format(name=name, source=self.here / "source", torch=str(self.torch).lower())
        self.write(f"recipes/{name}/recipe.toml", text)
        self.write(f"recipes/{name}/a.patch", PATCH.format(name=self.name, line="/* patched */"))


def share(cache: Path, own: Path) -> None:
    """A new cache that has nothing of its own yet but the downloads and the byte code of another."""
    own.mkdir(exist_ok=True)
    for name in ("uv", "pycache"):
        (cache / name).mkdir(exist_ok=True)
        (own / name).symlink_to(cache / name)


def stock(prepared: Prepared, store: Store, folder: Path, **changes: Any) -> Entry:
    """Put into a store what a build of this plan would have put there; ``changes`` to the entry make it something else.

    The wheel is a small one that was really finalised for this plan; only that nothing compiled it.
    """
    wheel = changes.pop("wheel", None) or wheel_for(prepared, folder)
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    values: dict[str, Any] = {
        "key": prepared.key,
        "family": prepared.family,
        "recipe": prepared.package.name,
        "version": wheel.name.split("-")[1],
        "build": "20261121-3f2a",
        "created": utc_now(),
        "filename": wheel.name,
        "sha256": sha256,
        "size": wheel.stat().st_size,
        "inputs": prepared.inputs.as_dict(),
        "verdict": verdict_for(prepared, sha256),
        "plan": {},
        "seconds": 1.0,
    }
    return store.put(wheel, Entry(**{**values, **changes}))


def verdict_for(prepared: Prepared, sha256: str, **changes: Any) -> dict[str, Any]:
    """A verdict of ``imported`` on this plan's wheel."""
    audit: dict[str, Any] = {"objects": []}
    stages = [
        Stage(name="build", outcome="passed", seconds=1.0),
        Stage(name="audit", outcome="passed", seconds=1.0, evidence=audit),
        Stage(name="import", outcome="passed", seconds=1.0),
    ]
    facts: dict[str, Any] = {
        "wheel_sha256": sha256,
        "device": prepared.device,
        "targets": tuple(str(target) for target in prepared.survey.targets),
        "python": prepared.survey.machine.python.abi,
        "torch": prepared.survey.torch.version,
        "torch_record_sha256": prepared.survey.torch.record_sha256,
        "recipe": prepared.package.name,
    }
    return make_verdict(stages, **{**facts, **changes}).model_dump(by_alias=True, mode="json")


def wheel_for(prepared: Prepared, folder: Path, facts: Mapping[str, Any] | None = None) -> Path:
    """A final wheel as a build of this plan makes it; ``facts`` replaces what it says of its own making."""
    backend, torch = raw_wheel(folder, prepared.package.name), prepared.survey.torch
    said = {
        "key": prepared.key,
        "device": prepared.device,
        "targets": [str(target) for target in prepared.survey.targets],
        "torch": torch.version or None,
    }
    out = folder / "final" / prepared.key[:16]
    out.mkdir(parents=True, exist_ok=True)
    return finalise(
        backend,
        out,
        torch_version=torch.version,
        cuda=torch.cuda,
        targets=prepared.survey.targets,
        device=prepared.device,
        build_facts={**said, **(facts or {})},
    )


def raw_wheel(folder: Path, name: str) -> Path:
    """What a backend answers with: one shared object, which is a real one and holds no device code."""
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    tags = f"{tag}-{tag}-linux_x86_64"
    info = f"{name}-1.0.dist-info"
    members = {
        f"{name}/__init__.py": b"",
        f"{name}/_c.so": Path("/bin/sh").read_bytes(),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: false\nTag: {tags}\n".encode(),
    }
    members[f"{info}/RECORD"] = record(members, f"{info}/RECORD")
    return packed(folder / f"{name}-1.0-{tags}.whl", members)


def record(members: Mapping[str, bytes], own: str) -> bytes:
    """RECORD of these members."""
    rows = []
    for name, data in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        rows.append(f"{name},sha256={digest},{len(data)}\n")
    return "".join([*rows, f"{own},,\n"]).encode()


def packed(path: Path, members: Mapping[str, bytes]) -> Path:
    """A zip file of these members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def unpacked(path: Path) -> dict[str, bytes]:
    """The members of a zip file."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
