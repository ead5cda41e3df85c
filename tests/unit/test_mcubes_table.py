"""The table of marching cubes: for all cases and all pairs of neighbours, the surface closes, oriented and manifold.

The proof. Write a case's triangles as directed sides. (1) Within a cell each side is met once or by its opposite, and
those met by their opposite do not lie in a face. (2) Those met once lie in exactly one face, and in each face they are
the opposite of the neighbour's for every neighbour that agrees on the four corners. So every side inside the grid is
met exactly once by its opposite: the surface is closed, its orientation consistent. (3) At each vertex of a cell one
such side comes in and one goes out, in the two faces of its edge: the triangles around a vertex are one ring.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "csrc" / "mcubes"

Triangle = tuple[int, int, int]
Side = tuple[int, int]
CASES = range(256)
FACES = [(axis, end) for axis in range(3) for end in (0, 1)]


def load_generator() -> ModuleType:
    """generate_table.py as a module."""
    spec = importlib.util.spec_from_file_location("generate_table", SOURCES / "generate_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = load_generator()
TABLE: list[list[Triangle]] = importlib.import_module("buildkit._native.cudabuild_mcubes").case_table()


# The numbering, written down a second time and in another way: by coordinates.


@cache
def place(corner: int) -> tuple[int, int, int]:
    return (corner // 4, corner // 2 % 2, corner % 2)


CORNERS = {place(corner): corner for corner in range(8)}


@cache
def ends(edge: int) -> tuple[int, int]:
    """The corners of an edge, the lower one first."""
    axis = edge // 4
    lower = [corner for corner in range(8) if place(corner)[axis] == 0][edge % 4]
    upper = list(place(lower))
    upper[axis] = 1
    return lower, CORNERS[upper[0], upper[1], upper[2]]


@cache
def faces_of(edge: int) -> set[tuple[int, int]]:
    one, other = map(place, ends(edge))
    return {(axis, end) for axis, end in FACES if one[axis] == other[axis] == end}


@cache
def moved(edge: int, axis: int) -> int:
    """The edge of the neighbour in positive direction that is this cell's edge on their common face."""
    corners = []
    for corner in ends(edge):
        at = list(place(corner))
        at[axis] -= 1
        corners.append(CORNERS[at[0], at[1], at[2]])
    return next(other for other in range(12) if ends(other) == tuple(corners))


def inside(case: int, corner: int) -> bool:
    return bool(case >> corner & 1)


def crossed(case: int) -> set[int]:
    return {edge for edge in range(12) if inside(case, ends(edge)[0]) != inside(case, ends(edge)[1])}


def sides(triangles: Sequence[Triangle]) -> Counter[Side]:
    return Counter(side for a, b, c in triangles for side in ((a, b), (b, c), (c, a)))


def open_sides(triangles: Sequence[Triangle]) -> set[Side]:
    """The sides that no triangle of the same cell meets."""
    found = sides(triangles)
    return {(a, b) for a, b in found if (b, a) not in found}


def in_face(side: Side, face: tuple[int, int]) -> bool:
    return all(face in faces_of(edge) for edge in side)


def faults(table: list[list[Triangle]]) -> list[str]:
    """What breaks the proof, for a whole table."""
    found = [f"case {case}: {fault}" for case in CASES for fault in faults_inside(tuple(table[case]))]
    for axis in range(3):
        mine = [{(moved(a, axis), moved(b, axis)) for a, b in lines(tuple(table[case]), (axis, 1))} for case in CASES]
        its = [{(b, a) for a, b in lines(tuple(table[case]), (axis, 0))} for case in CASES]
        found += [f"cases {one} and {other} along {axis}" for one, other in neighbours(axis) if mine[one] != its[other]]
    return found


@cache
def faults_inside(triangles: tuple[Triangle, ...]) -> list[str]:
    """What breaks the proof within one cell."""
    return list(look_inside(triangles))


def look_inside(triangles: Sequence[Triangle]) -> Iterator[str]:
    all_sides, opened = sides(triangles), open_sides(triangles)
    if any(count > 1 for count in all_sides.values()):
        yield "two triangles have a side in the same direction"
    if any(in_face(side, face) for side in all_sides.keys() - opened for face in FACES):
        yield "a diagonal lies in a face"
    if any(sum(in_face(side, face) for face in FACES) != 1 for side in opened):
        yield "an open side lies inside the cell"
    begins, arrives = Counter(a for a, _ in opened), Counter(b for _, b in opened)
    if begins != arrives or any(count != 1 for count in begins.values()):
        yield "not one ring of triangles at a vertex"


@cache
def lines(triangles: tuple[Triangle, ...], face: tuple[int, int]) -> set[Side]:
    """What a cell draws on one of its faces."""
    return {side for side in open_sides(triangles) if in_face(side, face)}


@cache
def neighbours(axis: int) -> list[tuple[int, int]]:
    """All pairs of cases, a cell's and the next one's along an axis, that agree on the face between them."""
    shared = [ends(edge) for edge in range(4 * axis, 4 * axis + 4)]
    mine = [tuple(inside(case, upper) for _, upper in shared) for case in CASES]
    its = [tuple(inside(case, lower) for lower, _ in shared) for case in CASES]
    return [(one, other) for one, other in itertools.product(CASES, CASES) if mine[one] == its[other]]


def test_the_committed_table_is_the_generated_one() -> None:
    assert (SOURCES / "table.hpp").read_text("utf-8") == GENERATOR.header()
    assert [GENERATOR.triangles_of(case) for case in CASES] == TABLE


def test_the_numbering_is_the_documented_one() -> None:
    assert [ends(edge) for edge in range(12)] == GENERATOR.EDGES
    assert [ends(edge)[0] for edge in range(12)] == [0, 1, 2, 3, 0, 1, 4, 5, 0, 2, 4, 6]


def test_every_crossed_edge_is_used_and_no_other() -> None:
    for case in CASES:
        assert {edge for triangle in TABLE[case] for edge in triangle} == crossed(case), case


def test_no_triangle_is_degenerate() -> None:
    assert all(len(set(triangle)) == 3 for case in CASES for triangle in TABLE[case])


def test_a_case_has_at_most_five_triangles() -> None:
    assert max(map(len, TABLE)) == GENERATOR.MOST_TRIANGLES == 5


def test_there_are_all_pairs_of_neighbours() -> None:
    for axis in range(3):
        assert len(set(neighbours(axis))) == len(neighbours(axis)) == 2**12


def test_the_surface_closes() -> None:
    assert faults(TABLE) == []


def test_normals_point_away_from_what_is_inside() -> None:
    """On each face, seen from outside the cell, the inside end of each crossed edge lies to the right of the line."""
    for case in CASES:
        for a, b in open_sides(TABLE[case]):
            (face,) = [face for face in FACES if in_face((a, b), face)]
            u, v = (face[0] + 1) % 3, (face[0] + 2) % 3
            facing = 1 if face[1] else -1
            for edge in (a, b):
                (corner,) = [end for end in ends(edge) if inside(case, end)]
                at = middle(a)
                line = [q - p for p, q in zip(at, middle(b), strict=True)]
                away = [q - p for p, q in zip(at, place(corner), strict=True)]
                turn = facing * (line[u] * away[v] - line[v] * away[u])
                assert turn < 0 or (edge == b and turn <= 0), (case, a, b)


def middle(edge: int) -> tuple[float, ...]:
    return tuple((p + q) / 2 for p, q in zip(*map(place, ends(edge)), strict=True))


def test_the_normal_of_a_single_corner() -> None:
    assert TABLE[1] == [(0, 4, 8)]  # the x, y and z edge of corner 0: anticlockwise seen from (1, 1, 1)
    assert TABLE[254] == [(0, 8, 4)]


@pytest.mark.parametrize("case", [0b0110, 0b1001, 0b10010110])
def test_inside_corners_of_an_ambiguous_face_are_separated(case: int) -> None:
    """Corners 0 and 3, or 1 and 2, of the face x = 0: each has a line of its own, between its own two edges."""
    lines = {frozenset(side) for side in open_sides(TABLE[case]) if in_face(side, (0, 0))}
    assert lines == {
        frozenset(edge for edge in range(12) if corner in ends(edge) and (0, 0) in faces_of(edge))
        for corner in range(4)
        if inside(case, corner)
    }


def turned(triangles: list[Triangle]) -> list[Triangle]:
    return [(a, c, b) for a, b, c in triangles]


@pytest.mark.parametrize("case", [1, 6, 105, 150, 254])
def test_the_proof_finds_a_wrong_case(case: int) -> None:
    """A triangle that is missing, a turned case, a face resolved the other way (the turned complement's triangles)."""
    for wrong in (TABLE[case][1:], turned(TABLE[case]), turned(TABLE[255 - case])):
        if wrong != TABLE[case]:
            assert faults([*TABLE[:case], wrong, *TABLE[case + 1 :]]), wrong


def test_the_proof_finds_a_diagonal_in_a_face() -> None:
    """A plain fan of each loop, which published tables have, gives edges with four triangles."""
    fans = [
        [(loop[0], loop[i], loop[i + 1]) for loop in GENERATOR.loops(case) for i in range(1, len(loop) - 1)]
        for case in CASES
    ]
    found = faults(fans)
    assert found
    assert all("diagonal" in fault or "direction" in fault for fault in found if fault.startswith("case "))
