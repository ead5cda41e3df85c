"""Receipts: what the same words gave last time on the same machine, so that a hit costs a few stats and one hash.

A plan is a function of the words typed, the environment, and the files that were looked at. A receipt names
the words and the environment by hash, and every such file with its identity (or its absence). While all of
them are as they were, the key is as it was. Anything else, and any doubt, is no receipt: then the whole way
is gone, which is always right and only slower. The wheel's bytes are hashed here as on every other hit.

Nothing beyond the standard library is imported: pydantic alone takes most of the 0.3 s that a hit may take, so
this file is checked by hand, and a file that is not exactly as expected counts as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from buildkit.file_identity import FileIdentity, identity_if_any

SCHEMA = 1

VOLATILE = frozenset({
    "_", "SHLVL", "OLDPWD", "PWD", "COLUMNS", "LINES", "WINDOWID", "TMUX_PANE", "STY", "PYDANTIC_DISABLE_PLUGINS",
})  # fmt: skip
"""Variables that differ from one command to the next in one shell and decide nothing (the last is our own)."""
_SESSION = (
    "SSH_", "XDG_SESSION_", "XDG_VTNR", "XDG_SEAT", "DBUS_", "TMUX", "VTE_", "GNOME_TERMINAL_", "KITTY_", "WEZTERM_",
    "KONSOLE_", "TERM_SESSION_ID", "WT_SESSION", "INVOCATION_ID", "JOURNAL_STREAM", "MEMORY_PRESSURE_",
)  # fmt: skip
"""Beginnings of variables that name the terminal or the login: a new window is answered as fast as the old one."""


def decides_nothing(name: str) -> bool:
    """Whether a variable of this name is left out of a receipt's name."""
    return name in VOLATILE or name.startswith(_SESSION)


def folder_of(environ: Mapping[str, str]) -> Path:
    """Where receipts lie: in the cache as far as it is known without reading the configuration file."""
    if named := environ.get("CUDABUILD_CACHE"):
        return Path(named) / "receipts"
    base = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME") or "/nonexistent") / ".cache")
    return Path(base) / "cudabuild" / "receipts"


def name_of(words: Sequence[str], environ: Mapping[str, str], cwd: str, program: str) -> str:
    """The name of the receipt for a command; ``program`` tells one cudabuild from another."""
    kept = {name: value for name, value in environ.items() if not decides_nothing(name)}
    content = json.dumps([SCHEMA, list(words), kept, cwd, program, os.getuid()], sort_keys=True)
    return hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()


def program_of(package: Path) -> str:
    """Which cudabuild this is: newest change and number of its source files."""
    newest, count = 0, 0
    with os.scandir(package) as top:
        folders = [str(package), *(entry.path for entry in top if entry.is_dir())]
    for folder in folders:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith((".py", ".toml")):
                    status = entry.stat()
                    newest, count = max(newest, status.st_mtime_ns, status.st_ctime_ns), count + 1
    return f"{package} {count} {newest}"


def write(
    file: Path,
    witnesses: Mapping[str, FileIdentity | None],
    facts: Mapping[str, str],
    blob: Path,
    answer: Mapping[str, Any],
) -> None:
    """Leave a receipt. One that cannot be written is no error: it is only a help."""
    value = {
        "schema": SCHEMA,
        "witnesses": {path: seen and list(seen) for path, seen in witnesses.items()},
        "facts": dict(facts),
        "blob": str(blob),
        "handed": identity_if_any(answer["wheel"]["path"]),
        "answer": dict(answer),
    }
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=".new-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(value, stream)
        Path(temporary).replace(file)


def read(file: Path, facts: Mapping[str, str]) -> dict[str, Any] | None:
    """The answer of a receipt that still holds, its wheel hashed; None otherwise."""
    try:
        value = json.loads(file.read_bytes())
        answer: dict[str, Any] = value["answer"]
        holds = (
            value["schema"] == SCHEMA
            and value["facts"] == dict(facts)
            and _unchanged(value["witnesses"].items())
            and _as_handed(answer["wheel"], value["handed"])
            and sha256_of(value["blob"]) == answer["wheel"]["sha256"]
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if holds:
        with contextlib.suppress(OSError):
            os.utime(value["blob"])  # its last use
    return answer if holds else None


def sha256_of(path: str) -> str:
    """The hash of a file's bytes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def facts_of_machine() -> dict[str, str]:
    """What the key holds and no file shows: the C library's release, the machine."""
    return {"glibc": os.confstr("CS_GNU_LIBC_VERSION") or "", "machine": os.uname().machine}


def _unchanged(witnesses: Iterable[tuple[str, list[int] | None]]) -> bool:
    return all(identity_if_any(path) == (tuple(seen) if seen is not None else None) for path, seen in witnesses)


def _as_handed(wheel: Mapping[str, Any], handed: list[int] | None) -> bool:
    """The copy that was handed out is still there and is still the one that was written."""
    return handed is not None and identity_if_any(wheel["path"]) == tuple(handed)
