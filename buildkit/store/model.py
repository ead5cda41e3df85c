"""What the store keeps about one wheel: the entry, as a file and as a value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import sha256
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

SCHEMA = 1
_CHECKSUM = re.compile(rb',\n "checksum": "(?P<sha256>[0-9a-f]{64})"\n\}\n?\Z')

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$")]
"""A key, a family or a build id: it becomes a file name, so it holds no dot and no slash."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
WheelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+!-]*\.whl$")]


def _is_moment(text: str) -> str:
    datetime.fromisoformat(text[:19])  # raises ValueError for the 99th of a month
    return text


Moment = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z$"),
    AfterValidator(_is_moment),
]
"""UTC, so that the order of the texts is the order in time."""


class DamagedEntry(ValueError):
    """The bytes are not an entry of this schema."""


class ForeignEntry(ValueError):
    """An entry of another schema: some other cudabuild's, to be left alone."""


class Entry(BaseModel):
    """A wheel in the store, under its key. ``size`` is in bytes, ``seconds`` what making it took."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: Literal[1] = Field(1, alias="schema")
    key: Name
    family: Name
    """The key's fingerprint without its targets."""
    recipe: str
    version: str
    build: Name
    """Id of the build that made it."""
    created: Moment
    filename: WheelName
    sha256: Sha256
    size: int = Field(gt=0)
    inputs: dict[str, Any]
    """The fields that the key is the hash of."""
    verdict: dict[str, Any]
    plan: dict[str, Any]
    guard: dict[str, Any] | None = None
    seconds: float = Field(ge=0)
    grafted: dict[str, str] = Field(default_factory=dict)
    """Libraries that were copied into the wheel from where it was built: path to sha256."""

    @property
    def targets(self) -> tuple[str, ...]:
        """What it says that it was made for; whether that may be believed is asked elsewhere."""
        targets = self.inputs.get("targets")
        return tuple(map(str, targets)) if isinstance(targets, list | tuple) else ()

    @property
    def torch(self) -> str:
        """torch's own version, as it says; empty without torch."""
        return str(self.inputs.get("torch", "")).partition(" ")[0]

    def as_bytes(self) -> bytes:
        """The entry's file: its text, and that text's own hash as the last line."""
        text = self.model_dump_json(by_alias=True, indent=1).encode()
        return text.removesuffix(b"\n}") + f',\n "checksum": "{sha256(text).hexdigest()}"\n}}\n'.encode()


@dataclass(frozen=True)
class Lookup:
    """What the store has for a key. ``note`` says why something that should be there is not served."""

    entry: Entry | None
    note: str = ""


@dataclass(frozen=True)
class Problem:
    """Something in the store that is not as it was written."""

    key: str
    """The entry's key; empty for a wheel that no entry names."""
    path: str
    text: str


def parse_entry(data: bytes) -> Entry:
    """Read an entry's file. Raises DamagedEntry or ForeignEntry with a one-line reason.

    One without a checksum was written before there was one.
    """
    told = _CHECKSUM.search(data)
    text = data[: told.start()] + b"\n}" if told else data
    try:
        entry = Entry.model_validate_json(text)
    except ValidationError as error:
        schema = schema_of(data)
        if isinstance(schema, int) and schema != SCHEMA:
            raise ForeignEntry(f"it was written in schema {schema}, this cudabuild reads schema {SCHEMA}") from None
        raise DamagedEntry(first_line(error) if data.strip() else "its file is empty") from None
    if told and sha256(text).hexdigest() != told["sha256"].decode():
        raise DamagedEntry("its text is not the one that was written")
    return entry


def utc_now() -> str:
    """This moment as entries and build records write it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def differing_fields(mine: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of the fields that are not the same, those inside mappings as ``environment.CFLAGS``."""
    left, right = dict(_flat(mine)), dict(_flat(other))
    return sorted(name for name in {*left, *right} if left.get(name) != right.get(name))


def is_name(text: str) -> bool:
    """Whether the text can be a key, a family or a build id."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", text) is not None


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            # As JSON, so that a tuple equals the list that came back from a file.
            yield f"{prefix}{name}", json.dumps(value, sort_keys=True, default=str)


def schema_of(data: bytes) -> object:
    """The schema that a document says it is written in; None where it says none."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return document.get("schema") if isinstance(document, dict) else None


def first_line(error: ValidationError) -> str:
    """What is wrong first, and where, in one line."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]
