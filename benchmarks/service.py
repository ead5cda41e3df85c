"""A server that is killed, and one with much to do: ``python benchmarks/service.py [faults] [load] [--help]``.

faults: SIGKILL to the server at MOMENTS moments spread over a build, with SQLite and with PostgreSQL, each time a new
build and a new server after it; compiler executions are counted by strace. Nothing may be lost or compiled twice.

load: QUEUED builds in the queue, one that prints without end, FOLLOWERS who follow it live, one of whom reads nothing;
beside them people who list, look and ask. The bounds are 100 ms for the 99th percentile of the API and 50 MiB of
memory over ten minutes. Followers and people are threads of one other process on the same machine.

Prints JSON lines; exits with 1 where a bound is missed or anything was lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from common import cache_folder, script
from killed_servers import Service, make_recipe
from postgres import postgres
from processes import wait_until

LONGEST_ANSWER = 0.100
MOST_GROWTH = 50 << 20
WARM_UP = 15.0
CHATTY = """import sys, time
from setuptools import setup
if "bdist_wheel" in sys.argv:
    end = time.monotonic() + {seconds}
    while time.monotonic() < end:
        print("a line of a compiler, as long as such lines are: " + 60 * "x", flush=True)
        time.sleep(0.02)
setup()
"""


@contextmanager
def databases(kind: str, folder: Path) -> Iterator[str]:
    """The URL of an empty database."""
    if kind == "postgresql":
        with postgres() as url:
            yield url
    else:
        yield f"sqlite:///{folder}/service.db"


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="cb-service-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def kill_once(database: str, after: float | None) -> dict[str, Any]:
    """A build, its server killed so many seconds after it was asked for (None: never), and what became of it."""
    with scratch() as folder:
        name = f"killed{uuid.uuid4().hex[:8]}"
        sources = make_recipe(folder, name)
        service = Service(folder, cache_folder(), database, Path(script()))
        try:
            service.start()
            began = time.monotonic()
            build = service.submit(name, require="imported")["id"]
            status = "not killed"
            if after is not None:
                wait_until(lambda: time.monotonic() - began >= after, after + 1)
                status = service.build(build)["status"]
                service.kill()
                service.start()
            ended = service.wait(build)
            seconds = time.monotonic() - began
            compiled = service.compiled()
        finally:
            service.stop()
    twice = sorted(source for source in sources if compiled[source] != 1)
    lost = ended["status"] != "succeeded" or ended["attempt"] != 1
    return {"after": after, "was": status, "ended": ended["status"], "attempt": ended["attempt"], "not_once": twice,
            "seconds": round(seconds, 1), "ok": not lost and not twice}  # fmt: skip


def faults(kinds: list[str], moments: int) -> bool:
    """Every moment on every database; whether all went well."""
    good = True
    for kind in kinds:
        with scratch() as folder, databases(kind, folder) as database:
            whole = kill_once(database, None)
            tell({"database": kind, **whole})
            for number in range(moments):
                done = kill_once(database, whole["seconds"] * number / moments)
                tell({"database": kind, "moment": number, **done})
                good = good and done["ok"]
    return good


class Load:
    """A server with a full queue, a build that prints, and followers."""

    def __init__(self, service: Service, queued: int, followers: int, seconds: float) -> None:
        self.service, self.queued, self.followers, self.seconds = service, queued, followers, seconds
        self.times: dict[str, list[float]] = {}
        self.memory: list[int] = []
        self.taken = bytearray()

    def prepare(self) -> str:
        """Fill the queue behind the build that prints; its id."""
        name = f"chatty{uuid.uuid4().hex[:8]}"
        make_recipe(self.service.folder, name, files=0)
        text = CHATTY.format(seconds=self.seconds + 600)
        (self.service.folder / name / "setup.py").write_text(text, encoding="utf-8")
        self.service.start()
        build: str = self.service.submit(name)["id"]
        assert wait_until(lambda: b"a line of a compiler" in self.service.log_of(build), 600)
        for number in range(self.queued - 1):
            self.service.submit(name, torch=f"2.{number}.0")
            time.sleep(0.005)
        return build

    async def follow(self, build: str, *, reads: bool, keep: bool) -> None:
        """One follower, until it is cancelled."""
        host, _, port = self.service.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 16)
        request = f"GET /api/v1/builds/{build}/events HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
        writer.write(request.encode())
        await writer.drain()
        try:
            while reads and (piece := await reader.read(1 << 16)):
                if keep:
                    self.taken += piece
            await asyncio.sleep(self.seconds + 600)
        finally:
            writer.close()

    async def people(self, build: str, until: float) -> None:
        """One who lists, looks, and asks for what is asked for already; twice a second each."""
        paths = ("/builds?limit=50", f"/builds/{build}", "/builds?status=queued&limit=100", "/recipes", "/workers",
                 f"/builds/{build}/plan")  # fmt: skip
        async with httpx2.AsyncClient(timeout=60) as client:
            number = 0
            while time.monotonic() < until:
                path = paths[number % len(paths)]
                number += 1
                began = time.perf_counter()
                answer = await client.get(f"{self.service.url}/api/v1{path}")
                self.times.setdefault(path.replace(build, "{build}"), []).append(time.perf_counter() - began)
                assert answer.status_code == 200, answer.text
                await asyncio.sleep(0.1)

    async def run(self, build: str) -> None:
        """All of them, for the time that was asked for."""
        following = [
            asyncio.ensure_future(self.follow(build, reads=number > 0, keep=number == 1))
            for number in range(self.followers)
        ]
        await asyncio.sleep(WARM_UP)
        until = time.monotonic() + self.seconds
        asking = [asyncio.ensure_future(self.people(build, until)) for _ in range(4)]
        while time.monotonic() < until:
            self.memory.append(resident(self.service.pid))
            await asyncio.sleep(1)
        await asyncio.gather(*asking)
        for each in following:
            each.cancel()
        await asyncio.gather(*following, return_exceptions=True)


def load(kinds: list[str], queued: int, followers: int, minutes: float) -> bool:
    """On every database; whether the bounds were kept."""
    good = True
    for kind in kinds:
        with scratch() as folder, databases(kind, folder) as database:
            service = Service(folder, cache_folder(), database, Path(script()), ("--slots", "1"), traced=False)
            work = Load(service, queued, followers, minutes * 60)
            try:
                build = work.prepare()
                asyncio.run(work.run(build))
                log = service.log_of(build)
                service.ask("POST", f"/builds/{build}/cancel")
                service.wait(build)
            finally:
                service.stop()
        every = sorted(seconds for times in work.times.values() for seconds in times)
        p99 = every[int(len(every) * 0.99)]
        growth = work.memory[-1] - work.memory[0]
        same = log.startswith(log_in(bytes(work.taken))) and len(log_in(bytes(work.taken))) > 0
        ok = p99 <= LONGEST_ANSWER and growth <= MOST_GROWTH and same
        good = good and ok
        tell({
            "database": kind, "queued": queued, "followers": followers, "minutes": minutes, "requests": len(every),
            "p50_ms": round(statistics.median(every) * 1000, 1), "p99_ms": round(p99 * 1000, 1),
            "most_ms": round(every[-1] * 1000, 1), "memory_mib": round(work.memory[0] / 2**20, 1),
            "growth_mib": round(growth / 2**20, 1), "log_bytes": len(log), "same_bytes": same, "ok": ok,
            "p99_ms_by_path": {path: round(sorted(times)[int(len(times) * 0.99)] * 1000, 1)
                               for path, times in work.times.items()},
        })  # fmt: skip
    return good


def log_in(answer: bytes) -> bytes:
    """The log's bytes in what a follower was sent: an HTTP answer in chunks, each one event or more."""
    _, _, rest = answer.partition(b"\r\n\r\n")
    body = bytearray()
    while rest:
        size, _, after = rest.partition(b"\r\n")
        count = int(size or b"0", 16)
        if not count or len(after) < count:
            break
        body += after[:count]
        rest = after[count + 2 :]
    found = b""
    for event in bytes(body).split(b"\n\n"):
        lines = dict(line.split(b": ", 1) for line in event.split(b"\n") if b": " in line and not line.startswith(b":"))
        if lines.get(b"event") == b"log":
            found += json.loads(lines[b"data"]).encode("utf-8", "surrogateescape")
    return found


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("VmRSS"))


def tell(value: dict[str, Any]) -> None:
    """One line."""
    print(json.dumps(value), flush=True)


def main() -> int:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=["faults", "load", []], metavar="faults|load")
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--queued", type=int, default=500)
    parser.add_argument("--followers", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10)
    asked = parser.parse_args()
    kinds = ["sqlite", "postgresql"] if asked.database == "both" else [asked.database]
    parts = asked.parts or ["faults", "load"]
    good = [faults(kinds, asked.moments)] if "faults" in parts else []
    good += [load(kinds, asked.queued, asked.followers, asked.minutes)] if "load" in parts else []
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
