"""What is wrong with a toolchain, from the lines that real tools print. CMake breaks some of them at 77 columns."""

from __future__ import annotations

import pytest

from buildkit.diagnose.text import unwrapped
from buildkit.diagnose.toolchain import explain_toolchain

ANOTHER_TOOLKIT = "give another one: --cuda-home PATH"
ANOTHER_COMPILER = "give another compiler, such as CC=gcc-12 CXX=g++-12"

REPORT = """\
-- The CXX compiler identification is GNU 12.2.0
CMake Error at /x/cmake/Modules/CMakeDetermineCompilerId.cmake:739 (message):
  Compiling the CUDA compiler identification source file
  "CMakeCUDACompilerId.cu" failed.

  Compiler: /cache/views/13.0-86e4dbb359fa/bin/nvcc

  The output was:

  1

  /usr/bin/ld: error:
  /cache/views/13.0-86e4dbb359fa/bin/..//lib64/libcudart_static.a: file too short

  collect2: error: ld returned 1 exit status

    template<> __inline__ cudaChannelFormatDesc cudaCreateChannelDesc<char>(void)
                                                ^

Call Stack (most recent call first):
  cuda.cmake:41 (enable_language)
  CMakeLists.txt:23 (include)


-- Configuring incomplete, errors occurred!
*** CMake configuration failed
"""


def test_what_cmake_broke_is_whole_again() -> None:
    whole = [line.strip() for line in unwrapped(REPORT.splitlines())]
    assert (
        "/usr/bin/ld: error: /cache/views/13.0-86e4dbb359fa/bin/..//lib64/libcudart_static.a: file too short" in whole
    )
    assert "collect2: error: ld returned 1 exit status" in whole
    assert "^" in whole, "what the tool indented itself is left as it is"
    assert whole[-1] == "*** CMake configuration failed"


def test_lines_outside_of_a_report_stay_as_they_are() -> None:
    lines = ["[1/5] Building CUDA object cuda.cu.o", "  FAILED: a", "  note: b", "", "ninja: build stopped"]
    assert unwrapped(lines) == lines


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("sh: 1: ptxas: not found", "the toolkit's ptxas cannot be started", ANOTHER_TOOLKIT),
        ("sh: 1: /v/bin/../nvvm/bin/cicc: not found", "the toolkit's cicc cannot be started", ANOTHER_TOOLKIT),
        ("/bin/sh: line 1: /v/bin/fatbinary: Permission denied", "the toolkit's fatbinary", ANOTHER_TOOLKIT),
        (
            "g++: fatal error: cannot execute 'cc1plus': execvp: No such file or directory",
            "the C++ compiler's cc1plus cannot be started",
            ANOTHER_COMPILER,
        ),
        (
            "/v/include/crt/host_config.h:150:2: error: #error -- unsupported GNU version! gcc versions later than 15",
            "nvcc refuses this C++ compiler",
            ANOTHER_COMPILER,
        ),
        (
            '/v/bin/..//include/cuda_runtime_api.h(330): error: explicit type is missing ("int" assumed)',
            "the header cuda_runtime_api.h does not compile",
            "--cuda-home",
        ),
        (
            "/v/include/cccl/cub/device/device_scan.cuh:97:21: error: expected class-name before '{' token",
            "the header cccl/cub/device/device_scan.cuh does not compile",
            "--cuda-home",
        ),
        ("/usr/bin/ld: cannot find -lcudart_static: No such file or directory", "a library", ANOTHER_TOOLKIT),
        ("ninja: error: '/v/lib64/libcudart.so', needed by 'x.so', missing and no known rule to make it", "a library",
         ANOTHER_TOOLKIT),
        ("/v/lib64/libcudart_static.a: error adding symbols: malformed archive", "a library", ANOTHER_TOOLKIT),
        ("nvcc error   : 'ptxas' died due to signal 11 (Invalid memory reference)", "a compiler crashed",
         ANOTHER_COMPILER),
    ],
)  # fmt: skip
def test_the_tools_own_line_is_what_shows_it(line: str, message: str, hint: str) -> None:
    log = ["-- Detecting CUDA compiler ABI info", f"  {line}", "ninja: build stopped: subcommand failed."]
    fault = explain_toolchain(log)
    assert fault.message.startswith(message)
    assert fault.line == line
    assert hint in fault.hint


def test_in_a_whole_report() -> None:
    fault = explain_toolchain(REPORT.splitlines())
    assert fault.message == "a library of the toolkit is missing or damaged"
    assert fault.line.endswith("libcudart_static.a: file too short")


def test_what_no_rule_knows_shows_the_first_error() -> None:
    fault = explain_toolchain(["ok", "mcubes.cu(12): error: expected a declaration", "  x", "  y", "z"])
    assert fault.message == "it does not build"
    assert fault.line.splitlines()[0] == "mcubes.cu(12): error: expected a declaration"
