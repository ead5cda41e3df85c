"""The control groups this process is in: folders of each hierarchy, from its own group up to the mount.

Source: cgroups(7), proc_pid_mountinfo(5), and the kernel's admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
Version 1, version 2 and both at once (hybrid) are read; a limit of any ancestor binds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal


@dataclass(frozen=True)
class Group:
    """One control group: the hierarchy's version, its folder (under the tests' root), its name for people."""

    version: Literal[1, 2]
    folder: Path
    name: str

    def number(self, file: str) -> int | None:
        """The number that a file holds; None where it is missing, ``max`` or not a number."""
        return _number(self.text(file))

    def text(self, file: str) -> str:
        """The file's text; empty where it cannot be read."""
        return read_text(self.folder / file)

    def field(self, file: str, key: str) -> int | None:
        """The number behind ``key`` in a file of ``key number`` lines (memory.stat)."""
        match = re.search(rf"^{re.escape(key)} (\d+)$", self.text(file), re.MULTILINE)
        return int(match[1]) if match else None


@dataclass(frozen=True)
class _Mount:
    """A mounted hierarchy. ``top`` is the group that the mount point shows (``/docker/ID`` in some containers)."""

    version: Literal[1, 2]
    point: str
    top: str
    options: frozenset[str]


def own_groups(root: Path, controller: str, process: str = "self") -> list[Group]:
    """A process's group and all its visible ancestors, in every hierarchy that can hold the controller's files.

    ``root`` is ``/``, or a tree made by a test; ``process`` is this one, or another's number. A version 2 group is
    listed whether or not the controller is enabled in it: files that are not there bind nothing.
    """
    paths = _group_paths(root, process)
    groups: list[Group] = []
    for mount in _mounts(root):
        path = paths.get("" if mount.version == 2 else controller)
        if path is not None and (mount.version == 2 or controller in mount.options):
            groups += _chain(root, mount, path)
    return list({group.folder: group for group in groups}.values())


def read_text(path: Path) -> str:
    """The text of a file of the kernel; empty where it cannot be read."""
    # Some are read twenty times a second: a file object takes three times as long.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return b"".join(iter(lambda: os.read(descriptor, 1 << 16), b"")).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def _number(text: str) -> int | None:
    stripped = text.strip()
    return int(stripped) if re.fullmatch(r"-?\d+", stripped) else None


def _group_paths(root: Path, process: str) -> dict[str, str]:
    """Controller (empty for version 2) to the process's group path, from its /proc/PID/cgroup."""
    paths: dict[str, str] = {}
    for line in read_text(root / "proc" / process / "cgroup").splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            paths |= dict.fromkeys(parts[1].split(","), parts[2])
    return paths


def _mounts(root: Path) -> Iterator[_Mount]:
    """Mounted hierarchies, from /proc/self/mountinfo, or from /proc/mounts where that is missing."""
    lines = read_text(root / "proc/self/mountinfo").splitlines()
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) >= 5 and len(kind) >= 3:
            yield from _mount(kind[0], fields[4], fields[3], kind[2])
    if not lines:
        for line in read_text(root / "proc/mounts").splitlines():
            fields = line.split()
            if len(fields) >= 4:
                yield from _mount(fields[2], fields[1], "/", fields[3])


def _mount(kind: str, point: str, top: str, options: str) -> Iterator[_Mount]:
    if kind in {"cgroup", "cgroup2"}:
        unescaped = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), point)
        yield _Mount(2 if kind == "cgroup2" else 1, unescaped, top, frozenset(options.split(",")))


def _chain(root: Path, mount: _Mount, path: str) -> list[Group]:
    """The group's folder and its ancestors up to the mount point.

    In a container the path of /proc/self/cgroup can be the host's: it is taken relative to the group that the mount
    shows, and where no such folder exists, the nearest ancestor that does (at last the mount point) is the group.
    """
    top = root / mount.point.lstrip("/")
    if not top.is_dir():
        return []
    names = [name for name in _below(path, mount.top) if name not in {"/", "."}]
    if ".." in names:  # outside of our cgroup namespace
        names = []
    while names and not top.joinpath(*names).is_dir():
        names = names[:-1]
    return [
        Group(mount.version, top.joinpath(*names[:depth]), str(PurePosixPath(mount.point, *names[:depth])))
        for depth in range(len(names), -1, -1)
    ]


def _below(path: str, top: str) -> tuple[str, ...]:
    """The parts of a group path below the group that is mounted, where it is below it at all."""
    whole, shown = PurePosixPath(path), PurePosixPath(top)
    return whole.relative_to(shown).parts if whole.is_relative_to(shown) else whole.parts
