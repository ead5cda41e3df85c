"""The checks of the smoke test: what holds of every right mesh of a volume. Standalone: NumPy only.

What is expected is worked out from the volume alone, without the table of cases. A vertex belongs to the grid edge
whose ends lie on both sides of the isovalue, and vertices are numbered by the edge's lower end in C order, x before
y before z; that is part of what the kernel promises. docs/explanation/smoke-test.md says what each check is for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from buildkit.verify.smoke_shapes import Shape

    Check = dict[str, Any]

NEAR = 1e-6
"""How far vertices of the CUDA kernel may be from its twin's, relative to the greatest coordinate."""
FORM = "float32 [V, 3], int32 [T, 3]"


@dataclass(frozen=True)
class Mesh:
    """What a mesher gave: vertices [V, 3] and triangles [T, 3], as NumPy arrays."""

    vertices: NDArray[Any]
    triangles: NDArray[Any]

    @property
    def form(self) -> str:
        """Types and shapes, as FORM writes them."""
        named = (("V", self.vertices), ("T", self.triangles))
        sides = [(array.dtype, ", ".join([letter, *map(str, array.shape[1:])])) for letter, array in named]
        return ", ".join(f"{kind} [{side}]" for kind, side in sides)


@dataclass(frozen=True)
class Crossings:
    """The grid edges that cross the isovalue, in the order of their vertices.

    ``owner`` [V, 3] is the lower end's index, ``axis`` [V] the direction, ``share`` [V] how far along the edge the
    crossing is (0 to 1, linear), ``outward`` [V] +1 where the value grows along the axis, else -1.
    """

    owner: NDArray[np.int64]
    axis: NDArray[np.int64]
    share: NDArray[np.float64]
    outward: NDArray[np.float64]

    def at(self, share: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Index coordinates [V, 3] of the points at this share of each edge."""
        position = self.owner.astype(np.float64)
        position[np.arange(len(self.axis)), self.axis] += share
        return position


def crossings(volume: NDArray[np.float32], isovalue: float) -> Crossings:
    """Where a volume crosses the isovalue (in float32, as the kernel gets it), edge by edge."""
    level = np.float32(isovalue)
    inside = volume < level
    found = np.zeros((*volume.shape, 3), dtype=bool)
    found[:-1, :, :, 0] = inside[:-1] != inside[1:]
    found[:, :-1, :, 1] = inside[:, :-1] != inside[:, 1:]
    found[:, :, :-1, 2] = inside[:, :, :-1] != inside[:, :, 1:]
    where = np.argwhere(found)
    owner, axis = where[:, :3], where[:, 3]
    upper = owner.copy()
    upper[np.arange(len(axis)), axis] += 1
    low, high = (volume[tuple(end.T)].astype(np.float64) for end in (owner, upper))
    return Crossings(owner, axis, (float(level) - low) / (high - low), np.where(low < high, 1.0, -1.0))


def check(name: str, got: float | str, expected: float | str, tolerance: float = 0.0) -> Check:
    """One comparison. A text, or what is no finite number, equals only the same text."""
    if not isinstance(got, str) and not math.isfinite(got):
        got = str(got)
    passed = got == expected
    if not isinstance(got, str) and not isinstance(expected, str):
        passed = abs(got - expected) <= tolerance
    return {"name": name, "expected": expected, "got": got, "tolerance": tolerance, "passed": passed}


def check_mesh(mesh: Mesh, shape: Shape) -> list[Check]:
    """Everything that is known of the mesh of a shape. A check that would make no sense is left out, after the one
    that says why."""
    name = shape.name
    checks = [check(f"{name}: form", mesh.form, FORM)]
    if mesh.form != FORM:
        return checks
    expected = crossings(shape.volume, shape.isovalue)
    beyond = int(np.count_nonzero((mesh.triangles < 0) | (mesh.triangles >= len(mesh.vertices))))
    checks.append(check(f"{name}: vertices", len(mesh.vertices), len(expected.axis)))
    checks.append(check(f"{name}: indices", beyond, 0))
    if beyond:
        return checks
    if len(mesh.vertices) == len(expected.axis):
        checks.append(check(f"{name}: crossings", _off_crossing(mesh, shape, expected), 0.0, shape.rounding))
        checks.append(check(f"{name}: orientation", _missed_turn(mesh, shape, expected), 0.0, 1e-6))
    return [*checks, *_check_edges(mesh, shape), *_check_measures(mesh, shape)]


def compare(mesh: Mesh, twin: Mesh, shape: Shape) -> list[Check]:
    """The mesh of one device against that of the other: the same triangles, and positions within rounding."""
    names = [f"{shape.name}: {what} of the twin" for what in ("sizes", "triangles", "positions")]
    sizes = [f"{len(each.vertices)} vertices, {len(each.triangles)} triangles" for each in (mesh, twin)]
    checks = [check(names[0], sizes[0], sizes[1])]
    if mesh.form == twin.form and sizes[0] == sizes[1]:
        apart = np.abs(mesh.vertices.astype(np.float64) - twin.vertices).max(initial=0.0) / shape.greatest
        checks.append(check(names[1], int(np.count_nonzero(mesh.triangles != twin.triangles)), 0))
        checks.append(check(names[2], float(apart), 0.0, NEAR))
    return checks


def _off_crossing(mesh: Mesh, shape: Shape, expected: Crossings) -> float:
    """The greatest distance of a vertex from the linear crossing of its edge, along an axis."""
    right = np.asarray(shape.origin) + np.asarray(shape.spacing) * expected.at(expected.share)
    return float(np.abs(mesh.vertices - right).max(initial=0.0))


def _missed_turn(mesh: Mesh, shape: Shape, expected: Crossings) -> float:
    """By how much (radians, at worst) the triangles around a vertex miss going once around its grid edge.

    In each cell beside the edge they lead from one face to the next, a quarter turn, counter-clockwise seen from
    outside. Measured with every vertex in the middle of its edge, so that only the triangles count.
    """
    middle = expected.at(0.5)
    x, y, z = (coordinate[mesh.triangles.T] for coordinate in middle.T)  # each [3, T]: of a triangle's corners
    sides = [each[[1, 2, 0]] - each for each in (x, y, z)]  # from each corner to the next
    products = [-side * side[[2, 0, 1]] for side in sides]  # of the two sides at each corner, both leading away
    (x, y, z), axis = sides, expected.axis[mesh.triangles.T]
    normals = [one[0] * other[1] - other[0] * one[1] for one, other in ((y, z), (z, x), (x, y))]
    sine = np.choose(axis, [np.broadcast_to(each, axis.shape) for each in normals])
    cosine = sum(products) - np.choose(axis, products)
    turned = np.bincount(mesh.triangles.T.ravel(), np.arctan2(sine + 0.0, cosine).ravel(), minlength=len(middle))
    # An edge inside has four cells beside it, one in a face of the volume two, one at the rim of two faces one.
    cells = np.where((expected.owner == 0) | (expected.owner == np.subtract(shape.volume.shape, 1)), 1, 2)
    cells[np.arange(len(cells)), expected.axis] = 1
    return float(np.abs(expected.outward * turned - cells.prod(axis=1) * math.pi / 2).max(initial=0.0))


def _check_edges(mesh: Mesh, shape: Shape) -> list[Check]:
    """Closed and manifold: each edge in two triangles with opposite directions, or at the volume's faces in one."""
    count = len(mesh.vertices)
    base = max(count, 1)
    start, end = (mesh.triangles[:, order].astype(np.int64).ravel() for order in ([0, 1, 2], [1, 2, 0]))
    low, high = np.minimum(start, end), np.maximum(start, end)
    every = np.sort(2 * (low * base + high) + (start > end))  # the two directions of an edge beside each other
    directed = every[np.diff(every, prepend=-1) != 0]
    edge = directed // 2
    lone = edge[(np.diff(edge, prepend=-1) != 0) & (np.diff(edge, append=-1) != 0)]
    lone = lone[lone // base != lone % base]
    touching = _faces_touched(mesh, shape)
    at_face = (touching[lone // base] & touching[lone % base]).any(axis=1)
    allowed = 0 if shape.closed else int(at_face.sum())
    checks = [
        check(f"{shape.name}: repeated edges", len(start) - len(directed), 0),
        check(f"{shape.name}: open edges", len(lone) - allowed, 0),
    ]
    if shape.euler is not None:
        euler = count - (len(directed) + len(lone)) // 2 + len(mesh.triangles)
        checks.append(check(f"{shape.name}: euler", euler, shape.euler))
    return checks


def _faces_touched(mesh: Mesh, shape: Shape) -> NDArray[np.bool_]:
    """Which of the volume's six faces each vertex lies in: [V, 6]."""
    low = np.abs(mesh.vertices - np.asarray(shape.origin)) <= shape.rounding
    high = np.abs(mesh.vertices - shape.far_corner) <= shape.rounding
    return np.concatenate([low, high], axis=1)


def _check_measures(mesh: Mesh, shape: Shape) -> list[Check]:
    """Area, and by the divergence theorem what lies below the surface, with a sign that tells outside from inside."""
    if shape.area is None and shape.volume_below is None:
        return []
    a, b, c = (mesh.vertices[mesh.triangles[:, corner]].astype(np.float64) for corner in range(3))
    normals = np.cross(b - a, c - a) / 2
    height = (a + b + c)[:, 2] / 3 - shape.origin[2]
    checks = []
    if shape.area is not None:
        area = float(np.linalg.norm(normals, axis=1).sum())
        checks.append(check(f"{shape.name}: area", area, shape.area.value, shape.area.tolerance))
    if shape.volume_below is not None:
        volume = float((height * normals[:, 2]).sum())
        checks.append(check(f"{shape.name}: volume", volume, shape.volume_below.value, shape.volume_below.tolerance))
    return checks
