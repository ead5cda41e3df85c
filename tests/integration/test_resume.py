"""A build that was killed half way goes on with what is finished, and its wheel is that of a build that was not.

What compilers ran is counted from outside (strace), not from what cudabuild says. nvcc names its temporary files after
its process, and the names get into the symbol table as that of the file; so two clean builds of one CUDA source
differ there and in the build id, and nowhere else. That is left out here, on both sides.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from wheels import loaded_content

from buildkit.build.resuming import OBJECTS

pytestmark = pytest.mark.integration

MODULE = """#include <Python.h>
{declared}
static PyObject *answer(PyObject *, PyObject *) {{ return PyLong_FromLong({called}); }}
static PyMethodDef methods[] = {{{{"answer", answer, METH_NOARGS, ""}}, {{nullptr, nullptr, 0, nullptr}}}};
static PyModuleDef module = {{PyModuleDef_HEAD_INIT, "_C", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr}};
PyMODINIT_FUNC PyInit__C() {{ return PyModule_Create(&module); }}
"""
HOST = """#include <string>
#include "number.h"
int host_{n}() {{ return NUMBER + static_cast<int>(std::to_string({n}).size()); }}
"""
DEVICE = """#include "number.h"
namespace {{ __global__ void fill(int *x) {{ x[threadIdx.x] = NUMBER + {n}; }} }}
int device_{n}() {{ if (NUMBER > 9) fill<<<1, 1>>>(nullptr); return {n}; }}
"""
SETUP = """from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CUDAExtension
setup(name="halfway", version="1.0", packages=["halfway"], cmdclass={"build_ext": BuildExtension},
      ext_modules=[CUDAExtension("halfway._C", %r, include_dirs=["csrc"])])
"""
CMAKE = """cmake_minimum_required(VERSION 3.18)
project(halfway LANGUAGES CXX)
find_package(Python REQUIRED COMPONENTS Interpreter Development.Module)
file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/number.h "#define NUMBER 1\\n")
python_add_library(_C MODULE %s WITH_SOABI)
target_include_directories(_C PRIVATE ${CMAKE_CURRENT_BINARY_DIR})
install(TARGETS _C DESTINATION halfway)
"""
BACKENDS = {
    "setuptools": ('["setuptools>=64", "torch"]', "setuptools.build_meta"),
    "scikit-build-core": ('["scikit-build-core>=0.10", "cmake>=3.18", "ninja"]', "scikit_build_core.build"),
}
CPU = ("--device", "cpu", "--torch", "2.13.0+cu130")
WORDS = {
    "setuptools": ("--torch", "2.13.0+cu130", "--target", "7.5", "--no-canary", "--jobs", "2"),
    "scikit-build-core": (*CPU, "--jobs", "2"),
}
ENDINGS = {"setuptools": signal.SIGKILL, "scikit-build-core": signal.SIGINT}
"""Nothing is told of a kill, as of a machine that loses its power; after Ctrl-C the command ends by itself."""
JOBS = 2


def make_package(folder: Path, backend: str) -> list[str]:
    """A package of several sources; returns their names."""
    cuda = backend == "setuptools"
    (folder / "csrc").mkdir(parents=True)
    (folder / "halfway").mkdir()
    (folder / "halfway" / "__init__.py").write_text("from halfway import _C\n", encoding="utf-8")
    functions = [f"host_{n}" for n in range(4)] + ([f"device_{n}" for n in range(2)] if cuda else [])
    texts = {f"host_{n}.cpp": HOST.format(n=n) for n in range(4)}
    texts |= {f"device_{n}.cu": DEVICE.format(n=n) for n in range(2 if cuda else 0)}
    texts["module.cpp"] = MODULE.format(
        declared="\n".join(f"int {name}();" for name in functions), called=" + ".join(f"{name}()" for name in functions)
    )
    for name, text in texts.items():
        (folder / "csrc" / name).write_text(text, encoding="utf-8")
    sources = [f"csrc/{name}" for name in sorted(texts)]
    requires, module = BACKENDS[backend]
    project = "" if cuda else '[project]\nname = "halfway"\nversion = "1.0"\n'
    (folder / "pyproject.toml").write_text(
        f'[build-system]\nrequires = {requires}\nbuild-backend = "{module}"\n{project}', encoding="utf-8"
    )
    if cuda:
        (folder / "csrc" / "number.h").write_text("#define NUMBER 1\n", encoding="utf-8")
        (folder / "setup.py").write_text(SETUP % sources, encoding="utf-8")
    else:
        (folder / "CMakeLists.txt").write_text(CMAKE % " ".join(sources), encoding="utf-8")
    return sorted(texts)


class Trial:
    """One package, and the cache in which it is built."""

    def __init__(self, folder: Path, backend: str, console_script: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.backend = backend
        self.sources = make_package(folder / "halfway", backend)
        self.script = console_script
        self.environment = environment
        # The build's key, and so its folder, is this test's alone.
        self.sign = f"{backend}-{time.time_ns()}"
        (folder / "halfway" / self.sign).touch()
        self.builds = Path(environment["CUDABUILD_CACHE"]) / "builds"
        self.traces: list[Path] = []

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        trace = self.folder / f"trace-{len(self.traces)}"
        self.traces.append(trace)
        strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-s", "100000", "-e", "trace=execve", "-o", str(trace)]
        return subprocess.Popen(
            [*strace, str(self.script), "build", "./halfway", *WORDS[self.backend], "--require", "imported", "--json",
             "--out", str(self.folder / f"out-{len(self.traces)}"), *more],
            cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def finished(self) -> int:
        """How many objects of our sources are kept by now; a backend that configures compiles others on the way."""
        found: set[str] = set()
        for sign in (*self.builds.glob(f"*/src/{self.sign}"), *self.builds.glob(f"*/src/*/{self.sign}")):
            build = sign.relative_to(self.builds).parts[0]
            for path in (self.builds / build / OBJECTS).glob("?" * 64):
                data = path.read_bytes()
                found |= {name for name in self.sources if f"/{name}\n".encode() in data}
        return len(found)

    def finish(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err.decode()
        answer: dict[str, Any] = json.loads(out)
        return answer

    def end_half_way(self) -> None:
        """Send the signal to the command, and to nothing else, when half of the units are finished."""
        process = self.start()
        deadline = time.monotonic() + 240
        while self.finished() < len(self.sources) // 2:
            assert process.poll() is None, process.communicate()[1].decode()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (command,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii").split()
        os.kill(int(command), ENDINGS[self.backend])
        process.communicate(timeout=60)
        assert process.returncode == (-signal.SIGKILL if ENDINGS[self.backend] == signal.SIGKILL else 130)

    def compilers(self) -> Counter[str]:
        """Executions of compilers proper over all runs, by source: cicc and, for a .cpp, cc1plus."""
        counts: Counter[str] = Counter()
        for trace in self.traces:
            for line in trace.read_text("utf-8", errors="replace").splitlines():
                program = re.search(r'execve\("[^"]*/(cicc|cc1plus)"', line)
                for name in self.sources if program else ():
                    if f'{name}"' in line and ((program[1] == "cicc") == name.endswith(".cu")):  # type: ignore[index]
                        counts[name] += 1
        return counts


@pytest.fixture(params=sorted(BACKENDS))
def trial(
    request: pytest.FixtureRequest, tmp_path: Path, console_script: Path, cache: Path, plain_environment: Path
) -> Trial:
    assert shutil.which("strace"), "strace is missing: apt-get install strace"
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "VIRTUAL_ENV": str(plain_environment)}
    return Trial(tmp_path, request.param, console_script, {**environment, "CUDABUILD_CACHE": str(cache)})


def test_a_build_that_was_ended_goes_on_with_what_is_finished(trial: Trial, tmp_path: Path) -> None:
    trial.end_half_way()
    resumed = trial.finish(trial.start())
    counts = trial.compilers()
    assert set(counts) == set(trial.sources)
    assert sum(counts.values()) <= len(trial.sources) + JOBS, counts
    assert resumed["guard"]["kept"] >= len(trial.sources) // 2
    assert resumed["guard"]["units"] > len(trial.sources)
    clean = trial.finish(trial.start("--no-resume", "--refresh"))
    assert clean["guard"]["kept"] == 0
    assert trial.compilers() == counts + Counter(trial.sources)
    assert loaded_content(resumed["wheel"]["path"], tmp_path) == loaded_content(clean["wheel"]["path"], tmp_path)


HUNGRY = """import os
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
class Build(build_ext):
    def run(self):
        super().run()
        if int(os.environ["MAX_JOBS"]) > %d:
            bytearray(1 << 60)
setup(name="hungry", version="1.0", packages=["hungry"], cmdclass={"build_ext": Build},
      ext_modules=[Extension("hungry._c", ["a.c", "b.c"])])
"""
MODULE_C = """#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_c", 0, -1, 0, 0, 0, 0, 0};
PyMODINIT_FUNC PyInit__c(void) { return PyModule_Create(&module); }
"""


@pytest.mark.parametrize(("enough", "code"), [(1, 0), (0, 7)])
def test_a_backend_without_memory_gets_one_more_try_with_fewer_jobs(
    cudabuild: Any, tmp_path: Path, enough: int, code: int
) -> None:
    package = tmp_path / "hungry"
    (package / "hungry").mkdir(parents=True)
    (package / "hungry" / "__init__.py").write_text(f"# {time.time_ns()}\nfrom hungry import _c\n", encoding="utf-8")
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools>=64"]\nbuild-backend = "setuptools.build_meta"\n', encoding="utf-8"
    )
    (package / "setup.py").write_text(HUNGRY % enough, encoding="utf-8")
    (package / "a.c").write_text(MODULE_C, encoding="utf-8")
    (package / "b.c").write_text("int b;\n", encoding="utf-8")
    words = ("build", "./hungry", *CPU, "--jobs", "3", "--json", "--require", "imported")
    done = cudabuild(*words, cwd=tmp_path)
    assert done.code == code, done.err
    answer = done.json
    assert (answer["guard"]["retries"], answer["guard"]["kept"]) == (1, 2)
    assert any("once more with 1 at a time" in note for note in answer["notes"])
    assert "memory ran out while building (MemoryError)" in done.err
    if code:
        assert (answer["error"]["kind"], answer["error"]["evidence"]) == ("out-of-memory", "MemoryError")
        again = cudabuild(*words, "--no-resume", cwd=tmp_path)
        assert "going on where" not in again.err
        assert (
            "going on where the last try of this build stopped; finished objects: 2 "
            in cudabuild(*words, cwd=tmp_path).err
        )
