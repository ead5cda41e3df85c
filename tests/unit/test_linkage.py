"""What may not be in a wheel, what the dynamic linker would say, and the symbol lookup behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.errors import VerificationFailed
from buildkit.verify.grafted import is_driver_library, is_grafted
from buildkit.verify.linkage import Linkage, ObjectLinkage, inspect_linkage, judge_linkage, newest_versions
from buildkit.verify.symbols import Dynamic, SymbolTable, gnu_hash, read_dynamic, undefined_names


def libc() -> Path:
    """The C library of this very process."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return next(Path(line.split(maxsplit=5)[5]) for line in maps if line.endswith(("/libc.so.6", "/libc-2.31.so")))


def linkage(
    *, missing: tuple[str, ...] = (), undefined: tuple[str, ...] = (), outdated: tuple[str, ...] = (),
    driver: tuple[str, ...] = (), grafted: tuple[str, ...] = (),
) -> Linkage:  # fmt: skip
    entry = ObjectLinkage("pack/_C.so", ("libc.so.6",), {"libc.so.6": "/lib/libc.so.6"}, missing, driver, undefined,
                          outdated, ("$ORIGIN",))  # fmt: skip
    return Linkage((entry,), {"GLIBC": "2.34"}, grafted)


@pytest.mark.parametrize(
    "name",
    [
        "libtorch.so",
        "libtorch_cpu.so",
        "libtorch_python.so",
        "libtorch_cuda-1a2b3c4d.so",
        "libc10.so",
        "libc10_cuda.so",
        "libshm.so",
        "libcudart.so.13",
        "libcudart-0123abcd.so.13.0.96",
        "libcublasLt.so.13",
        "libcudnn_engines_precompiled.so.9",
        "libnvrtc-builtins.so.13.0",
        "libnvJitLink.so.13",
        "libnccl.so.2",
        "libcuda.so.1",
        "libnvidia-ml.so.1",
    ],
)
def test_libraries_of_torch_cuda_and_the_driver_are_known(name: str) -> None:
    assert is_grafted(name)


@pytest.mark.parametrize(
    "name",
    [
        "libtorch_scatter.so",
        "libtorchaudio.so",
        "libc10d_own.so",
        "_C.abi3.so",
        "libgomp-a34b3233.so.1",
        "libcuda_utils.so",
    ],
)
def test_an_extensions_own_libraries_are_none_of_them(name: str) -> None:
    assert not is_grafted(name)


def test_driver_libraries_are_told_from_cudas() -> None:
    assert is_driver_library("libcuda.so.1")
    assert is_driver_library("libnvidia-ml.so.1")
    assert not is_driver_library("libcudart.so.13")


def test_a_sound_linkage_is_evidence() -> None:
    evidence = judge_linkage(linkage(driver=("libcuda.so.1",)))
    assert evidence["needs"] == {"GLIBC": "2.34"}
    assert evidence["driver_missing"] == ["libcuda.so.1"]
    assert evidence["search"] == {"pack/_C.so": ["$ORIGIN"]}


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (linkage(grafted=("pack.libs/libc10.so",)), r"copies of torch's .*pack\.libs/libc10\.so"),
        (linkage(missing=("libfoo.so.1",)), r"pack/_C\.so needs libraries that are not here: libfoo\.so\.1"),
        (linkage(undefined=("_ZN3c10E",)), "undefined symbols that nothing here defines: _ZN3c10E"),
        (linkage(outdated=("libc.so.6: GLIBC_2.99",)), r"symbol versions .*GLIBC_2\.99"),
        (linkage(undefined=tuple("abcdefgh")), "a, b, c, d, e and 3 more"),
    ],
)
def test_what_stands_against_loading_is_named(found: Linkage, text: str) -> None:
    with pytest.raises(VerificationFailed, match=text) as caught:
        judge_linkage(found)
    assert caught.value.evidence


def test_the_newest_version_of_each_family_is_numerical() -> None:
    needs = {
        "libc.so.6": frozenset({"GLIBC_2.9", "GLIBC_2.34", "GLIBC_PRIVATE"}),
        "libstdc++.so.6": frozenset({"GLIBCXX_3.4.9", "GLIBCXX_3.4.30", "CXXABI_1.3.13", "CXXABI_FLOAT128"}),
        "libgomp.so.1": frozenset({"OMP_1.0"}),
    }
    dynamics = [Dynamic("", (), (), needs, frozenset()), Dynamic("", (), (), {}, frozenset())]
    assert newest_versions(dynamics) == {"CXXABI": "1.3.13", "GLIBC": "2.34", "GLIBCXX": "3.4.30"}


def test_the_hash_is_the_dynamic_linkers() -> None:
    assert [gnu_hash(name) for name in (b"", b"printf", b"exit", b"syscall")] == [
        0x00001505,
        0x156B2BB8,
        0x7C967E3F,
        0xBAC212A0,
    ]


def test_lookup_in_the_c_library() -> None:
    with SymbolTable(libc()) as table:
        assert all(table.defines(name) for name in ("printf", "malloc", "exit", "memcpy"))
        assert not table.defines("no_such_function_anywhere")
        assert not table.defines("prin")
    dynamic = read_dynamic(libc())
    assert dynamic is not None
    assert dynamic.soname == "libc.so.6"
    assert "GLIBC_2.34" in dynamic.versions_defined
    assert "printf" not in undefined_names(libc())


def test_a_file_without_a_dynamic_section_has_no_linkage(tmp_path: Path) -> None:
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + (1).to_bytes(2, "little") + (62).to_bytes(2, "little") + bytes(44)
    (tmp_path / "x.o").write_bytes(header)
    assert read_dynamic(tmp_path / "x.o") is None
    assert undefined_names(tmp_path / "x.o") == frozenset()
    assert inspect_linkage(tmp_path, site_packages=[tmp_path], interpreter=libc()).objects == ()
