"""Our index and pypiserver under the same load: ``index_load.py [SECONDS] [--clients N] [--wheel MIB]``.

A project's page with 1,000 files, and a wheel of 300 MB, for 200 clients at once that keep their connections, for
SECONDS each (20). pypiserver runs at its best, of what its own documentation names: gunicorn with a worker for each
processor and waitress, both with the folder kept in memory (``cached-dir``); the faster one counts. It needs
``pip install 'pypiserver[cache]' gunicorn`` beside the test extra. Both get what pip sends, so that ours answers with
JSON and pypiserver with HTML. Printed: requests a second, p50 and p99, bytes a second, memory of the server's
processes halfway, at most and in the end. Exits with 1 where the page is not 5 times as fast, an answer was wrong, or
our memory grew.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import statistics
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psutil
from common import show
from index_servers import Served, answering, cudabuild, environment, free_port, running
from index_wheels import publish, release_of, wheel_bytes

from buildkit.store.store import Store

FILES = 1000
RATIO = 5.0
"""How many times pypiserver's requests a second the page is to reach."""
GROWTH = 1.25
"""Our memory at the end of a load, against what it was in the middle of it."""
PAGE, WHEEL = "page of 1,000 files", "wheel"
PROJECT = "some-kernels"
BIG = "9.0+pt2.13.cu130"
PIP = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01"


@dataclass
class Load:
    """What the clients saw."""

    latencies: list[float] = field(default_factory=list)
    received: int = 0
    wrong: int = 0
    seconds: float = 0.0


class Client(asyncio.Protocol):
    """Sends one request again and again on a connection; counts bytes and keeps none of the body."""

    def __init__(self, request: bytes, load: Load, until: float, finish: bool, done: asyncio.Future[None]) -> None:
        self.request, self.load, self.until, self.finish, self.done = request, load, until, finish, done
        self.head, self.left, self.began = b"", -1, 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._send()

    def _send(self) -> None:
        self.head, self.left, self.began = b"", -1, time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """Count until the length that the head gave."""
        if self.left < 0:
            self.head += data
            head, end, body = self.head.partition(b"\r\n\r\n")
            if not end:
                return
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            self.left = int(fields[b"content-length"])
            self.load.wrong += not head.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200"))
            data = body
        self.left -= len(data)
        self.load.received += len(data)
        if self.left == 0:
            self.load.latencies.append(time.perf_counter() - self.began)
        if time.perf_counter() > self.until and (self.left == 0 or not self.finish):
            self.transport.close()
        elif self.left == 0:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The end, by us or by the server."""
        if not self.done.done():
            self.done.set_result(None)


async def load_on(url: str, clients: int, seconds: float, *, finish: bool) -> Load:
    """Ask for a URL with many clients at once. ``finish``: what is on its way after that time is waited for."""
    parts, load, loop = urlsplit(url), Load(), asyncio.get_running_loop()
    request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: {PIP}\r\n\r\n".encode()
    began = time.perf_counter()
    while time.perf_counter() < began + seconds:  # a server that closes connections gets new ones
        ended = [loop.create_future() for _ in range(clients)]
        for done in ended:
            client = partial(Client, request, load, began + seconds, finish, done)
            await loop.create_connection(client, parts.hostname or "", parts.port or 80)
        await asyncio.gather(*ended)
    load.seconds = time.perf_counter() - began
    return load


@contextlib.contextmanager
def memory_of(pid: int) -> Iterator[list[int]]:
    """Resident bytes of a process and its children, four times a second while the block runs."""
    seen: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.25):
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                seen.append(sum(one.memory_info().rss for one in [process, *process.children(recursive=True)]))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def measure(what: str, server: str, served: Served, url: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Load a URL after a warm-up, and show what came of it."""
    finish = what != WHEEL  # 200 wheels of 300 MB would be 60 GB
    asyncio.run(load_on(url, 8, 2.0, finish=finish))
    with memory_of(served.pid) as seen:
        load = asyncio.run(load_on(url, arguments.clients, arguments.seconds, finish=finish))
    ordered = sorted(load.latencies) or [0.0]
    result = {
        "what": what,
        "server": server,
        "requests_per_s": round(len(load.latencies) / load.seconds, 1),
        "p50_ms": round(statistics.median(ordered) * 1000, 1),
        "p99_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000, 1),
        "mb_per_s": round(load.received / load.seconds / 1e6, 1),
        "wrong": load.wrong,
        "memory_mib": [round(value / 2**20, 1) for value in (seen[len(seen) // 2], max(seen), seen[-1])],
    }
    show(**result)
    return result


def fill(root: Path, wheel_mib: int) -> None:
    """A store and a folder with the same 1,000 small wheels and a large one."""
    store, wheels = Store(root / "cache" / "store"), root / "wheels"
    wheels.mkdir()
    folder = store.root / "releases"
    for number in range(FILES - 1):
        version = f"1.{number}+pt2.13.cu130"
        content = wheel_bytes(PROJECT, version)
        release = release_of(PROJECT, version, content)
        (wheels / release.filename).write_bytes(content)
        # Without the store's fsync: 2,000 of them would take longer than all that is measured.
        blob = store.blobs.path(release.sha256)
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        folder.mkdir(exist_ok=True)
        (folder / f"{release.filename}.json").write_bytes(release.as_bytes())
    publish(store, wheels, PROJECT, BIG, filler=wheel_mib << 20)


@contextlib.contextmanager
def gunicorn(wheels: Path, log: Path) -> Iterator[Served]:
    """pypiserver as its documentation puts it behind gunicorn, with a worker for each processor."""
    port = free_port()
    app = f'pypiserver:app(roots=["{wheels}"], backend_arg="cached-dir", disable_fallback=True)'
    words = ["-w", str(os.cpu_count() or 2), "--threads", "8", "-b", f"127.0.0.1:{port}", app]
    script = Path(sysconfig.get_path("scripts")) / "gunicorn"
    with running([script, *words], log, environment()) as process:
        yield answering(f"http://127.0.0.1:{port}/simple/", process, log)


@contextlib.contextmanager
def waitress(wheels: Path, log: Path) -> Iterator[Served]:
    """pypiserver behind waitress, with as many threads as its connections may use at once."""
    port = free_port()
    app = f'pypiserver.app(roots=["{wheels}"], backend_arg="cached-dir", disable_fallback=True)'
    options = f'listen="127.0.0.1:{port}", threads=8, connection_limit=999'
    make = f"import pypiserver, waitress\nwaitress.serve({app}, {options})"
    with running([sys.executable, "-c", make], log, environment()) as process:
        yield answering(f"http://127.0.0.1:{port}/simple/", process, log)


def theirs(
    name: str, start: Callable[[Path, Path], Any], root: Path, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Both loads on pypiserver."""
    with start(root / "wheels", root / f"{name}.log") as served:
        page = measure(PAGE, name, served, f"{served.simple}{PROJECT}/", arguments)
        base = served.simple.removesuffix("simple/")
        wheel = measure(WHEEL, name, served, f"{base}packages/{quote(_big())}", arguments)
    return [page, wheel]


def ours(root: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Both loads on ours."""
    with cudabuild(root / "cache", root / "ours.log") as (base, pid):
        served = Served(f"{base}pt2.13-cu130/simple/", pid)
        page = measure(PAGE, "cudabuild", served, f"{served.simple}{PROJECT}/", arguments)
        wheel = measure(WHEEL, "cudabuild", served, f"{base}pt2.13-cu130/files/{quote(_big())}", arguments)
    return [page, wheel]


def _big() -> str:
    return f"{PROJECT.replace('-', '_')}-{BIG}-py3-none-any.whl"


def main() -> int:
    """Fill, load, compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("seconds", nargs="?", type=float, default=20.0)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--wheel", type=int, default=286, metavar="MIB")
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="index-load-"))
    try:
        fill(root, arguments.wheel)
        own_page, own_wheel = ours(root, arguments)
        backends = {"pypiserver on gunicorn": gunicorn, "pypiserver on waitress": waitress}
        others = [theirs(name, start, root, arguments) for name, start in backends.items()]
    finally:
        shutil.rmtree(root)
    page = max(other[0]["requests_per_s"] for other in others)
    wheel = max(other[1]["mb_per_s"] for other in others)
    grown = max(result["memory_mib"][2] / result["memory_mib"][0] for result in (own_page, own_wheel))
    ratio = own_page["requests_per_s"] / page
    passed = ratio >= RATIO and grown <= GROWTH and not own_page["wrong"] + own_wheel["wrong"]
    show(
        what="cudabuild against pypiserver",
        page_ratio=round(ratio, 1),
        page_bound=RATIO,
        wheel_bytes_ratio=round(own_wheel["mb_per_s"] / wheel, 2),
        memory_growth=round(grown, 2),
        passed=passed,
    )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
