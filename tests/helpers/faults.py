"""Toolchains that are broken in ways that no table knows: what the canary is there to tell.

Each toolkit is a folder of links to a real one with one thing changed; the compiler is the real one, and lies about
its release.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from buildkit.machine.toolkit import Toolkit


@dataclass(frozen=True)
class Fault:
    """What is done to a toolkit, and how the canary tells it."""

    damage: Callable[[Path], None]
    message: str
    line: str


def other(file: Path, change: Callable[[bytes], bytes]) -> None:
    """A changed copy in the place of a link."""
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(change(content))


def remove_ptxas(home: Path) -> None:
    (home / "bin" / "ptxas").unlink()


def break_runtime_header(home: Path) -> None:
    other(home / "include" / "cuda_runtime_api.h", lambda text: text + b"\nint cudaBroken(;\n")


def break_scan_header(home: Path) -> None:
    (header,) = home.glob("include/cccl/cub/device/device_scan.cuh")
    other(header, lambda text: text.replace(b"struct DeviceScan\n", b"struct DeviceScan : Missing\n"))


def remove_runtime_library(home: Path) -> None:
    (home / "lib" / "libcudart_static.a").unlink()


def truncate_runtime_library(home: Path) -> None:
    other(home / "lib" / "libcudart_static.a", lambda content: content[: len(content) // 2])


FAULTS = {
    "ptxas removed": Fault(remove_ptxas, r"the toolkit's ptxas cannot be started", r"ptxas: not found"),
    "syntax error in cuda_runtime_api.h": Fault(
        break_runtime_header,
        r"the header cuda_runtime_api\.h does not compile",
        r"include/cuda_runtime_api\.h[(:]\d+.*error: ",
    ),
    "wrong name in a cub header": Fault(
        break_scan_header,
        r"the header cccl/cub/device/device_scan\.cuh does not compile",
        r"device_scan\.cuh[(:]\d+.*error: ",
    ),
    "libcudart_static.a removed": Fault(
        remove_runtime_library, r"a library of the toolkit is missing or damaged", r"cannot find -lcudart_static"
    ),
    "libcudart_static.a cut in half": Fault(
        truncate_runtime_library, r"a library of the toolkit is missing or damaged", r"libcudart_static\.a: "
    ),
}


def linked(toolkit: Toolkit, home: Path) -> Path:
    """A folder of links to every file of a toolkit."""
    shutil.copytree(toolkit.root, home, copy_function=os.symlink)
    return home


LIES = {
    "older than it is": ("9.4.0", ""),
    # It stands for a g++ newer than nvcc takes, which is not here: that is what it compiles as.
    "newer than it says": ("12.2.0", "-U__GNUC__ -D__GNUC__=99"),
}
"""What a g++ says that it is, and options that it adds when it compiles."""


def lying_compiler(folder: Path, said: str, options: str = "") -> dict[str, str]:
    """A g++ that says it is another release than it is; ``options`` are added when it compiles."""
    script = folder / "g++"
    script.write_text(
        f'#!/bin/sh\nfor word; do case "$word" in -dumpfullversion|-dumpversion) echo {said}; exit;; esac; done\n'
        f'exec {shutil.which("g++")} {options} "$@"\n',
        encoding="utf-8",
    )
    script.chmod(0o755)
    return {"CXX": str(script)}
