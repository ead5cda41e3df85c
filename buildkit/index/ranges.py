"""Byte ranges (RFC 9110, 14): which parts of a file a client asks for. Pure."""

from __future__ import annotations

import re

MOST_RANGES = 8
"""Parts of one answer. A request for more gets the whole file, as the standard allows: a thousand small overlapping
ranges would cost this server much and their sender nothing."""

_RANGE = re.compile(r"(?P<first>[0-9]{0,18})-(?P<last>[0-9]{0,18})")


class Unsatisfiable(ValueError):
    """No range lies within the file (416)."""


def wanted_ranges(header: str, size: int) -> list[tuple[int, int]] | None:
    """The ranges as (first byte, byte after the last), sorted and merged; None: answer with the whole file.

    The whole file is the answer to other units than bytes, to what does not parse, and to too many ranges.
    Raises Unsatisfiable.
    """
    unit, equals, listed = header.partition("=")
    pieces = listed.split(",")
    if not equals or unit.strip().lower() != "bytes" or len(pieces) > MOST_RANGES:
        return None
    matches = [_RANGE.fullmatch(piece.strip()) for piece in pieces]
    if any(match is None or match[0] == "-" for match in matches):
        return None
    found = [_within(match["first"], match["last"], size) for match in matches if match is not None]
    if any(part is not None and part[0] >= part[1] for part in found):
        return None  # the last byte before the first one is no range at all
    parts = [part for part in found if part is not None]
    if not parts:
        raise Unsatisfiable(header)
    return _merged(parts)


def _within(first: str, last: str, size: int) -> tuple[int, int] | None:
    """The part of the file that a range names; None where it lies behind the end."""
    if not first:
        count = min(int(last), size)
        return (size - count, size) if count else None
    start = int(first)
    if last and int(last) < start:
        return (start, start)
    return (start, min(int(last) + 1, size) if last else size) if start < size else None


def _merged(parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(parts):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def etag_matches(header: str, etag: str, *, strong: bool = False) -> bool:
    """Whether If-None-Match (or, ``strong``, If-Range) names this entity tag."""
    tags = [tag.strip() for tag in header.split(",")]
    if strong:
        return tags == [etag]
    return "*" in tags or etag in (tag.removeprefix("W/") for tag in tags)
