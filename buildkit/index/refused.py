"""What the index answers where it does not do what it was asked for: a status, and the cause in one line."""

from __future__ import annotations

from collections.abc import Mapping


class Refused(Exception):
    """Ends a request with an HTTP status; ``text`` is for the person at the other end, in one line."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in " ".join(text.split()))
        self.headers = dict(headers or {})
