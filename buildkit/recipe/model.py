"""What a recipe says: how to get, build and prove one package (``recipe.toml``, edition 1).

The one source of the reader, the JSON schema and the reference page. Unknown keys are refused, values are
frozen. What concerns several keys or files is checked by :mod:`buildkit.recipe.checks`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from buildkit.recipe.fields import (
    GIT_URL_PATTERN,
    PROJECT_PATTERN,
    REV_PATTERN,
    SHA256_PATTERN,
    Duration,
    Environment,
    Flag,
    Inside,
    Line,
    Module,
    Name,
    NativeName,
    PackageName,
    Pattern,
    Proof,
    Requirement,
    Size,
    Variable,
    VersionText,
)

EDITION = 1


def _dashed(name: str) -> str:
    return name.replace("_", "-")


class Section(BaseModel):
    """A table of the file: frozen, unknown keys refused, keys written with dashes."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=_dashed, defer_build=True)


class License(Section):
    """Under which terms the package stands."""

    spdx: Line = Field(min_length=1, description="SPDX expression, or LicenseRef-... where SPDX has no name for it.")
    redistributable: bool = Field(
        strict=True,
        description="Whether its wheels may be passed on for any use. false where the terms forbid it or bind it to a "
        "purpose (non-commercial); said out loud with each build.",
    )

    @property
    def notice(self) -> str:
        """What has to be said out loud with a build of it; empty for terms without such a limit."""
        if self.redistributable:
            return ""
        purpose = "for non-commercial use only" if "-NC" in self.spdx.upper() else "read its terms before use"
        return f"licence {self.spdx}: {purpose}; do not pass the wheel on without checking"


def _source_shape(needed: list[str], excluded: list[str]) -> dict[str, Any]:
    """The JSON schema of a version with one kind of source, as :meth:`Version._one_source` checks it."""
    return {"required": needed, "not": {"anyOf": [{"required": [key]} for key in excluded]}}


class Version(Section):
    """One version and its source: exactly one of git, sdist and folder. The first version is the default."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                _source_shape(["git", "rev"], ["sdist", "folder", "sha256"]),
                _source_shape(["sdist", "sha256"], ["git", "folder", "rev", "submodules"]),
                _source_shape(["folder"], ["git", "sdist", "rev", "sha256", "submodules"]),
            ]
        }
    )

    version: VersionText = Field(description="The version that the built wheel must have, without a local part.")
    git: str | None = Field(None, pattern=GIT_URL_PATTERN, description="Repository to clone, https or ssh.")
    rev: str | None = Field(None, pattern=REV_PATTERN, description="Full commit id; needed with git.")
    submodules: bool = Field(False, strict=True, description="Whether the submodules are needed; only with git.")
    subdirectory: Inside = Field(".", description="Folder inside the source that holds pyproject.toml or setup.py.")
    sdist: str | None = Field(
        None, pattern=PROJECT_PATTERN, description="Project whose source distribution is taken from the package index."
    )
    sha256: str | None = Field(
        None, pattern=SHA256_PATTERN, description="Hash of the source distribution; needed with sdist."
    )
    folder: str | None = Field(
        None, min_length=1, description="Folder on this disk, relative to the recipe's folder or absolute."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Version:
        given = [kind for kind in ("git", "sdist", "folder") if getattr(self, kind) is not None]
        if len(given) != 1:
            said = f"it has {' and '.join(given)}" if given else "it has none"
            raise ValueError(f"a version needs exactly one of git, sdist and folder; {said}")
        (kind,) = given
        needed = {"git": "rev", "sdist": "sha256"}.get(kind)
        if needed is not None and getattr(self, needed) is None:
            raise ValueError(f"{kind} needs {needed} beside it")
        foreign = {"git": ("sha256",), "sdist": ("rev", "submodules"), "folder": ("rev", "submodules", "sha256")}[kind]
        if set_too := [key for key in foreign if key in self.model_fields_set]:
            raise ValueError(f"{' and '.join(set_too)} cannot stand beside {kind}")
        return self


class Rewrite(Section):
    """Text that is replaced wherever it stands, whatever the lines around it are: for what many versions share."""

    files: tuple[Inside, ...] = Field(min_length=1, description="Globs of the files, such as `**/*.cu`.")
    find: Pattern = Field(description="Regular expression (Python's) for what is replaced; `^` and `$` are of a line.")
    replace: Line = Field(description="What stands there instead, as it is (groups are not filled in).")


class Patch(Section):
    """What of the source has to be changed: exactly one of file and rewrite. One that the source does not need any
    more is reported, and is no failure; a diff that does not fit is one."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["file"]}, {"required": ["rewrite"]}]})

    file: Inside | None = Field(
        None, description="A unified diff (paths a/... and b/...), relative to the recipe's folder."
    )
    rewrite: Rewrite | None = Field(
        None,
        description="Text to replace wherever it stands.",
    )
    when: Line = Field(
        "", description="Condition over torch, cuda, python, gcc, version and device; empty: always applied."
    )
    reason: Line = Field(min_length=1, description="What would happen without it, in one sentence.")
    link: Line = Field("", description="Where the problem is reported or fixed upstream.")

    @model_validator(mode="after")
    def _one_form(self) -> Patch:
        if (self.file is None) == (self.rewrite is None):
            said = "it has none" if self.file is None else "it has both"
            raise ValueError(f"a patch needs exactly one of file and rewrite; {said}")
        return self

    @property
    def label(self) -> str:
        """What it is called where people read of it."""
        if self.rewrite is not None:
            return f"rewrite of {', '.join(self.rewrite.files)}"
        return (self.file or "").rpartition("/")[2]


class ConditionalEnvironment(Section):
    """Variables that some builds need."""

    when: Line = Field(min_length=1, description="Condition, as a patch's.")
    env: Environment = Field(description="Set where it holds; later ones win.")


class BuildSection(Section):
    """What the build needs, and how much."""

    torch: bool = Field(
        True,
        strict=True,
        description="Whether it is a PyTorch extension. false: a CUDA package that knows nothing of torch; no torch is "
        "in its environment, key, local version or requirements, and one wheel serves beside any.",
    )
    requires: tuple[Requirement, ...] = Field(
        (), description="Build requirements that the package does not declare itself, beside the builder's own."
    )
    config_settings: dict[Line, str | list[str] | Flag] = Field(
        default_factory=dict, description="Settings for the build backend, as pip's --config-settings."
    )
    memory_per_unit: Size = Field(
        2_684_354_560,
        description="Peak memory of one compiler invocation with all its children.",
        json_schema_extra={"default": "2.5 GiB"},
    )
    seconds_per_unit: int = Field(
        40, gt=0, le=86_400, strict=True, description="Seconds of one compiler invocation; for the estimate only."
    )
    timeout: Duration = Field(
        1_800,
        description="Wall-clock limit of the build, from the backend's start.",
        json_schema_extra={"default": "30 min"},
    )
    cpu: bool = Field(
        True,
        strict=True,
        description="Whether it has a form for the CPU. false: `--device cpu` is refused, and `--device auto` never "
        "falls back to it.",
    )
    env: Environment = Field(default_factory=dict, description="Environment of every build.")
    env_cuda: Environment = Field(default_factory=dict, description="Added to env when CUDA is asked for.")
    env_cpu: Environment = Field(default_factory=dict, description="Added to env for a CPU-only build.")
    env_when: tuple[ConditionalEnvironment, ...] = Field((), description="Added to these where a condition holds.")
    pass_env: tuple[Variable, ...] = Field(
        (), description="Variables of the caller's environment that the build may see; each becomes part of the key."
    )

    def environment(self, device: str) -> dict[str, str]:
        """The variables that a build for ``device`` (``cuda`` or ``cpu``) sets under no condition."""
        return {**self.env, **(self.env_cuda if device == "cuda" else self.env_cpu)}


class SystemSection(Section):
    """What has to be installed on the machine, checked before anything is fetched."""

    headers: tuple[NativeName, ...] = Field((), description="Headers that must be found, as in #include.")
    libraries: tuple[NativeName, ...] = Field((), description="Libraries that must be found, as after -l.")
    apt: tuple[PackageName, ...] = Field((), description="Debian packages that bring them.")
    dnf: tuple[PackageName, ...] = Field((), description="Fedora packages that bring them.")
    conda: tuple[PackageName, ...] = Field((), description="conda packages that bring them.")


class RuntimeSection(Section):
    """What the installed package needs."""

    requires: tuple[Requirement, ...] = Field((), description="Requirements that the package has and does not declare.")
    apt: tuple[PackageName, ...] = Field(
        (),
        description="Debian packages that it needs where it runs; by default those of [system], where that names "
        "libraries.",
    )
    driver: bool = Field(
        False,
        strict=True,
        description="Whether it is linked to the GPU driver's own library (libcuda.so.1), so that it cannot be "
        "imported where there is no driver, such as while an image is built.",
    )


class VerifySection(Section):
    """What proves that the wheel is whole."""

    imports: tuple[Module, ...] = Field((), description="Modules that must import in a clean environment.")
    cuda_proof: tuple[Proof, ...] = Field(
        (), description="'module:attribute' that exists in a CUDA build only (or makes the import fail without CUDA)."
    )
    cuda_objects: tuple[Inside, ...] = Field(
        (),
        description="Globs of shared objects in the wheel that must hold device code. By default at least one must; "
        "each that holds any holds all targets.",
    )
    probe: Inside | None = Field(
        None,
        description="Functional test, relative to the recipe's folder: its `checks(device, tools)` yields what was "
        "expected and what it got; see below.",
    )


# Validated like what a person writes: constructing each section by itself would build its validator once more.
_EMPTY: Any = {}


class Recipe(Section):
    """How to get, build and prove one package."""

    edition: Literal[1] = Field(description="Edition of this format: 1.")
    name: Name = Field(description="The recipe's name, the same as its folder's.")
    summary: Line = Field(min_length=1, description="What the package is, in one line.")
    license: License = Field(description="Under which terms the package stands.")
    status: Literal["confirmed", "unconfirmed"] = Field(
        "unconfirmed", description="confirmed: a build and proof of it has been recorded. unconfirmed: none has."
    )
    versions: tuple[Version, ...] = Field(
        alias="version", min_length=1, description="The versions that can be built; the first is the default."
    )
    patches: tuple[Patch, ...] = Field((), alias="patch", description="Diffs that the source needs, in this order.")
    build: BuildSection = Field(_EMPTY, validate_default=True, description="What the build needs, and how much.")
    system: SystemSection = Field(_EMPTY, validate_default=True, description="What the machine must have installed.")
    runtime: RuntimeSection = Field(_EMPTY, validate_default=True, description="What the installed package needs.")
    verify: VerifySection = Field(_EMPTY, validate_default=True, description="What proves that the wheel is whole.")
