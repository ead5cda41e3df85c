"""A Dask cluster of processes: a scheduler, and workers with stores of their own, to be killed one by one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from processes import marked, wait_until

from buildkit.guard.sampling import all_processes


def free_port() -> int:
    """A port of this machine that nobody has now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def below(pid: int) -> list[int]:
    """All live descendants of a process."""
    found, line = [], [pid]
    while line:
        parent = line.pop()
        children = [one.pid for one in all_processes() if one.parent == parent and not one.ended]
        found += children
        line += children
    return found


@dataclass
class DaskCluster:
    """``folder`` takes caches and logs; ``script``: the console script; ``environ``: what all of them are given."""

    folder: Path
    script: Path
    environ: Mapping[str, str]
    prefix: Sequence[str] = ()
    """The words of a program that starts each worker (unshare)."""
    port: int = field(default_factory=free_port)
    scheduler: subprocess.Popen[bytes] | None = None
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """The scheduler's."""
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def share(self) -> Path:
        """Where workers put their wheels."""
        return self.folder / "share"

    def cache(self, name: str) -> Path:
        """A worker's own."""
        return self.folder / name

    def start_scheduler(self) -> None:
        """One at the cluster's own port."""
        words = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1",
                 "--port", str(self.port), "--no-dashboard", "--no-show"]  # fmt: skip
        self.scheduler = self._start(words, "scheduler")
        assert wait_until(self._listens, 60), self.log("scheduler")

    def start_workers(self, names: Sequence[str], *more: str) -> None:
        """They are ready when they have said so."""
        before = {name: self.log(name).count("works for") for name in names}
        for name in names:
            self._begin_worker(name, *more)
        for name in names:
            assert wait_until(partial(self._works_since, name, before[name]), 120), self.log(name)

    def _works_since(self, name: str, before: int) -> bool:
        return self.log(name).count("works for") > before

    def _begin_worker(self, name: str, *more: str) -> None:
        words = [*self.prefix, str(self.script), "matrix", "worker", self.address, "--name", name,
                 "--share", str(self.share), "--patience", "60s", *more]  # fmt: skip
        self.workers[name] = self._start(words, name, CUDABUILD_CACHE=str(self.cache(name)))

    def worker_process(self, name: str) -> int:
        """The process of Dask's worker, below its nanny."""
        found = [pid for pid in below(self.workers[name].pid) if "spawn_main" in _words(pid)]
        assert len(found) == 1, found
        return found[0]

    def log(self, name: str) -> str:
        """What a process has said."""
        path = self.folder / f"{name}.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def left(self) -> dict[int, str]:
        """Live processes that this cluster, or its builds, have started."""
        return marked(str(self.folder))

    def close(self) -> None:
        """End all of it."""
        every = [*self.workers.values(), *([self.scheduler] if self.scheduler else [])]
        for process in every:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in every:
            if not wait_until(partial(_over, process), 30):
                process.kill()
                process.wait()

    def _start(self, words: Sequence[str], name: str, **more: str) -> subprocess.Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                words, env={**self.environ, **more}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.folder, start_new_session=True,
            )  # fmt: skip

    def _listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0


def _over(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


def _words(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def kill(pid: int) -> None:
    """As the kernel's out-of-memory killer does it."""
    os.kill(pid, signal.SIGKILL)
