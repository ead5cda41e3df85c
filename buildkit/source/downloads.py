"""Large files over HTTP: several at a time, resumed where a connection was cut, used only when their hash is right.

What has come of a file lies beside its place, under the hash that it shall have, until it is whole: the same
command, typed again, goes on from there. A server that cannot resume is asked for the whole file again.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from buildkit.errors import HashMismatch, IndexUnreachable, NotOnIndex, SourceError
from buildkit.process import redact
from buildkit.source.index_settings import IndexSettings
from buildkit.source.tree import file_sha256

PARALLEL = 4
"""Files at a time."""
TRIES = 3
"""How often a server may be asked in vain, with nothing coming in between."""
PAUSE = 0.25
"""Seconds before the second try; twice that before the third."""
TICK = 0.2
"""Seconds between two reports of how much has come."""
_LARGEST_TEXT = 8 << 20
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 527})
_ABSENT = frozenset({404, 410})
WITHHELD = 403
"""What object stores answer for a file that they do not have, as for one that they do not give."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Download:
    """A file to fetch: a plain name, its address, and what it must be. ``size`` in bytes."""

    name: str
    url: str
    sha256: str
    size: int

    def place(self, folder: Path) -> Path:
        """Where it lies when it is whole."""
        return folder / f"{self.sha256[:16]}-{self.name}"

    def partial(self, folder: Path) -> Path:
        """Where it lies before."""
        return folder / f"{self.sha256[:16]}-{self.name}.part"

    def here(self, folder: Path) -> int:
        """How many of its bytes are here, in one place or the other."""
        return _size(self.place(folder)) or _size(self.partial(folder))


class _Again(Exception):
    """The server answered something that may be otherwise in a moment."""


class Stopped(Exception):
    """Another file failed, or a person ended it all."""


@dataclass
class Fetcher:
    """An HTTP client with pip's proxy, certificates and patience; use it with ``with``.

    ``setting`` is what a person would change to ask another server: part of the hints.
    """

    settings: IndexSettings
    setting: str
    _client: Any = field(default=None, init=False)
    _stop: threading.Event = field(default_factory=threading.Event, init=False)
    _come: dict[str, int] = field(default_factory=dict, init=False)

    def __enter__(self) -> Fetcher:
        import httpx2

        from buildkit.source.index_client import tls_context

        settings = self.settings
        self._client = httpx2.Client(
            verify=tls_context(settings), timeout=settings.timeout, proxy=settings.proxy, follow_redirects=True
        )
        return self

    def __exit__(self, *_exception: object) -> None:
        self._client.close()

    def text(self, url: str) -> bytes | int:
        """A small file; the HTTP status where the server has or gives none of that name.

        Raises IndexUnreachable, SourceError.
        """

        def ask() -> bytes | int:
            with self._client.stream("GET", url) as answer:
                if answer.status_code in {*_ABSENT, WITHHELD}:
                    return int(answer.status_code)
                self._refuse(answer.status_code, url)
                content = b""
                for chunk in answer.iter_bytes():
                    content += chunk
                    if len(content) > _LARGEST_TEXT:
                        raise SourceError(f"{redact(url)} is larger than {_LARGEST_TEXT >> 20} MiB")
                return content

        return self._patiently(ask, lambda: 0, url)

    def files(
        self,
        downloads: Sequence[Download],
        folder: Path,
        use: Callable[[Download, Path], _T],
        told: Callable[[int, int], None],
    ) -> list[_T]:
        """Fetch all into ``folder`` and give what ``use`` makes of each, in order.

        ``use`` is called in one of several threads as soon as a file is whole and right; ``told`` in this one, with
        the bytes that are here and all that there will be. The first failure ends the others and is raised:
        IndexUnreachable, NotOnIndex, HashMismatch, OSError, what ``use`` raises. What has come is kept.
        """
        total = sum(download.size for download in downloads)
        self._come = {download.name: download.here(folder) for download in downloads}
        largest_first = sorted(downloads, key=lambda download: -download.size)
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="fetch") as pool:
            running = {each: pool.submit(self._fetch_and_use, each, folder, use) for each in largest_first}
            try:
                waiting = set(running.values())
                while waiting:
                    done, waiting = wait(waiting, timeout=TICK, return_when=FIRST_EXCEPTION)
                    told(sum(self._come.values()), total)
                    for future in done:
                        future.result()
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
            return [running[download].result() for download in downloads]

    def check_stopped(self) -> None:
        """Raise :class:`Stopped` if there is no need to go on; for long work in ``use``."""
        if self._stop.is_set():
            raise Stopped

    def _fetch_and_use(self, download: Download, folder: Path, use: Callable[[Download, Path], _T]) -> _T:
        self.check_stopped()
        return use(download, self._fetch(download, folder))

    def _fetch(self, download: Download, folder: Path) -> Path:
        place, partial = download.place(folder), download.partial(folder)
        if place.is_file() and file_sha256(place) == download.sha256:
            return place
        place.unlink(missing_ok=True)
        resumed = partial.exists()
        self._complete(download, partial)
        found = file_sha256(partial)
        if found != download.sha256 and resumed:  # what lay here was bad, not what the server has
            partial.unlink()
            self._complete(download, partial)
            found = file_sha256(partial)
        if found != download.sha256:
            partial.unlink()
            raise HashMismatch(
                f"{download.name} is not the file that its manifest describes; it was thrown away",
                evidence=f"expected sha256 {download.sha256}, got {found}, from {redact(download.url)}",
                hint=f"run the same command again; if that gives the same, take another server: {self.setting}",
            )
        partial.replace(place)
        return place

    def _complete(self, download: Download, partial: Path) -> None:
        """Ask for what is missing until nothing is."""
        while (have := _size(partial)) < download.size or not partial.exists():
            before = have

            def ask() -> None:
                self._stream(download, partial)

            self._patiently(ask, lambda: _size(partial), download.url)
            if _size(partial) <= before:  # the server thinks that this is all of it: its hash will tell
                return

    def _stream(self, download: Download, partial: Path) -> None:
        """One request, from where the partial file ends. Raises what httpx2 raises when the connection is cut."""
        have = _size(partial)
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
        with self._client.stream("GET", download.url, headers=headers) as answer:
            if answer.status_code in _ABSENT:
                raise NotOnIndex(
                    f"the server has no {download.name}, though the manifest names it",
                    evidence=f"HTTP {answer.status_code} from {redact(download.url)}",
                    hint=f"take another version (`cudabuild toolkit list`), or another server: {self.setting}",
                )
            if answer.status_code == 416 or (answer.status_code == 206 and not _begins_at(answer, have)):
                partial.unlink()
                raise _Again(f"HTTP {answer.status_code} for the rest of it")
            self._refuse(answer.status_code, download.url)
            with partial.open("ab" if answer.status_code == 206 else "wb") as file:
                for chunk in answer.iter_raw():
                    self.check_stopped()
                    file.write(chunk)
                    self._come[download.name] = file.tell()
                    if file.tell() > download.size:
                        return  # not the file that was promised

    def _patiently(self, ask: Callable[[], _T], come: Callable[[], int], url: str) -> _T:
        """Try again while that helps; a try that brought something does not count."""
        import httpx2

        vain = 0
        while True:
            before = come()
            try:
                return ask()
            except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError, ConnectionError, TimeoutError, _Again) as error:
                vain = vain + 1 if come() <= before else 0
                evidence = redact(f"{type(error).__name__.lstrip('_')}: {error}")
                hopeless = (
                    isinstance(error, (httpx2.InvalidURL, httpx2.UnsupportedProtocol)) or "CERTIFICATE" in evidence
                )
                if hopeless or vain >= TRIES:
                    raise self._unreachable(url, evidence) from error
            if self._stop.wait(PAUSE * vain):
                raise Stopped

    def _refuse(self, status: int, url: str) -> None:
        """Raise for an answer that is neither the file nor a part of it."""
        if status in _TRANSIENT:
            raise _Again(f"HTTP {status}")
        if status not in {200, 206}:
            raise self._unreachable(url, f"HTTP {status}")

    def _unreachable(self, url: str, evidence: str) -> IndexUnreachable:
        return IndexUnreachable(
            f"{redact(url)} could not be fetched",
            evidence=evidence,
            hint="check the network, then run the same command again: it goes on where it stopped; "
            f"another server: {self.setting}",
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _begins_at(answer: Any, offset: int) -> bool:
    return str(answer.headers.get("Content-Range", "")).startswith(f"bytes {offset}-")
