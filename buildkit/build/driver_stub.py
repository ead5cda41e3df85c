"""A libcuda.so to link against on a machine without a driver.

System toolkits bring one in ``lib64/stubs``; wheels do not. torch's CMake files link ``CUDA::cuda_driver``
always, so find_package(Torch) needs one. It defines the names that ``cuda.h`` declares and does nothing: at
run time the driver's own libcuda.so.1, whose name the stub bears, takes its place.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from buildkit.errors import NoCompiler
from buildkit.process import ProgramFailed, run

# Both begin with plain text: cuda.h is 1 MB, and a pattern that begins with a class takes 0.2 s.
_DECLARED = re.compile(r"CUDAAPI[ \t]+(cu[A-Z]\w*)[ \t]*\(")
_RENAMED = re.compile(r"#define[ \t]+cu[A-Z]\w*[ \t]+(?:__CUDA_API_PT[DS]\w\()?(cu[A-Z]\w*)\)?[ \t]*$", re.MULTILINE)


def driver_names(header: str) -> list[str]:
    """The functions that a ``cuda.h`` declares, under the names that programs link (``cuMemAlloc_v2`` too)."""
    return sorted({*_DECLARED.findall(header), *_RENAMED.findall(header)})


def make_driver_stub(header: Path, compiler: Path) -> bytes:
    """The stub's bytes, made from the toolkit's ``cuda.h``; the same names and tools give the same bytes."""
    names = driver_names(header.read_text(encoding="utf-8", errors="replace"))
    # A function's code is never run; assembler names need no declaration and pull in no header.
    lines = [".text", *(f".globl {name}\n.type {name}, %function\n{name}:\n.long 0" for name in names)]
    lines.append('.section .note.GNU-stack,"",%progbits')
    with tempfile.TemporaryDirectory(prefix="cudabuild-") as scratch:
        source, library = Path(scratch) / "libcuda.s", Path(scratch) / "libcuda.so"
        source.write_text("\n".join(lines) + "\n", encoding="utf-8")
        options = ["-shared", "-nostdlib", "-Wl,-soname,libcuda.so.1", "-Wl,--build-id=none", "-Wl,--strip-all"]
        try:
            run([str(compiler), *options, "-o", library.name, source.name], cwd=Path(scratch), timeout=60)
        except ProgramFailed as error:
            raise NoCompiler(
                f"{compiler} cannot make a shared library", evidence=error.evidence, hint=f"{compiler} --version"
            ) from error
        return library.read_bytes()
