"""Projects of tests/packages as git repositories of their own, and plain pip to compare with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from buildkit.build.context import Context

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = ROOT / "tests" / "packages"
TAKEN = {"torchmcubes": {"csrc/table.hpp": ROOT / "csrc" / "mcubes" / "table.hpp"}}
"""Files that a project takes from elsewhere in this checkout."""
Edits = Mapping[str, tuple[str, str]]
NO_NVCC = "-DCMAKE_CUDA_COMPILER=NOTFOUND"
"""What CMake finds on a machine without one, wherever this machine may have some."""
PLAIN: Edits = {"CMakeLists.txt": ("STANDARD 20", "STANDARD 17")}
"""torchmcubes without its lerp trap, which would hide the other one."""
COVER_GONE: Edits = {"csrc/rasterize.cu": ("int rasterize_cover(", "int rasterize_cover_all(")}
"""nvdiffrast with a kernel's function that is called and not there."""


@dataclass(frozen=True)
class Repository:
    """A repository on this machine with one commit."""

    folder: Path
    rev: str

    @property
    def source(self) -> str:
        """For ``--source``."""
        return f"{self.folder}@{self.rev}"


def repository(project: str, folder: Path, *, edits: Edits | None = None) -> Repository:
    """A project's files with a content that no store has, committed in ``folder``.

    ``edits`` maps a file to what is replaced in it and by what; a file that is not there is made.
    """
    shutil.copytree(PROJECTS / project, folder, ignore=shutil.ignore_patterns("__pycache__", "build"))
    for name, origin in TAKEN.get(project, {}).items():
        shutil.copyfile(origin, folder / name)
    for name, (old, new) in (edits or {}).items():
        path = folder / name
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        assert old in text, f"{name} of {project} has no {old!r}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.replace(old, new) if old else text + new, encoding="utf-8")
    (folder / "NOTES").write_text(f"{os.getpid()} {time.time_ns()}\n", encoding="utf-8")
    git(folder, "init", "--quiet")
    return commit(folder)


def with_submodule(outer: Repository, inner: Repository, path: str) -> Repository:
    """``outer`` with one more commit, in which ``inner``, a folder beside it, is its submodule."""
    module = f'[submodule "{path}"]\n\tpath = {path}\n\turl = ../{inner.folder.name}\n'
    (outer.folder / ".gitmodules").write_text(module, encoding="utf-8")
    git(outer.folder, "update-index", "--add", "--cacheinfo", f"160000,{inner.rev},{path}")
    return commit(outer.folder)


def commit(folder: Path) -> Repository:
    """Commit what is there; a submodule's folder that is not stays as it is."""
    git(folder, "add", "--", *(entry.name for entry in folder.iterdir() if entry.name != ".git"))
    git(folder, "-c", "user.name=a", "-c", "user.email=a@index.example", "commit", "--quiet", "-m", "all")
    return Repository(folder, git(folder, "rev-parse", "HEAD").strip())


def git(folder: Path, *words: str) -> str:
    """What git prints, with no settings of the person's."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(
        ["git", "-C", str(folder), *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


@dataclass(frozen=True)
class Pip:
    """pip in an environment that has torch and all that the projects need to be built."""

    python: Path
    environ: Mapping[str, str]

    def wheel(self, source: Path, out: Path, **environ: str) -> subprocess.CompletedProcess[str]:
        """``pip wheel --no-build-isolation``, as the projects' own pages say."""
        words = ["wheel", "--no-build-isolation", "--no-deps", "--no-cache-dir", "-w", str(out), str(source)]
        return self.run("-m", "pip", *words, **environ)

    def imported(self, wheel: Path, code: str) -> subprocess.CompletedProcess[str]:
        """What a program says with the wheel on its path."""
        folder = wheel.with_suffix("")
        shutil.unpack_archive(wheel, folder, "zip")
        return self.run("-c", code, PYTHONPATH=str(folder))

    def run(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """The environment's Python."""
        return subprocess.run(
            [str(self.python), *words],
            env={**self.environ, **environ},
            cwd=self.python.parent,
            capture_output=True,
            text=True,
            check=False,
        )


def plain_pip(folder: Path, context: Context, torch_site: Path, view: Path, *more: str) -> Pip:
    """pip in a new environment with torch, a toolkit for one target, what setuptools projects need, and ``more``."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    site.joinpath("torch.pth").write_text(f"{torch_site}\n", encoding="utf-8")
    context.installer().install(["setuptools>=77,<82", "wheel", "ninja", *more], python=folder / "bin" / "python")
    return Pip(
        folder / "bin" / "python",
        {
            **context.environ,
            "PATH": f"{folder}/bin:{view}/bin:/usr/bin:/bin",
            "CUDA_HOME": str(view),
            "CUDACXX": str(view / "bin" / "nvcc"),
            "TORCH_CUDA_ARCH_LIST": "12.0",
            "MAX_JOBS": "2",
            # Not beside torch, which is shared; without byte code each of its imports takes three times as long.
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(folder.parent / "pycache"),
        },
    )


def only_wheel(folder: Path) -> Path:
    """The one wheel in a folder."""
    (wheel,) = folder.glob("*.whl")
    return wheel
