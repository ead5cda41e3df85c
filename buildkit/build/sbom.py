"""The bill of materials inside a wheel: CycloneDX 1.6 as JSON, in the dist-info's folder ``sboms`` (PEP 770).

Made from what the key is made from, and nothing of when or where: the same build gives the same document. So it has
no serial number and no time stamp, both of which the standard leaves open.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from zipfile import ZipFile

from buildkit import __version__

if TYPE_CHECKING:
    from buildkit.build.prepare import Prepared

SBOM_FILE = "sboms/cudabuild.cdx.json"
OF_AUDITWHEEL = "sboms/auditwheel.cdx.json"
"""auditwheel's own, about what it copied in; ours takes that over, and this one out."""

_LOCKED = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[^]]*\])?==(?P<version>[^\s;\\]+)", re.MULTILINE)


@dataclass(frozen=True)
class Materials:
    """What a wheel was made of, in plain values; ``patches`` and ``grafted`` map names to SHA-256."""

    license: str
    source_kind: str
    source_sha256: str
    source_url: str = ""
    patches: Mapping[str, str] = field(default_factory=dict)
    torch: str = ""
    torch_record_sha256: str = ""
    toolkit: str = ""
    compiler: tuple[str, str] = ("", "")
    """Name and version."""
    requirements: tuple[tuple[str, str], ...] = ()
    """What the build environment held: names and versions."""
    grafted: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Which package of the system a grafted library is of: ``name``, ``version`` and ``purl``, where that is known."""


def materials_of(prepared: Prepared, grafted: Mapping[str, str], repaired: Path) -> Materials:
    """What this plan makes a wheel of; ``grafted`` are the paths that repair copied into ``repaired``."""
    loaded, survey, source = prepared.package.loaded, prepared.survey, prepared.source
    compiler = survey.machine.compiler
    remote = source.kind == "git" and "://" in source.origin and not source.origin.startswith("file:")
    return Materials(
        license=loaded.recipe.license.spdx,
        source_kind=source.kind,
        source_sha256=source.sha256,
        source_url=source.origin if remote else "",
        patches={patch.label: loaded.patch_sha256(patch) for patch in prepared.patches},
        torch=survey.torch.version,
        torch_record_sha256=survey.torch.record_sha256,
        toolkit=survey.toolkit.toolkit.version if survey.toolkit else "",
        compiler=(compiler.kind, compiler.version),
        requirements=locked(prepared.lock.path.read_text(encoding="utf-8")),
        grafted={Path(path).name: sha256 for path, sha256 in grafted.items()},
        packages=_packages(grafted, repaired) if grafted else {},
    )


def locked(text: str) -> tuple[tuple[str, str], ...]:
    """Names and versions of a lock of requirements, sorted."""
    return tuple(sorted({(match["name"].lower(), match["version"]) for match in _LOCKED.finditer(text)}))


def sbom(materials: Materials, name: str, version: str) -> bytes:
    """The document for the wheel of this name and version."""
    root = {
        **_component("library", name, version, purl=_pypi(name, version)),
        "licenses": [{"expression": materials.license}],
    }
    torch = [_torch(materials)] if materials.torch else []
    grafted = [_grafted(name, materials) for name in sorted(materials.grafted)]
    needed = [str(part["bom-ref"]) for part in (*torch, *grafted)]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [_component("application", "cudabuild", __version__)]},
            "component": root,
        },
        "components": [_source(materials, name, version), *_patches(materials), *torch, *grafted, *_tools(materials)],
        "dependencies": [{"ref": root["bom-ref"], **({"dependsOn": sorted(needed)} if needed else {})}],
    }
    return (json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode("utf-8")


def _component(kind: str, name: str, version: str = "", *, purl: str = "", **more: Any) -> dict[str, Any]:
    reference = {"bom-ref": purl or f"{kind}:{name}{'@' if version else ''}{version}"}
    return {
        "type": kind,
        "name": name,
        **reference,
        **({"version": version} if version else {}),
        **({"purl": purl} if purl else {}),
        **more,
    }


def _source(materials: Materials, name: str, version: str) -> dict[str, Any]:
    """Of an archive the hash of its bytes; of a tree that of its content, which no standard names."""
    public = version.partition("+")[0]
    archive = materials.source_kind == "sdist"
    known: dict[str, Any] = {"hashes": _sha256(materials.source_sha256)} if archive else {}
    if not archive:
        known["properties"] = [{"name": "cudabuild:tree-sha256", "value": materials.source_sha256}]
    if materials.source_url:
        known["externalReferences"] = [{"type": "vcs", "url": materials.source_url}]
    part = _component("file", f"{name} (source)", public, **known)
    return {**part, "description": f"what was built: {materials.source_kind}"}


def _patches(materials: Materials) -> list[dict[str, Any]]:
    return [
        _component("file", f"patch: {label}", hashes=_sha256(sha256), description="applied to the source")
        for label, sha256 in sorted(materials.patches.items())
    ]


def _torch(materials: Materials) -> dict[str, Any]:
    record = [{"name": "cudabuild:record-sha256", "value": materials.torch_record_sha256}]
    purl = _pypi("torch", materials.torch)
    return _component("framework", "torch", materials.torch, purl=purl, scope="required", properties=record)


def _grafted(name: str, materials: Materials) -> dict[str, Any]:
    package = materials.packages.get(name, {})
    of = {"description": f"copied from {package['name']}", "purl": package["purl"]} if package else {}
    part = _component("library", name, package.get("version", ""), hashes=_sha256(materials.grafted[name]))
    return {**part, "scope": "required", **of}


def _tools(materials: Materials) -> list[dict[str, Any]]:
    """What made the wheel and is not in it."""
    made = [("CUDA Toolkit", materials.toolkit), materials.compiler]
    tools = [_component("application", name, version, scope="excluded") for name, version in made if version]
    return tools + [
        _component("library", name, version, purl=_pypi(name, version), scope="excluded")
        for name, version in materials.requirements
    ]


def _sha256(value: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": value}]


def _pypi(name: str, version: str) -> str:
    return f"pkg:pypi/{quote(name, safe='')}@{quote(version, safe='')}"


def _packages(grafted: Mapping[str, str], repaired: Path) -> dict[str, dict[str, str]]:
    """What auditwheel found out of the libraries' packages; it names each by the hash of its path."""
    with ZipFile(repaired) as archive:
        member = next((name for name in archive.namelist() if name.endswith(f".dist-info/{OF_AUDITWHEEL}")), None)
        components = json.loads(archive.read(member)).get("components", []) if member else []
    by_path = {str(each.get("bom-ref", "")).rpartition("#")[2]: each for each in components}
    found = {}
    for path in grafted:
        each = by_path.get(hashlib.sha256(path.encode(errors="ignore")).hexdigest())
        if each is not None:
            found[Path(path).name] = {name: str(each.get(name, "")) for name in ("name", "version", "purl")}
    return found
