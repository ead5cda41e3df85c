"""A guess at a package's licence, from its licence file and from what its metadata says. A person decides. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from buildkit.source.marks import Mark

UNKNOWN = "LicenseRef-Unknown"

_TEXTS: tuple[tuple[str, str], ...] = (
    (r"nvidia source code license", "LicenseRef-NVIDIA-Source-Code-License"),
    (r"attribution-noncommercial-sharealike 4\.0", "CC-BY-NC-SA-4.0"),
    (r"attribution-noncommercial-noderivatives 4\.0", "CC-BY-NC-ND-4.0"),
    (r"attribution-noncommercial 4\.0", "CC-BY-NC-4.0"),
    (r"gnu affero general public license\s+version 3", "AGPL-3.0-only"),
    (r"gnu lesser general public license\s+version 3", "LGPL-3.0-only"),
    (r"gnu lesser general public license\s+version 2\.1", "LGPL-2.1-only"),
    (r"gnu general public license\s+version 3", "GPL-3.0-only"),
    (r"gnu general public license\s+version 2", "GPL-2.0-only"),
    (r"mozilla public license,? version 2\.0", "MPL-2.0"),
    (r"apache license\s+version 2\.0", "Apache-2.0"),
    (r"boost software license - version 1\.0", "BSL-1.0"),
    (r"permission is hereby granted, free of charge, to any person obtaining a copy", "MIT"),
    (r"permission to use, copy, modify, and(?:/or)? distribute this software", "ISC"),
    (r"redistribution and use in source and binary forms.*neither the name", "BSD-3-Clause"),
    (r"redistribution and use in source and binary forms", "BSD-2-Clause"),
    (r"this is free and unencumbered software released into the public domain", "Unlicense"),
)
"""Words of a licence's text, the more particular first."""
_NAMES: tuple[tuple[str, str], ...] = (
    (r"cc[ -]by[ -]nc[ -]sa[ -]4", "CC-BY-NC-SA-4.0"),
    (r"cc[ -]by[ -]nc[ -]4", "CC-BY-NC-4.0"),
    (r"nvidia source code", "LicenseRef-NVIDIA-Source-Code-License"),
    (r"mpl[- ]?2|mozilla public license 2", "MPL-2.0"),
    (r"apache", "Apache-2.0"),
    (r"\bmit\b", "MIT"),
    (r"bsd[- ]?3|3-clause", "BSD-3-Clause"),
    (r"bsd[- ]?2|2-clause", "BSD-2-Clause"),
    (r"agpl", "AGPL-3.0-only"),
    (r"lgpl", "LGPL-3.0-only"),
    (r"gplv?[- ]?3", "GPL-3.0-only"),
    (r"gplv?[- ]?2", "GPL-2.0-only"),
)
_NON_COMMERCIAL = re.compile(
    r"(?<!commercial or )(?<!commercial and )\b(?:non-?\s?commercial(?:ly)?|research (?:or|and) evaluation)\b",
    re.IGNORECASE,
)
_LONGEST = 100_000
"""Characters of a file that are read: the licence stands at its beginning, and a person reads the rest."""


@dataclass(frozen=True)
class Licence:
    """``spdx`` is a guess; ``said`` are the places that it rests on; ``limited`` is where a purpose is named."""

    spdx: str
    said: tuple[Mark, ...]
    limited: tuple[Mark, ...]
    agrees: bool
    """Whether all places mean the same."""


def guess_licence(files: Iterable[tuple[str, str]], declared: Sequence[Mark]) -> Licence:
    """From licence files (name and text) and from what metadata declares (``Mark.text``, as it is written there)."""
    said: list[Mark] = []
    guesses: list[str] = []
    limited: list[Mark] = []
    for name, whole in files:
        text = whole[:_LONGEST]
        guess = _of_text(text)
        if guess is not None:
            guesses.append(guess)
            said.append(Mark(f"reads like {guess}", name, 1))
        limited += [
            Mark(" ".join(line.split())[:160], name, number)
            for number, line in enumerate(text.splitlines(), 1)
            if _NON_COMMERCIAL.search(line)
        ][:1]
    for mark in declared:
        guess = _of_name(mark.text)
        said.append(mark)
        if guess is not None:
            guesses.append(guess)
        if _NON_COMMERCIAL.search(mark.text) or "-NC" in (guess or ""):
            limited.append(mark)
    spdx = guesses[0] if guesses else UNKNOWN
    return Licence(spdx, tuple(said), tuple(limited), agrees=len(set(guesses)) < 2)


def _of_text(text: str) -> str | None:
    plain = " ".join(text.split()).lower()
    # Of a file that quotes several, the first is the package's own; of two at one place, the more particular.
    places = [(match.start(), spdx) for pattern, spdx in _TEXTS if (match := re.search(pattern, plain))]
    known = min(places, key=lambda place: place[0], default=(0, None))[1]
    # A short file names its licence instead of quoting it.
    return known or (_of_name(plain) if len(plain) < 1000 else None)


def _of_name(text: str) -> str | None:
    """An SPDX expression as it is, else what the words usually mean."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        return str(canonicalize_license_expression(text))
    except InvalidLicenseExpression:
        plain = text.lower()
        return next((spdx for pattern, spdx in _NAMES if re.search(pattern, plain)), None)
