"""The build's side of the broker: find or start it, register, hear what happens, start it again should it die."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from buildkit.errors import MachineError
from buildkit.guard.broker_launch import SOCKET
from buildkit.guard.broker_place import broker_command, broker_folder, broker_shell_command
from buildkit.guard.wire import VERSION, BadMessage, Lines, Message, encode

_PATIENCE = 10.0  # seconds until a broker must be there
_AGAIN = 0.05  # seconds between two tries
_FAREWELL = 1.0  # seconds that the end of a build waits for the broker's, when it was the last

OnEvent = Callable[[Mapping[str, str]], None]
"""Called from the client's own thread with the values of one event (``what`` names it)."""


@dataclass(frozen=True)
class Registration:
    """What the broker is told of a build. Sizes in bytes; 0 or empty where there is nothing to say."""

    package: str
    toolkit: str
    cpus: int
    jobs: int
    profile: Path | None = None
    budget: int = 0
    slurm: int = 0
    job: str = ""
    prior: int = 0
    tmpdir: Path | None = None
    id: str = ""
    processors: int = 0
    """Of the machine; ``cpus`` may be more, because more was asked for. 0: as many."""
    token: str = field(default_factory=lambda: secrets.token_hex(16))

    def message(self) -> bytes:
        """The line that registers it."""
        return encode(
            "build",
            v=VERSION,
            token=self.token,
            package=self.package,
            toolkit=self.toolkit,
            cpus=self.cpus,
            jobs=self.jobs,
            profile=self.profile or "",
            budget=self.budget,
            slurm=self.slurm,
            job=self.job,
            prior=self.prior,
            tmpdir=self.tmpdir or "",
            id=self.id,
            processors=self.processors or self.cpus,
        )


class BrokerClient:
    """A build's connection, as a context. Its thread calls ``on_event`` and brings the broker back when it is lost."""

    def __init__(
        self, registration: Registration, on_event: OnEvent, *, environ: Mapping[str, str] | None = None
    ) -> None:
        self._registration = registration
        self._on_event = on_event
        self._folder = broker_folder(os.environ if environ is None else environ)
        self._lock = threading.Lock()
        self._ending = False
        self._endpoint: socket.socket | None = None
        self._thread = threading.Thread(target=self._listen, name="broker", daemon=True)
        self.restarts = 0
        self.refused = ""
        """Why the broker does not want this build any more; empty while it does."""

    @property
    def socket_path(self) -> Path:
        """Where the broker listens."""
        return self._folder / SOCKET

    def environment(self) -> dict[str, str]:
        """What shims of this build need."""
        return {
            "CUDABUILD_SOCKET": str(self.socket_path),
            "CUDABUILD_TOKEN": self._registration.token,
            "CUDABUILD_BROKER": broker_shell_command(self._folder),
        }

    def __enter__(self) -> BrokerClient:
        self._endpoint = self._register()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._ending = True
            endpoint = self._endpoint
        if endpoint is not None:
            with contextlib.suppress(OSError):
                endpoint.sendall(encode("bye"))
            self._thread.join(_FAREWELL)  # a broker that ends with us has ended when the socket is closed
            with contextlib.suppress(OSError):
                endpoint.shutdown(socket.SHUT_RDWR)
            self._thread.join(_FAREWELL)
            endpoint.close()

    def _register(self) -> socket.socket:
        """Connect, starting a broker if need be, and register. Raises :class:`MachineError`."""
        deadline = time.monotonic() + _PATIENCE
        trouble = ""
        while time.monotonic() < deadline:
            try:
                return self._introduce(connect(self._folder))
            except (OSError, subprocess.SubprocessError) as error:  # noqa: PERF203  (one try in many milliseconds)
                trouble = str(error)
                time.sleep(_AGAIN)
        raise MachineError(
            "the memory broker cannot be started",
            evidence=trouble,
            hint=f"see {self._folder}/broker.log; CUDABUILD_GUARD=off builds without it",
        )

    def _introduce(self, endpoint: socket.socket) -> socket.socket:
        """Raises OSError when the broker ended meanwhile, MachineError when it refuses."""
        try:
            endpoint.settimeout(_PATIENCE)
            endpoint.sendall(self._registration.message())
            _await_answer(endpoint)
            endpoint.settimeout(None)
        except BaseException:
            endpoint.close()
            raise
        return endpoint

    def _listen(self) -> None:
        endpoint = self._endpoint
        while endpoint is not None:
            for message in _messages(endpoint):
                if message.verb == "event":
                    self._on_event(message.values)
            with self._lock:
                if self._ending:
                    return
            endpoint.close()
            endpoint = self._come_back()

    def _come_back(self) -> socket.socket | None:
        """Another broker, after one has died; the build goes on without one where there can be none."""
        try:
            endpoint = self._register()
        except (MachineError, BadMessage) as error:
            self.refused = str(error)
            endpoint = None
        with self._lock:
            self._endpoint = endpoint
            self.restarts += endpoint is not None
            if self._ending and endpoint is not None:
                endpoint.close()
                return None
        return endpoint


def _await_answer(endpoint: socket.socket) -> None:
    lines = Lines()
    while chunk := endpoint.recv(1 << 12):
        for message in lines.feed(chunk):
            if message.verb == "fail":
                raise MachineError(
                    "the memory broker refuses this build",
                    evidence=message.text("text"),
                    hint="wait for the builds that run (`cudabuild monitor`), so that the broker ends with them, and "
                    "build again; CUDABUILD_GUARD=off builds without it",
                )
            if message.verb == "registered":
                return
    raise ConnectionError("the broker ended while a build registered")


def _messages(endpoint: socket.socket) -> Iterator[Message]:
    """Until the connection ends."""
    lines = Lines()
    while True:
        try:
            chunk = endpoint.recv(1 << 16)
        except OSError:
            return
        if not chunk:
            return
        try:
            yield from lines.feed(chunk)
        except BadMessage:
            return


def connect(folder: Path) -> socket.socket:
    """A connection to the broker of a folder; one is started if there is none. Raises OSError, SubprocessError."""
    try:
        return _try(folder)
    except OSError:
        pass
    descriptor = os.open(folder / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(OSError):
            return _try(folder)  # somebody else has started it meanwhile
        subprocess.run(
            broker_command(folder), check=True, timeout=_PATIENCE, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        return _try(folder)
    finally:
        os.close(descriptor)


def _try(folder: Path) -> socket.socket:
    endpoint = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        endpoint.connect(str(folder / SOCKET))
    except OSError:
        endpoint.close()
        raise
    return endpoint
