"""The text that ``cudabuild recipes new`` writes: a commented recipe that loads as it is. Pure."""

from __future__ import annotations

import json
import re

from buildkit.errors import UsageError
from buildkit.recipe.fields import NAME_PATTERN
from buildkit.recipe.model import EDITION

_PLACEHOLDER_SHA256 = "0" * 64
_PLACEHOLDER_REV = "0" * 40


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
    """A valid recipe.toml for a source distribution or a git repository, with a comment for each decision.

    Without ``git`` the source is the source distribution ``sdist`` (default: ``name``). A hash or commit
    that is not given becomes zeros, which load and never match. UsageError for a name no recipe can have.
    """
    if re.match(NAME_PATTERN, name) is None or name.endswith("\n"):
        raise UsageError(
            f"{name!r} is no recipe's name: small letters, digits, '.', '_' and '-' only",
            hint=f"cudabuild recipes new {re.sub(r'[^a-z0-9._-]+', '-', name.lower()).strip('-._') or 'NAME'}",
        )
    module = module or re.sub(r"[^a-z0-9_]", "_", name)
    source = _git(git, rev) if git is not None else _sdist(sdist or name, sha256)
    return _TEMPLATE.format(
        edition=EDITION,
        name=_text(name),
        summary=_text(summary),
        spdx=_text(spdx),
        version=_text(version),
        source=source,
        module=_text(module if module[0].isalpha() or module[0] == "_" else f"_{module}"),
        proof=_text(f"{module}._C:something_cuda"),
    )


def _text(value: str) -> str:
    """As a TOML basic string; JSON's escapes are a subset of TOML's."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _sdist(project: str, sha256: str | None) -> str:
    hint = "" if sha256 else "   # replace: the hash that the package index lists for the .tar.gz"
    return f"sdist = {_text(project)}\nsha256 = {_text(sha256 or _PLACEHOLDER_SHA256)}{hint}"


def _git(url: str, rev: str | None) -> str:
    hint = "" if rev else "   # replace: the full commit id, from git ls-remote"
    return (
        f"git = {_text(url)}\nrev = {_text(rev or _PLACEHOLDER_REV)}{hint}\n"
        '# submodules = true\n# subdirectory = "bindings/torch"'
    )


_TEMPLATE = """\
edition = {edition}
name = {name}
summary = {summary}
# redistributable = false where the terms forbid passing wheels on, or bind it to a purpose.
license = {{ spdx = {spdx}, redistributable = false }}
status = "unconfirmed"   # "confirmed" once a build and proof of it has been recorded

[[version]]   # the first is the default; add more below it
version = {version}
{source}

# [[patch]]
# file = "patches/what-it-does.patch"   # unified diff with a/ and b/ paths, beside this file
# when = "torch >= 2.12"                # over torch, cuda, python, gcc, version, device; leave out: always
# reason = "what fails without it"
# link = "https://..."

[build]
# What setup.py imports and the package does not declare (setuptools, wheel, ninja and pybind11 are there).
requires = []
memory-per-unit = "2.5 GiB"   # one compiler invocation with its children, until there is a measurement
seconds-per-unit = 40
timeout = "30 min"

[build.env-cuda]   # what makes the package compile its CUDA code where no GPU is visible
FORCE_CUDA = "1"

# [system]
# headers = ["Eigen/Dense"]
# apt = ["libeigen3-dev"]

[runtime]
requires = []   # what the package imports and does not declare

[verify]
imports = [{module}]
# What exists only in a CUDA build. Strongly advised: a CPU-only wheel imports just as well.
# cuda-proof = [{proof}]
# probe = "probe.py"   # known answers on the GPU; see docs/how-to/write-a-recipe.md
"""
