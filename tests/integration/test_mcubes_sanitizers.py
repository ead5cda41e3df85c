"""The CPU twin under AddressSanitizer and UndefinedBehaviorSanitizer, fed with all shapes, strides and values.

A small driver (tests/packages/mcubes_driver) is linked with the twin's own source by g++ -fsanitize, and each mesh is
compared with that of the installed module. Planted faults show that the sanitizers are on.
"""

from __future__ import annotations

import importlib
import math
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "csrc" / "mcubes"
FLAGS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-O1", "-g"]
SPACING, ORIGIN = (0.5, 2.0, 1.0), (-1.0, 0.0, 100.0)

mcubes = importlib.import_module("buildkit._native.cudabuild_mcubes")


@dataclass(frozen=True)
class Request:
    """A view into a block of values, as the driver is told of it."""

    size: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    values: NDArray[np.float32]
    isovalue: float = 0.0
    index: int = 4

    def packed(self) -> bytes:
        head = struct.pack("9q", *self.size, *self.strides, self.offset, self.values.size, self.index)
        return head + struct.pack("7d", self.isovalue, *SPACING, *ORIGIN) + self.values.tobytes()


def request_of(view: NDArray[np.float32], block: NDArray[np.float32], isovalue: float, index: int) -> Request:
    """What a view of a block is to the driver."""
    offset = (view.ctypes.data - block.ctypes.data) // 4
    strides = tuple(stride // 4 for stride in view.strides)
    return Request(view.shape, strides, offset, block.ravel(), isovalue, index)


class Driver:
    """The driver's process; started again after a sanitizer ended it."""

    def __init__(self, program: Path) -> None:
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None

    def ask(self, request: Request) -> tuple[bytes, bytes]:
        """Vertices and triangles; AssertionError with the sanitizer's report if it ends the process."""
        if self.process is None:
            pipe = subprocess.PIPE
            self.process = subprocess.Popen([self.program], stdin=pipe, stdout=pipe, stderr=pipe)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(request.packed())
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        head = self.process.stdout.read(16)
        if len(head) < 16:
            raise AssertionError(self.stop())
        vertices, triangles = struct.unpack("2q", head)
        return self.process.stdout.read(12 * vertices), self.process.stdout.read(3 * request.index * triangles)

    def stop(self) -> str:
        """End it; what it had to say."""
        if self.process is None:
            return ""
        _, said = self.process.communicate(timeout=60)
        code, self.process = self.process.returncode, None
        return f"exit code {code}\n{said.decode(errors='replace')}" if code or said else ""


def compiled(program: Path, source: Path, *flags: str) -> Path:
    units = [ROOT / "tests" / "packages" / "mcubes_driver" / "driver.cpp", source / "cpu.cpp"]
    strict = ["-std=c++17", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-ffp-contract=off", f"-I{source}"]
    subprocess.run(["g++", *strict, *flags, "-o", program, *units], check=True, timeout=300)
    return program


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    started = Driver(compiled(tmp_path_factory.mktemp("driver") / "driver", SOURCES, *FLAGS))
    yield started
    assert started.stop() == ""  # leaks are reported at the end


floats = st.one_of(
    st.floats(width=32),
    st.floats(-1, 1, width=32),
    st.sampled_from([0.0, -0.0, 0.5, math.inf, -math.inf, math.nan, 3.4028235e38, -3.4028235e38, 1e-45]),
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[NDArray[np.float32], Request]:
    """A view with any strides into a block without a float to spare at its end."""
    lengths = st.one_of(st.integers(0, 5), st.sampled_from([31, 32, 33, 63, 64, 65, 66, 129]))
    shape = [draw(st.integers(0, 5)), draw(st.integers(0, 5)), draw(lengths)]
    draw(st.randoms(use_true_random=False)).shuffle(shape)
    kinds = [draw(st.sampled_from(["forward", "backward", "step", "back step", "repeat"])) for _ in shape]
    steps = {"forward": 1, "backward": -1, "step": 2, "back step": -3, "repeat": 1}
    whole = [
        max(0, (length - 1) * abs(steps[kind]) + 1) if length else 0 for length, kind in zip(shape, kinds, strict=True)
    ]
    whole = [min(n, 1) if kind == "repeat" else n for n, kind in zip(whole, kinds, strict=True)]
    pool = np.array(draw(st.lists(floats, min_size=1, max_size=12)), np.float32)
    seed = draw(st.integers(0, 2**32 - 1))
    block = np.random.default_rng(seed).choice(pool, size=whole).astype(np.float32)
    view = block[tuple(slice(None, None, steps[kind]) for kind in kinds)]
    view = np.broadcast_to(view, shape).transpose(draw(st.permutations(range(3))))
    isovalue = draw(st.sampled_from([0.0, 0.5, -1e30, 1e-45, float(pool[0]) if math.isfinite(pool[0]) else 0.0]))
    return view, request_of(view, block, isovalue, draw(st.sampled_from([4, 8])))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(requests())
def test_the_twin_is_clean_and_gives_the_modules_mesh(driver: Driver, case: tuple[NDArray[Any], Request]) -> None:
    view, request = case
    vertices, triangles = driver.ask(request)
    expected = [np.asarray(array) for array in mcubes.marching_cubes(view, request.isovalue, SPACING, ORIGIN)]
    assert np.array_equal(np.frombuffer(vertices, np.float32).reshape(-1, 3), expected[0], equal_nan=True)
    indices = np.frombuffer(triangles, np.int32 if request.index == 4 else np.int64).reshape(-1, 3)
    assert np.array_equal(indices, expected[1])


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def test_a_larger_field_is_clean(driver: Driver) -> None:
    block = noise(40, 40, 200)
    vertices, _ = driver.ask(request_of(block, block, 0.0, 4))
    assert vertices == np.asarray(mcubes.marching_cubes(block, 0.0, SPACING, ORIGIN)[0]).tobytes()


# The sanitizers are on: planted faults are found.


@pytest.mark.parametrize("change", [{"size": (5, 5, 6)}, {"offset": 1}, {"offset": -1}, {"strides": (25, 5, 2)}])
def test_reading_beside_the_volume_is_found(driver: Driver, change: dict[str, Any]) -> None:
    """A volume that is said to be larger than it is."""
    block = noise(5, 5, 5)
    with pytest.raises(AssertionError, match=r"AddressSanitizer: heap-buffer-overflow"):
        driver.ask(replace(request_of(block, block, 0.0, 4), **change))
    assert driver.ask(request_of(block, block, 0.0, 4))[0]  # and the next one starts afresh


def test_an_overflow_is_found(driver: Driver) -> None:
    block = noise(5, 5, 5)
    request = replace(request_of(block, block, 0.0, 4), strides=(2**62, 5, 1))
    with pytest.raises(AssertionError, match="runtime error: signed integer overflow"):
        driver.ask(request)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("slice.resize(3 * points)", "slice.resize(2 * points)"),
        ("x + 1 < bits.layout.nx ? here", "x < bits.layout.nx ? here"),
    ],
)
def test_a_fault_in_the_source_is_found(tmp_path: Path, before: str, after: str) -> None:
    """A buffer that is too small, a bound that is off by one: in a copy of the source."""
    for name in ("cpu.cpp", "cpu.hpp", "mesh.hpp", "table.hpp"):
        (tmp_path / name).write_text((SOURCES / name).read_text("utf-8"), encoding="utf-8")
    text = (tmp_path / "cpu.cpp").read_text("utf-8")
    assert text.count(before) == 1
    (tmp_path / "cpu.cpp").write_text(text.replace(before, after), encoding="utf-8")
    faulty = Driver(compiled(tmp_path / "driver", tmp_path, *FLAGS))
    block = noise(6, 6, 70)
    try:
        with pytest.raises(AssertionError, match="AddressSanitizer: heap-buffer-overflow"):
            faulty.ask(request_of(block, block, 0.0, 4))
    finally:
        faulty.stop()
