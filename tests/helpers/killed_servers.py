"""A real ``cudabuild serve`` that can be killed, and what its builds have compiled, counted from outside (strace)."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from processes import wait_until

RECIPE = """edition = 1
name = "{name}"
summary = "C files that take a moment to compile"
license = {{ spdx = "MIT", redistributable = true }}
[[version]]
version = "1.0"
folder = "{folder}"
[build]
torch = false
requires = ["setuptools>=64"]
[verify]
imports = ["{name}"]
"""
PROJECT = """[build-system]
requires = ["setuptools>=64"]
build-backend = "setuptools.build_meta"
[project]
name = "{name}"
version = "1.0"
[tool.setuptools]
packages = ["{name}"]
ext-modules = [{{ name = "{name}._c", sources = [{sources}] }}]
"""
MODULE = """#include <Python.h>
{declared}
static PyObject *answer(PyObject *self, PyObject *none) {{ return PyLong_FromLong({called}); }}
static PyMethodDef methods[] = {{{{"answer", answer, METH_NOARGS, ""}}, {{0}}}};
static struct PyModuleDef module = {{PyModuleDef_HEAD_INIT, "_c", 0, -1, methods}};
PyMODINIT_FUNC PyInit__c(void) {{ return PyModule_Create(&module); }}
"""
SLOW = """#define A(n) int n(int x) {{ return x * 7 % 13 + x / 3; }}
#define B(n) A(n##0) A(n##1) A(n##2) A(n##3) A(n##4) A(n##5) A(n##6) A(n##7)
#define C(n) B(n##0) B(n##1) B(n##2) B(n##3) B(n##4) B(n##5) B(n##6) B(n##7)
C({prefix}0) C({prefix}1)
int value_{n}(void) {{ return {prefix}000({n}); }}
"""
_COMPILED = re.compile(r'execve\("[^"]*/cc1"[^\n]*?"(?:[^"]*/)?(?P<name>\w+\.c)"')
_SAYS = re.compile(r" on (https?://\S+?)/? \(Ctrl-C")
SECRETS = ("CUDABUILD_", "VIRTUAL_ENV", "CONDA_PREFIX")


def make_recipe(folder: Path, name: str, files: int = 3) -> list[str]:
    """A project and its recipe, in ``folder/recipes``; the names of its sources."""
    package = folder / name / name
    package.mkdir(parents=True)
    names = [f"value_{n}.c" for n in range(files)]
    for n, source in enumerate(names):
        (package / source).write_text(SLOW.format(n=n, prefix=f"f{n}_"), encoding="utf-8")
    declared = "\n".join(f"int value_{n}(void);" for n in range(files))
    called = " + ".join(f"value_{n}()" for n in range(files))
    (package / "module.c").write_text(MODULE.format(declared=declared, called=called), encoding="utf-8")
    (package / "__init__.py").write_text(f"from {name} import _c\n", encoding="utf-8")
    sources = ", ".join(f'"{name}/{source}"' for source in ["module.c", *names])
    (folder / name / "pyproject.toml").write_text(PROJECT.format(name=name, sources=sources), encoding="utf-8")
    recipe = folder / "recipes" / name
    recipe.mkdir(parents=True)
    (recipe / "recipe.toml").write_text(RECIPE.format(name=name, folder=folder / name), encoding="utf-8")
    return sorted(["module.c", *names])


@dataclass
class Service:
    """A server on one database and cache, started again and again."""

    folder: Path
    cache: Path
    database: str
    script: Path
    options: tuple[str, ...] = ()
    traced: bool = True
    url: str = ""
    _process: subprocess.Popen[bytes] | None = None
    _before: list[subprocess.Popen[bytes]] = field(default_factory=list)
    traces: list[Path] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def start(self) -> None:
        """Until it answers."""
        number = len(self.traces)
        words = [str(self.script), "serve", "--port", "0", "--database", self.database, "--log-format", "text",
                 "--recipes", str(self.folder / "recipes"), *self.options]  # fmt: skip
        self.traces.append(self.folder / f"trace-{number}")
        strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-s", "4096", "-e", "trace=execve", "-o"]
        prefix = [*strace, str(self.traces[-1])] if self.traced else []
        before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([*prefix, *words], env=self.environment(), cwd=self.folder,
                                             stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # fmt: skip

        def says() -> re.Match[str] | None:
            return _SAYS.search(self.log.read_text("utf-8", "replace")[before:])

        assert wait_until(lambda: says() is not None or self.ended(), 600), self.log.read_text("utf-8", "replace")
        found = says()
        assert found is not None, self.log.read_text("utf-8", "replace")
        self.url = found[1]

    def environment(self) -> dict[str, str]:
        """Nobody's settings."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(SECRETS)}
        return {**kept, "CUDABUILD_CACHE": str(self.cache), "CUDABUILD_CONFIG": os.devnull}

    def ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    @property
    def pid(self) -> int:
        """The server's own: strace's one child, where it is traced."""
        assert self._process is not None
        if not self.traced:
            return self._process.pid
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text(encoding="ascii")
        return int(children.split()[0])

    def kill(self) -> None:
        """SIGKILL to the server alone; what it has started lives on, and is traced on."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: not _lives(pid), 300)
        if self._process is not None:
            self._before.append(self._process)

    def stop(self) -> None:
        """As Ctrl-C does. What was traced besides (the broker lives on for a while) is let go."""
        if not self.ended():
            with contextlib.suppress(ProcessLookupError, IndexError, FileNotFoundError):
                os.kill(pid := self.pid, signal.SIGTERM)
                assert wait_until(lambda: not _lives(pid), 300)
        for process in (*self._before, self._process):
            if process is not None:
                process.terminate()
                process.wait(300)

    # The API

    def submit(self, recipe: str, idempotency: str = "", **more: Any) -> dict[str, Any]:
        headers = {"Idempotency-Key": idempotency} if idempotency else {}
        asked = {"recipe": recipe, "device": "cpu", "require": "built", **more}
        return self.ask("POST", "/builds", json=asked, headers=headers)

    def build(self, identifier: str) -> dict[str, Any]:
        return self.ask("GET", f"/builds/{identifier}")

    def ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = httpx2.request(method, f"{self.url}/api/v1{path}", timeout=300, **options)
        assert answer.status_code < 300, answer.text
        value: dict[str, Any] = answer.json()
        return value

    def log_of(self, identifier: str) -> bytes:
        answer = httpx2.get(f"{self.url}/api/v1/builds/{identifier}/log", timeout=300)
        return answer.content if answer.status_code == 200 else b""

    def wait(self, identifier: str, seconds: float = 600) -> dict[str, Any]:
        """Until it has ended."""
        assert wait_until(lambda: self.build(identifier)["ended"] is not None, seconds), self.build(identifier)
        return self.build(identifier)

    def compiled(self) -> Counter[str]:
        """How often each source was given to a compiler, over all servers of this database."""
        text = "".join(trace.read_text("utf-8", "replace") for trace in self.traces if trace.exists())
        return Counter(match["name"] for match in _COMPILED.finditer(text))


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] not in {"Z", "X"}
    return False
