"""From what a setup.py imports to what has to be installed for it. Pure."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from dataclasses import dataclass

from buildkit.source.marks import Mark
from buildkit.source.metadata import normalized
from buildkit.source.setup_script import SetupScript

_KNOWN = {
    "Cython": "cython", "numpy": "numpy", "packaging": "packaging", "psutil": "psutil", "requests": "requests",
    "yaml": "pyyaml", "tqdm": "tqdm", "cmake": "cmake", "skbuild": "scikit-build",
    "scikit_build_core": "scikit-build-core", "setuptools_scm": "setuptools-scm", "versioneer": "versioneer",
    "setuptools_rust": "setuptools-rust", "cffi": "cffi", "nanobind": "nanobind", "jinja2": "jinja2", "scipy": "scipy",
    "pybind11_stubgen": "pybind11-stubgen", "cpuinfo": "py-cpuinfo", "einops": "einops", "git": "gitpython",
    "toml": "toml", "tomli": "tomli", "six": "six", "filelock": "filelock", "platformdirs": "platformdirs",
    "typing_extensions": "typing-extensions", "pkgconfig": "pkgconfig", "attr": "attrs", "urllib3": "urllib3",
    "httpx": "httpx", "certifi": "certifi", "dateutil": "python-dateutil",
}  # fmt: skip
"""Modules that build scripts import, and the projects that bring them. What is not here is for a person to say:
a module's name says little about who owns the project of that name on an index."""
_THERE = frozenset({"setuptools", "wheel", "ninja", "pybind11", "pkg_resources", "distutils", "_distutils_hack"})
"""In every build environment."""
_LENT = frozenset({"torch", "functorch", "torchgen", "caffe2"})


@dataclass(frozen=True)
class Needs:
    """``requires`` are requirements with the import that wants each; ``unknown`` and ``optional`` are imports."""

    requires: tuple[tuple[str, Mark], ...] = ()
    unknown: tuple[Mark, ...] = ()
    optional: tuple[Mark, ...] = ()


def needs_of(script: SetupScript, declared: Collection[str], local: Collection[str]) -> Needs:
    """What the script imports and nobody declares. ``local`` are the modules that lie in the source itself."""
    have = {normalized(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]) for requirement in declared}
    requires: dict[str, Mark] = {}
    unknown: dict[str, Mark] = {}
    optional: dict[str, Mark] = {}
    for found in script.imports:
        module, mark = found.module, Mark(found.module, found.file, found.line)
        if module in sys.stdlib_module_names or module in _THERE | _LENT or module in local:
            continue
        project = _KNOWN.get(module)
        if normalized(project or module) in have:
            continue
        if found.optional:
            optional.setdefault(module, mark)
        elif project is None:
            unknown.setdefault(module, mark)
        else:
            requires.setdefault(project, mark)
    return Needs(tuple(requires.items()), tuple(unknown.values()), tuple(optional.values()))
