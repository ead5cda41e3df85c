"""The text that ``cudabuild recipes new`` writes: a commented recipe that loads as it is. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from buildkit.errors import UsageError
from buildkit.recipe.fields import Line, Module, Name, Proof, Requirement, Variable, VersionText, fits
from buildkit.recipe.model import EDITION

_PLACEHOLDER_SHA256 = "0" * 64
_PLACEHOLDER_REV = "0" * 40
_LONGEST = 160
"""Characters of a comment that quotes a source."""


@dataclass(frozen=True)
class Setting:
    """A text that goes into the recipe, and the comment that says where it comes from."""

    value: str
    why: str = ""
    name: str = ""


@dataclass(frozen=True)
class Draft:
    """What is known of a package; everything but the name may be left out.

    ``notes`` are comments by the table they stand in: ``license``, ``version``, ``build``, ``env-cuda``,
    ``verify``. Texts may come from anybody's source: what no recipe can hold is left out.
    """

    name: str
    sdist: str | None = None
    sha256: str | None = None
    git: str | None = None
    rev: str | None = None
    submodules: bool = False
    subdirectory: str = "."
    folder: str | None = None
    version: str | None = None
    summary: str | None = None
    spdx: str = "LicenseRef-Unknown"
    modules: tuple[str, ...] = ()
    requires: tuple[Setting, ...] = ()
    env_cuda: tuple[Setting, ...] = (Setting("1", name="FORCE_CUDA"),)
    env_cpu: tuple[Setting, ...] = ()
    proofs: tuple[str, ...] = ()
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def new_recipe_text(
    name: str,
    *,
    sdist: str | None = None,
    sha256: str | None = None,
    git: str | None = None,
    rev: str | None = None,
    version: str = "0.1.0",
    summary: str = "One line: what the package is",
    spdx: str = "LicenseRef-Unknown",
    module: str | None = None,
) -> str:
    """A valid recipe.toml for a package of which no more is known, with a comment for each decision.

    Without ``git`` the source is the source distribution ``sdist`` (default: ``name``). A hash or commit
    that is not given becomes zeros, which load and never match. UsageError for a name no recipe can have.
    """
    return recipe_text(
        Draft(
            name,
            sdist=None if git is not None else sdist or name,
            sha256=sha256,
            git=git,
            rev=rev,
            version=version,
            summary=summary,
            spdx=spdx,
            modules=() if module is None else (module,),
        )
    )


def recipe_text(draft: Draft) -> str:
    """The recipe of a draft. UsageError for a name no recipe can have."""
    name = draft.name
    if not fits(Name, name):
        fitting = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")[:100] or "NAME"
        raise UsageError(
            f"{name!r} is no recipe's name: small letters, digits, '.', '_' and '-' only, and no more than 100",
            hint=f"cudabuild recipes new {fitting}",
        )
    modules = [one for one in draft.modules if fits(Module, one)] or [importable(name)]
    guesses = [f"{one}._C:something_cuda" for one in (modules[0], importable(name))]
    proofs = [one for one in draft.proofs if fits(Proof, one)] or [one for one in guesses if fits(Proof, one)][:1]
    version = draft.version if draft.version and fits(VersionText, draft.version) else None
    return _TEMPLATE.format(
        edition=EDITION,
        name=_text(name),
        summary=_text(_line(draft.summary or "") or "One line: what the package is"),
        license_notes=_comments(draft, "license"),
        spdx=_text(draft.spdx if draft.spdx and fits(Line, draft.spdx) else "LicenseRef-Unknown"),
        version_notes=_comments(draft, "version"),
        version=_text(version or "0.1.0"),
        version_hint="" if version else "   # replace: the source does not say it; the built wheel must have it",
        source=_source(draft),
        build_notes=_comments(draft, "build"),
        requires=_requires(draft.requires),
        env_notes=_comments(draft, "env-cuda"),
        env_cuda=_environment(draft.env_cuda) or '# FORCE_CUDA = "1"\n',
        env_cpu=f"\n[build.env-cpu]   # what keeps CUDA out of the build\n{cpu}"
        if (cpu := _environment(draft.env_cpu))
        else "",
        verify_notes=_comments(draft, "verify"),
        modules=", ".join(map(_text, modules)),
        proof=", ".join(map(_text, proofs)),
    )


def importable(name: str) -> str:
    """The module that a package of this recipe's name most likely is."""
    module = re.sub(r"[^a-z0-9_]", "_", name)
    return f"_{module}" if module[0].isdigit() else module


def _text(value: str) -> str:
    """As a TOML basic string; JSON's escapes are a subset of TOML's."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _line(text: str) -> str:
    """One line that a recipe may hold and a terminal can show."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(plain.split())[:_LONGEST]


def _comments(draft: Draft, table: str) -> str:
    return "".join(f"# {_line(note)}\n" for note in draft.notes.get(table, ()))


def _source(draft: Draft) -> str:
    if draft.folder is not None:
        return f"folder = {_text(draft.folder)}\n{_subdirectory(draft)}"
    if draft.git is not None:
        return _git(draft)
    hint = "" if draft.sha256 else "   # replace: the hash that the package index lists for the .tar.gz"
    return f"sdist = {_text(draft.sdist or draft.name)}\nsha256 = {_text(draft.sha256 or _PLACEHOLDER_SHA256)}{hint}"


def _git(draft: Draft) -> str:
    hint = "" if draft.rev else "   # replace: the full commit id, from git ls-remote"
    submodules = "submodules = true" if draft.submodules else "# submodules = true"
    return (
        f"git = {_text(draft.git or '')}\nrev = {_text(draft.rev or _PLACEHOLDER_REV)}{hint}\n"
        f"{submodules}\n{_subdirectory(draft)}"
    )


def _subdirectory(draft: Draft) -> str:
    inside = draft.subdirectory != "."
    return f"subdirectory = {_text(draft.subdirectory)}" if inside else '# subdirectory = "bindings/torch"'


def _requires(wanted: Iterable[Setting]) -> str:
    fitting = [one for one in wanted if fits(Requirement, one.value)]
    if not fitting:
        return "[]"
    lines = (f"  {_text(one.value)},{_why(one)}\n" for one in fitting)
    return f"[\n{''.join(lines)}]"


def _environment(settings: Iterable[Setting]) -> str:
    fitting = {one.name: one for one in settings if fits(Variable, one.name)}
    return "".join(f"{one.name} = {_text(_line(one.value))}{_why(one)}\n" for one in fitting.values())


def _why(setting: Setting) -> str:
    return f"   # {_line(setting.why)}" if setting.why else ""


_TEMPLATE = """\
edition = {edition}
name = {name}
summary = {summary}
{license_notes}# redistributable = false where the terms forbid passing wheels on, or bind it to a purpose.
license = {{ spdx = {spdx}, redistributable = false }}
status = "unconfirmed"   # "confirmed" once a build and proof of it has been recorded

{version_notes}[[version]]   # the first is the default; add more below it
version = {version}{version_hint}
{source}

# [[patch]]
# file = "patches/what-it-does.patch"   # unified diff with a/ and b/ paths, beside this file
# when = "torch >= 2.12"                # over torch, cuda, python, gcc, version, device; leave out: always
# reason = "what fails without it"
# link = "https://..."

{build_notes}[build]
# What setup.py imports and the package does not declare (setuptools, wheel, ninja and pybind11 are there).
requires = {requires}
memory-per-unit = "2.5 GiB"   # one compiler invocation with its children, until there is a measurement
seconds-per-unit = 40
timeout = "30 min"

{env_notes}[build.env-cuda]   # what makes the package compile its CUDA code where no GPU is visible
{env_cuda}{env_cpu}
# [system]
# headers = ["Eigen/Dense"]
# apt = ["libeigen3-dev"]

[runtime]
requires = []   # what the package imports and does not declare

{verify_notes}[verify]
imports = [{modules}]
# What exists only in a CUDA build. Strongly advised: a CPU-only wheel imports just as well.
# cuda-proof = [{proof}]
# probe = "probe.py"   # known answers on the GPU; see docs/how-to/write-a-recipe.md
"""
