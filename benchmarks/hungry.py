"""A package of real nvcc units whose memory is chosen: what the memory benchmarks build.

A unit's memory is the preprocessor's. A macro's argument is expanded in full before the macro is, token by token, so
that a file of a few kilobytes makes cc1plus hold 0.11 GiB for each million tokens (GCC 12, measured), in a third of
a second. ``twice``: in the pass for the device and in that for the host, else for the device alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

GIB_PER_MILLION = 0.111
"""Measured with GCC 12: 2.79 GiB for 28 million tokens."""

_SETUP = """\
from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CUDAExtension

setup(
    name={name!r},
    version="1.0",
    packages=[{name!r}],
    ext_modules=[CUDAExtension({name!r} + "._C", {sources}, extra_compile_args={{"nvcc": ["-O0"], "cxx": ["-O0"]}})],
    cmdclass={{"build_ext": BuildExtension}},
)
"""
_MODULE = """\
#include <Python.h>
static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};
PyMODINIT_FUNC PyInit__C() { return PyModule_Create(&module); }
"""


@dataclass(frozen=True)
class Hungry:
    """One unit: GiB at its peak, and whether the host's pass takes as much as the device's."""

    gib: float
    twice: bool = False


def package_for(cap: int) -> tuple[Hungry, ...]:
    """Eight units for a cap of some GiB: most at 0.75 GiB, a tail of 3 GiB and more; together twice the cap."""
    tail = {4: 1, 6: 3, 8: 4}[cap]
    rest = max(0.75, (2.05 * cap - 3.1 * tail) / (8 - tail))
    small = [Hungry(rest, twice=True)] * (8 - tail)
    # A tail unit after every other small one: neither order is helped.
    for number in range(tail):
        small.insert(1 + 2 * number, Hungry(3.1))
    return tuple(small)


def write_package(folder: Path, name: str, units: Sequence[Hungry]) -> Path:
    """Make the project; returns its folder."""
    source = folder / name
    (source / "csrc").mkdir(parents=True)
    (source / name).mkdir()
    (source / name / "__init__.py").write_text("from . import _C\n", encoding="utf-8")
    (source / "csrc" / "module.cpp").write_text(_MODULE, encoding="utf-8")
    sources = ["csrc/module.cpp"]
    for number, unit in enumerate(units):
        sources.append(f"csrc/unit{number}.cu")
        (source / sources[-1]).write_text(_unit(number, unit), encoding="utf-8")
    (source / "setup.py").write_text(_SETUP.format(name=name, sources=json.dumps(sources)), encoding="utf-8")
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools>=64", "torch", "ninja"]\nbuild-backend = "setuptools.build_meta"\n',
        encoding="utf-8",
    )
    return source


def _unit(number: int, unit: Hungry) -> str:
    lines = ["#define T0 " + ",".join("0" for _ in range(100))]
    lines += [f"#define T{level} " + ",".join([f"T{level - 1}"] * 10) for level in range(1, 4)]
    # T3: 0.1 million tokens
    lines.append("#define ALL " + ",".join(["T3"] * max(1, round(10 * unit.gib / GIB_PER_MILLION))))
    lines += ["#define FIRST(a, ...) a", "#define PICK(x) FIRST(x)"]
    lines += [] if unit.twice else ["#ifndef __CUDA_ARCH__", "#undef PICK", "#define PICK(x) 0", "#endif"]
    lines.append(f"__global__ void kernel{number}(int *p) {{ p[threadIdx.x] += PICK(ALL) + {number}; }}")
    return "\n".join(lines) + "\n"
