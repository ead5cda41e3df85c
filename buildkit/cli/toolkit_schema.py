"""What ``cudabuild toolkit --json`` prints, as models: the source of its part of docs/reference/json.md."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from buildkit.build.context import Context
from buildkit.build.toolkit_list import Listed, list_toolkits, unfinished
from buildkit.cli.json_model import JsonModel, SchemaNumber
from buildkit.cli.output import SCHEMA
from buildkit.machine.installable import installable


class ToolkitObject(JsonModel):
    """A CUDA toolkit that is here."""

    release: str = Field(description="Such as `12.8`.")
    version: str | None = Field(description="Its nvcc's, such as `12.8.93`; null where that does not run.")
    path: str = Field(description="Where it lies.")
    origin: str = Field(
        description="How it was found: a variable, a place; `archives` or `wheels` for cudabuild's own."
    )
    made: bool = Field(description="Whether cudabuild installed it, and `uninstall` takes it away.")
    complete: bool = Field(description="Whether extensions can be built with it as it is.")
    missing: list[str] = Field(description="Headers that it lacks and torch's own headers include.")
    problem: str | None = Field(description="What is wrong with its files: the next build, or `install`, replaces it.")


class InstallableObject(JsonModel):
    """A release that `toolkit install` can bring."""

    release: str = Field(description="Such as `12.8`.")
    origin: Literal["archives", "wheels"] = Field(description="From NVIDIA's archives, or from the package index.")
    versions: list[str] = Field(description="Its versions, the newest first; empty for wheels.")
    installed: bool = Field(description="Whether cudabuild has installed it here.")
    downloaded: int = Field(ge=0, description="Bytes that an installation that was ended has left to go on with.")


class ToolkitsObject(JsonModel):
    """What there is of CUDA toolkits."""

    schema_: SchemaNumber = 1
    toolkits: list[ToolkitObject] = Field(description="Those here, in the order in which builds prefer them.")
    installable: list[InstallableObject] = Field(description="Those that can be installed, newest first.")
    notes: list[str] = Field(
        description="Places that should hold a toolkit and do not, and a cache that cannot be read."
    )


class InstalledToolkitObject(JsonModel):
    """What `toolkit install` brought."""

    schema_: SchemaNumber = 1
    release: str = Field(description="Such as `12.8`.")
    version: str = Field(description="Its nvcc's, such as `12.8.93`.")
    path: str = Field(description="What CUDA_HOME has to be.")


class RemovedToolkitObject(JsonModel):
    """What `toolkit uninstall` took away."""

    schema_: SchemaNumber = 1
    release: str = Field(description="Such as `12.8`.")
    freed: int = Field(ge=0, description="Bytes.")


def toolkits_object(context: Context) -> ToolkitsObject:
    """Everything that ``toolkit list`` tells."""
    notes: list[str] = []
    here = list_toolkits(context, notes)
    made = {each.release for each in here if each.made}
    left = unfinished(context, notes)
    return ToolkitsObject(
        schema_=SCHEMA,
        toolkits=[_toolkit(each) for each in here],
        installable=[
            InstallableObject(
                release=each.release,
                origin=each.origin,
                versions=list(each.versions),
                installed=each.release in made,
                downloaded=left.get(each.release, 0),
            )
            for each in installable()
        ],
        notes=notes,
    )


def _toolkit(listed: Listed) -> ToolkitObject:
    return ToolkitObject(
        release=listed.release,
        version=listed.version or None,
        path=str(listed.path),
        origin=listed.origin,
        made=listed.made,
        complete=listed.complete,
        missing=list(listed.missing),
        problem=listed.problem or None,
    )
