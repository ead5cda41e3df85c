"""Package indexes as real servers on loopback: ours, pypiserver, devpi-server, and a folder of plain HTML pages."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import re
import socket
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2
from processes import wait_until

from buildkit.store.blobs import file_sha256

SCRIPTS = Path(sysconfig.get_path("scripts"))


@dataclass(frozen=True)
class Served:
    """A running index: the URL of its simple pages (ending in a slash), and its process."""

    simple: str
    pid: int


def free_port() -> int:
    """A port that was free just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def environment(cache: Path | None = None) -> dict[str, str]:
    """Nobody's settings of cudabuild, pip or uv."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CUDABUILD_", "PIP_", "UV_"))}
    kept |= {
        "PIP_CONFIG_FILE": os.devnull,
        "UV_NO_CONFIG": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONWARNINGS": "ignore",
    }
    return kept | ({"CUDABUILD_CACHE": str(cache)} if cache else {})


@contextlib.contextmanager
def running(words: Sequence[str | Path], log: Path, env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is ended with the block; its output goes to a file."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in words], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def cudabuild(cache: Path, log: Path, *words: str) -> Iterator[tuple[str, int]]:
    """``cudabuild serve --index-only`` on a free port; gives its base URL and the number of its process."""
    command = [str(SCRIPTS / "cudabuild"), "serve", "--index-only", "--port", "0", *words]
    with running(command, log, environment(cache)) as process:
        said = re.compile(r" on (https?://\S+/) \(Ctrl-C")
        assert wait_until(lambda: bool(said.search(log.read_text())) or process.poll() is not None), log.read_text()
        found = said.search(log.read_text())
        assert found is not None, log.read_text()
        yield found[1], process.pid


@contextlib.contextmanager
def pypiserver(wheels: Path, log: Path, *words: str) -> Iterator[Served]:
    """pypiserver over a folder of wheels, alone (no fallback to another index)."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "pypiserver",
        "run",
        "-i",
        "127.0.0.1",
        "-p",
        str(port),
        "--disable-fallback",
        *words,
    ]
    with running([*command, wheels], log, environment()) as process:
        yield answering(f"http://127.0.0.1:{port}/simple/", process, log)


@contextlib.contextmanager
def devpi(folder: Path, wheels: Sequence[Path], log: Path) -> Iterator[Served]:
    """devpi-server with one index, into which the wheels are uploaded, with its metadata switch on."""
    port, data = free_port(), folder / "devpi"
    base = f"http://127.0.0.1:{port}"
    made = [str(SCRIPTS / "devpi-init"), "--serverdir", str(data), "--no-root-pypi", "--root-passwd", "secret"]
    done = subprocess.run(made, env=environment(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    command = [str(SCRIPTS / "devpi-server"), "--serverdir", str(data), "--host", "127.0.0.1", "--port", str(port)]
    with running([*command, "--enable-core-metadata", "--threads", "8"], log, environment()) as process:
        answering(f"{base}/", process, log)
        login = httpx2.post(f"{base}/+login", json={"user": "root", "password": "secret"}, timeout=60)
        auth = httpx2.BasicAuth("root", login.json()["result"]["password"])
        made_index = httpx2.put(f"{base}/root/dev", json={"bases": []}, auth=auth, timeout=60)
        assert made_index.status_code == 200, made_index.text
        for wheel in wheels:
            name, version = wheel.name.split("-")[:2]
            form = {":action": "file_upload", "name": name, "version": version, "filetype": "bdist_wheel"}
            form |= {"metadata_version": "2.1", "requires_python": ">=3.9", "pyversion": "py3"}  # as twine sends them
            answer = httpx2.post(
                f"{base}/root/dev/",
                data=form,
                files={"content": (wheel.name, wheel.read_bytes())},
                auth=auth,
                timeout=60,
            )
            assert answer.status_code == 200, answer.text
        yield Served(f"{base}/root/dev/+simple/", process.pid)


@contextlib.contextmanager
def pages(wheels: Mapping[str, Sequence[Path]], folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A plain index of HTML pages by project, and the list of the paths that were asked for."""
    asked: list[str] = []
    for project, files in wheels.items():
        (folder / project).mkdir(parents=True)
        links = "".join(f'<a href="{wheel.name}#sha256={file_sha256(wheel)}">{wheel.name}</a>\n' for wheel in files)
        (folder / project / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")
        for wheel in files:
            (folder / project / wheel.name).write_bytes(wheel.read_bytes())

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_words: object) -> None:
            asked.append(self.path)

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/", asked
        finally:
            server.shutdown()
            thread.join()


def answering(url: str, process: subprocess.Popen[bytes], log: Path) -> Served:
    """Wait until a server answers."""

    def answers() -> bool:
        with contextlib.suppress(httpx2.TransportError):
            return httpx2.get(url, timeout=30).status_code < 500
        return process.poll() is not None

    assert wait_until(answers, 240), log.read_text()  # devpi derives its key slowly on purpose: 10 s, idle
    assert process.poll() is None, log.read_text()
    return Served(url, process.pid)
