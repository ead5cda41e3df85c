"""What ``cudabuild cache gc|export|import --json`` prints, as models: the source of docs/reference/json.md's part."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from buildkit.build.clear_cache import Cleared, usage
from buildkit.build.exchange import Exported, Import, Outcome
from buildkit.cli.json_model import JsonModel, SchemaNumber
from buildkit.cli.output import SCHEMA


class KindObject(JsonModel):
    """One kind of things in the cache."""

    kind: str = Field(
        description="`wheel`; `copy` (a wheel handed out under its name); `record` (record, trace and log of a build "
        "whose wheel is not stored); `build` (the folder of a failed build, or of a running one); `environment`, "
        "`torch`, `toolkit`, `source`, `download`; `uv` (uv's cache); `leftover`; `other` (never cleared)."
    )
    count: int = Field(ge=0, description="How many there were.")
    size: int = Field(ge=0, description="Bytes on the disk that they took. Files that two kinds share count in both.")
    removed: int = Field(ge=0, description="How many went, or would go.")
    freed: int = Field(ge=0, description="Bytes that became free by it.")


class RemovedObject(JsonModel):
    """A part of the cache that went, or would go."""

    kind: str = Field(description="As above.")
    name: str = Field(description="A wheel's file name, a folder's name, a build's id.")
    path: str = Field(description="Where it lay.")
    freed: int = Field(ge=0, description="Bytes that became free by it.")
    why: str = Field(description="In words.")


class KeptObject(JsonModel):
    """A part of the cache that might have gone and stays."""

    kind: str = Field(description="As above.")
    name: str = Field(description="As above.")
    why: str = Field(description="In words: in use by a process, pinned, among the newest.")


class GcObject(JsonModel):
    """What `cache gc` did, or with `--dry-run` would do."""

    schema_: SchemaNumber = 1
    cache: str = Field(description="The cache's folder.")
    dry_run: bool = Field(description="Whether nothing was changed.")
    before: int = Field(ge=0, description="Bytes on the disk that the cache took.")
    after: int = Field(ge=0, description="Bytes that it takes now.")
    fits: bool = Field(description="Whether that is within `--max-size`; true without it.")
    kinds: list[KindObject] = Field(description="What there was, by kind.")
    removed: list[RemovedObject] = Field(description="What went, with why.")
    kept: list[KeptObject] = Field(description="What might have gone and stays, with why.")


class ExportObject(JsonModel):
    """What `cache export` wrote."""

    schema_: SchemaNumber = 1
    path: str = Field(description="The folder or archive.")
    wheels: list[str] = Field(description="File names.")
    entries: int = Field(ge=0, description="Keys under which they are stored.")
    releases: int = Field(ge=0, description="Names under which an index shows them.")
    signed: bool = Field(description="Whether the manifest is signed with this user's key.")
    left: list[str] = Field(description="What to know of wheels that were left out, or are not for everybody.")


class ImportedObject(JsonModel):
    """What became of one wheel of an export."""

    filename: str = Field(description="Its name.")
    outcome: Outcome = Field(description="`imported`, `there` (nothing was changed), `refused`.")
    why: str = Field(description="Why it was refused; else empty.")


class ImportObject(JsonModel):
    """What `cache import` took in."""

    schema_: SchemaNumber = 1
    signer: str | None = Field(description="The trusted key that signed it; null: all of it is proven again here.")
    wheels: list[ImportedObject] = Field(description="In the order in which they came.")


class KeyObject(JsonModel):
    """What `cache key new` and `show` print."""

    schema_: SchemaNumber = 1
    key: str = Field(description="The public key, for `trusted-keys` elsewhere.")
    path: str = Field(description="The file with the private key.")


def export_object(exported: Exported) -> ExportObject:
    """Everything that ``cache export`` tells."""
    return ExportObject(
        schema_=SCHEMA,
        path=str(exported.path),
        wheels=sorted(exported.manifest.files),
        entries=len(exported.manifest.entries),
        releases=len(exported.manifest.releases),
        signed=exported.signed,
        left=list(exported.left),
    )


def import_object(found: Import) -> ImportObject:
    """Everything that ``cache import`` tells."""
    wheels = [ImportedObject(filename=each.filename, outcome=each.outcome, why=each.why) for each in found.wheels]
    return ImportObject(schema_=SCHEMA, signer=found.signer or None, wheels=wheels)


def gc_object(cache: Path, cleared: Cleared, *, max_size: int | None, dry_run: bool) -> GcObject:
    """Everything that ``cache gc`` tells."""
    return GcObject(
        schema_=SCHEMA,
        cache=str(cache),
        dry_run=dry_run,
        before=cleared.before,
        after=cleared.after,
        fits=max_size is None or cleared.after <= max_size,
        kinds=[_kind(kind, count, size, cleared) for kind, (count, size) in usage(cleared.items).items()],
        removed=[
            RemovedObject(kind=item.kind, name=item.name, path=str(item.paths[0]), freed=freed, why=why)
            for item, why, freed in cleared.removed
            if item.paths
        ],
        kept=[KeptObject(kind=item.kind, name=item.name, why=why) for item, why in cleared.kept],
    )


def _kind(kind: str, count: int, size: int, cleared: Cleared) -> KindObject:
    freed = [freed for item, _why, freed in cleared.removed if item.kind == kind]
    return KindObject(kind=kind, count=count, size=size, removed=len(freed), freed=sum(freed))
