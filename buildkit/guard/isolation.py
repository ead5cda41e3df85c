"""Which parts of the file system a build may write to, and which it may not even see (pure, but for resolving links).

The supervisor makes everything read-only but for the writable rules, and lays an empty folder over the hidden ones; the
innermost rule holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

KERNEL_FOLDERS = (Path("/dev"), Path("/proc"))
TEMPORARY_FOLDERS = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))  # noqa: S108


@dataclass(frozen=True)
class Rule:
    """A folder or file, resolved, and whether what is in it may be written to; ``hidden`` folders appear empty."""

    path: Path
    writable: bool
    hidden: bool = False


def isolation_rules(
    writable: Iterable[Path],
    protected: Iterable[Path],
    temporary: Sequence[Path] = TEMPORARY_FOLDERS,
    hidden: Iterable[Path] = (),
) -> tuple[Rule, ...]:
    """The rules, outer folders first; of two rules for one path the writable one holds.

    Devices, /proc and the usual temporary folders stay writable. A temporary folder that holds a protected path is
    protected from its first component on: else the build could rename a folder above it and put another in its place.
    """
    usual = _existing(temporary)
    unseen = [path for path in _existing(hidden) if path.is_dir()]
    kept = [*_existing(protected), *unseen]
    rules = dict.fromkeys((*_existing(KERNEL_FOLDERS), *usual), True)
    rules.update({step: False for path in kept for folder in usual for step in _first_step(folder, path)})
    rules.update(dict.fromkeys(kept, False))
    rules.update(dict.fromkeys(_existing(writable), True))
    return tuple(Rule(path, may, not may and path in unseen) for path, may in sorted(rules.items(), key=_depth))


def isolation_arguments(rules: Iterable[Rule]) -> list[str]:
    """The supervisor's options."""
    return [f"--{_option(rule)}={rule.path}" for rule in rules]


def _option(rule: Rule) -> str:
    if rule.hidden:
        return "hidden"
    return "writable" if rule.writable else "read-only"


def _existing(paths: Iterable[Path]) -> list[Path]:
    """Resolved; what does not exist (or cannot be reached) needs no rule: its parent's holds. The root has its own."""
    resolved = (path.resolve() for path in paths)
    return [path for path in resolved if path != Path("/") and path.exists()]


def _first_step(folder: Path, path: Path) -> tuple[Path, ...]:
    if folder in path.parents:
        return (folder / path.relative_to(folder).parts[0],)
    return ()


def _depth(item: tuple[Path, bool]) -> tuple[int, str]:
    return len(item[0].parts), str(item[0])
