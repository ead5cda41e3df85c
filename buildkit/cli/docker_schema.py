"""What ``cudabuild docker --json`` prints, as models: the source of its part of docs/reference/json.md."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from buildkit.cli.json_model import JsonModel, SchemaNumber


class FileObject(JsonModel):
    """A text of the image's context."""

    path: str = Field(description="In the context, such as `Dockerfile`.")
    text: str = Field(description="All of it.")


class ImageWheelObject(JsonModel):
    """A wheel of the store that the image takes from the context."""

    path: str = Field(description="In the context.")
    sha256: str = Field(description="Of its bytes; the Dockerfile's steps take no other ones.")
    key: str = Field(description="Its entry's, as `cache show` takes it.")


class DockerObject(JsonModel):
    """An image that holds compiled packages."""

    schema_: SchemaNumber = 1
    origin: Literal["wheelhouse", "index", "build"] = Field(description="Where its wheels come from.")
    variant: str = Field(description="Such as `pt2.13-cu130`; targets that are narrower stand behind it.")
    device: Literal["cuda", "cpu"] = Field(description="What it is for.")
    targets: list[str] = Field(description="What its device code is for; empty for the CPU.")
    torch: str = Field(description="torch's own version; empty where nothing needs it.")
    python: str = Field(description="Such as `3.11`.")
    base: str = Field(description="The image that it is made from.")
    files: list[FileObject] = Field(description="The texts, the Dockerfile first.")
    wheels: list[ImageWheelObject] = Field(description="What lies in `wheelhouse/`; empty for the other origins.")
    folder: str | None = Field(description="Where all of it was written; null without `--out`.")
    notes: list[str] = Field(description="What a person should know, such as the limits of a licence.")
