"""Edit the headers of a wheel's METADATA and leave every other byte as it is.

METADATA is written like a mail's headers: a header may go on in the next line (which then begins with a
blank), and the description may follow after the first empty line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_HEADER = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9-]*)\s*:[ \t]*(?P<value>.*)", re.DOTALL)


def rewrite(text: str, *, version: str, torch_pin: str, requires: Sequence[str]) -> str:
    """METADATA with another version, torch pinned, and ``requires`` added where they are missing.

    Every requirement on torch goes; one that belongs to an extra keeps its marker and gets the pin. The pin
    itself is added once, without a marker. Without a pin (an empty text) requirements on torch stay as they are.
    """
    headers, separator, body = _split(text)
    kept: list[str] = []
    present: set[str] = set()
    place: int | None = None
    for header in headers:
        name, value = _name_and_value(header)
        if name != "requires-dist":
            kept.append(f"Version: {version}\n" if name == "version" else header)
            continue
        place = len(kept) if place is None else place
        pinned = _pinned(value, torch_pin) if torch_pin else value
        if pinned:
            kept.append(header if pinned == value else f"Requires-Dist: {pinned}\n")
            present.add(_canonical(pinned))
    added = [item for item in (torch_pin, *requires) if item and _canonical(item) not in present]
    new = [f"Requires-Dist: {item}\n" for item in added]
    at = len(kept) if place is None else place
    return "".join([*kept[:at], *new, *kept[at:]]) + separator + body


def _split(text: str) -> tuple[list[str], str, str]:
    """Headers (each with its continuation lines), the empty line, and the description."""
    lines = _LINE.findall(text)  # only line feeds end a header: str.splitlines() also knows form feeds and others
    end = next((index for index, line in enumerate(lines) if not line.strip()), len(lines))
    headers: list[str] = []
    for line in lines[:end]:
        if line[0] in " \t" and headers:
            headers[-1] += line
        else:
            headers.append(line if line.endswith("\n") else line + "\n")
    return headers, "".join(lines[end : end + 1]), "".join(lines[end + 1 :])


def _name_and_value(header: str) -> tuple[str, str]:
    match = _HEADER.match(header)
    return (match["name"].lower(), " ".join(match["value"].split())) if match else ("", header)


def _pinned(value: str, torch_pin: str) -> str:
    """A requirement as it shall stand: others as they are, torch of an extra pinned, plain torch gone."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    requirement = Requirement(value)
    if canonicalize_name(requirement.name) != "torch":
        return value
    if requirement.marker is not None and re.search(r"\bextra\b", str(requirement.marker)):
        return f"{torch_pin}; {requirement.marker}"
    return ""


def _canonical(value: str) -> str:
    """A form in which equal requirements are equal texts."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    requirement = Requirement(value)
    extras = ",".join(sorted(requirement.extras))
    return f"{canonicalize_name(requirement.name)}[{extras}]{requirement.specifier};{requirement.marker or ''}"
