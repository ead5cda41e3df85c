"""Packages that compile one file after the other, built side by side: the same wheel, the same output, the same end."""

from __future__ import annotations

import re
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backend_hook import Built, Workshop, is_running

from buildkit.build.context import Context
from buildkit.build.deferral import start
from buildkit.machine.interpreter import Interpreter

pytestmark = pytest.mark.integration
SERIAL = Path(__file__).resolve().parents[1] / "packages" / "serialcuda"

PROJECT = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
MODULE = """#include <Python.h>
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, NAME, 0, -1, 0};
PyMODINIT_FUNC INIT(void) { return PyModule_Create(&definition); }
"""
HEAD = """import glob, os
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
try:
    from setuptools.errors import CompileError
except ImportError:
    from distutils.errors import CompileError

def extension(name, *sources, **options):
    macros = [("NAME", f'"{name}"'), ("INIT", f"PyInit_{name}"), *options.pop("define_macros", [])]
    return Extension(name, ["module.c", *sources], define_macros=macros, **options)

def finish(*extensions, command=build_ext):
    setup(name="alike", version="1", py_modules=[], ext_modules=list(extensions), cmdclass={"build_ext": command})

"""
TWO = 'finish(extension("one", "a.c", "b.c"), extension("two", "a.c", "c.c", define_macros=[("TWO", None)]))\n'
TWICE = "#ifdef TWO\nint a(void) { return 2; }\n#else\nint a(void) { return 1; }\n#endif\n"

ALIKES: dict[str, dict[str, str]] = {
    "an object path used twice": {"setup.py": TWO, "a.c": TWICE},
    "has_flag": {
        "setup.py": """
def has_flag(compiler, flag):
    name = os.path.join(os.environ["TMPDIR"], "probe.c")
    with open(name, "w") as file:
        file.write("int f(void) { return 0; }")
    try:
        compiler.compile([name], output_dir=os.environ["TMPDIR"], extra_postargs=[flag])
    except CompileError:
        return False
    finally:
        os.remove(name)
    return True

class command(build_ext):
    def build_extensions(self):
        for each in self.extensions:
            each.define_macros.append(("KNOWN", int(has_flag(self.compiler, "-fno-math-errno"))))
        super().build_extensions()
    def build_extension(self, ext):
        ext.define_macros.append(("UNKNOWN", int(has_flag(self.compiler, "-fno-such-flag"))))
        super().build_extension(ext)

finish(extension("one", "a.c", "b.c"), extension("two", "b.c", "c.c"), command=command)
""",
        "a.c": "int a(void) { return 10 * KNOWN + UNKNOWN; }\n",
    },
    "a source deleted after its call": {
        "setup.py": """
class command(build_ext):
    def swig_sources(self, sources, ext):
        with open("a.c", "w") as file:
            file.write("int a(void) { return %d; }" % len(ext.name))
        return super().swig_sources(sources, ext)
    def get_export_symbols(self, ext):
        os.remove("a.c")
        return super().get_export_symbols(ext)

finish(extension("one", "a.c", "b.c"), extension("three", "a.c", "c.c"), command=command)
"""
    },
    "a source overwritten between two calls": {
        "setup.py": """
class command(build_ext):
    def swig_sources(self, sources, ext):
        with open("a.h", "w") as file:
            file.write("#define A %d" % len(ext.name))
        return super().swig_sources(sources, ext)

finish(extension("one", "a.c", "b.c"), extension("three", "a.c", "c.c"), command=command)
""",
        "a.c": '#include "a.h"\nint a(void) { return A; }\n',
    },
    "a setup.py that looks at objects before the link": {
        "setup.py": """
class command(build_ext):
    def get_export_symbols(self, ext):
        import hashlib
        name = os.path.join(self.build_temp, "b.o")
        seen = [os.path.exists(name), os.access(name, os.R_OK), sorted(os.listdir(self.build_temp))]
        seen += [sorted(glob.glob(self.build_temp + "/*.o")), hashlib.sha256(open(name, "rb").read()).hexdigest()]
        os.makedirs(self.build_lib, exist_ok=True)
        with open(os.path.join(self.build_lib, ext.name + "-seen.txt"), "w") as file:
            file.write(repr(seen))
        return super().get_export_symbols(ext)

finish(extension("one", "a.c", "b.c"), extension("two", "b.c", "c.c"), command=command)
"""
    },
    "a setup.py that asks whether an object is there": {
        "setup.py": """
class command(build_ext):
    def get_export_symbols(self, ext):
        found = os.path.exists(os.path.join(self.build_temp, "b.o"))
        ext.extra_link_args.append("-Wl,--defsym=found=%d" % (100 + found))
        return super().get_export_symbols(ext)

finish(extension("one", "a.c", "b.c"), extension("two", "b.c", "c.c"), command=command)
"""
    },
    "a build_ext that tries again": {
        "setup.py": """
class command(build_ext):
    def build_extension(self, ext):
        try:
            super().build_extension(ext)
        except CompileError:
            print("once more", ext.name)
            ext.define_macros.append(("AGAIN", None))
            super().build_extension(ext)

finish(extension("one", "a.c", "b.c"), extension("two", "b.c", "c.c"), command=command)
""",
        "a.c": "#ifndef AGAIN\n#error not yet\n#endif\nint a(void) { return 1; }\n",
    },
    "a build_ext that compiles one by one itself": {
        "setup.py": """
class command(build_ext):
    def build_extensions(self):
        for each in self.extensions:
            self.build_extension(each)
            print("made", os.path.exists(self.get_ext_fullpath(each.name)))

finish(extension("one", "a.c", "b.c"), extension("two", "b.c", "c.c"), command=command)
"""
    },
    "an optional extension that fails": {
        "setup.py": 'finish(extension("one", "a.c", "b.c"), extension("two", "bad.c", "c.c", optional=True), '
        'extension("three", "c.c"))\n',
        "bad.c": "#error never\n",
    },
    "a program that reads what was linked": {
        "setup.py": """
class command(build_ext):
    def swig_sources(self, sources, ext):
        import subprocess
        if ext.name == "two":
            print(subprocess.run(["nm", self.get_ext_fullpath("one")], stdout=subprocess.PIPE, text=True).stdout)
        return super().swig_sources(sources, ext)

finish(extension("one", "a.c", "b.c"), extension("two", "b.c", "c.c"), command=command)
"""
    },
    "another environment between two calls": {
        "setup.py": """
class command(build_ext):
    def swig_sources(self, sources, ext):
        os.environ["CPATH"] = os.path.abspath(ext.name)
        return super().swig_sources(sources, ext)

finish(extension("one", "a.c", "b.c"), extension("two", "a.c", "c.c"), command=command)
""",
        "a.c": "#include <where.h>\nint a(void) { return A; }\n",
        "one/where.h": "#define A 1\n",
        "two/where.h": "#define A 2\n",
    },
}


def project(files: dict[str, str]) -> dict[str, str]:
    plain = {f"{name}.c": f"int {name}(void) {{ return 1; }}\n" for name in "abc"}
    return {"pyproject.toml": PROJECT, "module.c": MODULE, **plain, **files, "setup.py": HEAD + files["setup.py"]}


NEWEST, OLD = "setuptools", "setuptools==70.0.0"
"""Newer ones start compilers by another method than older ones."""
ON_OLD = (
    "an object path used twice",
    "a setup.py that looks at objects before the link",
    "a build_ext that tries again",
)


@pytest.fixture(scope="module", params=[NEWEST, OLD])
def workshop(
    request: pytest.FixtureRequest, context: Context, interpreter: Interpreter, tmp_path_factory: pytest.TempPathFactory
) -> Workshop:
    folder = tmp_path_factory.mktemp("deferral")
    installer = context.installer()
    python = installer.create(folder / "venv", interpreter.base_executable)
    installer.install([request.param, "wheel"], python=python)
    return Workshop(python, folder / "work")


def told(output: str) -> list[str]:
    """What was printed, with one name for each temporary folder."""
    return re.sub(r"\.tmp-\w+", ".tmp", output).splitlines()


def in_order(output: str) -> list[str]:
    """The compilers' commands and what they said; setuptools itself says sooner what it does between them."""
    return [line for line in told(output) if not line.startswith(("creating ", "building '"))]


def compiled(built: Built) -> list[str]:
    return sorted(" ".join(line.split()[:2]) for line in built.trace)


@pytest.mark.parametrize(
    ("workshop", "name"),
    [*((NEWEST, name) for name in ALIKES), *((OLD, name) for name in ON_OLD)],
    indirect=["workshop"],
    scope="module",
)
def test_the_wheel_and_the_output_are_the_same(workshop: Workshop, name: str) -> None:
    files = project(ALIKES[name])
    plain = workshop.build(files, defer=False)
    deferred = workshop.build(files, defer=True)
    assert plain.code == 0, plain.output
    assert deferred.code == 0, deferred.output
    assert any(file.endswith(".so") for file in plain.files)
    assert {name for name in plain.files if plain.files[name] != deferred.files.get(name)} == set()
    assert plain.files.keys() == deferred.files.keys()
    assert compiled(plain) == compiled(deferred) or any("#error" in text for text in files.values())
    assert in_order(plain.output) == in_order(deferred.output)
    assert sorted(told(plain.output)) == sorted(told(deferred.output))


def test_compilations_of_two_extensions_run_side_by_side(workshop: Workshop) -> None:
    """Each compiler waits until all six have been started: one after the other would take an hour."""
    built = workshop.build(project(ALIKES["an object path used twice"]), defer=True, jobs=6, environment={"MEET": "6"})
    assert built.code == 0, built.output
    assert [line.split()[0] for line in built.trace] == ["start"] * 6 + ["end"] * 6


def most_at_once(trace: tuple[str, ...]) -> int:
    running = most = 0
    for line in trace:
        running += 1 if line.startswith("start") else -1
        most = max(most, running)
    return most


@pytest.mark.parametrize("workshop", [NEWEST], indirect=True, scope="module")
def test_max_jobs_bounds_how_many_are_started(workshop: Workshop) -> None:
    built = workshop.build(project(ALIKES["an object path used twice"]), defer=True, jobs=2, environment={"MEET": "2"})
    assert built.code == 0, built.output
    assert most_at_once(built.trace) == 2


BROKEN = {
    "setup.py": 'finish(extension("one", "a.c", "b.c", "c.c"), extension("two", "a.c"))\n',
    "a.c": "#warning said first\nint a(void) { return 1; }\n",
    "b.c": "#error said second\n",
}


def errors(built: Built) -> list[str]:
    """The output from the first compiler on, without the traceback's lines of code."""
    lines = built.output.splitlines()
    first = next(number for number, line in enumerate(lines) if " -c " in line)
    return [line for line in lines[first:] if line and not line.startswith(" ") and "Traceback" not in line]


def test_a_failure_is_told_as_without_promises(workshop: Workshop) -> None:
    plain = workshop.build(project(BROKEN), defer=False)
    deferred = workshop.build(project(BROKEN), defer=True, jobs=1)
    assert plain.code == deferred.code != 0
    assert errors(plain)[0] == errors(deferred)[0]
    at = "During handling of the above exception"
    said = [line for line in errors(plain) if not line.startswith(at)]
    assert [line for line in errors(deferred) if not line.startswith(at)][-1] == said[-1]
    assert said[-1].endswith(("failed with exit code 1", "returned non-zero exit status 1."))
    compilers = [line for line in said if " -c " in line or "#warning" in line or "#error" in line]
    told = [line for line in errors(deferred) if " -c " in line or "#warning" in line or "#error" in line]
    assert told == compilers


def test_after_a_failure_the_rest_is_ended(workshop: Workshop) -> None:
    environment = {"SLEEPER": "c", "MEET": "5"}
    built = workshop.build(project(BROKEN), defer=True, jobs=6, environment=environment)
    assert built.code != 0
    assert "said first" in built.output
    assert "said second" in built.output
    started = {line.split()[1]: int(line.split()[2]) for line in built.trace if line.startswith("start")}
    assert "end c" not in " ".join(built.trace)
    deadline = time.monotonic() + 10
    while is_running(started["c"]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(started["c"])
    assert list(Path(workshop.folder).rglob(".cudabuild-deferred")) == []


def symbols(path: Path) -> str:
    """Every symbol with its place and size; nvcc names its temporary files after its process."""
    listed = subprocess.run(["readelf", "-Ws", str(path)], check=True, stdout=subprocess.PIPE, text=True).stdout
    return re.sub(r"tmpxft_\w+", "tmpxft", listed)


def test_a_cuda_package_with_one_object_path_for_two_modules(cudabuild: Callable[..., Any], tmp_path: Path) -> None:
    """Through torch's own BuildExtension, guard and broker; the same objects are made for two modules."""
    logs, products = {}, {}
    for name, words in {"deferred": (), "plain": ("--no-defer",)}.items():
        ran = cudabuild(
            str(SERIAL), "--target", "7.5", "--torch", "2.13.0+cu130", "--no-canary", "--refresh", "--json",
            "--out", str(tmp_path), *words,
        )  # fmt: skip
        assert ran.code == 0, ran.err
        assert ran.json["guard"]["units"] == 7  # five compilations, two links
        logs[name] = cudabuild("log", ran.json["build"]).out
        with zipfile.ZipFile(ran.json["wheel"]["path"]) as wheel:
            wheel.extractall(tmp_path / name)
        products[name] = {path.name.partition(".")[0]: path for path in (tmp_path / name).rglob("*.so")}
    assert products["plain"].keys() == {"_cpu", "_cuda"}
    for module, path in products["plain"].items():
        assert symbols(path) == symbols(products["deferred"][module])
    assert products["plain"]["_cpu"].read_bytes() == products["deferred"]["_cpu"].read_bytes()
    compilers = {name: [line for line in log.splitlines() if " -c " in line] for name, log in logs.items()}
    assert compilers["plain"] == compilers["deferred"]
    assert str(start.__file__) in logs["deferred"]
    assert str(start.__file__) not in logs["plain"]
