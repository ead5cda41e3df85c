"""Packages whose compilations a test counts and holds: each says that it compiles, and waits until it may."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_SETUP = """
import os, time
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

class Counted(build_ext):
    def build_extensions(self):
        compile_one = self.compiler._compile
        def compile(obj, src, ext, cc_args, extra_postargs, pp_opts):
            with open({counts!r}, "a") as file:
                file.write("{name} " + os.path.basename(src) + "\\n")
            while not os.path.exists({gate!r}) and not os.path.exists({gate!r} + "-" + os.path.basename(src)):
                time.sleep(0.05)
            blocks = [bytearray(1 << 20) for _ in range({mebibytes})]
            if blocks:
                for block in blocks:
                    block[::4096] = b"x" * len(block[::4096])
                time.sleep({holds})
            return compile_one(obj, src, ext, cc_args, extra_postargs, pp_opts)
        self.compiler._compile = compile
        super().build_extensions()

setup(name="{name}", version="1.0", packages=["{name}"], cmdclass={{"build_ext": Counted}},
      ext_modules=[Extension("{name}._" + letter, ["{name}/" + letter + ".c"]) for letter in {letters!r}])
"""
_MODULE = """
#include <Python.h>
static struct PyModuleDef module = {{PyModuleDef_HEAD_INIT, "_{letter}", NULL, -1, NULL}};
PyMODINIT_FUNC PyInit__{letter}(void) {{ return PyModule_Create(&module); }}
"""
_RECIPE = """
edition = 1
name = "{name}"
summary = "a C extension"
license = {{ spdx = "Apache-2.0", redistributable = true }}
status = "unconfirmed"
[[version]]
version = "1.0"
folder = "source"
[build]
torch = false
memory-per-unit = "64 MiB"
[verify]
imports = ["{name}"]
"""


@dataclass(frozen=True)
class Gated:
    """A folder of recipes for such packages, and what their builds have done.

    ``marks``: a folder that builds may write to, so none beside what they must not: ``/dev/shm/NAME``.
    """

    folder: Path
    marks: Path

    @property
    def recipes(self) -> Path:
        """What goes after ``--recipes``."""
        return self.folder / "recipes"

    def add(self, name: str, *, letters: str = "a", mebibytes: int = 0, holds: float = 0.0) -> str:
        """A package of one C file a letter; ``mebibytes`` are taken for ``holds`` seconds before each is compiled."""
        source = self.recipes / name / "source"
        (source / name).mkdir(parents=True)
        text = _SETUP.format(
            name=name, counts=str(self._counts), gate=str(self._gate), letters=letters, mebibytes=mebibytes, holds=holds
        )
        (source / "setup.py").write_text(text, encoding="utf-8")
        (source / name / "__init__.py").write_text(f"from {name} import {', '.join('_' + each for each in letters)}\n")
        for letter in letters:
            (source / name / f"{letter}.c").write_text(_MODULE.format(letter=letter), encoding="utf-8")
        (self.recipes / name / "recipe.toml").write_text(_RECIPE.format(name=name), encoding="utf-8")
        return name

    def compiled(self) -> list[str]:
        """``NAME a.c`` for each compilation that was begun, in order."""
        return self._counts.read_text(encoding="utf-8").splitlines() if self._counts.exists() else []

    def hold(self) -> None:
        """From now on compilations wait."""
        self._gate.unlink(missing_ok=True)

    def go(self) -> None:
        """Those that wait go on, and none waits."""
        self._gate.touch()

    def go_for(self, files: int) -> None:
        """Those of each package's first files go on; others wait."""
        for letter in "abcdefgh"[:files]:
            self._gate.with_name(f"gate-{letter}.c").touch()

    @property
    def _counts(self) -> Path:
        return self.marks / "compiled"

    @property
    def _gate(self) -> Path:
        return self.marks / "gate"


def build_words(gated: Gated, name: str, *more: str) -> tuple[str, ...]:
    """A job's words."""
    return ("build", name, "--recipes", str(gated.recipes), "--device", "cpu", "--no-canary", *more)


def shared_folders(cache: Path, *others: Path) -> None:
    """Let caches share what was resolved and downloaded once, so that all of them plan the same key."""
    for other in others:
        other.mkdir(parents=True, exist_ok=True)
        for name in ("uv", "locks"):
            (cache / name).mkdir(parents=True, exist_ok=True)
            if not os.path.lexists(other / name):
                (other / name).symlink_to(cache / name)
