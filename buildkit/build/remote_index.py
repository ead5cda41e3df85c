"""Any package index from outside: its pages, its verdicts, and parts of its files, within bounds.

The HTTP client is unearth's, with pip's certificates, proxies and logins; the pages are read here, because what an
index of ours says beside a file is passed over by installers, and by unearth.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from buildkit.build.remote_file import RemoteFile
from buildkit.errors import IndexDenied, IndexUnreachable, SourceError
from buildkit.process import redact
from buildkit.source.index_client import tls_context
from buildkit.source.index_settings import IndexSettings

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
PAGE_LIMIT = 32 << 20
"""Bytes of a page: a project with 20 000 files."""
VERDICT_LIMIT = 4 << 20
_ABSENT = frozenset({404, 410})
_DENIED = frozenset({401, 403, 407})

_T = TypeVar("_T")


@dataclass(frozen=True)
class Answer:
    """A page that is there: where it was found in the end, what it is, its bytes."""

    url: str
    media_type: str
    content: bytes = field(repr=False)


@dataclass
class RemoteIndex:
    """Asks one server; use it with ``with``. ``fetched`` counts the bytes of all answers."""

    url: str
    """With credentials where it has some; never to be shown without :func:`redact`."""
    settings: IndexSettings
    fetched: int = 0
    _session: Any = field(default=None, init=False, repr=False)

    def __enter__(self) -> RemoteIndex:
        from unearth.auth import MultiDomainBasicAuth
        from unearth.fetchers import PyPIClient

        self._session = PyPIClient(
            trusted_hosts=self.settings.trusted_hosts,
            verify=tls_context(self.settings),
            timeout=self.settings.timeout,
            proxy=self.settings.proxy,
            follow_redirects=True,
        )
        self._session.auth = MultiDomainBasicAuth(prompting=False, index_urls=[self.url])
        return self

    def __exit__(self, *_exception: object) -> None:
        self._session.close()

    def page(self, url: str, *, limit: int = PAGE_LIMIT) -> Answer | None:
        """What is at an address; None where nothing is. Raises IndexUnreachable, IndexDenied, SourceError."""

        def ask() -> Answer | None:
            with self._open(url, {"Accept": ACCEPT}) as answer:
                if answer.status_code in _ABSENT:
                    return None
                self._check(answer, url)
                content = bytearray()
                for chunk in answer.iter_bytes():
                    content += chunk
                    if len(content) > limit:
                        raise SourceError(f"{redact(url)} is larger than {limit >> 20} MiB")
                self.fetched += len(content)
                kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
                return Answer(str(answer.url), kind, bytes(content))

        return self._patiently(ask, url)

    def read(self, url: str, limit: int, use: Callable[[RemoteFile], _T]) -> _T:
        """What ``use`` makes of a file of which at most ``limit`` bytes are read. Raises also NoRanges and TooMuch."""

        def ask(ranges: str) -> AbstractContextManager[Any]:
            return self._open(url, {"Accept-Encoding": "identity", "Range": ranges})

        def attempt() -> _T:
            file = RemoteFile(ask, limit)
            try:
                return use(file)
            finally:
                self.fetched += file.fetched

        return self._patiently(attempt, url)

    def _open(self, url: str, headers: dict[str, str]) -> AbstractContextManager[Any]:
        return self._session.get_stream(url, headers=headers)  # type: ignore[no-any-return]

    def _check(self, answer: Any, url: str) -> None:
        status, where = int(answer.status_code), redact(url)
        if status in _DENIED:
            hint = "put a token that may read into a netrc file, or into the address: https://__token__:TOKEN@HOST/..."
            raise IndexDenied(
                f"{urlsplit(url).hostname} wants a login", evidence=f"HTTP {status} from {where}", hint=hint
            )
        if status != 200:
            raise _unreachable(f"HTTP {status} from {where}")

    def _patiently(self, attempt: Callable[[], _T], url: str) -> _T:
        """Once more where a connection broke."""
        import httpx2

        broken = (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError, ConnectionError, TimeoutError)
        with suppress(httpx2.RemoteProtocolError, httpx2.ReadError):
            return self._once(attempt, broken, url, excepted=(httpx2.RemoteProtocolError, httpx2.ReadError))
        return self._once(attempt, broken, url)

    def _once(
        self,
        attempt: Callable[[], _T],
        broken: tuple[type[Exception], ...],
        url: str,
        *,
        excepted: tuple[type[Exception], ...] = (),
    ) -> _T:
        try:
            return attempt()
        except broken as error:
            if isinstance(error, excepted):
                raise
            raise _unreachable(redact(f"{type(error).__name__}: {error} ({url})")) from error


def _unreachable(evidence: str) -> IndexUnreachable:
    hint = "check the address and the network; a proxy or certificates are taken from pip's configuration"
    return IndexUnreachable("the index did not answer", evidence=evidence, hint=hint)
