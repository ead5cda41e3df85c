"""A release: a wheel under the file name by which people install it, as an index shows it.

An entry belongs to a key and is replaced when that key is built again; a release belongs to a file name, which means
one content for ever. What takes its place has another name (a build tag), and the older one is yanked.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from buildkit.store.model import (
    SCHEMA,
    DamagedEntry,
    ForeignEntry,
    Moment,
    Name,
    Sha256,
    WheelName,
    first_line,
    schema_of,
)

Project = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
"""A distribution's name, normalised (PEP 503)."""


class Release(BaseModel):
    """A wheel that an index may hand out. ``size`` is in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: Literal[1] = Field(1, alias="schema")
    filename: WheelName
    sha256: Sha256
    size: int = Field(gt=0)
    project: Project
    version: str
    """With the local version, as the wheel's metadata has it."""
    created: Moment
    """When it got its name here: the index's upload time."""
    metadata_sha256: Sha256
    """Of the METADATA inside, which the index serves beside the wheel (PEP 658)."""
    requires_python: str = ""
    torch: str = ""
    """torch's own version (``2.13.0+cu130``) that it was made for; empty without torch."""
    cuda: str = ""
    """The CUDA release of that torch, or of the toolkit where there is no torch (``13.0``); empty for the CPU."""
    device: Literal["cuda", "cpu"]
    targets: tuple[str, ...] = ()
    """What device code the wheel holds, as the audit of the wheel found it; empty for the CPU."""
    python: str
    """The wheel's Python tag: ``cp311``, ``py3``."""
    key: Name | None = None
    """The entry that it was made under, if it was made from a key that this store knows."""
    origin: Literal["build", "upload", "import"]
    by: str = ""
    """The name of the token that uploaded it."""
    built_sha256: str = ""
    """Of the wheel as the backend made it, before the final bytes."""
    license: str = ""
    redistributable: bool = True
    """Whether the recipe's licence lets others have it: a public index leaves out what it does not."""
    yanked: str = ""
    """Why it should not be installed any more (PEP 592); empty while it should."""
    verdict: dict[str, Any] = Field(default_factory=dict)

    @property
    def grade(self) -> str:
        """The furthest stage that its proof passed; ``none`` without a proof."""
        return str(self.verdict.get("grade", "none"))

    def as_bytes(self) -> bytes:
        """The release's file."""
        return self.model_dump_json(by_alias=True, indent=1).encode() + b"\n"


def parse_release(data: bytes) -> Release:
    """Read a release's file. Raises DamagedEntry or ForeignEntry with a one-line reason."""
    try:
        return Release.model_validate_json(data)
    except ValidationError as error:
        schema = schema_of(data)
        if isinstance(schema, int) and schema != SCHEMA:
            raise ForeignEntry(f"it was written in schema {schema}, this cudabuild reads schema {SCHEMA}") from None
        raise DamagedEntry(first_line(error) if data.strip() else "its file is empty") from None
