"""What tests of the broker share: a broker of their own, builds on it, units that take memory."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

from processes import alive, wait_until

from buildkit.guard.broker_launch import SOCKET
from buildkit.guard.client import BrokerClient, Registration
from buildkit.guard.unit_sampling import kill_tree

MIB = 1 << 20
STAND_IN = Path(__file__).with_name("shim_stand_in.py")
HOG = "import time\nkept = []\nfor _ in range({steps}): kept.append(b'x' * (8 << 20)); time.sleep({pause})\n{then}"


def hog(mebibytes: int, *, pause: float = 0.0, then: str = "time.sleep(0.15)") -> list[str]:
    """The words of a process that takes so much in steps of 8 MiB, waiting after each."""
    program = HOG.format(steps=mebibytes // 8, pause=pause, then=then)
    return [sys.executable, "-I", "-S", "-c", program]


@contextlib.contextmanager
def runtime_folder() -> Iterator[Path]:
    """A place for a broker with a path short enough for a socket. None may be left in it, or have met an error."""
    path = Path(tempfile.mkdtemp(prefix="cb-"))
    yield path
    left = broker_pid(path)
    assert wait_until(lambda: not alive(left), 2.0)
    log = path / "cudabuild" / "broker.log"
    text = log.read_text() if log.exists() else ""
    shutil.rmtree(path)
    assert text == ""


class Bench:
    """One build: its client, its units, the events it heard."""

    def __init__(self, folder: Path, *, package: str = "p", cpus: int = 4, **more: object) -> None:
        values: dict[str, object] = {"toolkit": "13.0", "cpus": cpus, "jobs": cpus, **more}
        registration = Registration(package=package, **values)  # type: ignore[arg-type]
        self.events: list[Mapping[str, str]] = []
        self._lock = threading.Lock()
        self.client = BrokerClient(registration, self._note, environ={"XDG_RUNTIME_DIR": str(folder)})
        self.units: list[subprocess.Popen[str]] = []

    def _note(self, values: Mapping[str, str]) -> None:
        with self._lock:
            self.events.append(values)

    def __enter__(self) -> Bench:
        self.client.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for unit in self.units:
            kill_tree(unit.pid)
            unit.kill()
            unit.communicate()
        self.client.__exit__(kind, error, trace)

    def unit(
        self, name: str, command: list[str], *, threads: int = 1, kind: str = "cc", token: str = "", **env: str
    ) -> subprocess.Popen[str]:
        """Start a shim's stand-in."""
        told = self.client.environment()
        words = [told["CUDABUILD_SOCKET"], token or told["CUDABUILD_TOKEN"], kind, name, f"key-{name}", str(threads)]
        unit = subprocess.Popen(
            [sys.executable, "-I", "-S", str(STAND_IN), *words, "--", *command],
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.units.append(unit)
        return unit

    def broker(self) -> int:
        """The broker that this build is connected to."""
        endpoint = self.client._endpoint
        assert endpoint is not None
        return peer(endpoint)

    def of(self, what: str, name: str = "") -> list[Mapping[str, str]]:
        """The events of one sort, of one unit."""
        with self._lock:
            return [one for one in self.events if one["what"] == what and name in ("", one.get("name"))]

    def wait_for(self, what: str, name: str = "", count: int = 1) -> Mapping[str, str]:
        """The newest of so many such events."""
        assert wait_until(lambda: len(self.of(what, name)) >= count), (what, name, self.events)
        return self.of(what, name)[-1]

    def together(self) -> int:
        """The most units that ran at once."""
        most = now = 0
        for one in list(self.events):
            now += {"started": 1, "ended": -1, "killed": -1, "failed": -1, "lost": -1}.get(one["what"], 0)
            most = max(most, now)
        return most


def broker_pid(folder: Path) -> int:
    """Who serves at the socket; 0 for nobody."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as endpoint, contextlib.suppress(OSError):
        endpoint.connect(str(folder / "cudabuild" / SOCKET))
        return peer(endpoint)
    return 0


def peer(endpoint: socket.socket) -> int:
    pid, _, _ = struct.unpack("3i", endpoint.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)
