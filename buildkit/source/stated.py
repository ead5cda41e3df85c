"""What a source states of itself: name, version, summary, licence, modules; from metadata, and from setup.py. Pure."""

from __future__ import annotations

import email.parser
import email.policy
import re
import sys
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from buildkit.source.licences import Licence, guess_licence
from buildkit.source.marks import Mark
from buildkit.source.reading import SourceText
from buildkit.source.setup_script import SetupScript

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_VERSION = re.compile(r"^__version__\s*(?::\s*\w+\s*)?=\s*['\"]([^'\"]+)['\"]", re.MULTILINE)
_NOT_MODULES = frozenset(
    {"test", "tests", "example", "examples", "docs", "benchmark", "benchmarks", "scripts", "build"}
)


@dataclass(frozen=True)
class Stated:
    """What is not static is None or empty."""

    name: str | None
    version: str | None
    summary: str | None
    backend: str
    """The build backend; what is said in brackets where PEP 517's default applies."""
    own_backend: bool
    """Whether the backend is a module of the source itself."""
    requires: tuple[str, ...]
    """Build requirements of pyproject.toml."""
    licence: Licence
    modules: tuple[str, ...]
    """What can be imported at the top."""
    compiled: tuple[str, ...]
    """Compiled modules whose names are written out."""


def read_stated(source: SourceText, script: SetupScript) -> Stated:
    """Put together what pyproject.toml, PKG-INFO and the arguments of setup() say, in this order of trust."""
    table, metadata = _table(source.own("pyproject.toml")), _metadata(source)
    modules, compiled = _modules(source, script)
    return Stated(
        name=metadata.get("Name") or _text(table, "project", "name") or _argument(script, "name"),
        version=_version(source, table, metadata, script, modules),
        summary=_summary(table, metadata, script),
        backend=_backend(table),
        own_backend=isinstance(system := table.get("build-system"), dict) and "backend-path" in system,
        requires=_declared(table),
        licence=guess_licence(_licence_files(source), _declared_licences(source, table, metadata, script)),
        modules=modules,
        compiled=compiled,
    )


def _backend(table: dict[str, Any]) -> str:
    named = _text(table, "build-system", "build-backend")
    return named or f"setuptools ({'pyproject.toml names none' if table else 'no pyproject.toml'})"


def _table(text: str | None) -> dict[str, Any]:
    try:
        return tomllib.loads(text or "")
    except (ValueError, RecursionError):  # a number of 5000 digits is a plain ValueError
        return {}  # the backend will say so, and so did the fetch


def _text(table: dict[str, Any], section: str, key: str) -> str | None:
    inner = table.get(section)
    value = inner.get(key) if isinstance(inner, dict) else None
    return value.strip() or None if isinstance(value, str) else None


def _metadata(source: SourceText) -> dict[str, str]:
    text = source.own("PKG-INFO") or ""
    header = email.parser.Parser(policy=email.policy.compat32).parsestr(text, headersonly=True)
    found = {name: str(value).strip() for name, value in header.items()}
    licences = [str(value) for value in header.get_all("Classifier") or [] if str(value).startswith("License ::")]
    found["Classifier"] = "\n".join(licences)
    return {name: value for name, value in found.items() if value and value != "UNKNOWN"}


def _argument(script: SetupScript, name: str) -> str | None:
    text, _line = script.arguments.get(name, ("", 0))
    return text.strip() or None


def _version(
    source: SourceText, table: dict[str, Any], metadata: dict[str, str], script: SetupScript, modules: tuple[str, ...]
) -> str | None:
    stated = metadata.get("Version") or _text(table, "project", "version") or _argument(script, "version")
    if stated:
        return stated
    packages = [module for module in modules if "." not in module]
    files = [f"{where}{name}/{file}" for name in packages for where in ("", "src/")
             for file in ("version.py", "_version.py", "__init__.py")]  # fmt: skip
    texts = (source.own(file) for file in [*files, "setup.py"])
    found = (match[1] for text in texts if text and (match := _VERSION.search(text)))
    return next(found, None)


def _summary(table: dict[str, Any], metadata: dict[str, str], script: SetupScript) -> str | None:
    text = metadata.get("Summary") or _text(table, "project", "description") or _argument(script, "description")
    return " ".join(text.split()) if text else None


def _declared(table: dict[str, Any]) -> tuple[str, ...]:
    system = table.get("build-system")
    requires = system.get("requires") if isinstance(system, dict) else None
    return tuple(item for item in requires if isinstance(item, str)) if isinstance(requires, list) else ()


def _licence_files(source: SourceText) -> list[tuple[str, str]]:
    """Those beside the project, and at the source's top."""
    folders = {source.project, "."}
    names = [name for name in source.texts if str(PurePosixPath(name).parent) in folders]
    upper = ("LICENSE", "LICENCE", "COPYING", "EULA")
    return [(name, source.texts[name]) for name in sorted(names) if PurePosixPath(name).name.upper().startswith(upper)]


def _declared_licences(
    source: SourceText, table: dict[str, Any], metadata: dict[str, str], script: SetupScript
) -> list[Mark]:
    project = table.get("project")
    stated = project.get("license") if isinstance(project, dict) else None
    stated = stated.get("text") if isinstance(stated, dict) else stated
    found = []
    if isinstance(stated, str):
        found.append(Mark(stated, source.inside("pyproject.toml"), _line(source, "pyproject.toml", "license")))
    keys = [key for key in ("License-Expression", "License") if key in metadata]
    found += [Mark(metadata[key], source.inside("PKG-INFO"), _line(source, "PKG-INFO", key)) for key in keys]
    if "license" in script.arguments:
        text, line = script.arguments["license"]
        found.append(Mark(text, source.inside("setup.py"), line))
    classifiers = [*metadata.get("Classifier", "").splitlines(), *script.classifiers]
    for text in dict.fromkeys(text for text in classifiers if text.startswith("License ::")):
        file = "PKG-INFO" if "Classifier" in metadata else "setup.py"
        found.append(Mark(text, source.inside(file), _line(source, file, text)))
    return [Mark(mark.text.splitlines()[0][:120], mark.file, mark.line) for mark in found if mark.text.strip()]


def _line(source: SourceText, file: str, word: str) -> int:
    lines = (source.own(file) or "").splitlines()
    return next((number for number, line in enumerate(lines, 1) if word in line), 1)


def _modules(source: SourceText, script: SetupScript) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Top-level packages and modules, then the compiled modules whose names are known."""
    listed = [text for name, text in source.texts.items() if name.endswith(".egg-info/top_level.txt")]
    tops = [line.strip() for text in listed for line in text.splitlines() if line.strip()]
    own = [name for name in source.names if name.startswith("" if source.project == "." else f"{source.project}/")]
    inner = [PurePosixPath(name).relative_to(source.project) for name in own]
    packages = [path.parts[-2] for path in inner if path.name == "__init__.py" and _is_top(path)]
    stated = [module.partition(".")[0] for module in script.modules]
    found = [name for name in dict.fromkeys([*tops, *stated, *sorted(packages)]) if name.isidentifier()]
    names = [extension.name for extension in script.extensions]
    compiled = [name for name in dict.fromkeys(names) if all(part.isidentifier() for part in name.split("."))]
    outside = [name for name in compiled if "." not in name and name not in found]
    return (*(name for name in found if name not in _NOT_MODULES), *outside), tuple(compiled)


def _is_top(path: PurePosixPath) -> bool:
    return len(path.parts) == 2 or (len(path.parts) == 3 and path.parts[0] in {"src", "python", "lib"})
