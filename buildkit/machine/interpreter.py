"""The Python that a wheel is for: which one is active, and what it says of itself.

It is asked once, by running it isolated (``-I``) with a small script, and remembered by the identity of its
executable, of its ``pyvenv.cfg`` and of the ``.pth`` files that add to its path. Nothing is asked of pip:
many environments have none.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from buildkit.errors import MachineError, UsageError
from buildkit.file_identity import FileIdentity
from buildkit.machine.identity import Memo, identity_or_none, is_settled
from buildkit.process import ProgramFailed, last_line, run

# Runs on whatever Python is there, so it keeps to what all of 3.x know. ``-I`` takes the user's own site folder
# out of sys.path: it is named apart, and counts unless the environment is a closed one.
_SCRIPT = """
import json, os, site, sys, sysconfig
base = getattr(sys, "_base_executable", None) or sys.executable
paths = sysconfig.get_paths()
include = paths["include"]
venv = sys.prefix != sys.base_prefix
if venv and os.path.abspath(base) == os.path.abspath(sys.executable):
    base = os.path.realpath(base)  # before 3.11 a virtual environment's Python names itself
closed = venv and not os.path.isdir(os.path.join(sys.prefix, "conda-meta"))
try:
    with open(os.path.join(sys.prefix, "pyvenv.cfg")) as stream:
        text = "".join(stream.read().lower().split(" "))
    closed = closed and "include-system-site-packages=true" not in text
except OSError:
    pass
stdlib = {os.path.realpath(p) for p in (paths["stdlib"], paths["platstdlib"])}
own = [p for p in sys.path if os.path.isdir(p) and os.path.realpath(p) not in stdlib
       and os.path.basename(p) != "lib-dynload"]
tag = "cp" if sys.implementation.name == "cpython" else sys.implementation.name[:2]
print(json.dumps({
    "version": "%d.%d.%d" % sys.version_info[:3],
    "implementation": sys.implementation.name,
    "abi": "%s%d%d%s" % (tag, sys.version_info[0], sys.version_info[1],
                         "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""),
    "platform": sysconfig.get_platform(),
    "machine": os.uname().machine,
    "prefix": sys.prefix,
    "base_executable": base,
    "site_packages": own,
    "purelib": [paths["purelib"], paths["platlib"]],
    "user_site": None if closed else site.getusersitepackages(),
    "include": include,
    "managed": not venv and os.path.isfile(os.path.join(paths["stdlib"], "EXTERNALLY-MANAGED")),
}))
"""


class _Answer(BaseModel):
    """What the script prints."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    implementation: str
    abi: str
    platform: str
    machine: str
    prefix: Path
    base_executable: Path
    site_packages: tuple[Path, ...]
    purelib: tuple[Path, ...]
    user_site: Path | None
    include: Path
    managed: bool


@dataclass(frozen=True)
class Interpreter:
    """A Python: ``version`` "3.11.2", ``abi`` "cp311" (free-threaded: "cp313t"), ``platform`` "linux_x86_64".

    ``site_packages`` are all folders that its packages are in, in the order in which it looks.
    ``has_headers``: ``Python.h`` is under ``include``. ``externally_managed``: the distribution asks that nothing
    be installed into it (PEP 668).
    """

    executable: Path
    version: str
    implementation: str
    abi: str
    platform: str
    machine: str
    prefix: Path
    base_executable: Path
    site_packages: tuple[Path, ...]
    include: Path
    has_headers: bool
    externally_managed: bool


def active_interpreter(python: Path | None, environ: Mapping[str, str], cwd: Path, memo: Memo) -> Interpreter:
    """The active environment's Python: --python, VIRTUAL_ENV, CONDA_PREFIX, ``./.venv``, the running Python.

    UsageError if ``--python`` names none, MachineError if the active one does not run.
    """
    executable = active_executable(python, environ, cwd)
    return read_interpreter(_behind_script(executable, environ, cwd), environ, memo)


def active_executable(python: Path | None, environ: Mapping[str, str], cwd: Path) -> Path:
    """The executable that is meant, as an absolute path; links are kept (a virtual environment's is one)."""
    if python is not None:
        return _typed(python, environ, cwd)
    if prefix := environ.get("VIRTUAL_ENV"):
        executable = Path(prefix) / "bin" / "python"
        if not executable.exists():
            raise MachineError(
                "the active virtual environment has no Python any more",
                evidence=f"VIRTUAL_ENV={prefix}, and there is no {executable}",
                hint="unset VIRTUAL_ENV   # or make the environment anew",
            )
        return executable
    prefixes = [Path(prefix) for prefix in (environ.get("CONDA_PREFIX"), cwd / ".venv") if prefix]
    found = (prefix / "bin" / "python" for prefix in prefixes)
    return next((executable for executable in found if executable.exists()), Path(sys.executable)).absolute()


def _typed(python: Path, environ: Mapping[str, str], cwd: Path) -> Path:
    """What ``--python`` means: an executable, the folder of an environment, or a name on PATH."""
    path = cwd / python.expanduser()
    if path.is_dir():
        path = path / "bin" / "python"
    if not path.exists() and len(python.parts) == 1 and (found := shutil.which(str(python), path=environ.get("PATH"))):
        path = Path(found).absolute()
    if not os.access(path, os.X_OK) or path.is_dir():
        raise UsageError(
            f"--python {python}: no Python there",
            evidence=f"{path} is not a program",
            hint="give the path of an interpreter, of an environment's folder, or a name on PATH such as python3.11",
        )
    return path


def read_interpreter(executable: Path, environ: Mapping[str, str], memo: Memo) -> Interpreter:
    """What this Python says of itself, remembered by the identities of the files that decide it."""
    config = executable.parent.parent / "pyvenv.cfg"
    files = (identity_or_none(executable), identity_or_none(executable.resolve()), identity_or_none(config))
    identity = (files, environ.get("HOME"), environ.get("PYTHONUSERBASE"))
    known = memo.get("interpreter", str(executable), identity)
    answer = _recalled(known)
    if answer is None:
        answer = _asked(executable, environ)
        path_files = _path_files(answer.site_packages)
        if is_settled([*files, *path_files.values()]):
            value: JsonValue = {"answer": answer.model_dump(mode="json"), "path_files": repr(path_files)}
            memo.put("interpreter", str(executable), identity, value)
    return _interpreter(executable, answer, environ)


def _behind_script(executable: Path, environ: Mapping[str, str], cwd: Path) -> Path:
    """The Python that a script in front of it (pyenv's, asdf's) stands for in this folder; not remembered."""
    with executable.open("rb") as stream:
        if stream.read(2) != b"#!":
            return executable
    return Path(_run(executable, "import sys; print(sys.executable)", environ, cwd))


def _recalled(known: JsonValue) -> _Answer | None:
    if not isinstance(known, dict):
        return None
    try:
        answer = _Answer.model_validate(known.get("answer"))
    except ValidationError:
        return None
    return answer if known.get("path_files") == repr(_path_files(answer.site_packages)) else None


def _path_files(folders: Iterable[Path]) -> dict[str, FileIdentity | None]:
    """The ``.pth`` files in these folders: each line of them may add another folder to the path."""
    return {str(file): identity_or_none(file) for folder in folders for file in sorted(folder.glob("*.pth"))}


def _asked(executable: Path, environ: Mapping[str, str]) -> _Answer:
    try:
        return _Answer.model_validate(json.loads(_run(executable, _SCRIPT, environ, Path("/"))))
    except ValueError as error:
        raise MachineError(f"{executable} does not answer as a Python 3 would", hint=f"{executable} -I -V") from error


def _run(executable: Path, script: str, environ: Mapping[str, str], cwd: Path) -> str:
    """The last line that the script prints: a sitecustomize or a .pth file may print as well."""
    # The interpreter's own variables would tell of another one than -I sees, or make it write byte code.
    clean = {
        name: value for name, value in environ.items() if not name.startswith("PYTHON") or name == "PYTHONUSERBASE"
    }
    try:
        done = run([str(executable), "-I", "-B", "-c", script], env={**clean, "LC_ALL": "C.UTF-8"}, cwd=cwd, timeout=60)
    except ProgramFailed as error:
        evidence = error.evidence or f"exit status {error.returncode}"
        raise MachineError(
            f"the Python at {executable} does not run", evidence=evidence, hint=f"{executable} -I -V"
        ) from error
    return last_line(done.stdout)


def _interpreter(executable: Path, answer: _Answer, environ: Mapping[str, str]) -> Interpreter:
    folders = [*answer.site_packages, *(folder for folder in answer.purelib if folder.is_dir())]
    if answer.user_site is not None and answer.user_site.is_dir() and not environ.get("PYTHONNOUSERSITE"):
        folders.insert(0, answer.user_site)
    return Interpreter(
        executable=executable,
        version=answer.version,
        implementation=answer.implementation,
        abi=answer.abi,
        platform=answer.platform.replace("-", "_").replace(".", "_"),
        machine=answer.machine,
        prefix=answer.prefix,
        base_executable=answer.base_executable,
        site_packages=tuple(dict.fromkeys(folders)),
        include=answer.include,
        has_headers=(answer.include / "Python.h").is_file(),
        externally_managed=answer.managed,
    )
