"""cudabuild_mcubes on the CPU: what it takes, what it refuses, and that its meshes are right to the last bit."""

from __future__ import annotations

import importlib
import itertools
import math
import re
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from buildkit.recipe.loader import bundled_recipes

mcubes = importlib.import_module("buildkit._native.cudabuild_mcubes")
measure: Any = importlib.import_module("skimage.measure")  # has no types

Volume = NDArray[np.float32]
Mesh = tuple[NDArray[Any], NDArray[Any]]
TABLE: list[list[tuple[int, int, int]]] = mcubes.case_table()
OWNER = (0, 1, 2, 3, 0, 1, 4, 5, 0, 2, 4, 6)
"""The corner that owns each edge, as case_table's text says."""
INF, NAN = math.inf, math.nan


def mesh(volume: Any, *arguments: Any, **options: Any) -> Mesh:
    """The module's mesh as NumPy arrays."""
    vertices, triangles = mcubes.marching_cubes(volume, *arguments, **options)
    return np.asarray(vertices), np.asarray(triangles)


def crossing(a: np.float32, b: np.float32, isovalue: float) -> float:
    """Where an edge is crossed, by the documented rule, in double."""
    one, other = (float(value) if math.isfinite(value) else INF for value in (a, b))
    if math.isinf(one) or math.isinf(other):
        return 0.5 if one == other else float(math.isinf(one))
    return (isovalue - one) / (other - one)


def by_the_book(
    volume: Volume, isovalue: float = 0.0, spacing: Any = (1.0, 1.0, 1.0), origin: Any = (0.0, 0.0, 0.0)
) -> Mesh:
    """The mesh straight from the documentation: every edge in its order, then every cell."""
    if min(volume.shape) < 2:
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)
    with np.errstate(invalid="ignore"):
        inside = volume < np.float32(isovalue)
    numbers: dict[tuple[tuple[int, ...], int], int] = {}
    vertices: list[list[float]] = []
    for point in np.ndindex(*volume.shape):
        for axis in range(3):
            other = tuple(index + (d == axis) for d, index in enumerate(point))
            if other[axis] < volume.shape[axis] and inside[point] != inside[other]:
                numbers[point, axis] = len(vertices)
                t = crossing(volume[point], volume[other], float(np.float32(isovalue)))
                index = [i + (t if d == axis else 0.0) for d, i in enumerate(point)]
                vertices.append([origin[d] + spacing[d] * index[d] for d in range(3)])
    triangles = []
    for cell in np.ndindex(*(length - 1 for length in volume.shape)):
        corners = [tuple(np.add(cell, (c >> 2 & 1, c >> 1 & 1, c & 1)).tolist()) for c in range(8)]
        case = sum(1 << c for c in range(8) if inside[corners[c]])
        triangles += [[numbers[corners[OWNER[edge]], edge // 4] for edge in found] for found in TABLE[case]]
    return np.array(vertices, np.float32).reshape(-1, 3), np.array(triangles, np.int32).reshape(-1, 3)


def assert_same(found: Mesh, expected: Mesh) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()


def sides(triangles: NDArray[Any]) -> NDArray[np.int64]:
    """All directed sides [3 T, 2]."""
    found: NDArray[np.int64] = np.concatenate([triangles[:, pair] for pair in ([0, 1], [1, 2], [2, 0])]).astype(
        np.int64
    )
    return found


def assert_closed(vertices: NDArray[Any], triangles: NDArray[Any]) -> None:
    """Each side once, and its opposite once; every vertex used."""
    found = sides(triangles)
    keys = np.sort(found[:, 0] * len(vertices) + found[:, 1])
    opposite = np.sort(found[:, 1] * len(vertices) + found[:, 0])
    assert (np.diff(keys) > 0).all()
    assert (keys == opposite).all()
    assert (np.unique(triangles) == np.arange(len(vertices))).all()


def inner_volume(vertices: NDArray[Any], triangles: NDArray[Any]) -> float:
    a, b, c = (vertices[triangles[:, k]].astype(np.float64) for k in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def random_field(*shape: int, seed: int = 0) -> Volume:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def ball(size: int, radius: float = 0.7) -> Volume:
    """Signed distance to a sphere about the middle of [-1, 1]^3."""
    axis = np.linspace(-1, 1, size)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    return (np.sqrt(x * x + y * y + z * z) - radius).astype(np.float32)


# Right to the last bit.

values = st.one_of(
    st.floats(-2, 2, width=32),
    st.sampled_from([0.0, -0.0, 0.5, 1.0, INF, -INF, NAN, 3.4e38, -3.4e38, 1e-45, -1e-45]),
)


@st.composite
def volumes(draw: st.DrawFn) -> Volume:
    shape = tuple(draw(st.integers(1, 4)) for _ in range(3))
    flat = draw(st.lists(values, min_size=math.prod(shape), max_size=math.prod(shape)))
    return np.array(flat, np.float32).reshape(shape)


@settings(max_examples=100, deadline=None)
@given(volumes(), st.sampled_from([0.0, 0.5, -1.25, 1e-45]))
def test_meshes_are_those_of_the_book(volume: Volume, isovalue: float) -> None:
    spacing, origin = (0.5, 3.0, 0.1), (10.0, -1.0, 0.0)
    assert_same(mesh(volume, isovalue, spacing, origin), by_the_book(volume, isovalue, spacing, origin))


@pytest.mark.parametrize("length", [63, 64, 65, 66, 127, 128, 129, 130, 200])
def test_rows_may_end_anywhere_in_a_word(length: int) -> None:
    volume = random_field(3, 3, length)
    assert_same(mesh(volume), by_the_book(volume))


def test_each_case_in_one_cell() -> None:
    for case in range(256):
        corners = [-1.0 if case >> c & 1 else 1.0 for c in range(8)]
        volume = np.array(corners, np.float32).reshape(2, 2, 2)
        vertices, triangles = mesh(volume)
        assert_same((vertices, triangles), by_the_book(volume))
        assert len(triangles) == len(TABLE[case]), case
        assert (vertices == 0.5).sum() == len(vertices), case  # on the middle of an edge


# Strides.

VIEWS: dict[str, Callable[[Volume], Volume]] = {
    "reversed": lambda v: v[::-1, ::-1, ::-1],
    "z reversed": lambda v: v[:, :, ::-1],
    "every other": lambda v: v[::2, 1::2, ::3],
    "transposed": lambda v: v.T,
    "moved": lambda v: np.moveaxis(v, 0, 1),
    "Fortran order": np.asfortranarray,
    "inner part": lambda v: v[2:-1, 1:-2, 3:-1],
    "channel": lambda v: np.stack([v, -v], axis=-1)[..., 0],
    "one plane repeated": lambda v: np.broadcast_to(v[:1], (5, *v.shape[1:])),
    "one line repeated": lambda v: np.broadcast_to(v[0, 0], v.shape),
    "one column repeated": lambda v: np.broadcast_to(v[:, :, :1], v.shape),
    "one value repeated": lambda v: np.broadcast_to(v[0, 0, 0], v.shape),
    "backwards every other": lambda v: v[::-2, ::-1, ::-2],
}


@pytest.mark.parametrize("name", VIEWS)
def test_any_strides(name: str) -> None:
    view = VIEWS[name](random_field(11, 12, 140))
    assert_same(mesh(view), mesh(np.ascontiguousarray(view)))


def test_a_read_only_volume() -> None:
    volume = random_field(4, 5, 6)
    volume.setflags(write=False)
    before = volume.copy()
    assert_same(mesh(volume), by_the_book(before))


def test_the_volume_is_not_changed_and_not_kept() -> None:
    volume = random_field(4, 5, 6)
    before = volume.copy()
    first = mesh(volume)
    copy = tuple(array.copy() for array in first)
    assert (volume == before).all()
    volume[...] = 1.0
    assert_same(first, copy)


# What has no mesh.


@pytest.mark.parametrize(
    "shape", [(0, 0, 0), (0, 5, 5), (5, 0, 5), (5, 5, 0), (1, 5, 5), (5, 1, 5), (5, 5, 1), (1, 1, 1)]
)
def test_without_a_cell_the_mesh_is_empty(shape: tuple[int, int, int]) -> None:
    assert_empty(mesh(random_field(*shape)))


@pytest.mark.parametrize("value", [1.0, -1.0, 0.0, INF, -INF, NAN])
def test_without_a_crossing_the_mesh_is_empty(value: float) -> None:
    assert_empty(mesh(np.full((7, 8, 9), value, np.float32)))


def assert_empty(found: Mesh) -> None:
    vertices, triangles = found
    assert (vertices.shape, vertices.dtype.name) == ((0, 3), "float32")
    assert (triangles.shape, triangles.dtype.name) == ((0, 3), "int32")


# NaN and infinity.


@pytest.mark.parametrize(
    ("low", "high", "where"),
    [
        (-1.0, 3.0, 0.25),
        (-1.0, INF, 0.0),
        (-1.0, NAN, 0.0),
        (-INF, 1.0, 1.0),
        (-INF, INF, 0.5),
        (-INF, NAN, 0.5),
        (-3.4e38, 3.4e38, 0.5),
        (-1e-45, 1e-45, 0.5),
        (-1.0, 0.0, 1.0),
    ],
)
def test_where_an_edge_is_crossed(low: float, high: float, where: float) -> None:
    """Along x between planes of one value, and the other way round."""
    planes = np.array([low, high], np.float32)
    for volume, expected in ((planes, where), (planes[::-1], 1 - where)):
        vertices, triangles = mesh(np.broadcast_to(volume[:, None, None], (2, 3, 3)))
        assert len(triangles) == 8
        assert (vertices[:, 0] == expected).all()


def test_a_value_that_equals_the_isovalue_is_outside() -> None:
    volume = np.ones((3, 3, 3), np.float32)
    volume[1, 1, 1] = 0.0
    assert_empty(mesh(volume))
    vertices, triangles = mesh(volume, np.nextafter(np.float32(0), np.float32(1)))
    assert (len(vertices), len(triangles)) == (6, 8)


def test_with_nan_anywhere_the_surface_stays_closed() -> None:
    volume = random_field(12, 12, 12)
    volume[volume > 1] = NAN
    volume[volume < -1] = -INF
    vertices, triangles = mesh(np.pad(volume, 1, constant_values=NAN))
    assert_closed(vertices, triangles)
    assert np.isfinite(vertices).all()


# Closed, oriented, and as others find it.


@pytest.mark.parametrize("seed", range(5))
def test_random_fields_give_closed_surfaces(seed: int) -> None:
    inner = random_field(20, 17, 70, seed=seed)
    for border in (1.0, -1.0):
        vertices, triangles = mesh(np.pad(inner, 1, constant_values=border))
        assert_closed(vertices, triangles)
        assert math.copysign(1.0, inner_volume(vertices, triangles)) == border


def test_checkerboard_gives_a_closed_surface() -> None:
    """Every face is ambiguous."""
    board = np.where(np.indices((6, 7, 8)).sum(axis=0) % 2, 1, -1).astype(np.float32)
    vertices, triangles = mesh(np.pad(board, 1, constant_values=1.0))
    assert_closed(vertices, triangles)
    assert len(vertices) == 6 * (board < 0).sum()  # each inside point apart, in an octahedron
    assert len(triangles) == 8 * (board < 0).sum()


def test_a_sphere() -> None:
    size, radius = 60, 0.7
    step = 2 / (size - 1)
    vertices, triangles = mesh(ball(size, radius), spacing=(step,) * 3, origin=(-1, -1, -1))
    assert_closed(vertices, triangles)
    assert len(vertices) - len(sides(triangles)) // 2 + len(triangles) == 2
    assert np.abs(np.linalg.norm(vertices, axis=1) - radius).max() < step**2
    assert inner_volume(vertices, triangles) == pytest.approx(4 / 3 * math.pi * radius**3, rel=5e-3)


def test_spacing_and_origin_are_rounded_once() -> None:
    volume = random_field(5, 5, 5)
    grid, _ = mesh(volume)
    vertices, _ = mesh(volume, spacing=(0.1, 2.0, 1e-3), origin=(1e6, 0.0, -7.0))
    assert np.allclose(vertices, grid.astype(np.float64) * (0.1, 2.0, 1e-3) + (1e6, 0.0, -7.0), rtol=2e-7, atol=0.01)
    assert_same((vertices, _), by_the_book(volume, spacing=(0.1, 2.0, 1e-3), origin=(1e6, 0.0, -7.0)))


def has_ambiguous_face(volume: Volume) -> bool:
    inside = volume < 0
    for axis in range(3):
        face = np.moveaxis(inside, axis, 0)
        a, b, c, d = face[:, :-1, :-1], face[:, 1:, :-1], face[:, :-1, 1:], face[:, 1:, 1:]
        if ((a == d) & (b == c) & (a != b)).any():
            return True
    return False


def smooth_fields() -> list[Volume]:
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in (41, 45, 50)], indexing="ij")
    return [
        ball(33),
        (np.hypot(np.hypot(x, y) - 0.55, z) - 0.22).astype(np.float32),
        (0.3 * x - 0.7 * y + 0.2 * z - 0.05).astype(np.float32),
        (x * x + 0.5 * y * y - z + 0.1).astype(np.float32),
    ]


@pytest.mark.parametrize("number", range(4))
def test_scikit_image_finds_the_same_surface(number: int) -> None:
    """Where no face is ambiguous there is one topology: the same vertices, as many triangles, the same volume."""
    volume = smooth_fields()[number]
    assert not has_ambiguous_face(volume)
    vertices, triangles = mesh(volume)
    # Its order of axes turns orientation round: "descent" gives normals to greater values.
    theirs, their_triangles, _, _ = measure.marching_cubes(volume, 0.0, gradient_direction="descent")
    assert (len(vertices), len(triangles)) == (len(theirs), len(their_triangles))
    order, their_order = (np.lexsort(np.round(v.astype(np.float64), 3).T) for v in (vertices, theirs))
    assert np.abs(vertices[order] - theirs[their_order]).max() < 2e-3
    assert inner_volume(vertices, triangles) == pytest.approx(inner_volume(theirs, their_triangles), rel=1e-3)


# What is refused.


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.uint8, np.bool_, np.complex64])
def test_another_dtype_is_refused(dtype: type) -> None:
    with pytest.raises(TypeError, match=re.escape(f"float32 is needed, got {np.dtype(dtype).name}".rstrip("_"))):
        mcubes.marching_cubes(np.zeros((2, 2, 2), dtype))


@pytest.mark.parametrize("shape", [(), (8,), (2, 4), (1, 2, 2, 2)])
def test_another_rank_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(TypeError, match=f"rank {len(shape)}"):
        mcubes.marching_cubes(np.zeros(shape, np.float32))


@pytest.mark.parametrize("volume", [None, 3, [[[1.0]]], "volume"])
def test_what_is_no_array_is_refused(volume: Any) -> None:
    with pytest.raises(TypeError, match=rf"__dlpack__.*got {type(volume).__name__}"):
        mcubes.marching_cubes(volume)


def test_unaligned_data_is_refused() -> None:
    volume = np.frombuffer(bytearray(33), np.uint8)[1:].view(np.float32).reshape(2, 2, 2)
    assert not volume.flags.aligned
    with pytest.raises(BufferError, match="aligned"):
        mcubes.marching_cubes(volume)


class Elsewhere:
    """An array of another device."""

    def __init__(self, *device: int) -> None:
        self.device = device

    def __dlpack_device__(self) -> tuple[int, ...]:
        return self.device

    def __dlpack__(self, **_: Any) -> Any:
        pytest.fail("it was asked for data that cannot be read")


def test_another_device_is_refused() -> None:
    with pytest.raises(BufferError, match=r"\(10, 0\) is neither CPU \(1\) nor CUDA \(2\)"):
        mcubes.marching_cubes(Elsewhere(10, 0))
    expected = (RuntimeError, r"\.cu:\d+: cuda\w+: ") if mcubes.has_cuda else (BufferError, "without CUDA")
    with pytest.raises(expected[0], match=expected[1]):
        mcubes.marching_cubes(Elsewhere(2, 99))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"isovalue": NAN}, "isovalue"),
        ({"isovalue": INF}, "isovalue"),
        ({"isovalue": 1e300}, "isovalue"),
        ({"spacing": (1, 0, 1)}, "spacing"),
        ({"spacing": (1, -1, 1)}, "spacing"),
        ({"spacing": (1, 1, NAN)}, "spacing"),
        ({"spacing": (INF, 1, 1)}, "spacing"),
        ({"origin": (0, INF, 0)}, "origin"),
        ({"origin": (NAN, 0, 0)}, "origin"),
    ],
)
def test_numbers_that_make_no_grid_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mcubes.marching_cubes(ball(4), **options)


@pytest.mark.parametrize("options", [{"spacing": (1, 1)}, {"origin": 3.0}, {"isovalue": "0"}])
def test_other_types_of_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        mcubes.marching_cubes(ball(4), **options)


# Sizes beyond 32 bits, as far as they need no memory.


@pytest.mark.parametrize(
    ("vertices", "dtype"),
    [(0, "int32"), (2**31 - 1, "int32"), (2**31, "int32"), (2**31 + 1, "int64"), (2**40, "int64")],
)
def test_indices_are_as_wide_as_they_must(vertices: int, dtype: str) -> None:
    """The largest index of 2**31 vertices is 2**31 - 1, which an int32 holds."""
    assert mcubes._index_dtype(vertices) == dtype


@pytest.mark.parametrize("shape", [(2**31, 2**31, 2), (2, 2, 2**62), (2**62, 2, 2), (2**21, 2**21, 2**21)])
def test_more_points_than_can_be_counted_are_refused(shape: tuple[int, int, int]) -> None:
    class Huge:
        """NumPy has no array so large; a broadcast scalar with its shape changed stands for one."""

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

        def __dlpack__(self, **_: Any) -> Any:
            return broadcast_capsule(shape)

    with pytest.raises(ValueError, match=r"2\^60"):
        mcubes.marching_cubes(Huge())


def broadcast_capsule(shape: tuple[int, int, int]) -> Any:
    """A DLPack capsule of one float32 repeated over a shape."""
    import ctypes

    class Tensor(ctypes.Structure):
        _fields_ = (
            ("data", ctypes.c_void_p),
            ("device", ctypes.c_int32 * 2),
            ("ndim", ctypes.c_int32),
            ("code", ctypes.c_uint8),
            ("bits", ctypes.c_uint8),
            ("lanes", ctypes.c_uint16),
            ("shape", ctypes.POINTER(ctypes.c_int64)),
            ("strides", ctypes.POINTER(ctypes.c_int64)),
            ("byte_offset", ctypes.c_uint64),
            ("manager", ctypes.c_void_p),
            ("deleter", ctypes.c_void_p),
        )

    data = ctypes.c_float(1.0)
    sizes, strides = (ctypes.c_int64 * 3)(*shape), (ctypes.c_int64 * 3)(0, 0, 0)
    device = (ctypes.c_int32 * 2)(1, 0)
    managed = Tensor(ctypes.addressof(data), device, 3, 2, 32, 1, sizes, strides, 0, None, None)
    KEPT.append((data, sizes, strides, managed))
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return new(ctypes.addressof(managed), b"dltensor", None)


KEPT: list[Any] = []
"""What capsules point to."""


# Arrays.


def test_arrays_say_what_they_are() -> None:
    vertices, triangles = mcubes.marching_cubes(ball(8))
    assert (vertices.dtype, triangles.dtype) == ("float32", "int32")
    assert vertices.device == vertices.__dlpack_device__() == (1, 0)
    assert vertices.shape == (len(np.asarray(vertices)), 3)
    assert repr(vertices) == f"Array(shape={vertices.shape}, dtype=float32, device=(1, 0))"


def test_arrays_are_handed_over_without_a_copy() -> None:
    vertices, triangles = mcubes.marching_cubes(ball(8))
    for array in (vertices, triangles):
        lent, buffered = np.from_dlpack(array), np.asarray(array)
        assert lent.ctypes.data == buffered.ctypes.data
        assert lent.dtype == buffered.dtype == array.dtype
        assert (lent == buffered).all()


def test_what_was_handed_over_outlives_the_array() -> None:
    vertices, _ = mcubes.marching_cubes(ball(8))
    lent, buffered = np.from_dlpack(vertices), memoryview(vertices)
    before = lent.copy()
    del vertices
    assert (lent == before).all()
    assert (np.asarray(buffered) == before).all()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "dltensor"),
        ({"max_version": (0, 8)}, "dltensor"),
        ({"max_version": (1, 0)}, "dltensor_versioned"),
        ({"max_version": (2, 3), "stream": None, "dl_device": (1, 0), "copy": False}, "dltensor_versioned"),
    ],
)
def test_the_consumer_chooses_the_version(options: dict[str, Any], name: str) -> None:
    capsule = mcubes.marching_cubes(ball(8))[0].__dlpack__(**options)
    assert f'"{name}"' in repr(capsule)


@pytest.mark.parametrize("options", [{"dl_device": (2, 0)}, {"dl_device": (1, 1)}, {"copy": True}])
def test_a_wish_that_cannot_be_met_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(BufferError):
        mcubes.marching_cubes(ball(8))[0].__dlpack__(**options)


def test_an_array_is_a_producer_as_well() -> None:
    vertices, _ = mcubes.marching_cubes(ball(8))
    with pytest.raises(TypeError, match="rank 2"):
        mcubes.marching_cubes(vertices)
    assert vertices.to_host() is vertices or np.shares_memory(np.asarray(vertices.to_host()), np.asarray(vertices))


class Old:
    """A producer from before DLPack 1.0."""

    def __init__(self, array: Volume) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __dlpack__(self) -> Any:
        return self.array.__dlpack__()


def test_producers_of_either_version_are_understood() -> None:
    volume = random_field(4, 5, 6)
    assert_same(mesh(Old(volume)), by_the_book(volume))


def test_what_a_producer_raises_comes_through() -> None:
    class Refuses(Elsewhere):
        def __dlpack__(self, **_: Any) -> Any:
            raise BufferError("not today")

    with pytest.raises(BufferError, match="not today"):
        mcubes.marching_cubes(Refuses(1, 0))


def test_a_producer_without_a_capsule_is_refused() -> None:
    class Confused(Elsewhere):
        def __dlpack__(self, **_: Any) -> Any:
            return 5

    with pytest.raises(TypeError, match="no DLPack capsule"):
        mcubes.marching_cubes(Confused(1, 0))


def test_threads_do_not_disturb_each_other() -> None:
    fields = [random_field(20, 20, 70, seed=seed) for seed in range(4)]
    expected = [mesh(field) for field in fields]
    found: dict[int, Mesh] = {}

    def work(number: int) -> None:
        for _ in range(5):
            found[number] = mesh(fields[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        assert_same(found[number], expected[number])


def test_memory_is_given_back() -> None:
    """200 meshes of 0.4 MB each, and a volume whose lender is told that it is free again."""
    import gc
    import weakref

    import psutil

    volume = random_field(24, 24, 24)
    mesh(volume)
    before = psutil.Process().memory_info().rss
    for _ in range(200):
        np.from_dlpack(mcubes.marching_cubes(volume)[0])
        mcubes.marching_cubes(volume)[1].__dlpack__()  # a capsule that nobody takes
    assert psutil.Process().memory_info().rss - before < 20e6
    lent = weakref.ref(volume)
    del volume
    gc.collect()
    assert lent() is None


def test_a_build_without_cuda_says_so() -> None:
    """The wheel of cudabuild is compiled without; a checkout may have another."""
    assert mcubes.has_cuda == bool(mcubes.cuda_targets)
    assert mcubes.device_count() >= 0
    if not mcubes.has_cuda:
        assert mcubes.device_count() == 0
        with pytest.raises(BufferError, match="without CUDA"):
            mcubes.to_device(ball(4))


def test_every_public_name_is_explained() -> None:
    for name in ("marching_cubes", "to_device", "device_count", "case_table", "Array"):
        assert getattr(mcubes, name).__doc__
    assert all(len(triangle) == 3 for triangle in itertools.chain.from_iterable(TABLE))


def test_a_bundled_recipe_reaches_the_source_by_one_path() -> None:
    """In a checkout and in an installed wheel alike."""
    sources = bundled_recipes() / "any" / ".." / ".." / "csrc" / "mcubes"
    assert {"CMakeLists.txt", "pyproject.toml", "table.hpp"} <= {path.name for path in sources.resolve().iterdir()}
