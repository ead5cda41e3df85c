"""The package index through unearth: pages asked source by source, files streamed; every failure has a name.

unearth, and the HTTP client under it, come with certificates, proxies, netrc and keyring; what is added here
is bounded patience, and telling "the index has no such file" from "the index did not answer".
"""

from __future__ import annotations

import hashlib
import logging
import ssl
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

from buildkit.errors import IndexUnreachable, SourceError
from buildkit.process import redact
from buildkit.source.choice import UNREACHABLE_HINT
from buildkit.source.index_settings import IndexSettings

_PAGES_DEADLINE = 300.0
_DOWNLOAD_DEADLINE = 1800.0
_LARGEST_FILE = 4 << 30
_RETRIES = 2
"""At most this many more tries, whatever pip's ``retries`` says: a person waits for the answer."""
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504, 520, 527})
_ABSENT = frozenset({404, 410})

_T = TypeVar("_T")


@dataclass(frozen=True)
class IndexFile:
    """A file that some index or find-links page offers. ``sha256`` is what the page says, if it says anything."""

    filename: str
    version: str
    url: str
    sha256: str | None
    is_wheel: bool
    yanked: bool


@dataclass(frozen=True)
class Listing:
    """What all sources together offer for a name, and which of them could not be asked (one line each)."""

    files: tuple[IndexFile, ...]
    unreachable: tuple[str, ...]
    asked: tuple[str, ...]


@dataclass
class IndexClient:
    """Asks the configured sources; close it, or use it with ``with``."""

    settings: IndexSettings
    python: str | None = None
    """``3.11``: files that exclude this Python are not offered. None: all are."""
    _session: Any = field(default=None, init=False)
    _statuses: dict[str, int] = field(default_factory=dict, init=False)

    def __enter__(self) -> IndexClient:
        from unearth.auth import MultiDomainBasicAuth
        from unearth.fetchers import PyPIClient

        # What unearth would print as warnings comes back as typed answers.
        quiet = logging.getLogger("unearth")
        if not quiet.handlers:
            quiet.addHandler(logging.NullHandler())
        settings = self.settings
        self._session = PyPIClient(
            trusted_hosts=settings.trusted_hosts,
            verify=tls_context(settings),
            timeout=settings.timeout,
            proxy=settings.proxy,
            follow_redirects=True,
            mounts=_trusted_through_proxy(settings),
            event_hooks={"response": [self._remember_status]},
        )
        self._session.auth = MultiDomainBasicAuth(prompting=False, index_urls=self._index_urls())
        return self

    def __exit__(self, *_exception: object) -> None:
        self._session.close()

    def listing(self, name: str) -> Listing:
        """All files of a project. Sources that fail are in ``unreachable``; the others still count, as for pip."""
        deadline = time.monotonic() + _PAGES_DEADLINE
        files: list[IndexFile] = []
        unreachable: list[str] = []
        places = [(url, True) for url in self._index_urls()]
        places += [(link, False) for link in self.settings.find_links]
        for place, is_index in places:
            answer = self._asked(name, place, is_index, deadline)
            if isinstance(answer, str):
                unreachable.append(answer)
            else:
                files += answer
        return Listing(tuple(files), tuple(unreachable), tuple(redact(place) for place, _ in places))

    def download(self, file: IndexFile, target: IO[bytes]) -> str:
        """Stream the file's bytes into ``target``; returns their sha256. Raises :class:`IndexUnreachable`."""
        deadline = time.monotonic() + _DOWNLOAD_DEADLINE
        return self._patiently(lambda: self._stream(file, target, deadline), deadline)

    def _index_urls(self) -> list[str]:
        if self.settings.no_index:
            return []
        if self.settings.index_url:
            return list(self.settings.indexes)
        from unearth import PackageFinder

        # Made without any source, unearth's finder names the default index that is built into it.
        return [PackageFinder().sources[0]["url"], *self.settings.indexes]

    def _asked(self, name: str, place: str, is_index: bool, deadline: float) -> list[IndexFile] | str:
        """The files, or why this source could not be asked."""
        try:
            return self._patiently(lambda: self._ask(name, place, is_index), deadline)
        except IndexUnreachable as error:
            return f"{redact(place)}: {error.evidence}"

    def _ask(self, name: str, place: str, is_index: bool) -> list[IndexFile]:
        from unearth import PackageFinder, TargetPython
        from unearth.collector import is_secure_origin
        from unearth.link import Link

        if place.startswith("http:") and not is_secure_origin(self._session, Link(place)):
            host = urlsplit(place).hostname
            raise IndexUnreachable(
                redact(place), evidence=f"plain http and not a trusted host (pip config set global.trusted-host {host})"
            )
        self._statuses.clear()
        finder = PackageFinder(
            self._session,
            index_urls=[place] if is_index else [],
            find_links=[] if is_index else [place],
            target_python=TargetPython(py_ver=_python_tuple(self.python)) if self.python else None,
            ignore_compatibility=self.python is None,
        )
        found = [
            IndexFile(
                package.link.filename,
                package.version or "",
                package.link.normalized,
                _advertised_sha256(package.link),
                package.link.is_wheel,
                package.link.is_yanked,
            )
            for package in finder.find_all_packages(name, allow_yanked=True)
        ]
        if not found:
            self._refuse_bad_status()
        return found

    def _stream(self, file: IndexFile, target: IO[bytes], deadline: float) -> str:
        digest = hashlib.sha256()
        target.seek(0)
        target.truncate()
        # identity: an archive must not be decompressed on the way, its hash is of the file.
        with self._session.get_stream(file.url, headers={"Accept-Encoding": "identity"}) as answer:
            if answer.status_code != 200:
                raise _Answered(answer.status_code, redact(file.url))
            for chunk in answer.iter_bytes(chunk_size=1 << 16):
                digest.update(chunk)
                target.write(chunk)
                if target.tell() > _LARGEST_FILE:
                    raise SourceError(f"{file.filename} is larger than {_LARGEST_FILE >> 30} GiB")
                if time.monotonic() > deadline:
                    raise IndexUnreachable(
                        f"{file.filename} did not come within {_DOWNLOAD_DEADLINE / 60:g} min",
                        evidence=f"{target.tell()} bytes from {redact(file.url)}",
                        hint=UNREACHABLE_HINT,
                    )
        return digest.hexdigest()

    def _patiently(self, attempt: Callable[[], _T], deadline: float) -> _T:
        """Try again where that can help, a few times, within the deadline."""
        import httpx2

        tries = 1 + max(0, min(self.settings.retries, _RETRIES))
        for number in range(1, tries + 1):
            try:
                return attempt()
            except _Answered as error:
                if error.status not in _TRANSIENT or number == tries or time.monotonic() > deadline:
                    raise
            except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError, ConnectionError, TimeoutError) as error:
                evidence = redact(f"{type(error).__name__}: {error}")
                hopeless = (
                    isinstance(error, httpx2.InvalidURL | httpx2.UnsupportedProtocol) or "CERTIFICATE" in evidence
                )
                if hopeless or number == tries or time.monotonic() > deadline:
                    raise IndexUnreachable(
                        "the package index did not answer", evidence=evidence, hint=UNREACHABLE_HINT
                    ) from error
            time.sleep(0.25 * number)
        raise AssertionError("unreachable: the last try returns or raises")

    def _remember_status(self, response: Any) -> None:
        self._statuses[redact(str(response.url))] = int(response.status_code)

    def _refuse_bad_status(self) -> None:
        for url, status in self._statuses.items():
            if status >= 400 and status not in _ABSENT:
                raise _Answered(status, url)


class _Answered(IndexUnreachable):
    """An answer that is neither the page nor "no such page"."""

    def __init__(self, status: int, url: str) -> None:
        login = "; it wants a login (netrc, or user:password in pip's index-url)" if status in {401, 403, 407} else ""
        super().__init__(
            "the package index did not answer", evidence=f"HTTP {status} from {url}{login}", hint=UNREACHABLE_HINT
        )
        self.status = status


def tls_context(settings: IndexSettings) -> ssl.SSLContext:
    """pip's certificates if configured, else the HTTP client's default: SSL_CERT_FILE, SSL_CERT_DIR, the system's."""
    import httpx2

    try:
        if settings.cert is None:
            context = httpx2.create_ssl_context()
        elif Path(settings.cert).is_dir():
            context = ssl.create_default_context(capath=settings.cert)
        else:
            context = ssl.create_default_context(cafile=settings.cert)
        if settings.client_cert:
            context.load_cert_chain(settings.client_cert)
    except OSError as error:
        files = " and ".join(file for file in (settings.cert, settings.client_cert) if file)
        raise IndexUnreachable(
            f"pip's certificate file {files or '(the default one)'} cannot be used",
            evidence=f"{type(error).__name__}: {error}",
            hint="correct `cert` or `client-cert` in pip's configuration (pip config list), or PIP_CERT",
        ) from error
    return context


def _trusted_through_proxy(settings: IndexSettings) -> dict[str, Any]:
    """unearth asks trusted hosts directly; where a proxy is configured, they must go through it as well."""
    import httpx2

    mounts: dict[str, Any] = {}
    for host in settings.trusted_hosts:
        proxy = settings.proxy
        if proxy is None and not urllib.request.proxy_bypass(host):
            proxy = urllib.request.getproxies().get("https")
        if proxy:
            mounts[f"all://{host}"] = httpx2.HTTPTransport(verify=False, proxy=proxy)
    return mounts


def _advertised_sha256(link: Any) -> str | None:
    hashes = link.hash_option or {}
    return str(hashes["sha256"][0]).lower() if hashes.get("sha256") else None


def _python_tuple(python: str) -> tuple[int, ...]:
    return tuple(int(part) for part in python.split(".")[:2])
