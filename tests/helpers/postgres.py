"""A PostgreSQL cluster of its own, on a socket in a folder; run as an ordinary user, as PostgreSQL demands."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def _program(name: str) -> str:
    """Debian keeps its programs out of PATH, by version."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    program = str(found[-1]) if found else shutil.which(name)
    assert program is not None, f"{name} is missing: apt-get install postgresql"
    return program


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of an empty database."""
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path may have 107 bytes
    os.chown(folder, user.pw_uid, user.pw_gid)
    data = folder / "data"

    def run(words: Sequence[str]) -> None:
        own = {"user": user.pw_uid, "group": user.pw_gid} if os.geteuid() == 0 else {}
        done = subprocess.run(words, cwd=folder, capture_output=True, check=False, text=True, **own)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stderr + done.stdout

    run([_program("initdb"), "-D", str(data), "-U", "tests", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"])
    options = f"-k {folder} -c listen_addresses='' -c fsync=off"
    try:
        run([_program("pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start"])
        yield f"postgresql+psycopg://tests@/postgres?host={folder}"
    finally:
        run([_program("pg_ctl"), "-D", str(data), "-w", "-m", "immediate", "stop"])
        shutil.rmtree(folder)
