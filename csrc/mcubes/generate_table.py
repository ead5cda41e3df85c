"""Generates table.hpp, the triangles of the 256 cases of marching cubes: ``python generate_table.py``.

Numbering. The corner ``c`` of a cell lies at ``(c >> 2 & 1, c >> 1 & 1, c & 1)`` in (x, y, z): C order. Bit ``c`` of a
case says that corner ``c`` is inside (its value is less than the isovalue). Edge ``4 * axis + k`` runs along ``axis``
(0 = x, 1 = y, 2 = z) from the ``k``-th corner, in ascending order, that has a neighbour in the positive direction.

The rule, from which everything else follows:

1. On each face, walked anticlockwise as seen from outside the cell, every run of inside corners is cut off by one
   segment, from the edge where the walk comes inside to the edge where it leaves. Where two inside corners face each
   other across a face, each is cut off by itself: *inside corners are separated on an ambiguous face*. This asks for
   nothing but the four corners of the face, and a neighbour walks the same face the other way round; so it draws the
   same segments, in the opposite direction.
2. Each crossed edge lies in two faces: one segment ends at it and one begins. The segments are closed loops.
3. A loop becomes triangles by the first triangulation, in the order of ``triangulations``, none of whose diagonals
   lies in a face of the cell. A diagonal inside a face could be a segment or a diagonal of the neighbour as well, and
   that edge would have four triangles.

Triangles are anticlockwise seen from outside the surface: their normals point to greater values. What this proves is
tested for all cases and all pairs of neighbours in tests/unit/test_mcubes_table.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

Triangle = tuple[int, int, int]

AXIS_BIT = (4, 2, 1)
"""What a step along x, y and z adds to a corner's number."""

EDGES: list[tuple[int, int]] = [
    (corner, corner | bit) for bit in AXIS_BIT for corner in range(8) if not corner & bit
]  # fmt: skip
"""The two corners of each edge, the one that owns it first."""

MOST_TRIANGLES = 5


def face_walks() -> list[list[int]]:
    """The four corners of each face, anticlockwise as seen from outside the cell."""
    walks = []
    for axis in range(3):
        # (axis, u, v) is right-handed, so u before v is anticlockwise seen from the positive side.
        u, v = AXIS_BIT[(axis + 1) % 3], AXIS_BIT[(axis + 2) % 3]
        ring = [0, u, u | v, v]
        walks += [ring[::-1], [corner | AXIS_BIT[axis] for corner in ring]]
    return walks


def edge_between(one: int, other: int) -> int:
    """The number of the edge between two corners."""
    return EDGES.index((min(one, other), max(one, other)))


FACES: list[frozenset[int]] = [
    frozenset(edge_between(walk[i - 1], walk[i]) for i in range(4)) for walk in face_walks()
]  # fmt: skip
"""The edges of each face."""


def segments(case: int, walk: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The directed segments on one face: rule 1."""
    inside = [bool(case >> corner & 1) for corner in walk]
    for start in range(4):
        if inside[start] and not inside[start - 1]:
            end = start
            while inside[(end + 1) % 4]:
                end += 1
            entered = edge_between(walk[start - 1], walk[start])
            left = edge_between(walk[end % 4], walk[(end + 1) % 4])
            yield entered, left


def loops(case: int) -> list[list[int]]:
    """The closed loops of edges, each begun at its lowest edge: rule 2."""
    following = dict(segment for walk in face_walks() for segment in segments(case, walk))
    found = []
    while following:
        edge = min(following)
        loop = []
        while edge in following:
            loop.append(edge)
            edge = following.pop(edge)
        found.append(loop)
    return found


def in_a_face(one: int, other: int) -> bool:
    """Whether a straight line between two edges lies in a face of the cell."""
    return any(one in face and other in face for face in FACES)


def triangulations(polygon: Sequence[int]) -> Iterator[list[Triangle]]:
    """All triangulations of a polygon: the side from last to first gets its third vertex, nearest first."""
    if len(polygon) < 3:
        yield []
        return
    for third in range(1, len(polygon) - 1):
        for left in triangulations(polygon[: third + 1]):
            for right in triangulations(polygon[third:]):
                yield [(polygon[0], polygon[third], polygon[-1]), *left, *right]


def diagonals(loop: Sequence[int], triangles: Sequence[Triangle]) -> Iterator[tuple[int, int]]:
    """The sides of triangles that are not sides of the loop."""
    sides = {frozenset((loop[i - 1], loop[i])) for i in range(len(loop))}
    for triangle in triangles:
        for i in range(3):
            if frozenset((triangle[i - 1], triangle[i])) not in sides:
                yield triangle[i - 1], triangle[i]


def triangles_of(case: int) -> list[Triangle]:
    """The triangles of a case: rule 3. StopIteration would mean that a loop has no such triangulation; none has not."""
    found: list[Triangle] = []
    for loop in loops(case):
        good = (
            candidate
            for candidate in triangulations(loop)
            if not any(in_a_face(one, other) for one, other in diagonals(loop, candidate))
        )
        found += next(good)
    return found


def row(triangles: Sequence[Triangle]) -> str:
    """One case as C++: the count, then the edges."""
    edges = [edge for triangle in triangles for edge in triangle]
    return f"        {{{len(triangles)}, {{{', '.join(map(str, edges))}}}}},"


def header() -> str:
    """The text of table.hpp."""
    cases = [triangles_of(case) for case in range(256)]
    if max(map(len, cases)) > MOST_TRIANGLES:
        raise ValueError(f"a case has more than {MOST_TRIANGLES} triangles")
    owners = ", ".join(str(lower) for lower, _upper in EDGES)
    rows = "\n".join(map(row, cases))
    return f"""\
// Written by generate_table.py, which explains the rule and the numbering. Do not edit.
#pragma once

#include <cstdint>

namespace mcubes {{

// One case: how many triangles, and the three edges of each.
struct Case {{
  std::uint8_t triangles;
  std::uint8_t edges[{3 * MOST_TRIANGLES}];
}};

struct Table {{
  Case cases[256];
  std::uint8_t owner[12];  // the corner that owns each edge; edge / 4 is its axis
}};

inline constexpr Table table = {{
    {{
{rows}
    }},
    {{{owners}}},
}};

}}  // namespace mcubes
"""


if __name__ == "__main__":
    Path(__file__).with_name("table.hpp").write_text(header(), encoding="utf-8")
