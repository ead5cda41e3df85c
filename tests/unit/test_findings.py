"""What a source says of how it is built: when there is CUDA code in it, and what it is called, needs and allows."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from buildkit.build.package import Package, adhoc_recipe, examined, without_cuda
from buildkit.errors import SourceError
from buildkit.source.fetched import FetchedSource
from buildkit.source.findings import Findings, defined_functions, find, role
from buildkit.source.licences import guess_licence
from buildkit.source.marks import Mark
from buildkit.source.metadata import static_metadata
from buildkit.source.reading import SourceText, read_source
from buildkit.source.spec import FolderSpec

SETUPTOOLS = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
PLAIN = 'from setuptools import setup\nsetup(name="thing", version="1.0", packages=["thing"])\n'


def found(files: Mapping[str, str], project: str = ".") -> Findings:
    return find(SourceText(tuple(files), dict(files), project))


CUDA = {
    "a .cu file": {"setup.py": PLAIN, "src/a.cu": ""},
    "a .cuh file": {"setup.py": PLAIN, "src/a.cuh": ""},
    "a .cu file among the tests": {"setup.py": PLAIN, "tests/a.cu": ""},
    "a .cu file beside the project's folder": {"setup.py": PLAIN, "../a.cu": ""},
    "CUDAExtension": {"setup.py": "ext = CUDAExtension('a', glob('*.cpp'))"},
    "CMake's language": {"pyproject.toml": SETUPTOOLS, "CMakeLists.txt": "enable_language(CUDA)"},
    "an inline kernel": {"setup.py": PLAIN, "thing/a.py": 'load_inline(cuda_sources="...")'},
    "a kernel in a header": {"setup.py": PLAIN, "thing/a.h": "__global__ void add(int*);"},
    "only the runtime": {"setup.py": PLAIN, "thing/a.cpp": "#include <cuda_runtime.h>"},
    "a compiler that is started": {"setup.py": 'run(["nvcc", "a.txt"])'},
    "meson's language": {"pyproject.toml": SETUPTOOLS, "meson.build": "project('a', 'cpp', 'cuda')"},
    "meson's language on a line of its own": {"pyproject.toml": SETUPTOOLS, "meson.build": "project('a',\n  'cuda')"},
    "a backend of its own": {"pyproject.toml": '[build-system]\nbuild-backend = "b"\nbackend-path = ["."]'},
    "what comes over the network": {"setup.py": 'import urllib.request\nsetup(name="x")'},
    "a script that cannot be read": {"setup.py": "print 'old'"},
}
"""Sources that must not be refused: some surely have CUDA code, and of some nobody can say."""


@pytest.mark.parametrize("case", CUDA)
def test_what_may_have_cuda_code(case: str) -> None:
    assert found(CUDA[case]).has_cuda


NONE = {
    "pure Python": {
        "setup.py": PLAIN,
        "thing/__init__.py": 'x = tensor.to("cuda") if torch.cuda.is_available() else y',
    },
    "C": {"pyproject.toml": SETUPTOOLS, "thing/a.c": "#include <Python.h>"},
    "CMake": {"pyproject.toml": SETUPTOOLS, "CMakeLists.txt": "project(a CXX)", "a.cpp": "int a;"},
    "a metadata's word": {"setup.py": PLAIN, "PKG-INFO": "Name: a\nVersion: 1\n\nneeds nvcc and cuda.h"},
}


@pytest.mark.parametrize("case", NONE)
def test_what_has_none(case: str) -> None:
    assert not found(NONE[case]).has_cuda


def test_a_long_line_is_read_once() -> None:
    """Looked through from each word of it anew, it would take minutes."""
    assert not found({"pyproject.toml": SETUPTOOLS, "meson.build": "project(" * 60_000}).has_cuda


def test_a_name_that_no_recipe_can_hold_gives_a_recipe_without_it(tmp_path: Path) -> None:
    script = f'os.getenv("{"A" * 300}_FORCE_CUDA"), os.getenv("{"A" * 300}_NO_CUDA"), os.getenv("A_FORCE_CUDA")'
    assert adhoc_recipe("a", tmp_path, found({"setup.py": script})).recipe.build.env_cuda == {
        "FORCE_CUDA": "1",
        "A_FORCE_CUDA": "1",
    }


ODD_TOML = {"a number that is too long": "a = " + "1" * 5000, "deep nesting": "a = " + "[" * 5000 + "]" * 5000}


@pytest.mark.parametrize("case", ODD_TOML)
def test_an_odd_pyproject_is_told_in_our_words(case: str) -> None:
    assert found({"pyproject.toml": ODD_TOML[case]}).stated.requires == ()
    with pytest.raises(SourceError, match=r"its pyproject\.toml does not parse"):
        static_metadata(ODD_TOML[case].encode(), None, where="it")


ROLES = {
    "FORCE_CUDA": "cuda", "THING_FORCE_CUDA": "cuda", "THING_FORCE_BUILD": "cuda", "WITH_CUDA": "cuda",
    "THING_FORCE_NO_CUDA": "cpu", "BUILD_NO_CUDA": "cpu", "FORCE_ONLY_CPU": "cpu", "THING_SKIP_CUDA_BUILD": "cpu",
    "FORCE_ONLY_CUDA": "other", "THING_FORCE_CXX11_ABI": "other", "NVCC_FLAGS": "other", "MAX_JOBS": "other",
    "TCNN_CUDA_ARCHITECTURES": "other", "THING_CUDA_ARCHS": "other", "DEBUG": "", "CUDA_HOME": "", "REINFORCED": "",
}  # fmt: skip


@pytest.mark.parametrize("name", ROLES)
def test_what_a_variable_is_for(name: str) -> None:
    assert role(name) == ROLES[name]


def test_names_versions_and_modules() -> None:
    files = {
        "setup.py": 'setup(name="thing", version=read(), ext_modules=[CppExtension("thing._C", []), '
        'CppExtension("_top", []), CppExtension(f"thing._{x}", [])])',
        "thing/__init__.py": "",
        "thing/version.py": '__version__ = "2.1"\n',
        "thing/inner/__init__.py": "",
        "tests/__init__.py": "",
        "LICENSE": "Permission is hereby granted, free of charge, to any person obtaining a copy",
    }
    stated = found(files).stated
    assert (stated.name, stated.version, stated.licence.spdx) == ("thing", "2.1", "MIT")
    assert stated.modules == ("thing", "_top")
    assert stated.compiled == ("thing._C", "_top")
    assert stated.backend == "setuptools (no pyproject.toml)"


def test_metadata_comes_first_and_unknown_is_nothing() -> None:
    files = {"setup.py": PLAIN, "PKG-INFO": "Name: other\nVersion: 3\nSummary: UNKNOWN\nLicense: UNKNOWN\n"}
    stated = found(files).stated
    assert (stated.name, stated.version, stated.summary, stated.licence.said) == ("other", "3", None, ())


def test_a_project_in_a_subfolder() -> None:
    files = {
        "bindings/setup.py": "import helper, numpy\nsetup(name='x')\n",
        "bindings/helper.py": 'import os\nFORCE = os.environ.get("X_FORCE_CUDA") == "yes"\n',
        "src/a.cu": "",
        "LICENSE.txt": "Mozilla Public License Version 2.0",
    }
    findings = found(files, "bindings")
    assert [(one.name, one.value, one.file) for one in findings.switches] == [
        ("X_FORCE_CUDA", "yes", "bindings/helper.py")
    ]
    assert [text for text, _ in findings.needs.requires] == ["numpy"]
    assert findings.cuda[0].file == "src/a.cu"
    assert findings.stated.licence.spdx == "MPL-2.0"


def test_a_setup_py_that_no_backend_runs_needs_nothing() -> None:
    files = {"setup.py": "import numpy", "pyproject.toml": SETUPTOOLS.replace("setuptools.build_meta", "flit_core.api")}
    assert found(files).needs.requires == ()


def test_functions_with_cuda_in_their_name_come_first() -> None:
    text = 'm.def("add", &add);\nm.def( "knn_cuda", &knn);\nx.def("no", 1);'
    assert defined_functions(SourceText(("a.cpp",), {"a.cpp": text})) == ("knn_cuda", "add")


LICENCES = {
    "NVIDIA Source Code License for x\n3.3 Use: used or intended for use non-commercially.": (
        "LicenseRef-NVIDIA-Source-Code-License",
        True,
    ),
    "x is licensed under CC BY-NC 4.0.": ("CC-BY-NC-4.0", False),
    "Apache License\n   Version 2.0, January 2004": ("Apache-2.0", False),
    "Redistribution and use in source and binary forms, ... Neither the name of": ("BSD-3-Clause", False),
    "Permission is hereby granted, free of charge, to any person obtaining a copy\n\nParts: GNU General Public License"
    "\nVersion 3": ("MIT", False),
    "This is free and unencumbered software released into the public domain, commercial or non-commercial": (
        "Unlicense",
        False,
    ),
    "Gaussian-Splatting License\nresearch and evaluation use, non-commercial": ("LicenseRef-Unknown", True),
}


@pytest.mark.parametrize("text", LICENCES)
def test_a_licence_by_its_text(text: str) -> None:
    licence = guess_licence([("LICENSE", text)], [])
    assert (licence.spdx, bool(licence.limited)) == LICENCES[text]


def test_licences_that_contradict_each_other_are_told() -> None:
    classifier = Mark("License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)", "PKG-INFO", 3)
    text = "Permission is hereby granted, free of charge, to any person obtaining a copy"
    licence = guess_licence([("LICENSE", text)], [classifier])
    assert (licence.spdx, licence.agrees) == ("MIT", False)


# Reading, and what a build without a recipe makes of it


def sdist(folder: Path, files: Mapping[str, str]) -> FetchedSource:
    archive = folder / "thing-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(f"thing-1.0/{name}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return source(archive=archive)


def source(*, archive: Path | None = None, tree: Path | None = None) -> FetchedSource:
    return FetchedSource("sdist", "a" * 64, tree, archive, ".", "thing", "1.0", (), None, "thing==1.0")


FILES = {
    "setup.py": PLAIN,
    "thing/__init__.py": "",
    "thing/deep.py": "nvcc",
    "notes.txt": "x",
    "src/big.h": "x" * 600_000,
}


def test_an_archive_and_a_tree_read_the_same(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(text)
    packed, laid_out = read_source(sdist(tmp_path, FILES)), read_source(source(tree=tmp_path / "tree"))
    assert packed == laid_out
    assert set(packed.names) == set(FILES)
    assert set(packed.texts) == {"setup.py", "thing/__init__.py", "thing/deep.py"}
    scripts = read_source(sdist(tmp_path, FILES), code=False)
    assert set(scripts.texts) == {"setup.py", "thing/__init__.py"}
    assert scripts.names == packed.names
    assert packed.skipped == ("src/big.h",)


@pytest.mark.parametrize("name", ["a.hxx", "a.tpp", "a.ipp", "a.h.in", "a.inc", "a.C", "long.h"])
def test_nothing_is_refused_for_what_was_not_read(tmp_path: Path, name: str) -> None:
    kernel = "__global__ void add(int*);" + " " * (600_000 if name == "long.h" else 0)
    files = {"setup.py": PLAIN, "MANIFEST.in": "include a.h", f"src/{name}": kernel}
    assert without_cuda(examined(package(tmp_path), sdist(tmp_path, files))) is None


def test_what_was_read_and_has_none_is_refused(tmp_path: Path) -> None:
    files = {"setup.py": PLAIN, "MANIFEST.in": "include a.h", "src/a.h.in": "int a;", "LICENSE": "x" * 600_000}
    assert without_cuda(examined(package(tmp_path), sdist(tmp_path, files))) is not None


def test_files_beyond_the_limit_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buildkit.source.reading.MOST", len(PLAIN) + 200)
    read = read_source(sdist(tmp_path, {"setup.py": PLAIN, "a.c": "x" * 150, "b.c": "x" * 150, "c.txt": "x" * 300}))
    assert read.skipped == ("b.c",)
    assert [mark.text for mark in find(read).traces] == ["was not read"]


def package(tmp_path: Path) -> Package:
    return Package(adhoc_recipe("thing", tmp_path), None, FolderSpec(tmp_path))


def test_a_build_without_a_recipe_sets_the_switches_that_setup_py_reads(tmp_path: Path) -> None:
    script = (
        'import os, numpy, company_tools\nA = os.getenv("THING_FORCE_CUDA", "") == "YES"\n'
        'B = os.getenv("THING_NO_CUDA")\nsetup(ext_modules=[CUDAExtension("a", ["a.cu"])])\n'
    )
    found = examined(package(tmp_path), sdist(tmp_path, {"setup.py": script}))
    build = found.loaded.recipe.build
    assert build.env_cuda == {"FORCE_CUDA": "1", "THING_FORCE_CUDA": "YES"}
    assert build.env_cpu == {"THING_NO_CUDA": "1"}
    assert build.requires == ("numpy",)
    assert without_cuda(found) is None
    assert not found.has_recipe
    told = "\n".join(found.notes)
    for part in ("THING_FORCE_CUDA=YES (setup.py:2)", "numpy (setup.py:1)", "setup.py:1 imports company_tools"):
        assert part in told


def test_a_package_without_cuda_code_is_refused_by_name(tmp_path: Path) -> None:
    found = examined(package(tmp_path), sdist(tmp_path, {"setup.py": PLAIN, "thing/__init__.py": ""}))
    cause = without_cuda(found)
    assert cause is not None
    assert (cause.kind, cause.exit_code) == ("no-cuda-code", 5)
    assert cause.message.startswith("thing has no CUDA code")
    assert "--device cpu" in cause.hint


def test_code_is_looked_at_before_anything_is_refused(tmp_path: Path) -> None:
    """The first look leaves out what is deep in the package: the second one must not."""
    assert without_cuda(examined(package(tmp_path), sdist(tmp_path, FILES))) is None


def test_a_package_with_a_recipe_is_not_looked_at(tmp_path: Path) -> None:
    loaded = package(tmp_path).loaded
    with_recipe = Package(type(loaded)(loaded.recipe, loaded.folder, "a" * 64, {}), None, FolderSpec(tmp_path))
    assert examined(with_recipe, sdist(tmp_path, {"setup.py": PLAIN})) is with_recipe
    assert without_cuda(with_recipe) is None
