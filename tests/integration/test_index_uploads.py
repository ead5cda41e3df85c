"""Uploads to a real server by the real twine and uv, verdicts from elsewhere, and a server that is killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uv
from index_servers import SCRIPTS, cudabuild, environment, free_port, pypiserver, running
from processes import wait_until
from upload_wheels import WheelMaker, marked_object, real_object
from uploading import BOUNDARY, basic, upload_form

from buildkit.cli.main import main
from buildkit.store.store import Store

PATH = "pt2.13-cu130-sm86-sm120"
VERSION = f"1.0+{PATH.replace('-', '.')}"
NAMES = ("--upload-name", "fast-voxels", "--upload-name", "plain-voxels")


@dataclass
class Index:
    """A running index, its folder, and a token for each scope."""

    base: str
    folder: Path
    code: bytes
    secrets: dict[str, str]

    @property
    def store(self) -> Store:
        return Store(self.folder / "cache" / "store")

    def wheel(self, folder: str, **changes: Any) -> Path:
        """A wheel in a folder of its own."""
        place = self.folder / folder
        place.mkdir(exist_ok=True)
        given = {"version": VERSION, "targets": ("8.6", "12.0"), "code": self.code, **changes}
        return WheelMaker(**given).write(place)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uploads")


def tokens_of(folder: Path) -> dict[str, str]:
    """Made by the command, as an operator makes them."""
    secrets = {}
    for scope in ("read", "upload", "verify"):
        words = ["token", "new", f"a-{scope}", "--scope", scope, "--file", folder / "tokens.json"]
        done = subprocess.run(
            [SCRIPTS / "cudabuild", *words], capture_output=True, text=True, check=True, env=environment(folder)
        )
        secrets[scope] = done.stdout.strip()
        assert secrets[scope] not in done.stderr
    return secrets


@pytest.fixture(scope="module")
def index(folder: Path) -> Iterator[Index]:
    secrets = tokens_of(folder)
    with cudabuild(folder / "cache", folder / "log", "--tokens", str(folder / "tokens.json"), *NAMES) as (base, _):
        yield Index(base, folder, real_object(folder, 86, 120), secrets)
    log = (folder / "log").read_text()
    assert "Traceback" not in log
    assert "a-upload uploaded fast_voxels-" in log
    assert "POST '/legacy/': 401 this token is not known here" in log
    assert not [secret for secret in secrets.values() if secret in log]


def by_uv(wheel: Path, url: str, secret: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environ = {**environment(folder), "UV_PUBLISH_TOKEN": secret, "UV_CACHE_DIR": str(folder / "uv")}
    words = ["publish", "--trusted-publishing", "never", "--publish-url", url, str(wheel)]
    return subprocess.run([uv.find_uv_bin(), *words], env=environ, capture_output=True, text=True, check=False)


def by_twine(wheel: Path, url: str, secret: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environ = {**environment(folder), "TWINE_USERNAME": "__token__", "TWINE_PASSWORD": secret}
    words = ["upload", "--non-interactive", "--disable-progress-bar", "--verbose", "--repository-url", url, str(wheel)]
    twine = Path(sysconfig.get_path("scripts")) / "twine"
    return subprocess.run([twine, *words], env=environ, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("client", [by_uv, by_twine])
def test_a_client_uploads_and_is_told_why_not(index: Index, client: Any) -> None:
    name = client.__name__
    wheel = index.wheel(name, text=f"# {name}\n", version=f"1.{len(name)}+{VERSION[4:]}")
    upload, url = index.secrets["upload"], f"{index.base}{PATH}/legacy/"
    for _ in range(2):
        done = client(wheel, url, upload, index.folder)
        assert done.returncode == 0, done.stderr + done.stdout
    page = httpx2.get(f"{index.base}{PATH}/simple/fast-voxels/", headers={"Accept": "text/html"}).text
    assert wheel.name.replace("+", "%2B") in page
    other = index.wheel(f"{name}-other", text="#\n", version=f"1.{len(name)}+{VERSION[4:]}")
    cases = [(409, url, upload, other)]
    if client is by_uv:  # twine takes a second for each
        cases += [
            (400, url, upload, index.wheel("cpu", code=marked_object(), version=f"2.0+{VERSION[4:]}")),
            (400, f"{index.base}pt2.13-cu130/legacy/", upload, index.wheel("new", version=f"3.0+{VERSION[4:]}")),
            (403, url, upload, index.wheel("foreign", name="requests")),
            (403, url, index.secrets["read"], wheel),
        ]
    for status, path, secret, wrong in [*cases, (401, url, "cudabuild_nobodys", wheel)]:
        done = client(wrong, path, secret, index.folder)
        assert done.returncode != 0
        assert str(status) in done.stderr + done.stdout, (status, done.stderr + done.stdout)
        assert secret not in done.stderr + done.stdout


def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path, secret: str, *words: str
        ) -> tuple[int, dict[str, Any], str]:  # fmt: skip
    """One of our commands, as it is typed."""
    for name, value in environment(folder / "other-cache").items():
        if name.startswith(("CUDABUILD_", "PIP_", "UV_")):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("CUDABUILD_TOKEN", secret)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    code = main([*words, "--json"])
    out, err = capfd.readouterr()
    assert secret not in out + err
    return code, json.loads(out), err


def test_publish_checks_sends_and_says_what_was_wrong(
    index: Index, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def publish(
        wheel: Path, url: str = f"{index.base}legacy/", scope: str = "upload", more: tuple[str, ...] = ()
    ) -> tuple[int, str]:
        secret = index.secrets.get(scope, "cudabuild_nobodys")
        words = ("publish", str(wheel), "--index", url, *more)
        code, said, _ = run(capfd, monkeypatch, index.folder, secret, *words)
        return code, said["results"][0].get("error", {}).get("kind", "")

    version = f"5.0+{VERSION[4:]}"
    wheel = index.wheel("ours", version=version)
    assert publish(wheel, f"{index.base}{PATH}/simple/") == (0, "")
    assert publish(wheel) == (0, "")
    assert publish(index.wheel("ours-other", version=version, text="#\n")) == (10, "name-taken")
    assert publish(wheel, scope="read") == (10, "index-denied")
    assert publish(wheel, scope="unknown") == (10, "index-denied")
    assert publish(wheel, f"{index.base}pt2.13-cpu/legacy/") == (0, "")  # there already, so nothing is looked at
    new = index.wheel("ours-new", version=f"6.0+{VERSION[4:]}")
    assert publish(new, f"{index.base}pt2.13-cpu/legacy/") == (10, "index-refused")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    assert publish(new, f"http://127.0.0.1:{free_port()}/legacy/") == (4, "index-unreachable")
    with pypiserver(index.folder / "ours", index.folder / "pypiserver-log", "-P", ".", "-a", ".") as other:
        assert publish(new, other.simple.removesuffix("simple/")) == (0, "")
        assert (index.folder / "ours" / new.name).read_bytes() == new.read_bytes()
        assert publish(new, other.simple.removesuffix("simple/")) == (10, "name-taken")
        assert publish(new, other.simple.removesuffix("simple/"), more=("--check-url", other.simple)) == (0, "")
    # These do not leave this machine.
    nowhere = "http://index.example/legacy/"
    assert publish(index.wheel("ours-cpu", code=marked_object()), nowhere) == (9, "cpu-only-wheel")
    tagged = index.wheel("ours-linux", tags="cp311-cp311-linux_x86_64")
    assert publish(tagged, nowhere) == (9, "verification-failed")


def test_a_verdict_from_elsewhere_lets_the_index_serve_it(
    index: Index, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = index.folder / "recipes" / "plain-voxels"
    recipe.mkdir(parents=True)
    (recipe / "recipe.toml").write_text(
        'edition = 1\nname = "plain-voxels"\nsummary = "A test"\nstatus = "unconfirmed"\n'
        'license = { spdx = "MIT", redistributable = true }\n[[version]]\nversion = "1.0"\n'
        f'git = "https://git.example/x"\nrev = "{"a" * 40}"\n[build]\ntorch = false\n'
        '[verify]\nimports = ["plain_voxels"]\n'
    )
    wheel = index.wheel(
        "plain", name="plain_voxels", version="1.0+cpu", device="cpu", targets=(), torch=None, toolkit=None,
        requires="", code=b"", tags="py3-none-any",
    )  # fmt: skip
    assert by_uv(wheel, f"{index.base}legacy/", index.secrets["upload"], index.folder).returncode == 0
    proven = ("--private", "--min-grade", "imported", "--tokens", str(index.folder / "tokens.json"))
    with cudabuild(index.folder / "cache", index.folder / "proven-log", *proven) as (strict, _):
        page, reader = f"{strict}cpu/simple/plain-voxels/", ("__token__", index.secrets["read"])
        assert httpx2.get(page).status_code == 401
        assert httpx2.get(page, auth=reader).status_code == 404
        words = ("verify", "plain-voxels", "--recipes", str(recipe.parent), "--publish", f"{index.base}cpu/simple/")
        code, said, err = run(capfd, monkeypatch, index.folder, index.secrets["upload"], *words)
        assert (code, said["error"]["kind"]) == (10, "index-denied"), err
        assert said["verdict"]["grade"] == "imported"
        code, said, err = run(capfd, monkeypatch, index.folder, index.secrets["verify"], *words)
        assert code == 0, (said, err)
        assert (said["published"]["grade"], said["published"]["changed"]) == ("imported", True)
        assert httpx2.get(page, auth=reader).status_code == 200
        place, known = index.folder / "installed", page.replace("://", f"://__token__:{reader[1]}@")
        asked = ("pip", "install", "--no-deps", "--target", str(place), "--python", sys.executable, "--index-url")
        environ = {**environment(index.folder), "UV_CACHE_DIR": str(index.folder / "uv")}
        installing = [uv.find_uv_bin(), *asked, known.removesuffix("plain-voxels/"), "plain-voxels"]
        done = subprocess.run(installing, env=environ, capture_output=True, text=True, check=False)
        assert (place / "plain_voxels" / "__init__.py").is_file(), done.stderr


def test_a_server_that_is_killed_in_the_middle_leaves_nothing_half(folder: Path, index: Index) -> None:
    cache, log, port = folder / "killed", folder / "killed-log", free_port()
    words: list[str | Path] = [SCRIPTS / "cudabuild", "serve", "--index-only", "--port", str(port), *NAMES]
    words += ["--tokens", folder / "tokens.json"]
    store = Store(cache / "store")
    uploads = store.root / "tmp" / "uploads"
    wheel = index.wheel("killed-wheel", version=f"9.0+{VERSION[4:]}", more={"fast_voxels/data": os.urandom(3 << 20)})
    body = upload_form(wheel)
    head = f"POST /legacy/ HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n"
    head += f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
    head += f"Authorization: {basic(index.secrets['upload'])['authorization']}\r\n\r\n"
    with running(words, log, environment(cache)) as process:
        assert wait_until(lambda: _answers(port) or process.poll() is not None), log.read_text()
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(head.encode() + body[: len(body) // 2])
            assert wait_until(lambda: any(path.stat().st_size for path in uploads.glob("*/received")))
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert [*store.releases(), *store.blobs.all()] == []
    assert len(list(uploads.iterdir())) == 1
    with cudabuild(cache, log, "--tokens", str(folder / "tokens.json"), *NAMES) as (base, _):
        assert list(uploads.iterdir()) == []
        assert by_uv(wheel, f"{base}legacy/", index.secrets["upload"], folder).returncode == 0
    assert [release.filename for release in store.releases()] == [wheel.name]


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
