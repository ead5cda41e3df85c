"""Listing and judging device code, on what cuobjdump 13.5 printed for objects that nvcc 13.0 made."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from buildkit.errors import CpuOnlyWheel, MissingTargets, VerificationFailed
from buildkit.machine.arch import Target
from buildkit.verify.device_code import (
    ObjectCode,
    UnitCode,
    agree,
    inspect_object,
    parse_kernels,
    parse_listing,
    shared_objects,
)
from buildkit.verify.fatbin import Fatbin, Image, read_fatbins, source_names
from buildkit.verify.judge import cpu_only_line, held_by_all, judge_device_code, missing_in

ELF = "\nFatbin elf code:\n================\narch = sm_{}\ncode version = [1,8]\nhost = linux\ncompile_size = 64bit\n"
PTX = (
    "\nFatbin ptx code:\n================\narch = sm_{}\ncode version = [9,0]\nhost = linux\ncompile_size = 64bit\n"
    "compressed\nptxasOptions = \n"
)
OLD = "\nFatbin elf code:\n================\narch = sm_70\ncode version = [1,7]\nproducer = <unknown>\nhost = linux\n"
SYMBOLS = (
    ELF.format("86")
    + "\nsymbols:\nFUNC          GLOBAL  DEFAULT    ENTRY                                _Z2kaPi\n"
    + ELF.format("120")
    + "\nsymbols:\nOBJECT        WEAK    DEFAULT    -          U  .nv.reservedSmem.offset0\n"
    + "FUNC          GLOBAL  DEFAULT    ENTRY                                _Z2kaPi\n"
    + PTX.format("120")
    + ELF.format("86")
    + "\nsymbols:\nSTT_FUNC         STB_GLOBAL STO_ENTRY      _Z2kbPi\n"
)
T86, T90A, T120, T120F = Target(8, 6), Target(9, 0, "a"), Target(12, 0), Target(12, 0, "f")


def fatbin(*images: tuple[int, int]) -> bytes:
    """A fatbin of (kind, capability number) images with 8 bytes of payload each."""
    body = b"".join(
        struct.pack("<HHIQ", kind, 0x101, 64, 8) + bytes(8) + struct.pack("<HHI", 8, 1, number) + bytes(40)
        for kind, number in images
    )
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def elf_file(path: Path, sections: dict[str, tuple[int, bytes]]) -> Path:
    """A 64-bit shared object with nothing but these sections (name: address, contents)."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in [*sections, ".shstrtab"])
    bodies = [*sections.items(), (".shstrtab", (0, names))]
    data, headers = b"", [bytes(64)]
    for name, (address, content) in bodies:
        fields = (names.index(name.encode() + b"\0"), 1, 2, address, 64 + len(data), len(content), 0, 0, 8, 0)
        headers.append(struct.pack("<2I4Q2I2Q", *fields))
        data += content + bytes(-len(content) % 8)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + struct.pack(
        "<2HI3QI6H", 3, 62, 1, 0, 0, 64 + len(data), 0, 64, 56, 0, 64, len(headers), len(bodies)
    )
    path.write_bytes(header + data + b"".join(headers))
    return path


def fake_cuobjdump(path: Path, plain: str, symbols: str = "", *, status: int = 0) -> Path:
    (path.parent / "plain").write_text(plain)
    (path.parent / "symbols").write_text(symbols)
    choice = '[ "$1" = -symbols ] && name=symbols || name=plain'
    path.write_text(f'#!/bin/sh\n{choice}\ncat "{path.parent}/$name"\nexit {status}\n')
    path.chmod(0o755)
    return path


def two_units() -> bytes:
    return fatbin((2, 86), (2, 120), (1, 120)) + fatbin((2, 86))


def test_the_listing_keeps_kinds_order_and_suffixes() -> None:
    text = ELF.format("86") + ELF.format("120f") + PTX.format("120f") + ELF.format("90a") + OLD + ELF.format("100a")
    assert [(image.kind, str(image.target)) for image in parse_listing(text)] == [
        ("elf", "8.6"),
        ("elf", "12.0f"),
        ("ptx", "12.0f"),
        ("elf", "9.0a"),
        ("elf", "7.0"),
        ("elf", "10.0a"),
    ]
    assert list(parse_listing("")) == []
    assert list(parse_listing("Fatbin ltoir code:\n====\narch = sm_86\n")) == []


def test_kernels_are_listed_per_image() -> None:
    assert parse_kernels(SYMBOLS) == [["_Z2kaPi"], ["_Z2kaPi"], ["_Z2kbPi"]]


def test_fatbins_are_told_apart(tmp_path: Path) -> None:
    path = elf_file(tmp_path / "x.so", {".nv_fatbin": (0x2000, two_units())})
    first, second = read_fatbins(path)
    assert first == Fatbin(0x2000, (Image("elf", 86), Image("elf", 120), Image("ptx", 120)))
    assert second == Fatbin(0x2000 + len(fatbin((2, 86), (2, 120), (1, 120))), (Image("elf", 86),))
    assert source_names(path) == {}


def test_an_object_without_the_section_holds_no_fatbin(tmp_path: Path) -> None:
    assert read_fatbins(elf_file(tmp_path / "x.so", {".text": (0x1000, b"x")})) == ()


@pytest.mark.parametrize("cut", [1, 17, 40, 80, 130])
def test_a_broken_fatbin_is_never_read_past_its_end(tmp_path: Path, cut: int) -> None:
    path = elf_file(tmp_path / "x.so", {".nv_fatbin": (0, two_units()[:-cut]), ".zzz": (0, fatbin((2, 99)))})
    assert all(image.number != 99 for found in read_fatbins(path) for image in found.images)


def test_units_get_their_images_and_the_kernels_name_where_stripped(tmp_path: Path) -> None:
    path = elf_file(tmp_path / "x.so", {".nv_fatbin": (0, two_units())})
    listing = ELF.format("86") + ELF.format("120") + PTX.format("120") + ELF.format("86")
    found = inspect_object(path, "pack/x.so", fake_cuobjdump(tmp_path / "cuobjdump", listing, SYMBOLS))
    assert found == ObjectCode(
        "pack/x.so",
        (T86, T120),
        (T120,),
        (
            UnitCode("unit 1 of 2 (kernel _Z2kaPi)", (T86, T120), (T120,)),
            UnitCode("unit 2 of 2 (kernel _Z2kbPi)", (T86,), ()),
        ),
    )
    assert found.evidence()["by_unit"][1] == {"unit": "unit 2 of 2 (kernel _Z2kbPi)", "elf": ["8.6"], "ptx": []}


def test_where_the_two_views_differ_only_cuobjdump_counts(tmp_path: Path) -> None:
    path = elf_file(tmp_path / "x.so", {".nv_fatbin": (0, two_units())})
    found = inspect_object(path, "x.so", fake_cuobjdump(tmp_path / "cuobjdump", ELF.format("86") + ELF.format("120")))
    assert len(found.units) == 1
    assert found.elf == (T86, T120)
    assert "differ" in found.evidence()["note"]
    assert not agree((), [Fatbin(0, (Image("elf", 86),))])


def test_no_device_code_is_an_answer_and_another_failure_is_not(tmp_path: Path) -> None:
    path = elf_file(tmp_path / "x.so", {".text": (0, b"x")})
    tool = fake_cuobjdump(
        tmp_path / "cuobjdump", "cuobjdump info : File 'x.so' does not contain device code", status=255
    )
    assert inspect_object(path, "x.so", tool) == ObjectCode("x.so", (), (), ())
    tool = fake_cuobjdump(tmp_path / "cuobjdump", "cuobjdump fatal : Could not open input file", status=1)
    with pytest.raises(VerificationFailed, match=r"cannot read x\.so") as caught:
        inspect_object(path, "x.so", tool)
    assert "Could not open" in caught.value.evidence


def test_shared_objects_are_known_by_content(tmp_path: Path) -> None:
    elf_file(tmp_path / "odd name", {})
    (tmp_path / "text.so").write_text("INPUT(libx.so.1)")
    (tmp_path / "link.so").symlink_to(tmp_path / "odd name")
    assert shared_objects(tmp_path) == [tmp_path / "odd name"]


def code(path: str, *units: tuple[tuple[Target, ...], tuple[Target, ...]]) -> ObjectCode:
    made = tuple(UnitCode(f"unit {n} of {len(units)}", elf, ptx) for n, (elf, ptx) in enumerate(units, 1))
    union = [tuple(sorted({t for unit in units for t in unit[side]})) for side in (0, 1)]
    return ObjectCode(path, union[0], union[1], made)


HOST = code("pack/_cpu.so")
GOOD = code("pack/_cuda.so", ((T86, T120), (T120,)), ((T86, T120), (T120,)))


def test_objects_without_code_are_allowed_beside_one_with_all(tmp_path: Path) -> None:
    evidence = judge_device_code([HOST, GOOD], [T86, Target(12, 0, "", ptx=True)])
    assert evidence["targets"] == ["8.6", "12.0+PTX"]
    assert evidence["without_device_code"] == ["pack/_cpu.so"]
    (entry,) = evidence["objects"]
    assert entry == {"path": "pack/_cuda.so", "elf": ["8.6", "12.0"], "ptx": ["12.0"], "units": 2}


def test_a_unit_without_a_target_is_named() -> None:
    half = code("pack/_cuda.so", ((T86, T120), ()), ((T86,), ()))
    with pytest.raises(MissingTargets) as caught:
        judge_device_code([half], [T86, T120])
    assert "pack/_cuda.so: unit 2 of 2 lacks sm_120 (it holds sm_86)" in caught.value.message
    assert "unit 1" not in caught.value.message
    assert caught.value.exit_code == 9


@pytest.mark.parametrize(
    ("elf", "ptx", "target", "missing"),
    [
        ((T86,), (), Target(8, 6, "", ptx=True), ["PTX of 8.6"]),
        ((T86,), (T120,), Target(8, 6, "", ptx=True), ["PTX of 8.6"]),
        ((), (T86,), T86, ["sm_86"]),
        ((T120,), (), T120F, ["sm_120f"]),
        ((T120F,), (), T120, ["sm_120"]),
        ((T90A,), (), Target(9, 0), ["sm_90"]),
        ((T90A,), (T90A,), Target(9, 0, "a", ptx=True), []),
        ((T86, T90A, T120), (T86,), T120, []),
    ],
)
def test_what_a_unit_lacks(
    elf: tuple[Target, ...], ptx: tuple[Target, ...], target: Target, missing: list[str]
) -> None:
    assert missing_in(UnitCode("u", elf, ptx), [target]) == missing


def test_an_object_may_not_lack_what_another_one_holds() -> None:
    with pytest.raises(MissingTargets, match=r"other\.so"):
        judge_device_code([GOOD, code("other.so", ((T86,), ()))], [T86, T120])
    assert held_by_all([GOOD, code("other.so", ((T86,), ()))]) == (T86,)


def test_cuda_asked_for_and_no_device_code_is_a_failure_with_the_logs_line() -> None:
    log = "running build_ext\n  Not compiling with CUDA, CUDA_HOME is None\nbuilding 'pack._C' extension\n"
    with pytest.raises(CpuOnlyWheel) as caught:
        judge_device_code([HOST], [T120], log_text=log)
    assert "CPU-only wheel" in caught.value.message
    assert caught.value.evidence == "Not compiling with CUDA, CUDA_HOME is None"
    with pytest.raises(CpuOnlyWheel, match="CPU-only") as caught:
        judge_device_code([], [T120])
    assert caught.value.evidence == "the wheel holds no shared object at all"


def test_objects_that_the_recipe_names_must_hold_code() -> None:
    judge_device_code([HOST, GOOD], [T86], ["pack/_cuda*.so"])
    with pytest.raises(CpuOnlyWheel, match=r"pack/_cpu\.so holds no device code"):
        judge_device_code([HOST, GOOD], [T86], ["pack/_c*.so"])
    with pytest.raises(CpuOnlyWheel, match="no shared object matches"):
        judge_device_code([HOST, GOOD], [T86], ["absent*.so"])


@pytest.mark.parametrize(
    "line",
    [
        "Not compiling with CUDA",
        "CUDA not found, building without it",
        "CUDA is not available",
        "-- Could NOT find CUDA (missing: CUDA_TOOLKIT_ROOT_DIR)",
        "-- Could NOT find CUDAToolkit",
        "No CUDA runtime is found, using CUDA_HOME='/usr/local/cuda'",
        "Building CPU-only version",
        "Compiling extension without CUDA",
        "/bin/sh: 1: nvcc: not found",
        "CUDA_HOME environment variable is not set.",
        "-- CUDA support: disabled",
        "WITH_CUDA is off: skipping CUDA sources",
        "Falling back to CPU",
    ],
)
def test_the_line_that_shows_a_cpu_only_build_is_found(line: str) -> None:
    assert cpu_only_line(f"building 'pack' extension\n  {line}\ncreating build/lib\n") == line


def test_an_ordinary_log_shows_no_such_line() -> None:
    log = (
        "running build_ext\n[1/3] nvcc -gencode arch=compute_120,code=sm_120 -c cuda/x.cu\n-- Found CUDAToolkit: 13.0\n"
    )
    assert cpu_only_line(log) == ""
