"""Names of kernels: as the compiler mangles them, as CUPTI reports them, and whose they are."""

from __future__ import annotations

import pytest

from buildkit.verify.kernels import demangle, holds, own_kernels, shown_names
from buildkit.verify.probe_answer import RecordedKernel

# As nvcc 13.0 wrote them.
ADD_ONE = "_Z7add_onePfl"
TEMPLATE = "_Z24KNearestNeighborKernelV3IfLi1ELi4EEvPKT_S2_PKlS4_PS0_Plmmm"
ANONYMOUS = "_ZN6shapes33_GLOBAL__N__ef30f4a6_4_k_cu_plain5scaleIfEEvPT_S2_l"
TORCHS = "_ZN2at6native29vectorized_elementwise_kernelILi2ENS0_10AbsFunctorIbEESt5arrayIPcLm2EEEEviT0_T1_"


def recorded(*names: str) -> list[RecordedKernel]:
    return [RecordedKernel(name=name, launches=2, microseconds=1.5) for name in names]


def text_of(*names: str) -> bytes:
    """Read-only data that holds these names among other strings, as in a library."""
    return b"\0".join([b"", b"error in add_one", *(name.encode() for name in names), b"void run(float*)", b""])


def test_names_are_demangled_as_the_recorder_does() -> None:
    shown = demangle([ADD_ONE, ANONYMOUS, "plain_c", TEMPLATE])
    assert shown[ADD_ONE] == "add_one(float*, long)"
    assert shown[ANONYMOUS] == "void shapes::(anonymous namespace)::scale<float>(float*, float, long)"
    assert shown["plain_c"] == "plain_c"
    assert shown[TEMPLATE].startswith(
        "void KNearestNeighborKernelV3<float, 1, 4>(float const*, float const*, long const*"
    )


def test_both_forms_of_a_name_lead_to_it_whatever_the_blanks() -> None:
    forms = shown_names([ADD_ONE])
    assert forms == {ADD_ONE: {ADD_ONE}, "add_one(float*,long)": {ADD_ONE}}


@pytest.mark.parametrize("name", ["add_one(float*, long)", "add_one(float *, long)", ADD_ONE])
def test_a_kernel_in_the_packages_object_is_its_own(name: str) -> None:
    (found,) = own_kernels(recorded(name), {"fast/_C.so": frozenset([ADD_ONE, TEMPLATE])}, [text_of(TORCHS)])
    assert (found.name, found.object, found.launches) == (name, "fast/_C.so", 2)


def test_kernels_of_torch_or_of_nobody_are_not() -> None:
    shown = demangle([TORCHS])[TORCHS]
    names = {"fast/_C.so": frozenset([ADD_ONE])}
    assert own_kernels(recorded(shown, "sgemm_128x64", "Memcpy HtoD"), names, [text_of(TORCHS)]) == []
    assert own_kernels(recorded("add_one(float*, long)"), {}, [text_of()]) == []


def test_a_kernel_that_torch_holds_too_is_torchs() -> None:
    """The package instantiated a template of ATen: whichever copy ran, it says nothing about the package."""
    shown = demangle([TORCHS])[TORCHS]
    names = {"fast/_C.so": frozenset([ADD_ONE, TORCHS])}
    assert own_kernels(recorded(shown), names, [text_of(), text_of(TORCHS)]) == []
    assert len(own_kernels(recorded(shown), names, [text_of()])) == 1


def test_a_copy_in_an_anonymous_namespace_is_torchs_under_any_file_name() -> None:
    theirs = "_ZN6shapes61_GLOBAL__N__31734589_22_ActivationEluKernel_cu_2f7922d3_159935scaleIfEEvPT_S2_l"
    assert demangle([theirs])[theirs] == demangle([ANONYMOUS])[ANONYMOUS]
    assert holds(text_of(theirs), ANONYMOUS)
    assert not holds(text_of(theirs.replace("5scale", "5shift")), ANONYMOUS)
    assert not holds(text_of(theirs.replace("IfE", "IdE")), ANONYMOUS)
    names = {"pkg/_C.so": frozenset([ANONYMOUS])}
    assert own_kernels(recorded(demangle([ANONYMOUS])[ANONYMOUS]), names, [text_of(theirs)]) == []


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        (text_of(ADD_ONE), ADD_ONE, True),
        (b"\0" + ADD_ONE.encode() + b"_and_more\0", ADD_ONE, False),
        (b"\0prefix" + ADD_ONE.encode() + b"\0", ADD_ONE, False),
        (b"\0prefix" + ADD_ONE.encode() + b"\0" + ADD_ONE.encode() + b"\0", ADD_ONE, True),
        (ADD_ONE.encode() + b"\0", ADD_ONE, True),
        # A word that any program may hold is no kernel of torch's: all of those are mangled.
        (b"\0scale\0", "scale", False),
        (b"", ADD_ONE, False),
    ],
)
def test_a_name_counts_as_a_whole(text: bytes, name: str, expected: bool) -> None:
    assert holds(text, name) is expected
