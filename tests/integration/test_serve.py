"""`cudabuild serve` as a process: TLS, a prefix, what is read while it runs, how it ends."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
from pathlib import Path

import httpx2
import pytest
from certificates import certificate
from index_servers import SCRIPTS, cudabuild, environment
from index_wheels import publish
from processes import wait_until

from buildkit.store.store import Store

PAGE = "pt2.13-cu130/simple/some-kernels/"


def test_tls_behind_a_prefix_and_a_wheel_that_comes_while_it_runs(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "server")
    words = ("--host", "localhost", "--tls-cert", str(cert), "--tls-key", str(key), "--root-path", "/wheels")
    with cudabuild(tmp_path / "cache", tmp_path / "log", *words) as (base, _):
        assert base.startswith("https://localhost:")
        assert base.endswith("/wheels/")
        own = base.removesuffix("wheels/")  # the proxy takes the prefix off
        with httpx2.Client(verify=ssl.create_default_context(cafile=str(cert))) as client:
            assert client.get(own + PAGE).status_code == 404
            release = publish(Store(tmp_path / "cache" / "store"), tmp_path, "some-kernels", "1.0+pt2.13.cu130")
            page = client.get(own + PAGE, headers={"Accept": "application/vnd.pypi.simple.v1+json"})
            assert page.json()["files"][0]["hashes"]["sha256"] == release.sha256
            front = client.get(own, headers={"X-Forwarded-Proto": "gopher", "X-Forwarded-Prefix": "/evil"})
            assert f"--index-url {base}pt2.13-cu130/simple/ some-kernels" in front.text
            assert "server" not in front.headers


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_it_ends_at_once_with_a_client_still_connected(number: signal.Signals, code: int, tmp_path: Path) -> None:
    command = [str(SCRIPTS / "cudabuild"), "serve", "--index-only", "--port", "0"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, stderr=output, stdout=output, env=environment(tmp_path / "cache"))
    assert wait_until(lambda: "(Ctrl-C ends it)" in log.read_text() or server.poll() is not None)
    port = int(log.read_text().partition("http://127.0.0.1:")[2].partition("/")[0])
    with socket.create_connection(("127.0.0.1", port)) as idle:
        idle.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(12) == b"HTTP/1.1 200"
        server.send_signal(number)
        assert server.wait(60) == code
    assert "Traceback" not in log.read_text()


def test_a_proxy_that_is_trusted_says_how_people_came(tmp_path: Path) -> None:
    publish(Store(tmp_path / "cache" / "store"), tmp_path, "some-kernels", "1.0+pt2.13.cu130")
    headers = {"X-Forwarded-Proto": "https", "Host": "wheels.example"}
    for words, shown in (((), "http"), (("--trust-proxy", "127.0.0.1", "--public"), "https")):
        with cudabuild(tmp_path / "cache", tmp_path / "log", *words) as (base, _):
            assert f"--index-url {shown}://wheels.example/pt2.13-cu130/" in httpx2.get(base, headers=headers).text
