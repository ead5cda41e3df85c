"""Running a backend's build_wheel as the frontend does, with and without promises; without guard and broker."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyproject_hooks

from buildkit.build.deferral import start

SCRIPT = Path(pyproject_hooks.__file__).parent / "_in_process" / "_in_process.py"
COMPILER = """#!/bin/sh
# A C compiler that says when it starts and ends, and can wait for others to have started.
case " $* " in *" -c "*) ;; *) exec gcc "$@" ;; esac
for word; do case $word in *.c) name=$(basename "$word" .c) ;; esac; done
echo "start $name $$" >> "$TRACE"
if [ -n "$SLEEPER" ] && [ "$name" = "$SLEEPER" ]; then sleep 300; fi
if [ -n "$MEET" ]; then
  tries=0
  while [ "$(grep -c ^start "$TRACE")" -lt "$MEET" ] && [ $tries -lt 600 ]; do sleep 0.1; tries=$((tries + 1)); done
fi
gcc "$@"; status=$?
echo "end $name $$" >> "$TRACE"
exit $status
"""


@dataclass(frozen=True)
class Built:
    """Exit status of the backend, its output, what the compilers traced, and the files of the wheel."""

    code: int
    output: str
    trace: tuple[str, ...]
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class Workshop:
    """A Python with setuptools, and a place where projects are built: at one path, for it is in what they make."""

    python: Path
    folder: Path

    def build(
        self, files: Mapping[str, str], *, defer: bool, jobs: int = 4, environment: Mapping[str, str] | None = None
    ) -> Built:
        """Build a project of these files from nothing."""
        shutil.rmtree(self.folder, ignore_errors=True)
        source, temporary, out = (self.folder / name for name in ("src", "tmp", "out"))
        for made in (source, temporary, out):
            made.mkdir(parents=True)
        for name, text in files.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_text(text, encoding="utf-8")
        compiler, trace = self.folder / "cc", self.folder / "trace"
        compiler.write_text(COMPILER)
        compiler.chmod(0o755)
        trace.touch()
        done = self._hook(source, out, {
            "PATH": "/usr/bin:/bin", "HOME": str(self.folder), "TMPDIR": str(temporary), "LC_ALL": "C.UTF-8",
            "CC": str(compiler), "TRACE": str(trace), "MAX_JOBS": str(jobs), "PYTHONUNBUFFERED": "1",
            "_PYPROJECT_HOOKS_BUILD_BACKEND": "setuptools.build_meta", **(environment or {}),
        }, defer=defer)  # fmt: skip
        return Built(done.returncode, done.stdout, tuple(trace.read_text().splitlines()), _content(out))

    def _hook(
        self, source: Path, out: Path, environment: Mapping[str, str], *, defer: bool
    ) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryDirectory() as control:
            asked: dict[str, object] = {"wheel_directory": str(out), "config_settings": {}, "metadata_directory": None}
            Path(control, "input.json").write_text(json.dumps({"kwargs": asked}), encoding="utf-8")
            first = [str(start.__file__)] if defer else []
            command = [str(self.python), *first, str(SCRIPT), "build_wheel", control]
            return subprocess.run(
                command, cwd=source, env=dict(environment), text=True, check=False, timeout=60,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip


def _content(folder: Path) -> dict[str, bytes]:
    """Every file of the one wheel in a folder; none where there is no wheel."""
    found: dict[str, bytes] = {}
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            found |= {name: archive.read(name) for name in archive.namelist()}
    return found


def is_running(pid: int) -> bool:
    """Whether there is such a process, and not only its entry."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"} and os.getpid() != pid
