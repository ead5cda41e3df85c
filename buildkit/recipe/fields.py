"""The texts and numbers that a recipe is made of: patterns, what they mean to people, and their types.

Texts that reach a command line have a pattern (ASCII: Unicode classes take the validator 10 ms to compile).
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, WithJsonSchema

from buildkit.recipe.quantities import DURATION_PATTERN, SIZE_PATTERN, parse_duration, parse_size

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]*$"
VERSION_PATTERN = r"^[0-9][0-9A-Za-z.+!_-]*$"
# Nothing here may begin with a dash: git would take it for an option of ssh.
_USER, _HOST = "[A-Za-z0-9_][A-Za-z0-9_.-]*", "[A-Za-z0-9][A-Za-z0-9.-]*"
GIT_URL_PATTERN = (
    f"^(https://{_HOST}(:[0-9]+)?/[!-?A-~]+|ssh://({_USER}@)?{_HOST}(:[0-9]+)?/[!-~]+|{_USER}@{_HOST}:[!-,.-~][!-~]*)$"
)
REV_PATTERN = r"^([0-9a-f]{40}|[0-9a-f]{64})$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
PROJECT_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
REQUIREMENT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]* ?(\[[A-Za-z0-9._, -]*\])? ?([<>=!~;][ -~]*)?$"
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
MODULE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$"
PROOF_PATTERN = r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*$"
HEADER_PATTERN = r"^[A-Za-z0-9_+][A-Za-z0-9_.+/-]*$"
PACKAGE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.+:-]*$"

MEANING = {
    NAME_PATTERN: "a name of small letters, digits, '.', '_' and '-'",
    VERSION_PATTERN: "a version such as 1.2.3",
    GIT_URL_PATTERN: "an https:// or ssh:// URL without a password (for a repository on this disk, give "
    "--source PATH@REV or use folder)",
    REV_PATTERN: "a full commit id, 40 (or 64) hexadecimal digits in small letters: tags, branches and short ids move",
    SHA256_PATTERN: "a SHA-256, 64 hexadecimal digits in small letters",
    PROJECT_PATTERN: "a project's name on a package index",
    REQUIREMENT_PATTERN: "a requirement such as 'ninja' or 'pybind11>=2.10' (no URL)",
    VARIABLE_PATTERN: "the name of an environment variable",
    MODULE_PATTERN: "a module such as 'package._C'",
    PROOF_PATTERN: "written 'module:attribute', such as 'package._C:forward_cuda'",
    HEADER_PATTERN: "a name as it is written in #include or after -l, without < > and blanks",
    PACKAGE_PATTERN: "a package's name",
}

Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=100)]
VersionText = Annotated[str, Field(pattern=VERSION_PATTERN, max_length=100)]
Inside = Annotated[str, Field(min_length=1, max_length=400)]
Requirement = Annotated[str, Field(pattern=REQUIREMENT_PATTERN, max_length=400)]
Variable = Annotated[str, Field(pattern=VARIABLE_PATTERN, max_length=200)]
Module = Annotated[str, Field(pattern=MODULE_PATTERN, max_length=400)]
Proof = Annotated[str, Field(pattern=PROOF_PATTERN, max_length=400)]
NativeName = Annotated[str, Field(pattern=HEADER_PATTERN, max_length=400)]
PackageName = Annotated[str, Field(pattern=PACKAGE_PATTERN, max_length=200)]
Line = Annotated[str, Field(max_length=400)]
Pattern = Annotated[str, Field(min_length=1, max_length=400)]

Flag = Annotated[bool, Field(strict=True)]
Environment = Annotated[dict[Variable, str], Field(json_schema_extra={"additionalProperties": False})]


def fits(kind: Any, text: str) -> bool:
    """Whether a recipe may hold this text where it wants a ``kind``: ``fits(Module, "package._C")``."""
    try:
        _adapter(kind).validate_python(text)
    except ValidationError:
        return False
    return True


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _size(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError("write a size with its unit, in quotes, such as '2.5 GiB'")
    return parse_size(value)


def _duration(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError("write a duration with its unit, in quotes, such as '30 min'")
    return parse_duration(value)


Size = Annotated[int, BeforeValidator(_size), WithJsonSchema({"type": "string", "pattern": SIZE_PATTERN})]
Duration = Annotated[int, BeforeValidator(_duration), WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN})]
