"""The body of an upload: a multipart form, read as it comes, its file written to a folder and hashed on the way.

The protocol is the one of the package index's "legacy" upload API, which twine and ``uv publish`` speak: the file is
the part ``content``, all other parts say what it is. A form tells its fields, its file or an attacker's file in any
order, so nothing of it is believed here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from buildkit.index.refused import Refused

FIELDS_LIMIT = 4 * 2**20
"""Bytes of all fields together: a long description is the longest of them."""
PARTS_LIMIT = 2000
FILE_FIELD = "content"


@dataclass
class Received:
    """What an upload brought: its fields (the first of each name), its file and the file's hashes and size in bytes."""

    path: Path
    fields: dict[str, str] = field(default_factory=dict)
    repeated: set[str] = field(default_factory=set)
    filename: str | None = None
    size: int = 0
    digests: dict[str, str] = field(default_factory=dict)
    """``sha256``, ``blake2_256`` and ``md5`` of the file, in hexadecimal digits."""


class FormReader:
    """Takes the body piece by piece. Raises Refused, 400 for what is no such form and 413 for what is too large."""

    def __init__(self, content_type: str | None, path: Path, *, limit: int) -> None:
        """The file goes to ``path`` and may have ``limit`` bytes."""
        kind, parameters = parse_options_header(content_type)
        boundary = parameters.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise Refused(400, "an upload is multipart/form-data, as twine and uv publish send it")
        self._received = Received(path)
        self._limit = limit
        self._hashes: dict[str, hashlib._Hash | hashlib.blake2b] = {
            "sha256": hashlib.sha256(),
            "blake2_256": hashlib.blake2b(digest_size=32),
            "md5": hashlib.md5(usedforsecurity=False),
        }
        self._header = [b"", b""]
        self._disposition = b""
        self._name = ""
        self._file: IO[bytes] | None = None
        self._parts = 0
        self._fields_size = 0
        self._ended = False
        self._text: list[bytes] = []
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begins,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_ends,
                    "on_headers_finished": self._headers_end,
                    "on_part_data": self._data,
                    "on_part_end": self._part_ends,
                    "on_end": self._form_ends,
                },
            )
        except FormParserError as error:
            raise Refused(400, f"the form cannot be read: {error}") from error

    def feed(self, data: bytes) -> None:
        """The next bytes of the body. Raises OSError where the file cannot be written."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise Refused(400, f"the form cannot be read: {error}") from error

    def finish(self) -> Received:
        """All that came. Raises Refused for a form that breaks off, or that holds no file."""
        if not self._ended:
            raise Refused(400, "the form breaks off before its end")
        if self._received.filename is None:
            raise Refused(400, f"the form holds no file: it belongs into the part {FILE_FIELD!r}")
        self._received.digests = {name: each.hexdigest() for name, each in self._hashes.items()}
        return self._received

    def close(self) -> None:
        """Give up the file, if one is open."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _part_begins(self) -> None:
        self._parts += 1
        if self._parts > PARTS_LIMIT:
            raise Refused(413, f"the form has more than {PARTS_LIMIT} parts")
        self._header, self._disposition, self._name, self._text = [b"", b""], b"", "", []

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end]

    def _header_ends(self) -> None:
        if self._header[0].lower() == b"content-disposition":
            self._disposition = self._header[1]
        self._header = [b"", b""]

    def _headers_end(self) -> None:
        _, parameters = parse_options_header(self._disposition)
        self._name = parameters.get(b"name", b"").decode("utf-8", "replace")
        if self._name != FILE_FIELD:
            return
        if self._received.filename is not None:
            raise Refused(400, "the form holds more than one file")
        self._received.filename = parameters.get(b"filename", b"").decode("utf-8", "replace")
        self._file = self._received.path.open("xb")

    def _data(self, data: bytes, start: int, end: int) -> None:
        piece = data[start:end]
        if self._file is None:
            self._fields_size += len(piece)
            if self._fields_size > FIELDS_LIMIT:
                raise Refused(413, f"the form's fields have more than {FIELDS_LIMIT} bytes")
            self._text.append(piece)
            return
        self._received.size += len(piece)
        if self._received.size > self._limit:
            raise Refused(413, f"the file has more than {self._limit} bytes, which is what this index takes")
        for each in self._hashes.values():
            each.update(piece)
        self._file.write(piece)

    def _part_ends(self) -> None:
        if self._file is not None:
            self.close()
        elif self._name in self._received.fields:
            self._received.repeated.add(self._name)
        else:
            self._received.fields[self._name] = b"".join(self._text).decode("utf-8", "replace")

    def _form_ends(self) -> None:
        self._ended = True
