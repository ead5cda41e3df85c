"""Whose kernels ran: the names that CUPTI recorded against those in a package's own shared objects.

A kernel's mangled name stands in the symbol table of each machine-code image (and as an ``.entry`` of the PTX), and
in the host part as the text handed to ``__cudaRegisterFunction``. CUPTI reports the mangled name; Kineto demangles
it with ``__cxa_demangle`` up to 1024 characters (its ``Demangle.cpp``), so both forms are compared, blanks left out:
libstdc++'s releases set them differently.

A name that torch's libraries hold too is torch's: the same template of ATen, instantiated in the package, says nothing
about the package. All kernels in torch's libraries are C++ (seen: 22 796 in 2.13, each mangled), so a plain ``extern
"C"`` name cannot be one of them.
"""

from __future__ import annotations

import ctypes
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from buildkit import process
from buildkit.errors import VerificationFailed
from buildkit.verify.device_code import ObjectCode, inspect_object, parse_kernels
from buildkit.verify.fatbin import has_device_code, read_fatbins, read_only_text
from buildkit.verify.probe_answer import RecordedKernel

_ENTRY = re.compile(r"^\s*(?:\.visible\s+|\.weak\s+)*\.entry\s+(?P<name>[\w$]+)", re.M)
_ANONYMOUS = re.compile(r"(\d+)(?=_GLOBAL__N_)")
_BLANKS = re.compile(r"\s+")
_NAME_BYTES = string.ascii_letters.encode() + string.digits.encode() + b"_$."
_LONGEST = 1 << 16
"""Bytes of a mangled name; templates of templates come to some thousands."""


@dataclass(frozen=True)
class OwnKernel:
    """A recorded kernel that is the package's: its name as recorded, the object that holds it, how often it ran."""

    name: str
    object: str
    launches: int
    microseconds: float


def demangle(names: Iterable[str]) -> dict[str, str]:
    """Each name as the C++ runtime library shows it; a name that is not mangled stays as it is."""
    try:
        function = ctypes.CDLL("libstdc++.so.6")["__cxa_demangle"]
    except OSError:  # a machine without it runs no torch either
        return {name: name for name in names}
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)]
    release = ctypes.CDLL(None)["free"]
    release.argtypes = [ctypes.c_void_p]
    shown: dict[str, str] = {}
    for name in names:
        status = ctypes.c_int()
        text = function(name.encode("utf-8", "surrogateescape"), None, None, ctypes.byref(status))
        shown[name] = ctypes.string_at(text).decode("utf-8", "replace") if text and status.value == 0 else name
        release(text)
    return shown


def kernel_names(path: Path, cuobjdump: Path) -> frozenset[str]:
    """The mangled names of all kernels in one shared object, machine code and PTX; empty without device code."""
    if not has_device_code(path):
        return frozenset()
    names = {name for image in parse_kernels(_asked(cuobjdump, "-symbols", path)) for name in image}
    # The text of all PTX can be very long, so it is asked for only where a unit has nothing else.
    if not names or any(not any(image.kind == "elf" for image in unit.images) for unit in read_fatbins(path)):
        names.update(_ENTRY.findall(_asked(cuobjdump, "-ptx", path)))
    return frozenset(names)


def _asked(cuobjdump: Path, option: str, path: Path) -> str:
    done = process.run([str(cuobjdump), option, str(path)], timeout=600.0, check=False)
    if done.returncode != 0:
        raise VerificationFailed(
            f"cuobjdump cannot read {path.name}", evidence=process.last_line(done.stderr or done.stdout)
        )
    return done.stdout


def shown_names(mangled: Iterable[str]) -> dict[str, set[str]]:
    """Every form under which CUPTI may have recorded a kernel, without blanks, to the mangled names behind it."""
    forms: dict[str, set[str]] = {}
    for name, shown in demangle(mangled).items():
        for form in (name, _BLANKS.sub("", shown)):
            forms.setdefault(form, set()).add(name)
    return forms


def holds(text: bytes, mangled: str) -> bool:
    """Whether the read-only text of a library holds this mangled name (as a whole) among its strings.

    The part that nvcc makes up for an anonymous namespace differs from file to file, and is not shown when it is
    demangled: any such part counts.
    """
    if not mangled.startswith("_Z"):
        return False
    pattern, end = _any_namespace(mangled)
    position = text.find(end)
    while position >= 0:  # a search for the pattern itself would take a hundred times as long
        start = _start_of_name(text, position)
        if pattern.fullmatch(text, start, position + len(end)):
            return True
        position = text.find(end, position + 1)
    return False


def _start_of_name(text: bytes, position: int) -> int:
    """Where the name begins that a position lies in; names are what C allows them to be."""
    before = text[max(0, position - _LONGEST) : position]
    return position - len(before) + len(before.rstrip(_NAME_BYTES))


def _any_namespace(mangled: str) -> tuple[re.Pattern[bytes], bytes]:
    """A pattern for the name whatever its anonymous namespaces are called, and the end that all such names share."""
    parts: list[bytes] = []
    end = 0
    for found in _ANONYMOUS.finditer(mangled):
        if found.start() < end:
            continue
        parts += [re.escape(mangled[end : found.start()].encode()), rb"\d+_GLOBAL__N_[\w$]*?"]
        end = found.end() + int(found[1])
    rest = mangled[end:].encode() + b"\0"
    return re.compile(b"".join([*parts, re.escape(rest)])), rest


def own_kernels(
    recorded: Sequence[RecordedKernel], names: Mapping[str, frozenset[str]], torch_texts: Sequence[bytes]
) -> list[OwnKernel]:
    """Those of the recorded kernels that are the package's and not torch's. Pure.

    ``names`` are the kernels of each of the package's objects, ``torch_texts`` the read-only text of torch's
    libraries with device code.
    """
    forms = {shown: shown_names(mangled) for shown, mangled in names.items()}
    found: list[OwnKernel] = []
    for kernel in recorded:
        form = _BLANKS.sub("", kernel.name)
        for shown, known in forms.items():
            behind = known.get(form, set())
            if behind and not any(holds(text, name) for text in torch_texts for name in behind):
                found.append(OwnKernel(kernel.name, shown, kernel.launches, kernel.microseconds))
                break
    return found


class OwnKernels:
    """A package's objects and torch's libraries on disk, read when first asked for."""

    def __init__(self, objects: Mapping[str, Path], torch_lib: Path, cuobjdump: Path) -> None:
        """``objects`` maps the name to show to the file; ``torch_lib`` is the folder of torch's libraries."""
        self._objects, self._torch_lib, self._cuobjdump = objects, torch_lib, cuobjdump

    @cached_property
    def names(self) -> dict[str, frozenset[str]]:
        """The kernels of each object that holds any."""
        read = {shown: kernel_names(path, self._cuobjdump) for shown, path in self._objects.items()}
        return {shown: names for shown, names in read.items() if names}

    @cached_property
    def torch_texts(self) -> tuple[bytes, ...]:
        """Read-only text of those of torch's libraries that hold device code (some MB)."""
        libraries = sorted(path for path in self._torch_lib.glob("*.so*") if path.is_file())
        return tuple(read_only_text(path) for path in libraries if has_device_code(path))

    def among(self, recorded: Sequence[RecordedKernel]) -> list[OwnKernel]:
        """The package's own of what was recorded."""
        return own_kernels(recorded, self.names, self.torch_texts)

    def launches(self, recorded: Mapping[str, int]) -> dict[str, int]:
        """The same for names with how often each was launched."""
        kernels = [RecordedKernel(name=name, launches=count, microseconds=0.0) for name, count in recorded.items()]
        return {kernel.name: kernel.launches for kernel in self.among(kernels)}

    def code(self, shown: str) -> ObjectCode:
        """The images of one object."""
        return inspect_object(self._objects[shown], shown, self._cuobjdump)
