"""Wheels over a real socket: the kernel sends them, whole and in part; TLS, changed files, and clients that leave."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import certificate
from index_wheels import publish
from processes import wait_until

from buildkit.index import sending
from buildkit.index.app import create_app
from buildkit.index.catalogue import identity_of_open
from buildkit.index.serve import Place, listen, make_server
from buildkit.index.settings import IndexSettings
from buildkit.store.release import Release
from buildkit.store.store import Store

SIZE = 1 << 20
SLICE = 100_000
LARGE = 12 << 20
"""More than the system's send buffer (4 MiB) and a small receive buffer take."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def release(store: Store, tmp_path: Path) -> Release:
    return publish(store, tmp_path, "some-kernels", "1.0+pt2.13.cu130", filler=SIZE)


@pytest.fixture
def by_kernel(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each call of sendfile sent."""
    sent: list[int] = []
    real = os.sendfile

    def sendfile(out: int, into: int, offset: int, count: int) -> int:
        done = real(out, into, offset, count)
        sent.append(done)
        return done

    monkeypatch.setattr(os, "sendfile", sendfile)
    monkeypatch.setattr(sending, "SLICE", SLICE)
    return sent


@contextlib.contextmanager
def serving(store: Store, **fields: Any) -> Iterator[tuple[str, int]]:
    """The index on a free port of loopback, in a thread."""
    place = Place("127.0.0.1", 0, **fields)
    server = make_server(create_app(store, IndexSettings()), place)
    with listen(place) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[:2]
        finally:
            server.should_exit = True
            thread.join()


def path_of(release: Release) -> str:
    return f"/pt2.13-cu130/files/{release.filename}"


def open_files(path: Path) -> int:
    """How often this process has a file open."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += entry.readlink() == path
    return found


def test_whole_in_part_and_again_on_one_connection(store: Store, release: Release, by_kernel: list[int]) -> None:
    content = store.blobs.path(release.sha256).read_bytes()
    with serving(store) as address, contextlib.closing(http.client.HTTPConnection(*address, timeout=60)) as client:

        def ask(method: str = "GET", **headers: str) -> tuple[int, bytes]:
            client.request(method, path_of(release), headers=headers)
            answer = client.getresponse()
            return answer.status, answer.read()

        assert ask() == (200, content)
        assert sum(by_kernel) == len(content)
        assert ask(Range="bytes=5-300004") == (206, content[5:300005])
        assert sum(by_kernel) == len(content) + 300_000
        status, parts = ask(Range="bytes=0-9,-10")
        assert status == 206
        assert content[:10] in parts
        assert content[-10:] in parts
        assert ask("HEAD") == (200, b"")
        assert ask(**{"If-None-Match": f'"{release.sha256}"'}) == (304, b"")
        assert ask() == (200, content)


def test_over_tls_the_bytes_are_read(store: Store, release: Release, by_kernel: list[int], tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "server")
    context = ssl.create_default_context(cafile=str(cert))
    with serving(store, certificate=cert, private_key=key) as (_, port):
        client = http.client.HTTPSConnection("localhost", port, timeout=60, context=context)
        with contextlib.closing(client):
            client.request("GET", path_of(release))
            assert client.getresponse().read() == store.blobs.path(release.sha256).read_bytes()
    assert not by_kernel


def test_what_the_kernel_cannot_send_is_read(store: Store, release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_words: int) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "sendfile", refused)
    with serving(store) as address, contextlib.closing(http.client.HTTPConnection(*address, timeout=60)) as client:
        client.request("GET", path_of(release))
        assert client.getresponse().read() == store.blobs.path(release.sha256).read_bytes()


def test_a_wheel_that_changes_while_it_is_sent_breaks_off(
    store: Store, release: Release, by_kernel: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    wheel = store.blobs.path(release.sha256)
    real = identity_of_open

    def changed(descriptor: int) -> Any:
        if sum(by_kernel) > SIZE // 2:
            os.utime(wheel, ns=(1, 1))
        return real(descriptor)

    caplog.set_level(logging.CRITICAL, "uvicorn.error")
    with pytest.MonkeyPatch.context() as patched, serving(store) as address:
        patched.setattr("buildkit.index.sending.identity_of_open", changed)
        with contextlib.closing(http.client.HTTPConnection(*address, timeout=60)) as client:
            client.request("GET", path_of(release))
            with pytest.raises(http.client.IncompleteRead):
                client.getresponse().read()
    assert SIZE // 2 < sum(by_kernel) < SIZE


def test_a_client_that_leaves_costs_nobody_anything(
    store: Store, release: Release, by_kernel: list[int], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    large = publish(store, tmp_path, "large-kernels", "1.0+pt2.13.cu130", filler=LARGE)
    wheel = store.blobs.path(large.sha256)
    with serving(store) as address:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
            client.connect(address)
            client.sendall(f"GET {path_of(large)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert client.recv(12) == b"HTTP/1.1 200"
            assert wait_until(lambda: open_files(wheel) == 1)
        assert wait_until(lambda: open_files(wheel) == 0)
        with contextlib.closing(http.client.HTTPConnection(*address, timeout=60)) as client:
            client.request("GET", path_of(release))
            assert client.getresponse().read() == store.blobs.path(release.sha256).read_bytes()
    assert 0 < sum(by_kernel) < LARGE
    assert not caplog.records
