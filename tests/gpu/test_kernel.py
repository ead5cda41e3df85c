"""The CUDA kernel against its CPU twin, and with torch's tensors: every stride, odd sizes, odd values, streams, errors.

The smoke test says that the twin is right; here both must give the very same mesh.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

SIZES = [
    (2, 2, 2), (2, 3, 4), (5, 4, 3), (1, 9, 9), (9, 9, 1), (0, 5, 5), (5, 5, 0), (2, 2, 33), (2, 2, 64), (3, 3, 65),
    (2, 2, 1025), (2, 1025, 2), (1025, 2, 2), (31, 33, 97), (64, 64, 64), (65, 63, 129),
]  # fmt: skip
"""Sides about the widths of words, warps and blocks, sides of one and none, and one size that fills many blocks."""


def field(size: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    """A crossing nearly everywhere, and points that are just zero."""
    values = np.round(8 * np.random.default_rng(seed).standard_normal(size)) / 8
    return values.astype(np.float32)


def meshes(kernel: Any, volume: Any, *rest: Any) -> list[NDArray[Any]]:
    """Vertices and triangles on the host."""
    return [np.array(array.to_host()) for array in kernel.marching_cubes(volume, *rest)]


def assert_same(kernel: Any, on_device: Any, on_host: Any, *rest: Any) -> None:
    """The same form and the same bits."""
    for one, other in zip(meshes(kernel, on_device, *rest), meshes(kernel, on_host, *rest), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert np.array_equal(one, other)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_same_mesh_as_the_twin(kernel: Any, torch: Any, device: str, size: tuple[int, int, int]) -> None:
    volume = field(size)
    assert_same(kernel, torch.from_numpy(volume).to(device), volume)
    assert_same(kernel, torch.from_numpy(volume).to(device), volume, 0.125, (0.5, 0.25, 3.0), (-7.0, 1e3, 0.1))


def test_a_copy_by_the_module_itself_gives_the_same(kernel: Any) -> None:
    volume = field((20, 30, 40))[::-1, ::2, 3:]
    assert_same(kernel, kernel.to_device(volume), volume)


VIEWS: dict[str, Callable[[Any], Any]] = {
    "axes swapped": lambda volume: volume.swapaxes(0, 2),
    "every second": lambda volume: volume[::2, ::3, ::2],
    "a slice inside": lambda volume: volume[3:-2, 5:, 1:-1],
    "axes turned": lambda volume: volume.swapaxes(0, 1).swapaxes(1, 2)[::2],
}


@pytest.mark.parametrize("view", VIEWS)
def test_strides(kernel: Any, torch: Any, device: str, view: str) -> None:
    volume = field((24, 25, 26), seed=1)
    assert_same(kernel, VIEWS[view](torch.from_numpy(volume).to(device)), VIEWS[view](volume))


def test_a_stride_of_zero(kernel: Any, torch: Any, device: str) -> None:
    """One plane of values, seen by every x: an extruded curve."""
    plane = field((1, 40, 50), seed=2)
    expanded = torch.from_numpy(plane).to(device).expand(30, 40, 50)
    assert expanded.stride()[0] == 0
    assert_same(kernel, expanded, np.repeat(plane, 30, axis=0))


def test_odd_values(kernel: Any, torch: Any, device: str) -> None:
    """NaN counts as outside, infinities are what they are, and so are the greatest and the least floats."""
    volume = field((30, 31, 32), seed=3)
    greatest = np.finfo(np.float32).max
    odd = np.array([np.nan, np.inf, -np.inf, greatest, -greatest, 1e-45, -1e-45, 0.0, -0.0], dtype=np.float32)
    where = np.random.default_rng(4).integers(0, 40, volume.shape)
    volume = np.where(where < len(odd), odd[np.minimum(where, len(odd) - 1)], volume)
    assert_same(kernel, torch.from_numpy(volume).to(device), volume)
    vertices, _ = meshes(kernel, torch.from_numpy(volume).to(device))
    assert np.isfinite(vertices).all()


@pytest.mark.parametrize("value", [1.0, -1.0, np.nan])
def test_no_crossing_is_an_empty_mesh(kernel: Any, torch: Any, device: str, value: float) -> None:
    volume = torch.full((10, 11, 12), value, dtype=torch.float32, device=device)
    vertices, triangles = kernel.marching_cubes(volume)
    assert (vertices.shape, vertices.dtype) == ((0, 3), "float32")
    assert (triangles.shape, triangles.dtype) == ((0, 3), "int32")


def test_torch_takes_the_mesh_where_it_is(kernel: Any, torch: Any, device: str) -> None:
    volume = field((20, 21, 22), seed=5)
    vertices, triangles = kernel.marching_cubes(torch.from_numpy(volume).to(device))
    wanted = kernel.marching_cubes(volume)
    for array, other in zip((vertices, triangles), wanted, strict=True):
        tensor = torch.from_dlpack(array)
        assert tensor.device.type == device
        assert tensor.tolist() == np.asarray(other).tolist()
    tensor = torch.from_dlpack(vertices)
    del vertices, triangles, array
    assert torch.isfinite(tensor * 2).all()


def test_what_is_under_way_on_a_stream_is_waited_for(kernel: Any, torch: Any) -> None:
    """The volume is written on a stream of its own, after a long wait; the kernel has to see what is written last."""
    wanted = torch.from_numpy(field((64, 64, 64), seed=6)).cuda()
    expected = meshes(kernel, wanted.cpu())
    volume = torch.ones_like(wanted)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(500_000_000)  # clock cycles: a quarter of a second or more
        volume.copy_(wanted)
        assert not stream.query()
        mesh = kernel.marching_cubes(volume)
        doubled = torch.from_dlpack(mesh[0]) * 2
    stream.synchronize()
    assert np.array_equal(np.array(mesh[1].to_host()), expected[1])
    assert np.array_equal(doubled.cpu().numpy(), expected[0] * 2)


def test_many_calls_take_no_more_memory(kernel: Any, torch: Any) -> None:
    volume = torch.from_numpy(field((96, 96, 96), seed=7)).cuda()
    for _ in range(5):
        kernel.marching_cubes(volume)
    before = torch.cuda.mem_get_info()[0]
    for _ in range(100):
        kernel.marching_cubes(volume)
    assert before - torch.cuda.mem_get_info()[0] < 512 << 20


def test_more_points_than_32_bits_count(kernel: Any, torch: Any, device: str) -> None:
    """2^31 and more points, of which memory holds one line: the plane x = n - 1.5 in a volume of 1300^3."""
    side = 1300
    if torch.cuda.mem_get_info()[0] < 12 << 30:
        pytest.skip("not executed: less than 12 GiB of GPU memory is free")
    line = torch.full((side,), 1.0, dtype=torch.float32, device=device)
    line[-1] = -1
    volume = line.view(side, 1, 1).expand(side, side, side)
    vertices, triangles = (torch.from_dlpack(array) for array in kernel.marching_cubes(volume))
    assert volume.numel() > 2**31
    assert vertices.shape == (side * side, 3)
    assert triangles.shape == (2 * (side - 1) ** 2, 3)
    assert bool((vertices[:, 0] == side - 1.5).all())
    assert vertices[-1].tolist() == [side - 1.5, side - 1, side - 1]
    assert int(triangles.max()) == side * side - 1
    assert int(triangles.min()) == 0


@pytest.mark.parametrize("kind", ["float64", "float16", "int32", "uint8"])
def test_another_type_is_refused(kernel: Any, torch: Any, device: str, kind: str) -> None:
    with pytest.raises(TypeError, match="float32"):
        kernel.marching_cubes(torch.zeros((4, 4, 4), dtype=getattr(torch, kind), device=device))


@pytest.mark.parametrize("size", [(4, 4), (4, 4, 4, 4), ()])
def test_another_rank_is_refused(kernel: Any, torch: Any, device: str, size: tuple[int, ...]) -> None:
    with pytest.raises(TypeError, match="rank"):
        kernel.marching_cubes(torch.zeros(size, device=device))


def test_an_array_on_the_gpu_is_no_buffer(kernel: Any) -> None:
    array = kernel.to_device(field((4, 4, 4)))
    assert array.device == (2, 0)
    with pytest.raises(BufferError):
        memoryview(array)
    with pytest.raises(BufferError, match="device"):
        array.__dlpack__(dl_device=(1, 0))
    with pytest.raises(BufferError, match="host"):
        kernel.to_device(array)


def test_a_cuda_error_names_file_line_and_call(kernel: Any) -> None:
    with pytest.raises(RuntimeError) as caught:
        kernel.to_device(field((4, 4, 4)), kernel.device_count())
    assert re.search(r"\.cu[h]?:\d+: cudaErrorInvalidDevice: .*invalid device ordinal", str(caught.value))
    assert_same(kernel, kernel.to_device(field((9, 9, 9))), field((9, 9, 9)))


def test_two_gpus_are_two_devices(kernel: Any, torch: Any) -> None:
    if kernel.device_count() < 2:
        pytest.skip("not executed: fewer than two GPUs visible")
    volume = field((33, 34, 35), seed=8)
    vertices, _ = kernel.marching_cubes(torch.from_numpy(volume).to("cuda:1"))
    assert vertices.device == (2, 1)
    assert np.array_equal(np.array(vertices.to_host()), meshes(kernel, volume)[0])
    assert torch.cuda.current_device() == 0
