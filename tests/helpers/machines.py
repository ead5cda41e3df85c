"""The tables of machines with the right answers (tests/unit/data/), as hosts for the solver."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from buildkit.machine.arch import parse_targets
from buildkit.machine.solver.host import Host, HostCompiler, HostToolkit, Lack, host_torch
from buildkit.machine.target import Capability, known_notation

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DATA = Path(__file__).parents[1] / "unit" / "data"


def machines(table: str = "machines.toml") -> list[dict[str, Any]]:
    """The rows, as they stand there."""
    rows: list[dict[str, Any]] = tomllib.loads((DATA / table).read_text("utf-8"))["machine"]
    return rows


def host_of(row: Mapping[str, Any]) -> Host:
    """The machine of a row."""
    return Host(
        python=row["python"],
        glibc=row["glibc"],
        torch=host_torch(row["torch"], row.get("torch_cuda")) if "torch" in row else None,
        gpus=tuple(capability(text) for text in row.get("gpus", ())),
        driver=row.get("driver"),
        toolkits=tuple(toolkit(text) for text in row["toolkits"]),
        compiler=compiler(row["compiler"]) if "compiler" in row else None,
        setuptools=row["setuptools"],
        place=row["place"],
        machine=row.get("machine", "x86_64"),
        project=row.get("project", "setuptools"),
        cxx=row.get("cxx"),
        targets=parse_targets([row["targets"]]) if "targets" in row else (),
    )


def capability(text: str) -> Capability:
    """(8, 6) of ``8.6``."""
    return known_notation(text).capability


def toolkit(text: str) -> HostToolkit:
    """``12.4``, or ``12.4 without headers``."""
    release, _, lack = text.partition(" without ")
    lacks: tuple[Lack, ...] = ("headers",) if lack == "headers" else ("libraries",) if lack == "libraries" else ()
    return HostToolkit(release, lacks)


def compiler(text: str) -> HostCompiler:
    """``gcc 13``."""
    found = re.fullmatch(r"(gcc|clang) (\d+)", text)
    assert found is not None, text
    return HostCompiler("gcc" if found[1] == "gcc" else "clang", int(found[2]))
