"""uv, as the installer: environments, locks and installations, with its failures turned into our causes."""

from __future__ import annotations

import os
import re
import shutil
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from buildkit import process
from buildkit.errors import (
    CudabuildError,
    DependencyConflict,
    DiskFull,
    IndexUnreachable,
    MachineError,
    NotCached,
    NotOnIndex,
)
from buildkit.source.index_settings import IndexSettings, uv_arguments, uv_environment

_RULES: tuple[tuple[tuple[str, ...], type[CudabuildError], str], ...] = (
    (("No space left on device", "os error 28"), DiskFull, "free some space, or set CUDABUILD_CACHE to another disk"),
    (
        ("network was disabled", "--offline", "Network connectivity is disabled"),
        NotCached,
        "run `cudabuild fetch` with the same options where there is a network",
    ),
    (
        ("error sending request", "dns error", "Connection refused", "timed out", "Failed to fetch", "client error"),
        IndexUnreachable,
        "check the network and `pip config list`; cudabuild uses the index that pip is configured with",
    ),
    (
        ("was not found in the package registry", "there are no versions of", "there is no version of"),
        NotOnIndex,
        "check the name and version against the configured index",
    ),
    (("No solution found", "conflict"), DependencyConflict, "change one of the requirements named above"),
)


def find_uv() -> Path:
    """The uv that was installed beside cudabuild, else the one on PATH."""
    beside = Path(sysconfig.get_path("scripts")) / "uv"
    if beside.is_file():
        return beside
    found = shutil.which("uv")
    if found is None:
        raise MachineError("uv is not installed beside cudabuild", hint="pip install 'uv>=0.9,<1'")
    return Path(found)


@dataclass(frozen=True)
class Installer:
    """Runs uv with the person's index settings. ``cache`` is uv's own; ``base`` the environment to start from."""

    uv: Path
    index: IndexSettings
    cache: Path
    base: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    offline: bool = False
    log: IO[str] | None = None
    timeout: float = 1800.0

    def run(self, arguments: Sequence[str], *, network: bool = True, stdin: str | None = None) -> str:
        """One uv command; returns its standard output."""
        command = [str(self.uv), *arguments, "--no-config", "--no-progress", "--color", "never"]
        if network:
            command += [*uv_arguments(self.index), *(["--offline"] if self.offline else [])]
        try:
            done = process.run(
                command,
                env=self.environment(),
                timeout=self.timeout,
                log=self.log,
                stdin=stdin.encode() if stdin is not None else None,
            )
        except process.ProgramFailed as error:
            cause = explained(error)
            if self.offline and isinstance(cause, NotOnIndex):
                hint = "run `cudabuild fetch` with the same options where there is a network"
                raise NotCached(f"not in the cache: {cause.message}", evidence=cause.evidence, hint=hint) from error
            raise cause from error
        return done.stdout

    def environment(self) -> dict[str, str]:
        """What uv sees: this process's environment without an active environment, and the index's settings."""
        base = {k: v for k, v in self.base.items() if k not in {"VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH"}}
        return {**base, **uv_environment(self.index, base), "UV_CACHE_DIR": str(self.cache), "LC_ALL": "C.UTF-8"}

    def create(self, folder: Path, python: Path) -> Path:
        """An empty virtual environment; returns its interpreter."""
        self.run(["venv", "--quiet", "--python", str(python), "--no-project", str(folder)], network=False)
        return folder / "bin" / "python"

    def compile(self, requirements: Sequence[str], *, python: Path, excludes: Path) -> str:
        """The lock: every requirement and what it needs, pinned, with hashes; excluded names are left out."""
        arguments = ["pip", "compile", "-", "--quiet", "--python", str(python), "--generate-hashes", "--no-header"]
        arguments += ["--no-annotate", "--excludes", str(excludes)]
        return self.run(arguments, stdin="\n".join(requirements) + "\n")

    def install_lock(self, lock: Path, *, python: Path, link_mode: str) -> None:
        """Exactly what a lock names."""
        arguments = ["pip", "install", "--quiet", "--python", str(python), "--no-deps", "--require-hashes"]
        self.run([*arguments, "--link-mode", link_mode, "--requirements", str(lock)])

    def install_into(self, folder: Path, requirements: Sequence[str], *, python: Path) -> None:
        """Requirements with all they need into a plain folder (``--target``)."""
        arguments = ["pip", "install", "--quiet", "--python", str(python), "--target", str(folder)]
        self.run([*arguments, *requirements])

    def install(
        self,
        requirements: Sequence[str],
        *,
        python: Path,
        options: Sequence[str] = (),
        link_mode: str = "hardlink",
    ) -> None:
        """Requirements with all they need."""
        arguments = ["pip", "install", "--quiet", "--python", str(python), "--link-mode", link_mode]
        self.run([*arguments, *options, *requirements])


def explained(error: process.ProgramFailed) -> CudabuildError:
    """uv's failure as the cause a user can act on; uv's own text is the evidence."""
    text = error.output or error.message
    for needles, cause, hint in _RULES:
        if any(needle in text for needle in needles):
            return cause(_sentence(text), evidence=text.strip()[-2000:], hint=hint)
    return error


def _sentence(text: str) -> str:
    """uv's explanation as one line: from "Because" where there is one, else its first error line."""
    flat = " ".join(words for line in text.splitlines() if (words := re.sub(r"^\W+", "", line.strip())))
    start = flat.find("Because")
    return "uv: " + flat[start if start >= 0 else 0 :][:600]
