"""What the benchmarks share: one cache with torch and a toolkit in it, and a plain environment for the other side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from buildkit.build.context import Context
from buildkit.build.places import Places
from buildkit.build.toolkit_view import make_view
from buildkit.build.toolkits import install_wheel_toolkit
from buildkit.machine.compiler import find_host_compiler
from buildkit.machine.identity import Memo
from buildkit.machine.interpreter import active_interpreter
from buildkit.progress import Silent
from buildkit.source.index_settings import read_index_settings
from buildkit.store.store import Store

TORCH = "2.13.0+cu130"
TARGET = "12.0"
ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests" / "helpers"))


def cache_folder() -> Path:
    """CUDABUILD_TEST_CACHE, else the one that the tests use."""
    return Path(os.environ.get("CUDABUILD_TEST_CACHE", ROOT / ".test-cache"))


def script() -> str:
    """The installed console script."""
    return str(Path(sysconfig.get_path("scripts")) / "cudabuild")


def clean_environment() -> dict[str, str]:
    """As a person's shell, with the benchmarks' cache."""
    dropped = {
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "TORCH_CUDA_ARCH_LIST",
        "CUDA_HOME",
        "PYTHONPATH",
        "PYTHONDONTWRITEBYTECODE",
    }
    kept = {k: v for k, v in os.environ.items() if k not in dropped and not k.startswith("CUDABUILD_")}
    return {**kept, "CUDABUILD_CACHE": str(cache_folder())}


def make_context() -> Context:
    """What cudabuild's own modules need, on that cache."""
    places = Places(cache_folder())
    environ = clean_environment()
    return Context(
        places=places,
        memo=Memo(places.memo),
        store=Store(places.store),
        index=read_index_settings(environ),
        reporter=Silent(),
        environ=environ,
        cwd=ROOT,
    )


def forget(recipe: str) -> None:
    """Empty the store of one recipe's wheels, and drop all receipts."""
    context = make_context()
    for entry in list(context.store.entries()):
        if entry.recipe == recipe:
            context.store.remove(entry.key)
    for file in (context.places.cache / "receipts").glob("*.json"):
        file.unlink()


def bare_environment() -> tuple[Path, Path]:
    """An environment with torch and what builds need, and a CUDA_HOME: the warm side of a bare ``pip wheel``."""
    context = make_context()
    python = active_interpreter(Path(sys.executable), context.environ, context.cwd, context.memo)
    folder = cache_folder() / "bare"
    installer = context.installer()
    if not (folder / "ready").is_file():
        interpreter = installer.create(folder, python.base_executable)
        tools = ["pip", "setuptools>=77,<82", "wheel", "ninja", "pybind11>=2.12"]
        installer.install([f"torch==={TORCH.partition('+')[0]}", *tools], python=interpreter)
        (folder / "ready").write_text("")
    toolkit = install_wheel_toolkit("13.0", python, context)
    compiler = find_host_compiler(context.environ, context.memo).path
    view = make_view(toolkit, [], cache_folder() / "bare-cuda", compiler=compiler)
    return folder / "bin" / "python", view


def timed(command: Sequence[str], environment: dict[str, str], cwd: Path) -> tuple[float, str]:
    """Seconds of a command, and its standard output; it must succeed."""
    started = time.monotonic()
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    return seconds, done.stdout


def show(**values: Any) -> None:
    """One JSON line."""
    print(json.dumps(values), flush=True)
