"""Where the broker of this machine and user is, and how there comes to be one and only one.

Its folder is ``XDG_RUNTIME_DIR/cudabuild``, else the user's folder below ``/run/user``, else ``/tmp/cudabuild-UID``:
private, never on a network file system. ``broker.lock`` is held by the broker while it lives, ``start.lock`` by who
starts one.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from buildkit.guard.broker_launch import SOCKET

LONGEST_PATH = 99
"""Bytes of a socket's path that every kernel and the shim take."""
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "fuse.sshfs"}


def broker_folder(environ: Mapping[str, str]) -> Path:
    """The broker's folder, made if need be. Raises :class:`MachineError` where none is private."""
    given = environ.get("XDG_RUNTIME_DIR")
    run = Path("/run/user", str(os.getuid()))
    for base in ([Path(given)] if given else []) + [run]:
        folder = base / "cudabuild"
        if _ours(base) and len(os.fsencode(folder / SOCKET)) <= LONGEST_PATH and not _is_remote(base):
            return _private(folder)
    return _private(Path(f"/tmp/cudabuild-{os.getuid()}"))  # noqa: S108  (made with mode 0700, and checked)


def _ours(folder: Path) -> bool:
    try:
        status = folder.stat()
    except OSError:
        return False
    return status.st_uid == os.getuid() and stat.S_ISDIR(status.st_mode) and os.access(folder, os.W_OK)


def _private(folder: Path) -> Path:
    """Make the folder for this user alone; refuse one that somebody else has put there."""
    from buildkit.errors import MachineError

    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise MachineError(f"{folder} cannot be made", evidence=str(error), hint=_HINT) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        evidence = f"owner {status.st_uid}, mode {stat.filemode(status.st_mode)}"
        raise MachineError(f"{folder} is not this user's private folder", evidence=evidence, hint=_HINT)
    return folder


_HINT = "set XDG_RUNTIME_DIR to a private folder of your own on a local disk"


def _is_remote(folder: Path) -> bool:
    """Whether the longest mount point above the folder is of a network file system (proc_pid_mountinfo(5))."""
    best, kind = -1, ""
    path = f"{folder}/"
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    for line in lines:
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), before.split()[4]).rstrip("/") + "/"
        if path.startswith(point) and len(point) >= best:
            best, kind = len(point), after.split()[0]
    return kind in _REMOTE


def broker_command(folder: Path) -> list[str]:
    """The words that start a broker there; they return when one is up, whoever's it is. With no environment of ours:
    what a build leaves behind is looked for by its environment, and the broker belongs to no build."""
    package = Path(__file__).resolve().parent.parent.parent
    program = (
        f"import sys; sys.path.insert(0, {str(package)!r}); "
        f"from buildkit.guard.broker_launch import main; sys.exit(main([{str(folder)!r}]))"
    )
    return ["/usr/bin/env", "-i", "PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", sys.executable, "-I", "-S", "-c", program]


def broker_shell_command(folder: Path) -> str:
    """The same for the shim: one line for a shell."""
    return shlex.join(broker_command(folder))
