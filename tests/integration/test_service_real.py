"""`cudabuild serve` as a process, with real builds of a small C extension: followed, installed, and nothing built twice
though the server is killed; and its whole API against its own description."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from index_servers import SCRIPTS, environment, running
from processes import wait_until
from services import gate_of, new_service, write_recipe

from buildkit.index.tokens import new_token
from buildkit.store.builds import BuildRecords

pytestmark = pytest.mark.integration
PACKAGES = Path(__file__).parents[1] / "packages"
ASKED = {"recipe": "plainc", "device": "cpu"}


class Server:
    """A server in a folder, which can be started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache = folder, folder / "cache"
        write_recipe(folder / "recipes", "plainc", "plainc")
        shutil.rmtree(folder / "recipes" / "plainc" / "src")
        shutil.copytree(PACKAGES / "plainc", folder / "recipes" / "plainc" / "src")
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.base = ""

    def run(self, *words: str) -> Generator[None, None, None]:
        """Until the generator is closed."""
        self.starts += 1
        log = self.folder / f"log{self.starts}"
        command = [
            str(SCRIPTS / "cudabuild"),
            "serve",
            "--port",
            "0",
            "--recipes",
            str(self.folder / "recipes"),
            *words,
        ]
        with running(command, log, environment(self.cache)) as self.process:
            said = re.compile(r" on (https?://\S+/) \(Ctrl-C")
            assert wait_until(lambda: bool(said.search(log.read_text())) or self.process.poll() is not None)  # type: ignore[union-attr]
            found = said.search(log.read_text())
            assert found is not None, log.read_text()
            self.base = found[1]
            yield
        assert "Traceback" not in log.read_text()

    def get(self, path: str) -> Any:
        answer = httpx2.get(f"{self.base}api/v1/{path}", timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, asked: Any = None) -> Any:
        answer = httpx2.post(f"{self.base}api/v1/{path}", json=asked, timeout=60)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def follow(self, name: str) -> tuple[bytes, Any]:
        """The live log to its end: its bytes, and the build."""
        log, event = b"", ""
        with httpx2.stream("GET", f"{self.base}api/v1/builds/{name}/events", timeout=120) as answer:
            for line in answer.iter_lines():
                field, _, value = line.partition(": ")
                event = value if field == "event" else event
                if field == "data" and event == "log":
                    log += json.loads(value).encode("utf-8", "surrogateescape")
                if field == "data" and event == "end":
                    return log, json.loads(value)
        raise AssertionError("the live log broke off")


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def test_a_build_is_followed_installed_and_survives_kill_9_of_the_server(server: Server) -> None:
    first = server.run()
    next(first)
    name = server.post("builds", ASKED)["id"]
    assert wait_until(lambda: server.get(f"builds/{name}")["status"] == "running", 60)
    assert server.process is not None
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(20)
    first.close()
    second = server.run("--log-format", "json")
    next(second)
    log, build = server.follow(name)
    assert build["status"] == "succeeded", build
    assert (build["grade"], build["attempt"], build["cache"]) == ("imported", 1, "miss")
    records = BuildRecords(server.cache / "store").newest_first()
    assert [record.id for record in records] == [build["build"]], "one build, however often its server began"
    assert httpx2.get(f"{server.base}api/v1/builds/{name}/log").content == log
    place = server.folder / "installed"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(place)]
    url = build["wheel"]["url"].partition("files/")[0] + "simple/"
    done = subprocess.run(
        [*command, "--index-url", url, "plainc"], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    script = "import plainc; print(plainc.answer())"
    ran = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(place)}, check=True,
                         capture_output=True, text=True)  # fmt: skip
    assert ran.stdout.strip() == "42"
    again = server.post("builds", ASKED)
    assert again["id"] != name
    assert server.follow(again["id"])[1]["cache"] == "hit"
    first_line = json.loads((server.folder / "log2").read_text().splitlines()[0])
    assert first_line["level"] == "info"
    second.close()


def test_a_running_build_is_cancelled_and_nothing_of_it_is_left(server: Server) -> None:
    module = server.folder / "recipes" / "plainc" / "src" / "plainc" / "module.c"
    endless = "".join(
        f"static int f{n}(int x) {{ return x * {n}; }}\nint g{n}(int x) {{ return f{n}(x); }}\n" for n in range(60_000)
    )
    module.write_text(module.read_text() + endless)
    with_server = server.run("--on-stop", "end")
    next(with_server)
    name = server.post("builds", ASKED)["id"]

    def compiles() -> bool:
        return any(str(server.cache) in words and "cc1" in words for words in command_lines())

    assert wait_until(compiles, 90)
    assert server.post(f"builds/{name}/cancel")["cancelling"]
    assert wait_until(lambda: server.get(f"builds/{name}")["status"] == "cancelled", 60)
    assert not compiles()
    with_server.close()


def command_lines() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
    return found


def test_the_api_keeps_to_its_description_and_never_breaks(tmp_path: Path) -> None:
    """By schemathesis: whatever is generated from the description is answered as that says, and never by a 5xx."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    service = new_service(tmp_path, rate=100_000)
    token = new_token(tmp_path / "tokens.json", "boss", ["admin"])
    gate = gate_of(service, tmp_path / "tokens.json", rate=100_000)
    headers = {"Authorization": f"Bearer {token}", "Host": "127.0.0.1:8080"}
    service.closing.set()  # live logs end at once
    schema = schemathesis.openapi.from_asgi("/openapi.json", gate, headers=headers)
    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    seen: set[str] = set()
    statuses: set[int] = set()
    for result in schema.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]
        seen.add(f"{operation.method.upper()} {operation.path}")
        can_be_wrong = operation.path_parameters or operation.query or operation.body
        for mode in (*GenerationMode,) if can_be_wrong else (GenerationMode.POSITIVE,):

            @settings(max_examples=6, deadline=None, database=None, phases=[Phase.generate],
                      suppress_health_check=list(HealthCheck))  # fmt: skip
            @given(case=operation.as_strategy(generation_mode=mode))
            def holds(case: Any) -> None:
                statuses.add(case.call_and_validate(headers=headers, checks=checks).status_code)

            holds()
    assert len(seen) >= 16
    assert {200, 404, 422} <= statuses
    service.database.close()
