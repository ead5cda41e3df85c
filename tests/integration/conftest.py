"""What the integration tests share: one cache for the session, with a real torch and a real toolkit in it.

The cache lies in ``.test-cache`` of the checkout (or where CUDABUILD_TEST_CACHE says), so that a second run
does not install torch again. Every device compilation that a test causes is counted: ``.ci/run`` prints how
many there were.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from buildkit.build.borrow import plan_loan
from buildkit.build.context import Context
from buildkit.build.places import Places
from buildkit.build.toolkit_view import make_view
from buildkit.build.toolkits import install_wheel_toolkit
from buildkit.build.torches import ensure_torch
from buildkit.machine.compiler import find_host_compiler
from buildkit.machine.identity import Memo
from buildkit.machine.interpreter import Interpreter, active_interpreter
from buildkit.machine.toolkit import Toolkit
from buildkit.progress import Silent
from buildkit.source.index_settings import read_index_settings
from buildkit.store.store import Store

TORCH = "2.13.0+cu130"
ROOT = Path(__file__).resolve().parents[2]
_COMPILATION = re.compile(r"(?:^|[\/\s])nvcc\s.*\.cu\b")


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment as a person's shell has it: no active environment, no exported build settings."""
    dropped = {
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "TORCH_CUDA_ARCH_LIST",
        "CUDA_HOME",
        "CUDA_PATH",
        "PYTHONPATH",
        "CXX",
        "CC",
    }
    kept = {k: v for k, v in os.environ.items() if k not in dropped and not k.startswith("CUDABUILD_")}
    return {**kept, **(extra or {})}


@dataclass(frozen=True)
class Ran:
    """How a console script ended: exit code, both streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        value: dict[str, Any] = json.loads(self.out)
        return value


Cudabuild = Callable[..., Ran]


@pytest.fixture(scope="session", autouse=True)
def _no_byte_code_in_what_is_shared() -> Iterator[None]:
    """A program of a test's person would write it through links into the session's torch, and that would no longer be
    what was installed: builds that use it meanwhile end. Tests that ask what is written set the variable to nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        yield


@pytest.fixture(scope="session")
def cache() -> Path:
    """The cache of the session."""
    folder = Path(os.environ.get("CUDABUILD_TEST_CACHE", ROOT / ".test-cache"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def console_script() -> Path:
    """The installed ``cudabuild``: what a person types."""
    script = Path(sysconfig.get_path("scripts")) / "cudabuild"
    assert script.is_file(), (
        f"install the project first: {sys.executable} -m pip install '.[test]' ({script} is missing)"
    )
    return script


@pytest.fixture(scope="session")
def plain_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment without torch and without pip, as the active one."""
    folder = tmp_path_factory.mktemp("active") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder


@pytest.fixture(scope="session")
def cudabuild(console_script: Path, cache: Path, plain_environment: Path) -> Cudabuild:
    """Run the console script in a subprocess: ``cudabuild("diso", "--json", env={...}, cwd=..., timeout=600)``.

    ``prefix`` holds the words of a program that starts it (strace, setpriv).
    """

    def run(
        *words: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 900.0,
        prefix: Sequence[str] = (),
    ) -> Ran:
        environment = clean_environment(
            {"CUDABUILD_CACHE": str(cache), "VIRTUAL_ENV": str(plain_environment), **(env or {})}
        )
        done = subprocess.run(
            [*prefix, str(console_script), *words],
            env=environment,
            cwd=cwd or plain_environment,
            capture_output=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture(scope="session")
def context(cache: Path) -> Context:
    """What the build modules need, on the session's cache."""
    places = Places(cache)
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


@pytest.fixture(scope="session")
def interpreter(context: Context, plain_environment: Path) -> Interpreter:
    """The Python that tests build for."""
    return active_interpreter(plain_environment, context.environ, context.cwd, context.memo)


@pytest.fixture(scope="session")
def torch_site(context: Context, interpreter: Interpreter) -> Path:
    """The site-packages folder of torch 2.13.0+cu130, installed by cudabuild."""
    return ensure_torch(context.places.torch, interpreter, TORCH, context.installer(), Silent()).location


@pytest.fixture(scope="session")
def torch_environment(
    context: Context, interpreter: Interpreter, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A person's environment with torch and all it requires, without pip and without byte code.

    Torch's Python files and all metadata are its own; libraries, headers and the other packages are links. At one
    place, so that what the cache knows of it is of use again (in a place of this session's own while another
    session uses that one), and made anew unless it is as it was made.
    """
    lender = ensure_torch(context.places.torch, interpreter, TORCH, context.installer(), Silent())
    loan = plan_loan(lender, interpreter, context.memo)
    name = hashlib.sha256(os.fsencode(cache)).hexdigest()[:8]
    parent = Path(tempfile.gettempdir()) / f"cudabuild-tests-{os.getuid()}-{name}"
    parent.mkdir(exist_ok=True)
    with (parent / "lock").open("a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            parent = tmp_path_factory.mktemp("person")
        made, folder = parent / "made", parent / "venv"
        if not made.is_file() or made.read_text(encoding="utf-8") != _state(folder, loan.fingerprint):
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
            site = next(folder.glob("lib/python*/site-packages"))
            # Torch requires setuptools, which is not lent.
            tools = [path.name for name in ("setuptools*", "*distutils*") for path in lender.location.glob(name)]
            for entry in {*loan.entries, *tools}:
                _copy_or_link(lender.location / entry, site / entry)
            made.write_text(_state(folder, loan.fingerprint), encoding="utf-8")
        yield folder


def _state(folder: Path, fingerprint: str) -> str:
    """What is in the environment: a test that failed may have left something."""
    found = [fingerprint, sys.executable]
    for top, _folders, files in os.walk(folder):
        states = ((f"{top}/{name}", os.lstat(f"{top}/{name}")) for name in files)
        found += [f"{path} {state.st_mode} {state.st_size} {state.st_mtime_ns}" for path, state in states]
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()


def _copy_or_link(source: Path, destination: Path) -> None:
    own = {"torch"} | {path.name for path in source.parent.glob("*.dist-info")}
    if source.name in own:
        shutil.copytree(source, destination, ignore=_not_python, symlinks=True)
        for folder in ("include", "lib", "share", "bin"):
            if source.name == "torch" and (source / folder).is_dir():
                (destination / folder).symlink_to(source / folder)
        for library in source.glob("*.so"):
            (destination / library.name).symlink_to(library)
    elif source.exists():
        destination.symlink_to(source)


def _not_python(folder: str, names: list[str]) -> set[str]:
    """What is not copied of torch: byte code, and what is linked."""
    left = (
        {"__pycache__", "include", "lib", "share", "bin", "test"} if Path(folder).name == "torch" else {"__pycache__"}
    )
    return {name for name in names if name in left or name.endswith((".so", ".a", ".h", ".cuh"))}


@pytest.fixture(scope="session")
def person(torch_site: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of somebody whose active environment has torch (by a path file) and who sees no GPU."""
    folder = tmp_path_factory.mktemp("borrower") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    site.joinpath("torch.pth").write_text(f"{torch_site}\n", encoding="utf-8")
    return {"VIRTUAL_ENV": str(folder), "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="session")
def wheel_toolkit(context: Context, interpreter: Interpreter) -> Toolkit:
    """The CUDA 13.0 toolkit from wheels."""
    return install_wheel_toolkit("13.0", interpreter, context)


@pytest.fixture(scope="session")
def toolkit_view(context: Context, wheel_toolkit: Toolkit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CUDA_HOME made from it."""
    compiler = find_host_compiler(context.environ, context.memo)
    return make_view(wheel_toolkit, [], tmp_path_factory.mktemp("view") / "cuda", compiler=compiler.path)


@pytest.fixture(scope="session", autouse=True)
def _counted_compilations(cache: Path) -> Iterator[None]:
    """Count the device compilations in the logs of the builds that this session ran, a line for each log.

    Processes that run side by side each tell of every log: the greater number of two is the later one.
    """
    started = time.time()
    yield
    counter = os.environ.get("CUDABUILD_COMPILATIONS")
    for log in (cache / "logs").glob("*.log") if counter else ():
        if log.stat().st_mtime >= started:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            count = sum(1 for line in lines if _COMPILATION.search(line) and " -c " in line)
            with Path(str(counter)).open("a", encoding="utf-8") as file:
                file.write(f"{count} {log.name}\n")


@pytest.fixture(scope="module")
def own_broker() -> Iterator[dict[str, str]]:
    """The variable that gives a build a broker of its own.

    For a build whose whole tree of processes is looked at: else it may hold the broker of other builds beside it.
    """
    with tempfile.TemporaryDirectory(prefix="cb-") as folder:  # the path of a socket has to be short
        yield {"XDG_RUNTIME_DIR": folder}


LONGEST = (
    "test_broker_load", "test_index_package", "test_verify_installed", "test_install", "test_isolation",
    "test_store_hit", "test_lookalikes", "test_bad_input", "test_canary", "test_docker_images", "test_resume",
    "test_commands", "test_deferral", "test_real_probes", "test_background", "test_shim_real", "test_survivors",
    "test_service_pages",
)  # fmt: skip
"""Files that take longest come first, and unit tests last, so that all processes end at about the same time. Before
them one without torch, which another process installs meanwhile."""


NIGHT = ("test_packages.py", "test_lookalikes_pip.py")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What is for the night is there only where somebody asks for it, by its marker or by the file's name."""
    if collection_path.name not in NIGHT:
        return None
    by_marker = re.search(r"(?<!not )\b(packages|weekly)\b", config.option.markexpr)
    return None if by_marker or any(collection_path.name in argument for argument in config.args) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is an integration test."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.integration)
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order) + (not item.path.is_relative_to(here))))
