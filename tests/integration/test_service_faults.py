"""A server that is killed in the middle of a build, with SQLite and with PostgreSQL: nothing is lost or built twice.

What compilers ran is counted from outside (strace), over every server that was started.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest
from killed_servers import Service, make_recipe
from postgres import postgres
from processes import wait_until

from buildkit.store.blobs import file_sha256

pytestmark = pytest.mark.integration


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="cb-faults-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def service(request: pytest.FixtureRequest, folder: Path, cache: Path, console_script: Path) -> Iterator[Service]:
    with ExitStack() as stack:
        kind = request.param
        url = f"sqlite:///{folder}/service.db" if kind == "sqlite" else stack.enter_context(postgres())
        made = Service(folder, cache, url, console_script)
        stack.callback(made.stop)
        yield made


def test_killed_again_and_again_it_builds_once(service: Service, folder: Path) -> None:
    name = f"killed{uuid.uuid4().hex[:8]}"
    sources = make_recipe(folder, name)
    service.start()
    build = service.submit(name, name, require="imported")["id"]
    moments: tuple[Callable[[], bool], ...] = (lambda: True, lambda: sum(service.compiled().values()) >= 2)
    for moment in moments:
        assert wait_until(moment, 600), service.log.read_text("utf-8", "replace")
        service.kill()
        service.start()
        assert service.submit(name, name, require="imported")["id"] == build  # as a client does that had no answer
    followed, cuts = follow_with_cuts(service, build)
    ended = service.build(build)
    assert (ended["status"], ended["grade"], ended["attempt"]) == ("succeeded", "imported", 1), ended
    assert dict(service.compiled()) == dict.fromkeys(sources, 1)
    assert len(service.ask("GET", "/builds")["builds"]) == 1
    assert followed == service.log_of(build)
    assert cuts >= 1
    check_client(service, name)


def check_client(service: Service, name: str) -> None:
    """The command as a client: what was built is a hit for it, and the wheel comes with its hash."""
    words = [str(service.script), "--server", service.url, name, "--device", "cpu", "--require", "imported", "--json"]
    done = subprocess.run([*words, "--out", "fetched"], cwd=service.folder, env=service.environment(),
                          capture_output=True, text=True, check=False)  # fmt: skip
    value = json.loads(done.stdout)
    assert (done.returncode, value["cache"], value["verdict"]["grade"]) == (0, "hit", "imported"), done.stderr
    wheel = Path(value["wheel"]["path"])
    assert wheel.parent == service.folder / "fetched"
    assert file_sha256(wheel) == value["wheel"]["sha256"]


def follow_with_cuts(service: Service, build: str) -> tuple[bytes, int]:
    """The log by its events, where the connection is cut after each of them; and how often it was."""
    had, at, cuts = b"", 0, 0
    url = f"{service.url}/api/v1/builds/{build}/events"
    while True:
        with httpx2.stream("GET", url, headers={"Last-Event-ID": str(at)}, timeout=300) as response:
            name = number = None
            for line in response.iter_lines():
                key, _, value = line.partition(": ")
                if key == "event":
                    name = value
                elif key == "id":
                    number = int(value)
                elif key == "data" and name == "end":
                    return had, cuts
                elif key == "data" and name == "log" and number is not None:
                    had += json.loads(value).encode("utf-8", "surrogateescape")
                    at = number
                    cuts += 1
                    break
