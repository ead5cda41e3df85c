"""The key's list of inputs is held against a trace of a real build: what it reads, what it runs, what it is told.

strace follows the guarded build. Every file that was read outside of the build's own folder belongs to an
input that is in the key, or is named here as one that cannot change a wheel; every variable is in the key.
Anything else fails the test by name: a new input shows.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from buildkit.build.context import Context
from buildkit.build.environ import NOT_IN_KEY, resolve
from buildkit.guard.leftovers import TAG
from buildkit.guard.native import PROGRAM, SHIM
from buildkit.guard.shim import BYPASS, GUARD_VARIABLES, LAUNCHERS, MARKER, shimmed_environment
from buildkit.machine.compiler import find_host_compiler
from buildkit.machine.interpreter import Interpreter
from buildkit.machine.system_inputs import PROGRAMS, SearchFolders, search_folders

pytestmark = pytest.mark.integration

PACKAGE = Path(__file__).parents[1] / "packages" / "fastcuda"
WORDS = ("--target", "7.5", "--torch", "2.13.0+cu130", "--json")
CALLS = "trace=%process,open,openat,openat2"
SECRETS = {
    "GITHUB_TOKEN": "leak-1",
    "UV_PUBLISH_TOKEN": "leak-2",
    "TWINE_PASSWORD": "leak-3",
    "AWS_SECRET_ACCESS_KEY": "leak-4",
    "NETRC": "/leak-5/netrc",
    "PIP_TIMEOUT": "61",
    "PIP_CONSTRAINT": "/leak-6/constraints.txt",
    "CFLAGS": "-Dleak-7",
    "CPATH": "/leak-8",
    "PYTHONPATH": "/leak-9",
    "NVCC_APPEND_FLAGS": "--leak-10",
    "SKBUILD_LEAK": "leak-11",
    "DISTUTILS_USE_SDK": "leak-12",
}

FRONTEND = Path(str(importlib.util.find_spec("pyproject_hooks").origin)).parent  # type: ignore[union-attr]
"""The script that calls the backend is cudabuild's own part."""
OWN = Path(str(importlib.util.find_spec("buildkit.build.deferral").origin)).parent  # type: ignore[union-attr]
"""And so is what is put in front of it; BUILD_EDITION is raised should it ever change a wheel."""
OWN_PACKAGES = frozenset(
    file for folder in (OWN.parent, OWN.parent.parent) for file in (folder, folder / "__init__.py")
)
HARMLESS_FILES = re.compile(
    r"/dev/(null|u?random|tty)|/proc/.*|/sys/.*"
    r"|/etc/(ld\.so\.cache|locale\.alias|ssl/openssl\.cnf|localtime|nsswitch\.conf|passwd|group)"
    r"|/usr/(lib|share)/(locale|zoneinfo)/.*|/usr/lib/(.*-linux-gnu/)?gconv/.*"
)
"""The kernel's own, and data for messages and times: LC_ALL and SOURCE_DATE_EPOCH are in the key."""
TOOLS = frozenset({"nvcc", "cicc", "cudafe++", "ptxas", "fatbinary", "nvlink", "bin2c"})
"""The toolkit's programs whose content is its identity."""
HARMLESS_PROGRAMS = frozenset({"sh", "dash", "bash", "ldconfig", "which", "uname", "env", PROGRAM, SHIM})
"""They start others or answer questions about the machine; nothing that they write ends up in a wheel."""


@dataclass
class Trace:
    """What the guarded tree did: real paths opened, with the programs that did; programs run, with variables."""

    opened: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    ran: list[tuple[str, dict[str, str]]] = field(default_factory=list)


def read_trace(file: Path) -> Trace:
    """Of ``strace -f -y -v``, the part below the supervisor."""
    lines = []
    with file.open(encoding="utf-8", errors="surrogateescape") as stream:
        for line in stream:
            pid, _, call = line.partition(" ")
            lines.append((pid, call.strip()))
    children: dict[str, set[str]] = defaultdict(set)
    guarded: set[str] = set()
    for pid, call in lines:
        if call.startswith("execve(") and '/cudabuild-supervisor", [' in call:
            guarded.add(pid)
        elif born := re.search(r"\b(?:clone3?|v?fork)\b.* = (\d+)(?:<.*>)?$", call):
            children[pid].add(born[1])
    todo = list(guarded)
    while todo:
        todo += (fresh := children[todo.pop()] - guarded)
        guarded |= fresh
    return _collected([(pid, call) for pid, call in lines if pid in guarded])


def _collected(lines: list[tuple[str, str]]) -> Trace:
    trace, program = Trace(), defaultdict(str)
    pending: dict[str, str] = {}
    for pid, line in lines:
        call = line
        if line.endswith("<unfinished ...>"):
            pending[pid] = line.removesuffix("<unfinished ...>")
            continue
        if resumed := re.match(r"<\.\.\. \w+ resumed>", line):
            call = pending.pop(pid, "") + line[resumed.end() :]
        if call.startswith("execve(") and call.endswith(" = 0"):
            path, variables = _execution(call)
            program[pid] = Path(path).name
            trace.ran.append((path, variables))
        elif opened := re.search(r"^open.* = \d+<(.*)>$", call):
            trace.opened[opened[1].removesuffix(" (deleted)")].add(program[pid])
    return trace


def _execution(call: str) -> tuple[str, dict[str, str]]:
    path, _words, variables = ast.literal_eval(re.sub(r"^execve|\s+= 0$", "", call))
    return path, dict(text.partition("=")[::2] for text in variables)


@dataclass
class Inputs:
    """The places of this session's inputs."""

    cache: Path
    python: re.Pattern[str]
    toolkits: list[Path]
    folders: SearchFolders
    linked: set[str]
    compiler: set[str]

    def of(self, path: str, programs: set[str]) -> str | None:
        """The field of the key that a file belongs to, ``harmless``, or None."""
        here = Path(path)
        ours = {
            "builds": "the build's own",
            "environments": "requirements",
            "borrowed": "torch",
            "torch": "torch",
            "views": "toolkit",
            "toolkits": "toolkit",
            "pycache": "byte code of the others",
            "native": "the supervisor",
            "shims": "the shims",
        }
        if here in {self.cache / "store", self.cache / "wheels"}:
            return "hidden"  # the folders alone: an empty one is laid over each
        if here.is_relative_to(self.cache):
            return ours.get(here.relative_to(self.cache).parts[0])
        holds = {
            "toolkit": any(here.is_relative_to(root) for root in self.toolkits),
            "compiler": path in self.compiler,
            "headers": any(path.startswith(f"{folder}/") for folder in self.folders.headers),
            "interpreter": self.python.fullmatch(path) is not None,
            "the frontend": here.is_relative_to(FRONTEND) or here.is_relative_to(OWN) or here in OWN_PACKAGES,
            "harmless": HARMLESS_FILES.fullmatch(path) is not None,
        }
        return next((name for name, held in holds.items() if held), None) or self._of_library(here, programs)

    def _of_library(self, path: Path, programs: set[str]) -> str | None:
        if str(path.parent) not in self.folders.libraries:
            return None
        if programs & {"ld", "collect2"} and str(path) in self.linked:
            return "libraries"
        if re.match(r"(libc|libm|libmvec|ld-linux.*)\.so\.\d+$", path.name):
            return "glibc"
        # What a program loads to run is the program's own part: libstdc++ of ninja, libbfd of as.
        return "loaded" if ".so" in path.name and path.name.startswith("lib") else None


@pytest.fixture(scope="module")
def traced(
    cudabuild: Callable[..., Any], own_broker: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Trace, dict[str, Any]]:
    """A build of fastcuda under strace, and the plan's account of the same inputs."""
    assert shutil.which("strace"), "strace is missing: apt-get install strace"
    folder = tmp_path_factory.mktemp("traced")
    source = folder / "fastcuda"
    shutil.copytree(PACKAGE, source)
    with (source / "setup.py").open("a", encoding="utf-8") as file:
        file.write(f"# {os.getpid()} {folder}: a source that no store has\n")
    strace = ("strace", "-f", "-y", "-v", "-qq", "-s", "1000000", "-e", CALLS, "-o", str(folder / "trace"))
    # The canary is a build of its own, with a key of its own.
    words = ("build", "./fastcuda", *WORDS, "--no-canary")
    # Who is whose child is read from what clone has returned: no number of another namespace.
    told = {**SECRETS, **own_broker, "CUDABUILD_CONTAINMENT": "subreaper"}
    built = cudabuild(*words, env=told, cwd=folder, prefix=strace)
    assert built.code == 0, built.err
    assert built.json["cache"] == "miss"
    planned = cudabuild("plan", "./fastcuda", *WORDS, cwd=folder)
    assert planned.json["key"] == built.json["key"], "variables that are not passed on changed the key"
    assert planned.json["cache"] == "hit"
    trace = read_trace(folder / "trace")
    (folder / "trace").unlink()
    return trace, planned.json


@pytest.fixture(scope="module")
def inputs(context: Context, interpreter: Interpreter, cache: Path, traced: tuple[Trace, dict[str, Any]]) -> Inputs:
    compiler = find_host_compiler(context.environ, context.memo)
    folders = search_folders(compiler, context.memo)
    # The session's other tests made views of other toolkits in the same cache.
    (view,) = {Path(variables["CUDA_HOME"]) for _path, variables in traced[0].ran if "CUDA_HOME" in variables}
    toolkits = {Path(os.path.realpath(view / name)).parent.parent for name in (f"bin/{MARKER}/nvcc", "include/cuda.h")}
    linkable = (path for folder in folders.libraries for path in Path(folder).iterdir())
    memo = context.memo.get("compiler", str(compiler.path), _identity(compiler.path))
    assert isinstance(memo, dict)
    files = memo["files"]
    assert isinstance(files, dict)
    return Inputs(
        cache=cache.resolve(),
        python=_files_of(interpreter),
        toolkits=[root for root in toolkits if root != Path("/usr")],
        folders=folders,
        linked={os.path.realpath(path) for path in linkable if re.fullmatch(r"lib.+\.(so|a)|.+\.o", path.name)},
        compiler={os.path.realpath(str(path)) for path in files.values()} | {str(compiler.path.resolve())},
    )


def _files_of(python: Interpreter) -> re.Pattern[str]:
    """The base interpreter's program, library, standard library and headers; Debian's has a file in /etc."""
    base, name = python.base_executable.resolve(), re.escape(python.include.name)
    root = re.escape(str(base.parent.parent))
    return re.compile(
        rf"{re.escape(str(base))}|{root}/lib(64)?/(lib{name}\.so.*|{name}(/.*)?)|{root}/include/{name}/.*"
        rf"|/etc/{name}/sitecustomize\.py"
    )


def _identity(path: Path) -> object:
    from buildkit.machine.identity import file_identity

    return file_identity(path)


def test_every_file_read_belongs_to_an_input(traced: tuple[Trace, dict[str, Any]], inputs: Inputs) -> None:
    opened = traced[0].opened
    classes: dict[str | None, list[str]] = defaultdict(list)
    for path, programs in sorted(opened.items()):
        classes[inputs.of(path, programs)].append(path)
    assert not classes[None], f"read by the build, and part of no input: {classes[None]}"
    expected = {"requirements", "torch", "toolkit", "compiler", "headers", "interpreter", "libraries", "glibc"}
    assert expected <= classes.keys(), "the trace misses what every build reads"
    assert len(opened) > 500


@pytest.mark.parametrize(
    "path",
    [
        "/etc/hostname",
        "/opt/other/include/foo.h",
        "/usr/lib/python3/dist-packages/x.py",
        "/root/.gitconfig",
        "/usr/share/x",
    ],
)
def test_a_new_input_would_show(inputs: Inputs, path: str) -> None:
    assert inputs.of(path, {"python"}) is None


def test_every_program_run_belongs_to_an_input(traced: tuple[Trace, dict[str, Any]], inputs: Inputs) -> None:
    unknown = set()
    for path, _variables in traced[0].ran:
        real = os.path.realpath(path)
        name, place = Path(path).name, inputs.of(real, set())
        known = name in HARMLESS_PROGRAMS or name in PROGRAMS or real in inputs.compiler
        ours = place in {"requirements", "interpreter", "the shims"}
        if not known and not ours and (place, name in TOOLS) != ("toolkit", True):
            unknown.add(path)
    assert not unknown
    names = {Path(path).name for path, _variables in traced[0].ran}
    assert {"python", "ninja", "nvcc", "cicc", "ptxas", "cc1plus", "ld"} <= names


def test_programs_are_in_the_key_by_content(traced: tuple[Trace, dict[str, Any]]) -> None:
    programs = traced[1]["inputs"]["programs"]
    called = {Path(path).name for path, _variables in traced[0].ran if Path(path).parent.name == "bin"}
    assert {"g++", "gcc", "as", "ld"} <= programs.keys()
    assert called & set(PROGRAMS) <= programs.keys() | {"ninja"}, "ninja comes with the build environment"


def test_every_variable_is_in_the_key(traced: tuple[Trace, dict[str, Any]]) -> None:
    trace, plan = traced
    backend = [variables for path, variables in trace.ran if path.endswith("/bin/python")]
    assert backend
    for variables in backend:
        own = {name: value for name, value in variables.items() if not name.startswith("_PYPROJECT_HOOKS_")}
        assert own.pop(TAG)
        # Where the broker is: it decides when a compiler runs, never what it is told. Nothing in here starts one.
        assert GUARD_VARIABLES - {name for name in GUARD_VARIABLES if own.pop(name, None)} == {
            BYPASS,
            "CUDABUILD_BROKER",
        }
        shims = Path(own["PATH"].partition(":")[0])
        places = {
            "env": Path(own["VIRTUAL_ENV"]),
            "view": Path(own["CUDA_HOME"]),
            "build": Path(own["HOME"]).parent,
            "pycache": Path(own["PYTHONPYCACHEPREFIX"]),
        }
        jobs = int(own["MAX_JOBS"])
        assert own == shimmed_environment(resolve(plan["inputs"]["environment"], places, jobs=jobs), shims)
        assert own.keys() - plan["inputs"]["environment"].keys() == NOT_IN_KEY | set(LAUNCHERS)


def test_no_secret_and_no_setting_of_the_person_reaches_the_build(traced: tuple[Trace, dict[str, Any]]) -> None:
    for path, variables in traced[0].ran:
        assert not SECRETS.keys() & variables.keys(), path
        assert not [value for value in variables.values() if "leak-" in value], path
