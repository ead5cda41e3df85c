"""A curve of bounded length: points are folded into one another evenly as more of them come (pure)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Point = TypeVar("Point")
MOST_POINTS = 600
"""Points of a curve that are kept at least, once there were so many: more than a wide screen has columns."""


class Curve(Generic[Point]):
    """Points as they come. ``fold`` makes one of two neighbours; between ``most`` and twice as many are kept."""

    def __init__(self, fold: Callable[[Point, Point], Point], most: int = MOST_POINTS) -> None:
        self._fold = fold
        self._most = most
        self._points: list[Point] = []
        self._stride = 1
        self._folded = 0

    def add(self, point: Point) -> None:
        """One more point, behind all others."""
        if 0 < self._folded < self._stride:
            self._points[-1] = self._fold(self._points[-1], point)
            self._folded += 1
            return
        if len(self._points) == 2 * self._most:
            pairs = zip(self._points[::2], self._points[1::2], strict=True)
            self._points = [self._fold(one, other) for one, other in pairs]
            self._stride *= 2
        self._points.append(point)
        self._folded = 1

    def points(self) -> list[Point]:
        """What is kept."""
        return list(self._points)
