"""What a compute node runs: ``python -m buildkit.matrix.slurm_node FOLDER``, as the batch script's own process.

SIGUSR1 is Slurm's word that the time is nearly up (``--signal``): the build is ended while there is time, and what
was compiled stays for the next job. SIGTERM is ``scancel``.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import stat
import sys
import time
from pathlib import Path

from buildkit.build.places import Places
from buildkit.errors import CudabuildError
from buildkit.matrix.slurm_folder import DONE, SlurmDone, SlurmJob, read_job, write_model
from buildkit.matrix.worker_delivery import give, made_by
from buildkit.matrix.worker_process import CellProcess, Done
from buildkit.store.locks import file_lock
from buildkit.store.store import Store

FED = ("sources", "locks", "uv", "downloads", "profiles")
"""Of a cache, what does not know its own path; torch, toolkits and environments are made from it, without a network."""


def main(folder: Path) -> int:
    """Run the job in a folder to its end; the command's exit code."""
    job = read_job(folder)
    environ = dict(os.environ)
    if job.cache:
        environ["CUDABUILD_CACHE"] = job.cache
        feed(Path(job.feed), Path(job.cache))
    process = CellProcess(job.command, environ, folder, Path(job.cwd)).start()
    signal.signal(signal.SIGUSR1, lambda *_: process.stop("walltime"))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: process.stop("cancelled"))
    done = process.wait(job.walltime)
    trouble = _delivered(job, done, folder)
    ended = SlurmDone(
        exit_code=done.exit_code, cause=done.cause, node=platform.node(), seconds=done.seconds, trouble=trouble
    )
    write_model(folder, DONE, ended)
    return 1 if done.exit_code is None else done.exit_code


def _delivered(job: SlurmJob, done: Done, folder: Path) -> str:
    """Put the wheel where the login node sees it; what was against it."""
    if not job.cache or done.exit_code != 0 or done.answer is None:
        return ""
    try:
        store = Store(Places(Path(job.cache)).store)
        folder.chmod(0o700)
        give(made_by(done.answer, store), store, folder / "store")
    except (CudabuildError, OSError) as error:
        return str(error)
    return ""


def feed(source: Path, cache: Path) -> None:
    """Copy what was fetched on the login node into the node's own cache: what is not there, or is newer.

    The lock is on the node's own disk; nothing is locked where ``source`` lies.
    """
    with file_lock(cache / "in-use" / "feed.lock"):
        for name in FED:
            for folder, folders, files in os.walk(source / name):
                target = cache / Path(folder).relative_to(source)
                target.mkdir(parents=True, exist_ok=True)
                for each in (*folders, *files):
                    _fed(os.path.join(folder, each), os.path.join(target, each))  # noqa: PTH118


def _fed(source: str, target: str) -> None:
    """Copy a file or a link with its times, unless it is there and as new; folders are walked into.

    In one step, as builds on this node may read it. Strings: it is called for each of many thousand files.
    """
    try:
        known, offered = os.lstat(target), os.lstat(source)
        if stat.S_ISDIR(offered.st_mode):
            return
        same_link = stat.S_ISLNK(offered.st_mode) and stat.S_ISLNK(known.st_mode)
        if same_link and os.readlink(source) == os.readlink(target):  # noqa: PTH115
            return
        if not same_link and known.st_size == offered.st_size and known.st_mtime >= offered.st_mtime:
            return
    except FileNotFoundError:
        if os.path.isdir(source) and not os.path.islink(source):  # noqa: PTH112, PTH114
            return
    part = f"{target}.{os.getpid()}-{time.monotonic_ns()}"
    shutil.copy2(source, part, follow_symlinks=False)
    os.replace(part, target)  # noqa: PTH105


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
