"""The bill of materials: valid by the standard's own schema, the same for the same build, nothing left out."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from buildkit.build.sbom import Materials, locked, sbom

HASH = "ab" * 32
MATERIALS = Materials(
    license="MIT OR MPL-2.0",
    source_kind="git",
    source_sha256=HASH,
    source_url="https://git.example/voxels@cafe",
    patches={"patches/lerp.patch": "cd" * 32, "rewrite of setup.py": "ef" * 32},
    torch="2.13.0+cu130",
    torch_record_sha256="12" * 32,
    toolkit="13.0.88",
    compiler=("gcc", "12.2.0"),
    requirements=(("ninja", "1.13.2"), ("pybind11", "3.1.0")),
    grafted={"libgrid.so.2": "34" * 32, "libown.so": "56" * 32},
    packages={"libgrid.so.2": {"name": "libgrid2", "version": "2.1-3", "purl": "pkg:deb/debian/libgrid2@2.1-3"}},
)
BARE = Materials(license="LicenseRef-Unknown", source_kind="sdist", source_sha256=HASH)


@pytest.fixture(scope="module")
def validator() -> JsonStrictValidator:
    return JsonStrictValidator(SchemaVersion.V1_6)


def made(materials: Materials) -> dict[str, Any]:
    document = json.loads(sbom(materials, "fast-voxels", "1.0+pt2.13.cu130"))
    assert isinstance(document, dict)
    return document


def parts(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in document["components"]}


@pytest.mark.parametrize("materials", [MATERIALS, BARE], ids=["everything", "next to nothing"])
def test_it_is_valid(materials: Materials, validator: JsonStrictValidator) -> None:
    text = sbom(materials, "fast-voxels", "1.0+pt2.13.cu130").decode()
    error = validator.validate_str(text)
    assert error is None, str(error)[:200]
    assert validator.validate_str(text.replace('"framework"', '"frame"').replace('"file"', '"foil"')) is not None
    references = [each["bom-ref"] for each in json.loads(text)["components"]]
    assert len(set(references)) == len(references)


def test_it_names_what_the_wheel_was_made_of() -> None:
    document = made(MATERIALS)
    root, components = document["metadata"]["component"], parts(document)
    assert (root["name"], root["version"]) == ("fast-voxels", "1.0+pt2.13.cu130")
    assert root["purl"] == "pkg:pypi/fast-voxels@1.0%2Bpt2.13.cu130"
    assert root["licenses"] == [{"expression": "MIT OR MPL-2.0"}]
    source = components["fast-voxels (source)"]
    assert source["properties"] == [{"name": "cudabuild:tree-sha256", "value": HASH}]
    assert source["externalReferences"] == [{"type": "vcs", "url": "https://git.example/voxels@cafe"}]
    assert components["patch: patches/lerp.patch"]["hashes"] == [{"alg": "SHA-256", "content": "cd" * 32}]
    assert components["patch: rewrite of setup.py"]["hashes"][0]["content"] == "ef" * 32
    assert components["torch"]["version"] == "2.13.0+cu130"
    assert components["CUDA Toolkit"]["version"] == "13.0.88"
    assert components["gcc"]["version"] == "12.2.0"
    assert {name for name, each in components.items() if each.get("scope") == "excluded"} == {
        "CUDA Toolkit", "gcc", "ninja", "pybind11",
    }  # fmt: skip
    assert components["libgrid.so.2"]["purl"] == "pkg:deb/debian/libgrid2@2.1-3"
    assert components["libown.so"]["hashes"][0]["content"] == "56" * 32
    needed = [components[name]["bom-ref"] for name in ("libgrid.so.2", "libown.so", "torch")]
    assert document["dependencies"] == [{"ref": root["bom-ref"], "dependsOn": needed}]


def test_an_archive_is_told_by_the_hash_of_its_bytes() -> None:
    source = parts(made(BARE))["fast-voxels (source)"]
    assert source["hashes"] == [{"alg": "SHA-256", "content": HASH}]
    assert "properties" not in source


def test_the_same_materials_give_the_same_bytes() -> None:
    turned = replace(MATERIALS, patches=dict(reversed(list(MATERIALS.patches.items()))))
    assert sbom(turned, "a", "1") == sbom(MATERIALS, "a", "1")
    assert not {"serialNumber", "timestamp"} & {*made(MATERIALS), *made(MATERIALS)["metadata"]}


def test_a_lock_is_read() -> None:
    text = (
        "ninja==1.13.2 \\\n    --hash=sha256:65\nPyBind11[global]==3.1.0 ; python_version > '3'\n# via==1\n--pre==2\n"
    )
    assert locked(text) == (("ninja", "1.13.2"), ("pybind11", "3.1.0"))
