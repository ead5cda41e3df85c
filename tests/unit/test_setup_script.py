"""What is read from a setup.py's syntax: switches and what they wait for, extensions, imports, flags, downloads."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit.source.cmake_script import read_cmake
from buildkit.source.requirements import needs_of
from buildkit.source.setup_script import read_setup

VARIABLES = {
    'os.getenv("A_FORCE", "0") == "1"': ("A_FORCE", "1"),
    'os.environ.get("A_FORCE", "FALSE") == "TRUE"': ("A_FORCE", "TRUE"),
    'os.environ["A_FORCE"].lower() == "on"': ("A_FORCE", "on"),
    'int(os.getenv("A_FORCE", "0")) == 1': ("A_FORCE", "1"),
    'os.environ.get("A_FORCE") in ("yes", "true")': ("A_FORCE", "yes"),
    '"A_FORCE" in os.environ': ("A_FORCE", "1"),
    'os.getenv("A_FORCE", "0") != "0"': ("A_FORCE", "1"),
    'os.getenv("A_FORCE") == "0"': ("A_FORCE", "1"),
    'os.getenv("A_FORCE") == "a\\nb"': ("A_FORCE", "1"),
    'environ.get(NAME) == "1"': ("A_FORCE", "1"),
    'env_flag("A_FORCE", False)': ("A_FORCE", "1"),
}


@pytest.mark.parametrize("text", VARIABLES)
def test_a_variable_and_the_text_that_it_is_compared_with(text: str) -> None:
    (variable,) = read_setup(f'NAME = "A_FORCE"\nflag = {text}\n').variables
    assert (variable.name, variable.value, variable.line) == (*VARIABLES[text], 2)


def test_a_variable_that_no_recipe_can_hold_is_left_out() -> None:
    text = "A" * 189 + "_FORCE_CUDA"
    script = read_setup(f'os.getenv("{text}"), os.getenv("A{text}"), flag_env("A{text}"), os.getenv("Ä_FORCE_CUDA")\n')
    assert [variable.name for variable in script.variables] == [text]


def test_writing_a_variable_is_no_reading() -> None:
    assert read_setup('os.environ["CC"] = "gcc"\ndel os.environ["CXX"]\n').variables == ()


EXTENSIONS = {
    'CUDAExtension("a._C", ["a.cu", "b.cpp"])': ("CUDAExtension", "a._C", ("a.cu", "b.cpp")),
    'cpp_extension.CppExtension(name="a._C", sources=[os.path.join("src", "a.cpp")])': (
        "CppExtension",
        "a._C",
        ("src/a.cpp",),
    ),
    'Extension(f"a._{part}_cpu", sources)': ("Extension", "a._{}_cpu", ()),
    'kind("a._C", sources)': ("CUDAExtension", "a._C", ()),
    "CUDAExtension(*everything)": ("CUDAExtension", "{}", ()),
}


@pytest.mark.parametrize("text", EXTENSIONS)
def test_an_extension(text: str) -> None:
    script = read_setup(f"kind = CppExtension\nif cuda:\n    kind = CUDAExtension\n{text}\n")
    (found,) = script.extensions
    assert (found.kind, found.name, found.sources, found.line) == (*EXTENSIONS[text], 4)


IMPORTS = {
    "import numpy as np": (["numpy"], [], []),
    "from Cython.Build import cythonize": (["cython"], [], []),
    "try:\n    import numpy\nexcept ImportError:\n    numpy = None": ([], [], ["numpy"]),
    "try:\n    import numpy\nexcept ImportError:\n    raise SystemExit(1)": (["numpy"], [], []),
    "try:\n    pass\nexcept ImportError:\n    import numpy": (["numpy"], [], []),
    "try:\n    if x:\n        import numpy\n    try:\n        import scipy\n    finally:\n        pass\n"
    "except ImportError:\n    pass": (
        ["scipy"],
        [],
        ["numpy"],
    ),
    "try:\n    try:\n        pass\n    except ImportError:\n        import numpy\nexcept ImportError:\n    pass": (
        [],
        [],
        ["numpy"],
    ),
    "def f():\n    import packaging.version": (["packaging"], [], []),
    "import os, urllib.request, torch, setuptools, wheel, pybind11": ([], [], []),
    "import helper": ([], [], []),
    "import company_build_tools": ([], ["company_build_tools"], []),
    "from . import version": ([], [], []),
    "import yaml": ([], [], []),
}


@pytest.mark.parametrize("text", IMPORTS)
def test_what_is_imported_and_declared_nowhere(text: str) -> None:
    needs = needs_of(read_setup(text), ("PyYAML>=6",), ("helper",))
    found = [name for name, _ in needs.requires], [m.text for m in needs.unknown], [m.text for m in needs.optional]
    assert found == IMPORTS[text]


def test_many_imports_in_one_try_are_walked_once() -> None:
    """Each looked for among all of them, it would take many seconds."""
    lines = "".join(f"    import m{number}\n" for number in range(4_000))
    script = read_setup(f"try:\n{lines}except ImportError:\n    pass\n")
    assert len(script.imports) == 4_000
    assert all(found.optional for found in script.imports)


def test_a_module_is_never_taken_for_the_project_of_its_name() -> None:
    """Whoever registers a name on an index would else be run by builds that import a module so called."""
    needs = needs_of(read_setup("import fastmath_helpers, torchvision"), (), ())
    assert needs.requires == ()
    assert [mark.text for mark in needs.unknown] == ["fastmath_helpers", "torchvision"]


SCRIPT = '''"""Never mind the -std=c++98 and git clone of a docstring."""
import requests
from sys import argv
NAME = "thing"
FLAGS = ["-O3", "-std=c++17", "-gencode", "arch=compute_80,code=sm_80"]
subprocess.run(["git", "submodule", "update"])
os.system("curl -O https://example.org/x.tar.gz")
if "--force_cuda" in argv:
    pass
setup(name=NAME, version="1.2", description="a " "b", license="MIT", packages=["thing"],
      classifiers=["License :: OSI Approved :: MIT License"],
      cmdclass={"build_ext": BuildExtension.with_options(use_ninja=False)})
'''


def test_the_rest_of_a_script() -> None:
    script = read_setup(SCRIPT)
    assert script.arguments["name"] == ("thing", 10)
    assert script.arguments["version"] == ("1.2", 10)
    assert script.modules == ("thing",)
    assert script.classifiers == ("License :: OSI Approved :: MIT License",)
    assert [mark.place for mark in script.standards] == ["setup.py:5"]
    assert {mark.text for mark in script.targets} == {"-gencode", "arch=compute_80"}
    assert [(mark.text, mark.line) for mark in script.serial] == [("use_ninja=False", 12)]
    assert {mark.line for mark in script.network} == {2, 6, 7}
    assert [mark.text for mark in script.options] == ["--force_cuda"]
    assert not script.runs_cmake


def test_a_name_that_is_given_twice_is_not_known() -> None:
    assert "version" not in read_setup('V = "1"\nif x:\n    pass\nV = "2"\nsetup(version=V)').arguments


@pytest.mark.parametrize("text", ["print 'old'", "def f(:", "\x00", "x = " + "(" * 400 + ")" * 400])
def test_what_cannot_be_read_says_so(text: str) -> None:
    script = read_setup(text)
    assert script.problem.startswith("setup.py:")
    assert script.variables == ()


def test_odd_escapes_are_somebody_elses_business() -> None:
    assert read_setup("import numpy\nx = '\\d'\n").imports[0].module == "numpy"


PLAIN_AND_ODD = "ab_=.()[]{}'\"\\#\n\t -\x00é\u2028\ufeff"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(SCRIPT.splitlines()), max_size=12), st.text(PLAIN_AND_ODD, max_size=40))
def test_no_script_makes_the_reader_stumble(lines: list[str], more: str) -> None:
    read_setup("\n".join(lines) + more)
    read_cmake({"CMakeLists.txt": more})


CMAKE = """# enable_language(CUDA) is for later
project(thing
  LANGUAGES CXX CUDA)
#[[ find_package(Torch)
]]
check_language(CUDA)
find_package(Torch REQUIRED)
set(CMAKE_CUDA_ARCHITECTURES 80)
set(CMAKE_CXX_STANDARD 17)
FetchContent_Declare(eigen URL https://example.org/eigen.zip)
"""


def test_a_cmake_project() -> None:
    found = read_cmake({"CMakeLists.txt": CMAKE})
    assert {"project(thing LANGUAGES CXX CUDA)", "check_language(CUDA)"} <= {mark.text for mark in found.cuda}
    assert [mark.place for mark in found.falls_back] == ["CMakeLists.txt:6"]
    assert [mark.line for mark in found.torch] == [7]
    assert [mark.line for mark in found.targets] == [8]
    assert [mark.text for mark in found.standards] == ["CMAKE_CXX_STANDARD 17"]
    assert [mark.line for mark in found.network] == [10]


def test_comments_of_cmake() -> None:
    text = "#[[ a\n#b ]] enable_language(CUDA) #[[ c ]]find_package(Torch)\n#[=[\n# ]] #\ncxx_std_17 #[[ d\ncxx_std_20"
    found = read_cmake({"CMakeLists.txt": text})
    assert [mark.line for mark in (*found.cuda, *found.torch)] == [2, 2]
    assert [(mark.text, mark.line) for mark in found.standards] == [("cxx_std_17", 5), ("cxx_std_20", 6)]


def test_openings_that_nobody_closes_are_read_once() -> None:
    """Looked for from each opening anew, the end of the text would be reached 100,000 times: minutes."""
    assert read_cmake({"CMakeLists.txt": "#[[\n" * 100_000 + "enable_language(CUDA)"}).cuda


def test_a_cmake_project_without_cuda() -> None:
    found = read_cmake({"CMakeLists.txt": "project(thing LANGUAGES CXX)\nfind_package(Eigen3)\n"})
    assert (found.cuda, found.torch, found.network) == ((), (), ())
