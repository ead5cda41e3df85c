"""CUDABUILD_GUARD: whether compilations are admitted one by one."""

from __future__ import annotations

import re
from collections.abc import Mapping

from buildkit.errors import ConfigError

VARIABLE = "CUDABUILD_GUARD"
"""``off``: compilers start without being admitted."""
_TAG = re.compile(r"[0-9a-f]{16}")
"""Inside of a guarded build the same variable is the build's tag."""


def guard_wanted(environ: Mapping[str, str]) -> bool:
    """Whether it is on, as it is where nothing was said. Raises ConfigError for what is neither ``on`` nor ``off``."""
    word = environ.get(VARIABLE, "").strip()
    if not word or _TAG.fullmatch(word):
        return True
    try:
        return on_or_off(word)
    except ValueError as error:
        hint = f"{VARIABLE}=off starts compilers without asking the broker; unset, it is asked"
        raise ConfigError(f"{VARIABLE}: {error}", hint=hint) from None


def on_or_off(word: str) -> bool:
    """``on`` or ``off``, in any case. Raises ValueError."""
    known = {"on": True, "off": False}.get(word.strip().lower())
    if known is None:
        raise ValueError(f"it must be 'on' or 'off' (it is {word!r})")
    return known
