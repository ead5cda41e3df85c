"""A kernel that silently returns wrong numbers fails the smoke test: which check catches which mistake.

Mistakes are made in what the mesher returns, and in the table of cases; for those a small mesher in NumPy works
through a damaged copy of the kernel's own table. A mistake that nothing catches fails these tests, and so does a
check that catches none. The table in docs/explanation/smoke-test.md is what came out:

    python tests/unit/test_smoke_mutations.py     writes it anew
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from buildkit.verify import smoke
from buildkit.verify.smoke_checks import Mesh, check_mesh, crossings
from buildkit.verify.smoke_shapes import Shape, all_shapes

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "smoke-test.md"
BEGIN, END = "<!-- mutations: begin -->\n", "<!-- mutations: end -->\n"
Table = list[list[tuple[int, int, int]]]
Mesher = Callable[[Shape], Mesh]


CORNERS = np.array([(corner >> 2 & 1, corner >> 1 & 1, corner & 1) for corner in range(8)])
"""Corner c of a cell, as the kernel numbers them: bit 2 of c is x, bit 1 y, bit 0 z."""
LOWER = np.array([corner for axis in range(3) for corner in CORNERS if not corner[axis]])
"""The lower end of edge e, as the kernel numbers them: four along x, four along y, four along z."""
ALONG = np.repeat([0, 1, 2], 4)


@cache
def table() -> Table:
    """The kernel's table."""
    return [
        [tuple(triangle) for triangle in triangles]
        for triangles in importlib.import_module("buildkit._native.cudabuild_mcubes").case_table()
    ]


def mesher(cases: Table, *, swapped_axes: bool = False) -> Mesher:
    """Marching cubes by the definition: each cell's case, each case's triangles, each triangle's edges."""
    return mesher_of(*arrays_of(cases), swapped_axes=swapped_axes)


def arrays_of(cases: Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The number of triangles of each case, and their edges [256, most triangles, 3]."""
    counts = np.array([len(triangles) for triangles in cases])
    padded = np.zeros((256, counts.max(), 3), dtype=np.int64)
    padded[np.arange(counts.max()) < counts[:, None]] = [triangle for triangles in cases for triangle in triangles]
    return counts, padded


def mesher_of(counts: NDArray[np.int64], padded: NDArray[np.int64], *, swapped_axes: bool = False) -> Mesher:
    """A mesher that works through a table as :func:`arrays_of` has it."""
    along = np.array([1, 0, 2])[ALONG] if swapped_axes else ALONG

    def mesh(shape: Shape) -> Mesh:
        found = crossings(shape.volume, shape.isovalue)
        numbers = np.full((*shape.volume.shape, 3), -1)
        crossed = (*found.owner.T, found.axis)
        numbers[crossed] = np.arange(len(found.axis))
        case = cell_cases(shape)
        triangles = counts[case.ravel()]
        which = np.repeat(np.arange(case.size), triangles)
        slot = np.arange(len(which)) - np.repeat(np.cumsum(triangles) - triangles, triangles)
        edge = padded[case.ravel()[which], slot]
        owner = np.transpose(np.unravel_index(which, case.shape))[:, None] + LOWER[edge]
        wanted = (*np.moveaxis(owner, -1, 0), along[edge])
        positions = np.asarray(shape.origin) + np.asarray(shape.spacing) * found.at(found.share)
        return Mesh(positions.astype(np.float32), numbers[wanted].astype(np.int32))

    return mesh


def cell_cases(shape: Shape) -> NDArray[np.int64]:
    """The case of each cell: bit k is set where corner k is inside."""
    inside = (shape.volume < np.float32(shape.isovalue)).astype(np.int64)
    x, y, z = np.subtract(shape.volume.shape, 1)
    parts = [inside[i : i + x, j : j + y, k : k + z] << number for number, (i, j, k) in enumerate(CORNERS)]
    total: NDArray[np.int64] = np.sum(parts, axis=0)
    return total


# Mistakes in what is returned


def nudged(mesh: Mesh, shape: Shape) -> Mesh:
    vertices = mesh.vertices.copy()
    vertices[len(vertices) // 2, 1] += 0.001 * shape.spacing[1]
    return replace(mesh, vertices=vertices)


def not_a_number(mesh: Mesh, shape: Shape) -> Mesh:
    vertices = mesh.vertices.copy()
    vertices[-1] = np.nan
    return replace(mesh, vertices=vertices)


def uninterpolated(mesh: Mesh, shape: Shape) -> Mesh:
    middle = crossings(shape.volume, shape.isovalue).at(0.5)
    return replace(mesh, vertices=(np.add(shape.origin, np.multiply(shape.spacing, middle))).astype(np.float32))


def from_the_wrong_end(mesh: Mesh, shape: Shape) -> Mesh:
    found = crossings(shape.volume, shape.isovalue)
    mirrored = np.add(shape.origin, np.multiply(shape.spacing, found.at(1 - found.share)))
    return replace(mesh, vertices=mirrored.astype(np.float32))


def one_flipped(mesh: Mesh, shape: Shape) -> Mesh:
    triangles = mesh.triangles.copy()
    triangles[len(triangles) // 3] = triangles[len(triangles) // 3, ::-1]
    return replace(mesh, triangles=triangles)


def unshared(mesh: Mesh, shape: Shape) -> Mesh:
    count = 3 * len(mesh.triangles)
    return Mesh(mesh.vertices[mesh.triangles.ravel()], np.arange(count, dtype=np.int32).reshape(-1, 3))


def renumbered(mesh: Mesh, shape: Shape) -> Mesh:
    """Two vertices have each other's place; the triangles follow: the same surface, in an order nobody promised."""
    order = np.arange(len(mesh.vertices))
    order[[0, -1]] = order[[-1, 0]]
    return Mesh(mesh.vertices[order], order[mesh.triangles].astype(np.int32))


def repeated(mesh: Mesh, shape: Shape) -> Mesh:
    return replace(mesh, triangles=np.concatenate([mesh.triangles, mesh.triangles[-1:]]))


def on_unit_grid(mesh: Mesh, shape: Shape) -> Mesh:
    vertices = (mesh.vertices - np.asarray(shape.origin)) / np.asarray(shape.spacing) + np.asarray(shape.origin)
    return replace(mesh, vertices=vertices.astype(np.float32))


def scaled(mesh: Mesh, shape: Shape) -> Mesh:
    return replace(mesh, vertices=(mesh.vertices * np.float32(1.0001)))


def shifted(mesh: Mesh, shape: Shape) -> Mesh:
    return replace(mesh, vertices=mesh.vertices + (np.asarray(shape.spacing) / 2).astype(np.float32))


RETURNED: dict[str, Callable[[Mesh, Shape], Mesh]] = {
    "nothing is written: all vertices and triangles are zero": lambda mesh, _: Mesh(
        np.zeros_like(mesh.vertices), np.zeros_like(mesh.triangles)
    ),
    "the mesh is empty": lambda mesh, _: Mesh(mesh.vertices[:0], mesh.triangles[:0]),
    "one vertex is a thousandth of a cell off": nudged,
    "one vertex is NaN": not_a_number,
    "the last block of threads writes no vertices": lambda mesh, _: replace(
        mesh, vertices=np.concatenate([mesh.vertices[:-128], np.zeros_like(mesh.vertices[-128:])])
    ),
    "no interpolation: each vertex in the middle of its edge": uninterpolated,
    "interpolation from the wrong end": from_the_wrong_end,
    "x and y of the vertices are swapped": lambda mesh, _: replace(mesh, vertices=mesh.vertices[:, [1, 0, 2]]),
    "spacing is ignored": on_unit_grid,
    "origin is ignored": lambda mesh, shape: replace(mesh, vertices=(mesh.vertices - shape.origin).astype(np.float32)),
    "everything is 0.01 % too large": scaled,
    "everything is half a cell off": shifted,
    "vertices are not shared": unshared,
    "two vertices have each other's number": renumbered,
    "one triangle is flipped": one_flipped,
    "all triangles are flipped": lambda mesh, _: replace(mesh, triangles=mesh.triangles[:, ::-1]),
    "one triangle is missing": lambda mesh, _: replace(mesh, triangles=mesh.triangles[:-1]),
    "one triangle is there twice": repeated,
    "all indices are one too large": lambda mesh, _: replace(mesh, triangles=mesh.triangles + np.int32(1)),
    "all indices are one too small, the first wraps round": lambda mesh, _: replace(
        mesh, triangles=((mesh.triangles - 1) % len(mesh.vertices)).astype(np.int32)
    ),
    "vertices are float64": lambda mesh, _: replace(mesh, vertices=mesh.vertices.astype(np.float64)),
}  # fmt: skip

# Mistakes in what is read: the same kernel over another volume


def misread(shape: Shape) -> Shape:
    """Strides taken for C order's: the memory as it lies there."""
    flat = shape.volume.ravel(order="K").reshape(shape.volume.shape)
    return replace(shape, volume=np.ascontiguousarray(flat))


READ: dict[str, Callable[[Shape], Shape]] = {
    "the isovalue is ignored": lambda shape: replace(shape, isovalue=0.0),
    "the isovalue is 0.001 too large": lambda shape: replace(shape, isovalue=shape.isovalue + 0.001),
    "a value equal to the isovalue counts as inside": lambda shape: replace(
        shape, isovalue=float(np.nextafter(np.float32(shape.isovalue), np.float32(np.inf)))
    ),
    "inside and outside are swapped": lambda shape: replace(shape, volume=-shape.volume, isovalue=-shape.isovalue),
    "the last layer of cells is left out": lambda shape: replace(shape, volume=shape.volume[:, :, :-1]),
    "strides are taken for C order's": misread,
    "negative strides are taken for positive ones": lambda shape: replace(
        shape, volume=shape.volume[tuple(slice(None, None, -1 if step < 0 else 1) for step in shape.volume.strides)]
    ),
}

# Mistakes in the table


def changed(cases: Table, case: int, triangles: Sequence[Sequence[int]]) -> Table:
    copy: list[list[Any]] = [*map(list, cases)]
    copy[case] = [tuple(triangle) for triangle in triangles]
    return copy


def flipped(triangles: Sequence[Sequence[int]]) -> list[Any]:
    return [tuple(triangle)[::-1] for triangle in triangles]


def with_another_edge(cases: Table, case: int) -> Table:
    """The first triangle of a case runs to another edge that the case crosses."""
    first, *rest = cases[case]
    other = next(edge for triangle in rest for edge in triangle if edge not in first)
    return changed(cases, case, [(first[0], first[1], other), *rest])


AMBIGUOUS = 0b00001001
"""Corners 0 and 3 are inside: opposite each other in the face x = 0."""
SADDLE = 0b01101001
"""Every face of the cell is ambiguous."""

TABLES: dict[str, Callable[[Table], Table]] = {
    "one case lacks a triangle": lambda cases: changed(cases, 0b00001111, cases[0b00001111][:-1]),
    "one case is empty": lambda cases: changed(cases, SADDLE, []),
    "one case has a triangle twice": lambda cases: changed(cases, 1, [*cases[1], cases[1][0]]),
    "two edges of one triangle are swapped": lambda cases: changed(
        cases, 0b00000111, [cases[0b00000111][0][::-1], *cases[0b00000111][1:]]
    ),
    "one triangle runs to another edge of its case": lambda cases: with_another_edge(cases, 0b00010111),
    "one case has the triangles of its complement": lambda cases: changed(cases, 3, cases[255 - 3]),
    "an ambiguous case is joined where its neighbours are parted": lambda cases: changed(
        cases, AMBIGUOUS, flipped(cases[255 - AMBIGUOUS])
    ),
    "every ambiguous face is joined instead of parted": lambda cases: [
        flipped(cases[255 - case]) for case in range(256)
    ],
    "two cases have each other's triangles": lambda cases: changed(changed(cases, 1, cases[2]), 2, cases[1]),
    "all triangles of the table are flipped": lambda cases: [flipped(triangles) for triangles in cases],
}


# What catches what

MIXED_AXES = "the table's x and y edges are mixed up"
MISTAKES = [*RETURNED, *READ, *TABLES, MIXED_AXES]
OF_TWIN = " of the twin"


@cache
def shapes() -> tuple[Shape, ...]:
    return tuple(all_shapes())


@cache
def right() -> dict[str, Mesh]:
    """The right mesh of each shape."""
    mesh = mesher(table())
    return {shape.name: mesh(shape) for shape in shapes()}


def right_mesh(shape: Shape) -> Mesh:
    return right()[shape.name]


def run(wrong: Mesher, twin: Mesher) -> dict[str, Any]:
    return smoke.run(wrong, "cuda", twin=twin, shapes=shapes())


@cache
def caught(name: str) -> dict[str, list[str]]:
    """The kinds of check that notice a mistake, and on which shapes.

    A mistake in what is read or returned is the GPU's alone, and the CPU twin is right; a mistake in the table is in
    both of them.
    """
    if name in RETURNED:
        answer = run(lambda shape: RETURNED[name](right_mesh(shape), shape), right_mesh)
    elif name in READ:
        answer = run(lambda shape: mesher(table())(READ[name](shape)), right_mesh)
    else:
        mesh = mesher(table(), swapped_axes=True) if name == MIXED_AXES else mesher(TABLES[name](table()))
        wrong = {shape.name: mesh(shape) for shape in shapes()}
        answer = run(lambda shape: wrong[shape.name], lambda shape: wrong[shape.name])
    return failed(answer)


def failed(answer: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for check in answer["checks"]:
        if not check["passed"]:
            shape, _, kind = check["name"].partition(": ")
            found.setdefault(kind, []).append(shape)
    return found


def test_the_right_meshes_pass() -> None:
    answer = run(right_mesh, right_mesh)
    assert answer["passed"], failed(answer)
    assert len(answer["checks"]) > 60


@pytest.mark.parametrize("name", MISTAKES)
def test_every_mistake_is_caught_without_the_twin(name: str) -> None:
    """The twin shares table and author with the kernel: it is never the only one to notice."""
    assert [kind for kind in caught(name) if not kind.endswith(OF_TWIN)]


@pytest.mark.parametrize("name", [*TABLES, MIXED_AXES])
def test_a_mistake_in_the_table_is_not_for_the_twin_to_find(name: str) -> None:
    assert not [kind for kind in caught(name) if kind.endswith(OF_TWIN)]


def test_every_check_catches_something() -> None:
    every = {check["name"].partition(": ")[2] for check in run(right_mesh, right_mesh)["checks"]}
    assert every == {kind for name in MISTAKES for kind in caught(name)}


def alone(case: int) -> Shape:
    """One cell of a case, amid what is outside."""
    volume = np.ones((4, 4, 4), dtype=np.float32)
    for number, corner in enumerate(CORNERS):
        if case >> number & 1:
            volume[tuple(1 + corner)] = -1
    return Shape("alone", volume, 0.0, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), closed=True)


def test_a_missing_triangle_of_any_case_is_caught() -> None:
    """Each case occurs in the random field; and where it occurs, none of its triangles may be missing."""
    assert set(cell_cases(shapes()[-1]).ravel()) == set(range(256))
    counts, padded = arrays_of(table())
    cases = [alone(case) for case in range(1, 255)]
    every = replace(cases[0], volume=np.concatenate([shape.volume for shape in cases]))
    assert all(check["passed"] for check in check_mesh(mesher_of(counts, padded)(every), every))
    for case, shape in enumerate(cases, start=1):
        number = case % counts[case]
        fewer, rest = counts.copy(), padded.copy()
        fewer[case] -= 1
        rest[case, number:-1] = padded[case, number + 1 :]
        mesh = mesher_of(fewer, rest)(shape)
        assert not all(check["passed"] for check in check_mesh(mesh, shape)), case


def rendered() -> str:
    """The table of the documentation."""
    lines = ["| mistake | caught by (on which shapes) |", "|---|---|"]
    for title, names in (("returned", RETURNED), ("read", READ), ("table", [*TABLES, MIXED_AXES])):
        lines.append(f"| **{title}** | |")
        for name in names:
            found = [
                f"{kind} ({'all' if len(where) == len(shapes()) else ', '.join(where)})"
                for kind, where in caught(name).items()
            ]
            lines.append(f"| {name} | {'; '.join(found)} |")
    return "\n".join(lines) + "\n"


def test_the_documentation_shows_what_came_out() -> None:
    text = PAGE.read_text("utf-8")
    assert text.partition(BEGIN)[2].partition(END)[0] == rendered(), f"python {Path(__file__).name} writes it anew"


if __name__ == "__main__":
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + rendered() + END + rest.partition(END)[2], "utf-8")
