"""sdists from an index made here: PEP 503 and 691 pages over HTTP on this machine, and find-links folders."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from buildkit.errors import CudabuildError, HashMismatch, IndexUnreachable, NotCached, NotOnIndex, SourceError
from buildkit.progress import Silent
from buildkit.source.fetch import fetch_source, unpack
from buildkit.source.fetched import FetchedSource
from buildkit.source.index_settings import IndexSettings
from buildkit.source.spec import ArchiveSpec, SdistSpec

PYPROJECT = b'[build-system]\nrequires = ["setuptools", "torch"]\n'


def sdist(name: str, version: str, *, pyproject: bytes | None = PYPROJECT, says: str | None = None) -> bytes:
    """An sdist whose PKG-INFO may name another project; its setup.py must never run."""
    top = f"{name.replace('-', '_')}-{version}"
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {says or name}\nVersion: {version}\n\nText\n".encode(),
        "setup.py": b"raise SystemExit('setup.py was run')\n",
    }
    if pyproject is not None:
        files["pyproject.toml"] = pyproject
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for file, content in files.items():
            info = tarfile.TarInfo(f"{top}/{file}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Index:
    """A simple index: file name to content. What it answers can be bent by its attributes."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.said_hashes: dict[str, str | None] = {}
        self.yanked: set[str] = set()
        self.json = True
        self.status: int | None = None
        self.failures = 0
        self.login: str | None = None
        self.requests: list[str] = []
        self.url = ""

    def add(self, name: str, version: str, content: bytes | None = None) -> bytes:
        content = sdist(name, version) if content is None else content
        self.files[f"{name.replace('-', '_')}-{version}.tar.gz"] = content
        return content

    def answer(self, path: str, authorization: str | None) -> tuple[int, str, bytes]:
        self.requests.append(path)
        path = path.removeprefix("http://index.example")  # asked as a proxy
        if self.login and authorization != "Basic " + base64.b64encode(self.login.encode()).decode():
            return 401, "text/plain", b"who are you"
        if self.failures or self.status is not None:
            self.failures = max(0, self.failures - 1)
            return self.status or 503, "text/plain", b"bent"
        return self.file(path) if path.startswith("/files/") else self.page(path)

    def file(self, path: str) -> tuple[int, str, bytes]:
        content = self.files.get(path.removeprefix("/files/"))
        return (200, "application/octet-stream", content) if content is not None else (404, "text/plain", b"")

    def page(self, path: str) -> tuple[int, str, bytes]:
        name = path.removeprefix("/simple/").strip("/").replace("-", "_")
        files = [file for file in self.files if file.startswith(f"{name}-")]
        if not files:
            return 404, "text/plain", b"no such project"
        if not self.json:
            links = "".join(f'<a href="/files/{f}#sha256={self.hash_of(f)}">{f}</a>' for f in files)
            return 200, "text/html", f"<!DOCTYPE html><html><body>{links}</body></html>".encode()
        entries = [
            {
                "filename": file,
                "url": f"/files/{file}",
                "hashes": {"sha256": self.hash_of(file)} if self.hash_of(file) else {},
                "yanked": file in self.yanked,
            }
            for file in files
        ]
        body = json.dumps({"meta": {"api-version": "1.0"}, "name": name, "files": entries}).encode()
        return 200, "application/vnd.pypi.simple.v1+json", body

    def hash_of(self, file: str) -> str | None:
        return self.said_hashes.get(file, digest(self.files[file]))


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("NETRC", "/nonexistent/netrc")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", "/nonexistent/certificates")  # to read all of the system's takes 0.2 s
    served = Index()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, body = served.answer(self.path, self.headers.get("Authorization"))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}/simple"
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


def settings(index: Index) -> IndexSettings:
    return IndexSettings(index_url=index.url, timeout=5, retries=1)


def fetch(spec: SdistSpec | ArchiveSpec, where: IndexSettings, cache: Path, *, offline: bool = False) -> FetchedSource:
    return fetch_source(spec, cache=cache, index=where, offline=offline, reporter=Silent())


@pytest.mark.parametrize("as_json", [True, False])
def test_by_name_version_and_hash(index: Index, tmp_path: Path, as_json: bool) -> None:
    index.json = as_json
    index.add("torch-demo", "2.0")
    content = index.add("torch-demo", "1.0")
    spec = SdistSpec("torch_demo", "1.0", digest(content))
    fetched = fetch(spec, settings(index), tmp_path)
    place = tmp_path / "sources/sdist" / digest(content)
    assert fetched.archive == place / "torch_demo-1.0.tar.gz"
    assert sorted(path.name for path in place.iterdir()) == ["source.json", "torch_demo-1.0.tar.gz"]
    assert (fetched.name, fetched.version, fetched.origin) == ("torch-demo", "1.0", "torch_demo==1.0")
    assert fetched.build_requires == ("setuptools", "torch")
    assert fetched.build_backend is None
    asked = len(index.requests)
    assert fetch(spec, IndexSettings(no_index=True), tmp_path) == fetched
    assert fetch(spec, settings(index), tmp_path, offline=True) == fetched
    assert len(index.requests) == asked
    assert (unpack(fetched, tmp_path / "b") / "setup.py").is_file()


def test_damaged_bytes_in_the_cache(index: Index, tmp_path: Path) -> None:
    content = index.add("demo", "1.0")
    spec = SdistSpec("demo", "1.0", digest(content))
    fetched = fetch(spec, settings(index), tmp_path)
    assert fetched.archive is not None
    fetched.archive.write_bytes(content[:-1] + b"x")
    assert fetch(spec, settings(index), tmp_path) == fetched
    assert fetched.archive.read_bytes() == content
    (fetched.archive.parent / "source.json").write_text('{"schema": 99}')
    assert fetch(spec, settings(index), tmp_path) == fetched
    fetched.archive.unlink()
    with pytest.raises(NotCached) as caught:
        fetch(spec, settings(index), tmp_path, offline=True)
    assert "cudabuild fetch" in caught.value.hint


def test_newest_without_hash(index: Index, tmp_path: Path) -> None:
    for version in ("1.9", "1.10", "2.0rc1", "3.0"):
        index.add("demo", version)
    index.yanked.add("demo-3.0.tar.gz")
    fetched = fetch(SdistSpec("demo"), settings(index), tmp_path)
    assert fetched.version == "1.10"
    downloads = [path for path in index.requests if path.startswith("/files/")]
    assert fetch(SdistSpec("demo"), settings(index), tmp_path) == fetched
    assert [path for path in index.requests if path.startswith("/files/")] == downloads  # its hash is in the cache
    assert fetch(SdistSpec("demo", "3.0"), settings(index), tmp_path).version == "3.0"
    assert fetch(SdistSpec("Demo"), IndexSettings(), tmp_path, offline=True).version == "3.0"
    assert fetch(SdistSpec("demo", "1.10.0"), IndexSettings(), tmp_path, offline=True).version == "1.10"


def test_wrong_hash(index: Index, tmp_path: Path) -> None:
    content = index.add("demo", "1.0")
    wanted = "0" * 64
    for said in (digest(content), None, wanted):  # the page disagrees, says nothing, lies
        index.said_hashes["demo-1.0.tar.gz"] = said
        with pytest.raises(HashMismatch) as caught:
            fetch(SdistSpec("demo", "1.0", wanted), settings(index), tmp_path)
        assert caught.value.evidence == f"expected sha256 {wanted}, got {digest(content)}"
        assert caught.value.exit_code == 4
    with pytest.raises(HashMismatch):
        fetch(SdistSpec("demo", "1.0"), settings(index), tmp_path)
    assert not list((tmp_path / "sources/sdist").iterdir())


def test_not_there(index: Index, tmp_path: Path) -> None:
    index.add("demo", "1.0")
    index.add("demo", "0.9")
    with pytest.raises(NotOnIndex, match=r"of demo 2\.0") as caught:
        fetch(SdistSpec("demo", "2.0"), settings(index), tmp_path)
    assert caught.value.evidence == "source distributions there: 1.0, 0.9"
    with pytest.raises(NotOnIndex) as caught:
        fetch(SdistSpec("other"), settings(index), tmp_path)
    assert "no page for other" in caught.value.evidence
    index.files["wheels-1.0-py3-none-any.whl"] = b""
    with pytest.raises(NotOnIndex) as caught:
        fetch(SdistSpec("wheels"), settings(index), tmp_path)
    assert caught.value.evidence == "only wheels there: 1.0"
    with pytest.raises(NotOnIndex, match="demo"):
        fetch(SdistSpec("demo"), IndexSettings(no_index=True), tmp_path)


def test_unreachable(index: Index, tmp_path: Path) -> None:
    dead = IndexSettings(index_url="http://me:secret@127.0.0.1:9/simple", timeout=2, retries=0)
    with pytest.raises(IndexUnreachable) as caught:
        fetch(SdistSpec("demo", "1.0"), dead, tmp_path)
    text = f"{caught.value.message} {caught.value.evidence} {caught.value.hint}"
    assert "http://***@127.0.0.1:9/simple" in text
    assert "secret" not in text
    assert "pip config list" in text
    assert caught.value.exit_code == 4
    for status in (500, 403):
        index.status = status
        with pytest.raises(IndexUnreachable) as caught:
            fetch(SdistSpec("demo", "1.0"), settings(index), tmp_path)
        assert f"HTTP {status}" in caught.value.evidence


def test_a_moment_of_weakness_is_forgiven(index: Index, tmp_path: Path) -> None:
    index.add("demo", "1.0")
    index.failures = 1
    assert fetch(SdistSpec("demo", "1.0"), settings(index), tmp_path).version == "1.0"


def test_one_dead_index_among_others_does_not_matter(index: Index, tmp_path: Path) -> None:
    content = index.add("demo", "1.0")
    both = IndexSettings(index_url=index.url, extra_index_urls=("http://127.0.0.1:9/simple",), timeout=2, retries=0)
    assert fetch(SdistSpec("demo", "1.0", digest(content)), both, tmp_path).version == "1.0"
    with pytest.raises(IndexUnreachable, match="demo"):
        fetch(SdistSpec("demo", "2.0"), both, tmp_path)


def test_a_slow_index_is_given_up(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/simple"
        with pytest.raises(IndexUnreachable, match="demo"):
            fetch(SdistSpec("demo"), IndexSettings(index_url=url, timeout=0.3, retries=0), tmp_path)


def test_login_from_the_url_and_from_netrc(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index.add("demo", "1.0")
    index.login = "me:s@crt"
    with pytest.raises(IndexUnreachable, match="demo") as caught:
        fetch(SdistSpec("demo"), settings(index), tmp_path)
    assert "it wants a login" in caught.value.evidence
    with_login = IndexSettings(index_url=index.url.replace("//", "//me:s%40crt@"), timeout=5)
    assert "s%40crt" not in fetch(SdistSpec("demo"), with_login, tmp_path / "a").origin
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password s@crt\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert fetch(SdistSpec("demo"), settings(index), tmp_path / "b").version == "1.0"


@pytest.mark.parametrize("by_variable", [True, False])
def test_a_trusted_host_behind_a_proxy(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_variable: bool
) -> None:
    index.add("demo", "1.0")
    proxy = index.url.removesuffix("/simple")
    if by_variable:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, proxy)
    where = IndexSettings(
        index_url="http://index.example/simple",
        trusted_hosts=("index.example",),
        proxy=None if by_variable else proxy,
        timeout=5,
    )
    assert fetch(SdistSpec("demo"), where, tmp_path).version == "1.0"
    assert index.requests[0] == "http://index.example/simple/demo/"


def test_plain_http_elsewhere_needs_trust(tmp_path: Path) -> None:
    with pytest.raises(IndexUnreachable) as caught:
        fetch(SdistSpec("demo"), IndexSettings(index_url="http://index.example/simple"), tmp_path)
    assert "not a trusted host" in caught.value.evidence


def test_file_indexes_and_find_links(tmp_path: Path) -> None:
    """Folders, with and without a page for the name: pip passes over the ones without, and so do we."""
    content = sdist("demo", "1.0")
    files = tmp_path / "a b"
    files.mkdir()
    (files / "demo-1.0.tar.gz").write_bytes(content)
    (files / "unrelated.txt").write_text("x")
    page = tmp_path / "more/simple/demo"
    page.mkdir(parents=True)
    (page / "index.html").write_text('<a href="../../../a%20b/demo-1.0.tar.gz">demo-1.0.tar.gz</a>')
    (tmp_path / "empty/simple").mkdir(parents=True)
    indexes = IndexSettings(
        index_url=(tmp_path / "empty/simple").as_uri(), extra_index_urls=((tmp_path / "more/simple").as_uri(),)
    )
    spec = SdistSpec("demo", "1.0", digest(content))
    assert fetch(spec, indexes, tmp_path / "1").sha256 == digest(content)
    for link in (str(files), files.as_uri()):
        linked = IndexSettings(no_index=True, find_links=(link,))
        assert (
            fetch(SdistSpec("demo"), linked, tmp_path / link.partition(":")[0].strip("/").replace("/", "_")).version
            == "1.0"
        )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (sdist("demo", "1.0", says="other"), "another project's"),
        (sdist("demo", "1.1"), "another version"),
        (sdist("demo", "1.0", pyproject=b"[build-system\n"), "does not parse"),
        (sdist("demo", "1.0", pyproject=b"[build-system]\nrequires = 3\n"), "not a list"),
        (b"neither tar nor zip", "not a sound archive"),
    ],
)
def test_files_that_are_something_else(index: Index, tmp_path: Path, content: bytes, message: str) -> None:
    index.add("demo", "1.0", content)
    with pytest.raises(SourceError, match=message):
        fetch(SdistSpec("demo", "1.0", digest(content)), settings(index), tmp_path)
    assert not list((tmp_path / "sources/sdist").iterdir())


def test_a_recipe_with_anothers_hash_is_noticed_in_the_cache(index: Index, tmp_path: Path) -> None:
    content = index.add("demo", "1.0")
    fetch(SdistSpec("demo", "1.0"), settings(index), tmp_path)
    with pytest.raises(SourceError, match="another project's"):
        fetch(SdistSpec("other", "1.0", digest(content)), settings(index), tmp_path)


def test_without_pyproject(index: Index, tmp_path: Path) -> None:
    index.add("demo", "1.0", sdist("demo", "1.0", pyproject=None))
    assert fetch(SdistSpec("demo"), settings(index), tmp_path).build_requires == ("setuptools", "wheel")


def test_an_archive_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "Ordner ä" / "demo-1.0.tar.gz"
    file.parent.mkdir()
    file.write_bytes(sdist("demo", "1.0"))
    fetched = fetch(ArchiveSpec(file), IndexSettings(), tmp_path / "cache", offline=True)
    assert (fetched.kind, fetched.name, fetched.origin) == ("sdist", "demo", str(file))
    file.rename(file.with_name("renamed.tar.gz"))
    assert fetch(ArchiveSpec(file.with_name("renamed.tar.gz")), IndexSettings(), tmp_path / "cache") == fetched
    with pytest.raises(CudabuildError, match="there is no file"):
        fetch(ArchiveSpec(file), IndexSettings(), tmp_path / "cache")


def test_a_bad_certificate_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(IndexUnreachable, match="certificate file /nonexistent"):
        fetch(SdistSpec("demo"), IndexSettings(cert="/nonexistent/ca.pem"), tmp_path)


def test_a_cached_sdist_imports_no_unearth(index: Index, tmp_path: Path) -> None:
    content = index.add("demo", "1.0")
    fetch(SdistSpec("demo", "1.0", digest(content)), settings(index), tmp_path)
    program = (
        "import sys, pathlib\n"
        "from buildkit.progress import Silent\n"
        "from buildkit.source.fetch import fetch_source\n"
        "from buildkit.source.index_settings import read_index_settings\n"
        "from buildkit.source.spec import SdistSpec\n"
        f"spec = SdistSpec('demo', '1.0', '{digest(content)}')\n"
        f"cache = pathlib.Path({str(tmp_path)!r})\n"
        "fetch_source(spec, cache=cache, index=read_index_settings({}), offline=False, reporter=Silent())\n"
        "loaded = {'unearth', 'httpx', 'httpx2', 'packaging', 'pathspec', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
