"""Who builds in a benchmark: whoever runs it, or (for root) another user with folders and a cgroup of their own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from common import cache_folder, clean_environment, script
from processes import delegated_cgroup


@dataclass(frozen=True)
class Person:
    """Who types the command: user and group (None: whoever runs this), home, cache, console script."""

    name: str
    user: int | None
    group: int | None
    cache: Path
    script: str
    environment: dict[str, str]

    def start(
        self, words: Sequence[str], temporary: Path, stdout: int, stderr: int | None = None, tier: str = ""
    ) -> subprocess.Popen[bytes]:
        """Start cudabuild with these words in a process group of its own, as a shell would."""
        own = {"TMPDIR": str(temporary), "XDG_RUNTIME_DIR": str(temporary.parent / "run")}
        return subprocess.Popen(
            [self.script, *words],
            env={**self.environment, **own, **({"CUDABUILD_CONTAINMENT": tier} if tier else {})},
            cwd=temporary.parent,
            user=self.user,
            group=self.group,
            extra_groups=None if self.user is None else [],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            stdout=stdout,
            stderr=stderr,
        )


def person_of(name: str | None, cache: Path | None, command: str | None) -> Person:
    """Whoever runs this, or (for root) another user, with that user's home and nothing of root's PATH."""
    environment = {**clean_environment(), "CUDA_VISIBLE_DEVICES": ""}
    user = group = None
    if name is not None:
        entry = pwd.getpwnam(name)
        user, group = entry.pw_uid, entry.pw_gid
        own = {"HOME": entry.pw_dir, "USER": name, "LOGNAME": name, "PATH": "/usr/local/bin:/usr/bin:/bin"}
        environment |= own
        cache = cache or Path(entry.pw_dir) / ".cache" / "cudabuild"
    cache = (cache or cache_folder()).absolute()
    environment["CUDABUILD_CACHE"] = str(cache)
    return Person(name or pwd.getpwuid(os.getuid()).pw_name, user, group, cache, command or script(), environment)


@contextlib.contextmanager
def temporary_folder(person: Person) -> Iterator[Path]:
    """A TMPDIR that the person can write in."""
    folder = Path(tempfile.mkdtemp(prefix="survivors-"))
    folder.chmod(0o755)
    inner, runtime = folder / "tmp", folder / "run"
    for each in (inner, runtime):
        each.mkdir(mode=0o700)
        if person.user is not None:
            os.chown(each, person.user, person.group or -1)
    try:
        yield inner
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def stamped(package: str) -> Iterator[str]:
    """A recipe's name as it is; of a folder a copy that was never built, where anybody can read it."""
    if not Path(package).is_dir():
        yield package
        return
    with tempfile.TemporaryDirectory(prefix="survivors-") as name:
        copy = Path(shutil.copytree(package, Path(name) / Path(package).name))
        (copy / "stamp.txt").write_text(f"{name} {time.time_ns()}\n", encoding="utf-8")
        Path(name).chmod(0o755)
        yield str(copy)


@contextlib.contextmanager
def in_cgroup(person: Person) -> Iterator[None]:
    """This program in a cgroup that the other user owns, where there is one: theirs is what is started below it."""
    if person.user is None:
        yield
        return
    with delegated_cgroup(f"survivors-{os.getpid()}", person.user) as folder:
        if folder is None:
            yield
            return
        own = next(line[3:] for line in Path("/proc/self/cgroup").read_text("utf-8").splitlines() if line[:3] == "0::")
        (folder / "cgroup.procs").write_text("0")
        try:
            yield
        finally:
            (folder.parent / own.lstrip("/") / "cgroup.procs").write_text("0")
