"""The shapes of the smoke test: float32 volumes whose surface has a known answer. Standalone: NumPy only.

Sides, spacings and origins differ from axis to axis, so that swapped axes, a lost origin or a wrong scale show.
Inside is where a volume is below its isovalue. Nothing newer than Python 3.8 is used.

How far may a right mesh be off? Let f be a distance function whose surface has curvatures of at most k, h the
greatest spacing and d the diagonal of a cell. Whatever the mesh reaches is within d of the surface, where the second
derivatives of f are at most K = k / (1 - k d).

- A vertex is where the linear interpolant along a grid edge is zero. It differs from f by at most K h^2 / 8.
- At a point p = sum(l_i v_i) of a triangle, f differs from sum(l_i f(v_i)) by at most K / 2 * sum(l_i |v_i - p|^2)
  = K / 2 * sum(l_i l_j |v_i - v_j|^2) <= K d^2 / 6.

So the whole mesh is within delta = K (h^2 / 8 + d^2 / 6) of the surface. A closed mesh in that layer encloses the
true volume give or take the layer, whose sheets have at most (1 + K delta)^2 times the area A: the volume is off by
at most A delta (1 + K delta)^2. The nearest-point projection from the mesh to the surface stretches each of two
directions by at most 1 + K delta, so the mesh cannot have less area than A by more than the share
(1 + K delta)^2 - 1. Facets that are tilted against the surface add area, of the same order h^2: the same share is
allowed on that side, and a test holds that the error falls with h^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Triple = tuple[float, float, float]

ROUNDING = 1e-6
"""What float32 may be off, relative to the greatest coordinate: eight units in the last place."""


@dataclass(frozen=True)
class Known:
    """A number that is known beforehand, and how far a right mesh may be off."""

    value: float
    tolerance: float


@dataclass(frozen=True)
class Shape:
    """A volume [nx, ny, nz] (any strides) and what is known of its surface; None: nothing.

    ``closed``: the surface does not reach the faces of the volume. ``volume_below`` is what lies between the
    surface and the bottom of the volume, which for a closed surface is what it encloses.
    """

    name: str
    volume: NDArray[np.float32]
    isovalue: float
    spacing: Triple
    origin: Triple
    closed: bool
    euler: int | None = None
    area: Known | None = None
    volume_below: Known | None = None

    @property
    def far_corner(self) -> NDArray[np.float64]:
        """The coordinates of the last grid point."""
        far: NDArray[np.float64] = np.add(self.origin, np.multiply(self.spacing, np.subtract(self.volume.shape, 1)))
        return far

    @property
    def greatest(self) -> float:
        """The greatest coordinate of the volume, which rounding is relative to."""
        return float(max(np.abs(self.origin).max(), np.abs(self.far_corner).max()))

    @property
    def rounding(self) -> float:
        """How far float32 may move a vertex."""
        return ROUNDING * self.greatest


def points(size: tuple[int, int, int], spacing: Triple, origin: Triple) -> list[NDArray[np.float64]]:
    """The coordinates of the grid points: three arrays [nx, ny, nz]."""
    axes = [origin[axis] + spacing[axis] * np.arange(size[axis]) for axis in range(3)]
    return [np.asarray(grid) for grid in np.meshgrid(*axes, indexing="ij")]


def layer(curvature: float, spacing: Triple) -> tuple[float, float]:
    """delta, and the factor (1 + K delta)^2 by which sheets in the layer differ in area (see above)."""
    diagonal = math.sqrt(sum(step**2 for step in spacing))
    greatest = curvature / (1 - curvature * diagonal)
    delta = greatest * (max(spacing) ** 2 / 8 + diagonal**2 / 6)
    return delta, (1 + greatest * delta) ** 2


def bounds(area: float, volume: float, curvature: float, spacing: Triple) -> tuple[Known, Known]:
    """The area and the enclosed volume of a smooth closed surface, within the discretisation bound."""
    delta, stretch = layer(curvature, spacing)
    return Known(area, area * (stretch - 1)), Known(volume, area * delta * stretch)


def sphere(refined: int = 1) -> Shape:
    """Radius 1.6, about fifteen cells. ``refined`` divides the spacing."""
    radius, centre = 1.6, (0.07, 3.02, -1.05)
    spacing = (0.11 / refined, 0.1 / refined, 0.12 / refined)
    size = (36 * refined, 40 * refined, 34 * refined)
    origin = (-1.83, 1.06, -3.0)
    x, y, z = points(size, spacing, origin)
    distance = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)
    area, volume = bounds(4 * math.pi * radius**2, 4 / 3 * math.pi * radius**3, 1 / radius, spacing)
    # The distance itself, and the radius as the isovalue: an isovalue that is not used shows.
    return Shape("sphere", distance.astype(np.float32), radius, spacing, origin, True, 2, area, volume)


def torus(refined: int = 1) -> Shape:
    """Radii 1.5 (of its core) and 0.7 (of its tube), around the y axis; the volume's strides are Fortran's."""
    core, tube = 1.5, 0.7
    spacing = (0.1 / refined, 0.08 / refined, 0.09 / refined)
    size = (48 * refined, 24 * refined, 53 * refined)
    origin = (-2.33, 4.1, -2.29)
    x, y, z = points(size, spacing, origin)
    distance = np.sqrt((np.sqrt(x**2 + z**2) - core) ** 2 + (y - 5.03) ** 2) - tube
    curvature = max(1 / tube, 1 / (core - tube))
    area, volume = bounds(4 * math.pi**2 * core * tube, 2 * math.pi**2 * core * tube**2, curvature, spacing)
    return Shape("torus", np.asfortranarray(distance, np.float32), 0.0, spacing, origin, True, 0, area, volume)


def touching_spheres() -> Shape:
    """Two spheres of radius 0.8 that touch in the middle of a cell's face, along its diagonal: an ambiguous face.

    Where the gap between them is narrower than a cell's diagonal d, the grid cannot tell how wide it is. The two
    caps that face each other there are d / 2 high and have an area of pi R d each; the gap between them is less than
    pi d^2 R / 2. That comes on top of the bound for smooth surfaces.
    """
    radius, spacing, size, origin = 0.8, (0.08, 0.08, 0.1), (38, 38, 20), (1.0, -5.0, -0.9)
    x, y, z = points(size, spacing, origin)
    touch = np.add(origin, np.multiply(spacing, (18.5, 18.5, 9)))
    step = radius / math.sqrt(2)
    both = [
        np.sqrt((x - touch[0] - side) ** 2 + (y - touch[1] - side) ** 2 + (z - touch[2]) ** 2) - radius
        for side in (-step, step)
    ]
    area, volume = bounds(8 * math.pi * radius**2, 8 / 3 * math.pi * radius**3, 1 / radius, spacing)
    gap = math.sqrt(sum(length**2 for length in spacing))
    area = Known(area.value, area.tolerance + 2 * math.pi * radius * gap)
    volume = Known(volume.value, volume.tolerance + math.pi * gap**2 * radius / 2)
    nearest = np.minimum(*both).astype(np.float32)
    # The kernel's rule keeps the inside corners of an ambiguous face apart: two spheres, not one with a neck.
    return Shape("touching spheres", nearest, 0.0, spacing, origin, True, 4, area, volume)


def gyroid() -> Shape:
    """sin x cos y + sin y cos z + sin z cos x = 0.1 over more than a period: saddles everywhere, open at the faces."""
    spacing, size, origin = (0.3, 0.26, 0.28), (28, 30, 29), (-3.1, 0.4, 1.7)
    x, y, z = points(size, spacing, origin)
    value = np.sin(x) * np.cos(y) + np.sin(y) * np.cos(z) + np.sin(z) * np.cos(x)
    return Shape("gyroid", value.astype(np.float32), 0.1, spacing, origin, closed=False)


def plane() -> Shape:
    """The graph z = 1.1037 + 0.3 x - 0.4 y over the whole base: marching cubes is exact for a linear field.

    A vertex may be off by the rounding r, which changes a triangle's area by at most 3 / 2 of its longest side
    times r; there are fewer than six triangles over each cell of the base.
    """
    spacing, size, origin = (0.21, 0.17, 0.13), (9, 12, 24), (-0.5, 0.25, -0.75)
    x, y, z = points(size, spacing, origin)
    shape = Shape("plane", (z - (1.1037 + 0.3 * x - 0.4 * y)).astype(np.float32), 0.0, spacing, origin, closed=False)
    wide, deep = (spacing[axis] * (size[axis] - 1) for axis in (0, 1))
    area = wide * deep * math.sqrt(1 + 0.3**2 + 0.4**2)
    height = 1.1037 + 0.3 * (origin[0] + wide / 2) - 0.4 * (origin[1] + deep / 2) - origin[2]
    slack = 6 * (size[0] - 1) * (size[1] - 1) * 1.5 * math.sqrt(sum(s**2 for s in spacing)) * shape.rounding
    below = Known(wide * deep * height, slack * height)
    return replace(shape, euler=1, area=Known(area, slack), volume_below=below)


def random_field() -> Shape:
    """Independent values, in steps of a quarter: all 256 cases of a cell occur, and points with just the isovalue.

    The volume has negative strides.
    """
    size, spacing, origin = (15, 13, 16), (0.5, 0.25, 1.0), (2.0, -1.0, 0.0)
    values = np.round(4 * np.random.default_rng(20260101).standard_normal(size)) / 4
    return Shape("random field", values.astype(np.float32)[::-1, :, ::-1], 0.25, spacing, origin, closed=False)


def all_shapes() -> list[Shape]:
    """Every shape, the plainest first: the first check that fails is the easiest to understand."""
    return [plane(), sphere(), torus(), touching_spheres(), gyroid(), random_field()]
