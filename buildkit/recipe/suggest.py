"""\"Did you mean\": the names that are nearest to what was typed."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(typed: str, known: Iterable[str], *, limit: int = 3) -> tuple[str, ...]:
    """At most ``limit`` of the ``known`` names that look like ``typed``, nearest first.

    Upper and lower case and the difference of ``-``, ``_`` and ``.`` do not count; a name that differs only
    in these is the only answer.
    """
    import difflib

    plain: dict[str, str] = {}
    for name in known:
        plain.setdefault(_plain(name), name)
    if _plain(typed) in plain:
        return (plain[_plain(typed)],)
    matcher = difflib.SequenceMatcher(b=_plain(typed))
    found = difflib.get_close_matches(_plain(typed), list(plain), n=limit, cutoff=0.6)
    scores = []
    for name in found:
        matcher.set_seq1(name)
        scores.append(matcher.ratio())
    # What is much further away than the nearest would only distract from it.
    return tuple(plain[name] for name, score in zip(found, scores, strict=True) if score >= scores[0] - 0.15)


def did_you_mean(typed: str, known: Iterable[str], *, limit: int = 3) -> str:
    """``"; did you mean 'x' or 'y'?"``, or nothing where no known name is near."""
    names = [repr(name) for name in nearest(typed, known, limit=limit)]
    return f"; did you mean {' or '.join(names)}?" if names else ""


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
