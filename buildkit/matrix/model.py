"""``[matrix]`` of a cudabuild.toml, as a person writes it. Pure, but for :func:`load_matrix`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from buildkit.errors import ConfigError, CudabuildError
from buildkit.machine.arch import parse_targets
from buildkit.matrix.github_settings import GithubSettings
from buildkit.plan.request import BuiltFor, Requirement, parse_torch
from buildkit.recipe.conditions import Comparison, Condition, parse_condition
from buildkit.recipe.fields import Duration, Line, Size
from buildkit.recipe.problems import Location, Problem, located, shown_path
from buildkit.recipe.suggest import did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "cudabuild.toml"
TABLE = "matrix"
DEFAULT_SET = "default"
"""The key of the target sets that go with every CUDA that has none of its own."""

_EXAMPLE = """for example: [matrix] recipes = ["NAME"], torch = ["2.13.0+cu130"], targets = ["8.6;9.0", "12.0"]"""


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _torch(value: str) -> str:
    if value.strip() == "active":
        raise ValueError("a matrix names its torch: write 2.13.0+cu130, or 2.13.0 with its CUDA under cuda")
    try:
        return parse_torch(value)
    except ValueError:
        raise ValueError(f"{value!r} is no torch version: write 2.13.0 or 2.13.0+cu130") from None


def _target_set(value: str) -> str:
    try:
        parse_targets([value])
    except CudabuildError as error:
        if value.strip().lower() in {"native", "all"}:
            text = f"{value!r} differs from machine to machine: name the targets, such as '8.6;12.0+PTX'"
            raise ValueError(text) from None
        raise ValueError(f"{error.message}; {error.hint}" if error.hint else error.message) from None
    return value.strip()


def _by_cuda(value: Any) -> Any:
    """A plain list goes with every CUDA."""
    return {DEFAULT_SET: value} if isinstance(value, (list, tuple)) else value


def _condition(value: str) -> str:
    try:
        condition = parse_condition(value)
    except CudabuildError as error:
        raise ValueError(error.message) from None
    if "gcc" in set(_variables(condition)):
        raise ValueError("gcc cannot stand in a matrix: its cells are built on machines with another one each")
    return value


def _variables(condition: Condition) -> Iterable[str]:
    if isinstance(condition, Comparison):
        yield condition.variable
        return
    for part in condition.parts:
        yield from _variables(part)


def _cuda_key(value: str) -> str:
    if value != DEFAULT_SET and not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?", value):
        raise ValueError(f"{value!r} is neither a CUDA release such as '12.8' nor {DEFAULT_SET!r}")
    return value


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=400)]
Torch = Annotated[Text, AfterValidator(_torch)]
Cuda = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,3}\.[0-9]{1,3}$")]
Python = Annotated[str, StringConstraints(pattern=r"^3\.[0-9]{1,3}$")]
Platform = Literal["linux_x86_64", "linux_aarch64"]
TargetSet = Annotated[Text, AfterValidator(_target_set)]
TargetSets = Annotated[
    dict[Annotated[str, AfterValidator(_cuda_key)], Annotated[tuple[TargetSet, ...], Field(min_length=1)]],
    BeforeValidator(_by_cuda),
]
When = Annotated[Line, AfterValidator(_condition)]
Gpu = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]*$", max_length=100)]


class Table(BaseModel):
    """A table of the file: frozen, unknown keys refused, keys written with dashes."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=_dashed)


class Axes(Table):
    """What is combined with what: each of the lists with each of the others."""

    recipes: tuple[Text, ...] = Field(
        (),
        description="What is built: `NAME`, `NAME==VERSION`, `NAME==*` (every version of the recipe), `./FOLDER` "
        "(relative to the file) or `pypi:NAME==VERSION`.",
    )
    torch: tuple[Torch, ...] = Field(
        (), description="Torch releases, with their CUDA (`2.13.0+cu130`) or without (`2.13.0`)."
    )
    cuda: tuple[Cuda, ...] = Field(
        (),
        description="CUDA releases for the torches that name none (`13.0`); empty: that of PyTorch's default wheel.",
    )
    python: tuple[Python, ...] = Field((), description="Pythons (`3.11`); empty: the one of the active environment.")
    targets: TargetSets = Field(
        {},
        description="Target sets, a wheel for each: a list (`['8.6;9.0', '12.0']`), or a table of such lists by CUDA "
        "(`'12.8'`, `'13'`, `default`); empty: the declared set of torch's CUDA.",
    )
    platforms: tuple[Platform, ...] = Field((), description="`linux_x86_64`, `linux_aarch64`; empty: this machine's.")
    device: BuiltFor | None = Field(None, description="`cuda` (default) or `cpu`.")


class Rule(Table):
    """Which cells it is about: all that is given must hold; nothing given: every cell."""

    when: When = Field(
        "", description="Condition over torch, cuda, python, version and device, as a patch's in a recipe."
    )
    recipes: tuple[Text, ...] = Field((), description="Only cells of these, as they stand in the matrix.")
    targets: tuple[TargetSet, ...] = Field((), description="Only cells with one of these target sets.")
    platforms: tuple[Platform, ...] = Field((), description="Only cells of these.")


class Exclude(Rule):
    """Cells that are left out."""

    reason: Line = Field("", description="Why; shown beside what was dropped.")


class Override(Rule):
    """Settings of some cells; later ones win."""

    memory: Size | None = Field(None, description="Memory that the build may use, such as '8 GiB'.")
    timeout: Duration | None = Field(None, description="Longest time for the build, such as '2 h'.")
    device: BuiltFor | None = Field(None, description="`cpu`: built for the CPU.")
    require: Requirement | None = Field(None, description="Grade under which the cell fails.")
    gpu: Gpu | None = Field(
        None, description="GPU that the proof needs, as the cluster names its types; empty for any."
    )


class Matrix(Axes):
    """The table `[matrix]`: its axes, and what is added, left out and set otherwise."""

    recipes: tuple[Text, ...] = Field(min_length=1, description=Axes.model_fields["recipes"].description)
    torch: tuple[Torch, ...] = Field(min_length=1, description=Axes.model_fields["torch"].description)
    require: Requirement | None = Field(
        None, description="Grade under which a cell fails; unset: as for `cudabuild build`. `executed` needs a GPU."
    )
    include: tuple[Axes, ...] = Field(
        (), description="More cells: axes that are not given are the matrix's. See below."
    )
    exclude: tuple[Exclude, ...] = Field((), description="Cells that are left out. See below.")
    override: tuple[Override, ...] = Field((), description="Settings of some cells. See below.")
    github: GithubSettings = Field(
        default_factory=GithubSettings, description="What `cudabuild matrix github` writes a workflow from. See below."
    )


def load_matrix(file: Path, *, settings: Path | None = None) -> Matrix:
    """Read ``[matrix]`` of a file. Raises ConfigError with every problem, each with its line and key.

    ``settings``: the person's configuration file; if this is it, other tables are that's, else they are refused.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        hint = f"write one ({_EXAMPLE}), or name another with --file"
        raise ConfigError(f"{shown_path(file)}: there is no such file", evidence=str(error), hint=hint) from None
    except (OSError, UnicodeDecodeError) as error:
        hint = f"check `ls -l {shown_path(file)}`"
        raise ConfigError(f"{shown_path(file)}: cannot be read", evidence=str(error), hint=hint) from error
    return parse_matrix(text, file, others=settings is not None and settings.resolve() == file.resolve())


def parse_matrix(text: str, file: Path, *, others: bool = False) -> Matrix:
    """The same for what the file holds. ``others``: whether anything may stand beside the table."""
    shown = shown_path(file)
    try:
        document = tomllib.loads(text)
    except ValueError as error:
        raise ConfigError(f"{shown}: not valid TOML: {error}", hint=_EXAMPLE) from error
    foreign = sorted(document.keys() - {TABLE})
    if foreign and not others:
        near = did_you_mean(foreign[0], [TABLE])
        text = f"{shown}: {foreign[0]} does not belong here{near}"
        raise ConfigError(text, hint="this file holds [matrix]; settings belong into the configuration file")
    if not isinstance(document.get(TABLE), dict):
        raise ConfigError(f"{shown}: there is no table [{TABLE}] in it", hint=_EXAMPLE)
    try:
        return Matrix.model_validate(document[TABLE])
    except ValidationError as error:
        said = located(file, text, problems_in(error))
    message = said[0] if len(said) == 1 else "\n".join([f"{shown}: {len(said)} problems", *said])
    raise ConfigError(message, hint="see docs/reference/matrix.md; then `cudabuild matrix show`")


def problems_in(error: ValidationError) -> tuple[Problem, ...]:
    """Pydantic's errors in our words, one for each place."""
    found: dict[Location, str] = {}
    for item in error.errors(include_url=False):
        location = (TABLE, *(part for part in item["loc"] if part != "[key]"))
        found.setdefault(location, _in_words(location, item))
    # A list whose only item is wrong is not empty.
    inner = {location[:-depth] for location in found for depth in range(1, len(location))}
    return tuple(Problem(location, text) for location, text in found.items() if location not in inner)


_SIMPLE = {
    "missing": "is missing",
    "string_type": "must be a text in quotes",
    "string_too_short": "must not be empty",
    "tuple_type": 'must be a list, such as ["one", "two"]',
    "too_short": "must not be empty",
    "dict_type": "must be a list, or a table of lists by CUDA",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
}


def _in_words(location: Location, item: Any) -> str:
    kind, value = item["type"], item["input"]
    if kind == "extra_forbidden":
        known = _keys(location[1:-1])
        return f"unknown key{did_you_mean(str(location[-1]), known)} (known here: {', '.join(known)})"
    if kind == "tuple_type" and location[-1] in {"include", "exclude", "override"}:
        return f"must be a list of tables: write [[{'.'.join(map(str, location))}]]"
    if kind == "value_error":
        return str(item["ctx"]["error"])
    if kind == "literal_error":
        choices = re.findall(r"[a-z][a-z0-9_]+", item["ctx"]["expected"].replace(" or ", ","))
        return f"{value!r} is not one of {', '.join(choices)}{did_you_mean(str(value), choices)}"
    if kind == "string_pattern_mismatch":
        return f"{value!r} is not written as {_SHAPES.get(str(location[1]), 'letters, digits and . _ -')}"
    return _SIMPLE.get(kind, str(item["msg"]))


_SHAPES = {"cuda": "a CUDA release such as '13.0'", "python": "a Python such as '3.11'"}


def _keys(location: Location) -> list[str]:
    """The keys of the table at a place below ``[matrix]``."""
    model: type[BaseModel] = Matrix
    for part in location:
        field = model.model_fields.get(str(part))
        types = (field.annotation, *get_args(field.annotation)) if field else ()
        inner = [one for one in types if isinstance(one, type)]
        model = next((one for one in inner if issubclass(one, BaseModel)), model)
    return [field.alias or name for name, field in model.model_fields.items()]
