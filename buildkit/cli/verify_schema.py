"""What ``cudabuild verify --installed --json`` prints, as models: the source of docs/reference/verify.schema.json."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field, TypeAdapter

from buildkit.cli.json_model import EarlyFailure, ErrorObject, JsonModel, SchemaNumber, open_schema
from buildkit.verify.installed import Kind, Severity
from buildkit.verify.verdict import Verdict


class DeviceObject(JsonModel):
    """A GPU that packages were judged for."""

    name: str = Field(description="The driver's name for it, or what was typed after `--gpu`.")
    capability: str = Field(description="Compute capability, such as `12.0`.")
    stated: bool = Field(description="Whether it was named by `--gpu`; else it is visible here.")


class EnvironmentObject(JsonModel):
    """What the packages were judged against."""

    prefix: str = Field(description="The environment's folder.")
    torch: str = Field(description="Torch's own version, as version.py says it.")
    cuda: str | None = Field(description="The CUDA release that torch is built with; null for a CPU-only torch.")
    driver: str | None = Field(description="The GPU driver's version; null where there is none.")
    gpus: list[DeviceObject] = Field(description="The GPUs that device code was judged for.")


class CodeObject(JsonModel):
    """What one GPU makes of a package's device code."""

    gpu: str = Field(description="The GPU's name.")
    capability: str = Field(description="Its compute capability.")
    stated: bool = Field(description="Whether it was named by `--gpu`.")
    by: Literal["sass", "ptx-jit", "none"] = Field(
        description="`sass`: machine code. `ptx-jit`: the driver compiles PTX first. `none`: nothing in it runs there."
    )
    held: str = Field(description="All that the package holds, such as `sm_86, PTX of 8.6`.")
    lacking: list[str] = Field(description="Translation units that hold no code for it.")


class FindingObject(JsonModel):
    """One thing that is wrong, or worth knowing."""

    kind: Kind = Field(description="What it is; for scripts to match on.")
    severity: Severity = Field(description="`error` makes the exit code 9; `warning` and `note` do not.")
    what: str = Field(min_length=1, description="In one sentence.")
    evidence: str = Field(description="What shows it; can be empty.")
    command: str = Field(description="The command that mends it, quoted for a shell; can be empty.")


class InstalledObject(JsonModel):
    """One compiled package, or something that was left of one."""

    schema_: SchemaNumber
    name: str
    version: str = Field(description="As its metadata says it; empty where there is none.")
    recipe: str = Field(description="The recipe that builds it; empty where there is none.")
    code: list[CodeObject] = Field(description="For each GPU what its device code is worth there.")
    findings: list[FindingObject]
    verdict: Verdict | None = Field(description="Its stages `audit`, `import`, `probe`, `app`; null for leftovers.")
    environment: EnvironmentObject | None = Field(None, description="Only where there is a single result.")
    error: ErrorObject | None = Field(None, description="Only there after a failure: the first finding that is one.")


class InstalledObjects(JsonModel):
    """No package, or several."""

    schema_: SchemaNumber
    environment: EnvironmentObject
    results: list[InstalledObject]


InstalledAnswer = InstalledObject | InstalledObjects | EarlyFailure
INSTALLED: TypeAdapter[InstalledAnswer] = TypeAdapter(InstalledAnswer)


def installed_schema_text() -> str:
    """The schema as docs/reference/verify.schema.json holds it."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cudabuild verify --installed --json, schema 1",
        **open_schema(INSTALLED.json_schema(by_alias=True, mode="validation")),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
