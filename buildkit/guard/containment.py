"""Which containment the guard uses: the best that is permitted here, or the one that a person insists on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import get_args

from buildkit.errors import ConfigError, NoContainment
from buildkit.guard.protocol import Containment

VARIABLE = "CUDABUILD_CONTAINMENT"
"""``cgroup``, ``namespace`` or ``subreaper``: that one, or nothing is run."""

_HINTS: Mapping[Containment, str] = {
    "cgroup": "it takes a cgroup v2 folder that this user may write to (a user's own systemd, or root)",
    "namespace": "it takes user namespaces (or root) and a /proc over which no container has mounted anything",
    "subreaper": "",
}


def wanted_containment(environ: Mapping[str, str] | None = None) -> Containment | None:
    """What the variable insists on; None where it is not set. Raises ConfigError for a word that is none of them."""
    word = (os.environ if environ is None else environ).get(VARIABLE, "").strip()
    for known in get_args(Containment):
        if word.lower() == known:
            found: Containment = known
            return found
    if word:
        names = ", ".join(get_args(Containment))
        raise ConfigError(
            f"{VARIABLE}: there is no containment {word!r}", hint=f"{VARIABLE} is one of {names}; unset: the best one"
        )
    return None


def lacking_containment(wanted: Containment | None, error: int) -> NoContainment:
    """The error of a containment that was insisted on and is not permitted here (errno)."""
    hint = _HINTS[wanted] if wanted else ""
    return NoContainment(
        f"builds cannot be contained by {VARIABLE}={wanted or ''} here",
        evidence=os.strerror(error),
        hint=f"unset {VARIABLE}, and the best that is permitted here is used" + (f"; {hint}" if hint else ""),
    )
