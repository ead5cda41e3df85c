"""A volume of more points than 32 bits count: one plane repeated, so that points take 8 MB and their bits 0.3 GB."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

pytestmark = pytest.mark.integration

mcubes = importlib.import_module("buildkit._native.cudabuild_mcubes")


def test_more_points_than_32_bits_count() -> None:
    planes, length = 1030, 2**20 + 7
    plane = np.ones((2, length), np.float32)
    inside = length - 3
    plane[0, inside] = -1.0
    volume = np.broadcast_to(plane, (planes, 2, length))
    assert volume.size > 2**31
    vertices, triangles = (np.asarray(array) for array in mcubes.marching_cubes(volume))
    # In each plane the inside point has an edge along y and one both ways along z; numbered from the lower point on.
    expected = np.empty((planes, 3, 3), np.float32)
    expected[:, :, 0] = np.arange(planes)[:, None]
    expected[:, :, 1:] = [[0, inside - 0.5], [0.5, inside], [0, inside + 0.5]]
    assert (vertices.reshape(planes, 3, 3) == expected).all()
    # Between two planes two quadrilaterals, each of two triangles, and the same between the next two.
    slabs = triangles.reshape(planes - 1, 12) - 3 * np.arange(planes - 1)[:, None]
    assert (slabs == slabs[0]).all()
    assert sorted(set(slabs[0].tolist())) == list(range(6))
