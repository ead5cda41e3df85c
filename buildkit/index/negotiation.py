"""Which form of an answer a client gets: its Accept header (RFC 9110, 12.5.1) against PEP 691's types. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"
LEGACY_HTML = "text/html"
OFFERED = (LEGACY_HTML, JSON, HTML)
"""In our order of preference: what a client that takes anything gets is what has been the answer all the time."""
PAGES = ("text/plain", "text/html", "application/json")
"""The forms of an error; text for who takes anything, a person with curl."""

_ALIASES = {
    "application/vnd.pypi.simple.latest+json": JSON,
    "application/vnd.pypi.simple.latest+html": HTML,
}


@lru_cache(maxsize=512)
def choose(accept: str, offered: Sequence[str] = OFFERED) -> str | None:
    """The offered type that the client likes best, the first of equals; None where it takes none of them.

    ``latest`` of PEP 691 counts as the version that is served. No header, or an empty one, takes anything.
    """
    ranges = list(_ranges(accept)) or [("*/*", 1.0)]
    best = max(offered, key=lambda media_type: _quality(media_type, ranges))
    return best if _quality(best, ranges) > 0 else None


def asked_by_format(text: str) -> str | None:
    """The type that ``?format=`` names, which goes before the header (PEP 691); None for one that is not served."""
    text = text.strip().lower().replace(" ", "+")  # a plus sign in a query is a blank where it was not quoted
    media_type = _ALIASES.get(text, text)
    return media_type if media_type in OFFERED else None


def error_form(accept: str) -> str:
    """The type of an error's page: HTML for browsers, JSON for what reads JSON pages, else text."""
    plain = accept.replace(JSON, "application/json").replace(
        "application/vnd.pypi.simple.latest+json", "application/json"
    )
    plain = plain.replace(HTML, "text/html")
    if not plain.strip() or plain.strip() == "*/*":
        return "text/plain"
    return choose(plain, PAGES) or "text/plain"


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    for part in accept.lower().split(","):
        media_range, *parameters = (piece.strip() for piece in part.split(";"))
        if media_range:
            yield _ALIASES.get(media_range, media_range), _weight(parameters)


def _weight(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


def _quality(media_type: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The weight of the range that fits most exactly."""
    family = media_type.partition("/")[0]
    for wanted in (media_type, f"{family}/*", "*/*"):
        weights = [weight for media_range, weight in ranges if media_range == wanted]
        if weights:
            return max(weights)
    return 0.0
