"""A small server of files in memory that answers byte ranges (or does not), and counts what it sends."""

from __future__ import annotations

import contextlib
import http.server
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Site:
    """What is served, by path: media type and bytes; what was asked for; the bytes of all bodies."""

    files: dict[str, tuple[str, bytes]]
    ranges: bool = True
    status: int = 200
    """What is answered to everything, where it is not 200."""
    url: str = ""
    asked: list[str] = field(default_factory=list)
    sent: int = 0

    def add(self, path: str, content: bytes, media_type: str = "application/octet-stream") -> None:
        """Serve this, too."""
        self.files[path] = (media_type, content)


def part_of(header: str, content: bytes) -> tuple[int, int] | None:
    """The one range that a header names: first byte, byte after the last; None where that is outside of the file."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header)
    assert match is not None, header
    if not match[1]:
        return max(0, len(content) - int(match[2])), len(content)
    first = int(match[1])
    last = min(int(match[2] or len(content)), len(content) - 1)
    return (first, last + 1) if first <= last else None


@contextlib.contextmanager
def serving(site: Site) -> Iterator[Site]:
    """The site on loopback."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # who asked may have gone
                super().handle()

        def do_GET(self) -> None:
            site.asked.append(self.path)
            known = site.files.get(self.path)
            if site.status != 200 or known is None:
                self._send(404 if site.status == 200 else site.status, "text/plain", b"no")
                return
            media_type, content = known
            asked = self.headers.get("Range") if site.ranges else None
            part = part_of(asked, content) if asked else None
            if part is None:
                self._send(416 if asked else 200, media_type, b"" if asked else content)
                return
            first, end = part
            self._send(206, media_type, content[first:end], f"bytes {first}-{end - 1}/{len(content)}")

        def _send(self, status: int, media_type: str, body: bytes, content_range: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            if content_range:
                self.send_header("Content-Range", content_range)
            self.end_headers()
            with contextlib.suppress(OSError):  # who asked may have gone
                self.wfile.write(body)
                site.sent += len(body)

        def log_message(self, *_words: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        site.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()
