"""``cudabuild matrix audit`` of real servers: our own index, and a folder of pages that sends whole files only."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import index_servers
import pytest
from device_objects import noise, shared_object
from index_wheels import metadata_of, release_of
from jsonschema import Draft202012Validator

from buildkit.build.places import Places
from buildkit.cli.main import main
from buildkit.store.store import Store
from buildkit.verify.verdict import Stage, make_verdict

ROOT = Path(__file__).resolve().parents[2]
PROJECT, VERSION = "diso", "0.1.4"
TAGS = "cp311-cp311-manylinux_2_28_x86_64"
MATRIX = f"""
[matrix]
recipes = ["{PROJECT}=={VERSION}"]
torch = ["2.13.0+cu130", "2.12.0+cu130"]
python = ["3.11"]
platforms = ["linux_x86_64"]
targets = ["12.0", "8.6;9.0"]
require = "imported"
"""


def content_of(version: str, numbers: tuple[int, ...]) -> bytes:
    """A wheel with device code for these capabilities, and 2 MiB of something else."""
    stream = io.BytesIO()
    with ZipFile(stream, "w", ZIP_DEFLATED) as archive:
        archive.writestr(f"{PROJECT}/weights.bin", noise(2 << 20))
        archive.writestr(f"{PROJECT}/_C.so", shared_object([("elf", number) for number in numbers]))
        archive.writestr(f"{PROJECT}-{version}.dist-info/METADATA", metadata_of(PROJECT, version))
    return stream.getvalue()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """A store with two wheels: one that was proven, one that has no code for 9.0 and no proof."""
    folder = tmp_path_factory.mktemp("audited")
    places = Places(folder / "cache")
    store = Store(places.store)
    audit = {"targets": ["12.0"], "objects": [{"path": "_C.so", "elf": ["12.0"], "ptx": [], "units": 1}]}
    stages = [
        Stage(name=name, outcome="passed", seconds=1.0, evidence=audit if name == "audit" else {})
        for name in ("build", "audit", "import")
    ]
    for torch, labels, numbers in (
        ("2.13.0+cu130", "pt2.13.cu130.sm120", (120,)),
        ("2.12.0+cu130", "pt2.12.cu130.sm86.sm90", (86,)),
    ):
        version = f"{VERSION}+{labels}"
        content = content_of(version, numbers)
        proof = make_verdict(
            stages, wheel_sha256=hashlib.sha256(content).hexdigest(), device="cuda", targets=("12.0",), torch=torch
        )
        verdict = proof.model_dump(mode="json", by_alias=True) if numbers == (120,) else {}
        targets = ("12.0",) if numbers == (120,) else ("8.6", "9.0")
        release = release_of(PROJECT, version, content, tags=TAGS, torch=torch, targets=targets, verdict=verdict)
        (folder / release.filename).write_bytes(content)
        store.publish(folder / release.filename, release)
    return places


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The command with this matrix: exit code, and the JSON it printed."""
    (tmp_path / "cudabuild.toml").write_text(MATRIX)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDABUILD_CACHE", str(tmp_path / "cache"))

    def run(url: str, *words: str) -> tuple[int, dict[str, Any]]:
        code = main(["matrix", "audit", url, "--json", *words])
        return code, json.loads(capsys.readouterr().out)

    return run


def test_our_own_index_and_one_without_ranges(places: Places, tmp_path: Path, audit: Any) -> None:
    with index_servers.cudabuild(places.cache, tmp_path / "log") as (url, _):
        code, found = audit(url)
        schema = json.loads((ROOT / "docs/reference/matrix-audit.schema.json").read_text())
        Draft202012Validator(schema).validate(found)
        assert code == 10
        told = {each["cell"].partition("-")[2]: each for each in found["cells"]}
        assert {name: each["status"] for name, each in told.items()} == {
            "0.1.4-pt2.13-cu130-cp311-sm120": "served",
            "0.1.4-pt2.13-cu130-cp311-sm86-sm90": "missing",
            "0.1.4-pt2.12-cu130-cp311-sm120": "missing",
            "0.1.4-pt2.12-cu130-cp311-sm86-sm90": "lacking",
        }
        proven, lacking = told["0.1.4-pt2.13-cu130-cp311-sm120"], told["0.1.4-pt2.12-cu130-cp311-sm86-sm90"]
        assert (proven["grade"], proven["evidence"], proven["held"]) == ("imported", "verdict", ["12.0"])
        assert (lacking["lacking"], lacking["evidence"], lacking["held"]) == (["sm_90"], "wheel", ["8.6"])
        assert lacking["size"] > 2 << 20
        assert found["fetched"] < lacking["size"] / 10
        assert audit(f"{url}pt2.13-cu130-sm120/simple/", "--only", "*pt2.13*-sm120")[0] == 0
        code, found = audit(f"{url}{{variant}}/simple/", "--only", "*pt2.12*sm90")
        assert found["counts"] == {"lacking": 1}
        code, found = audit(f"{url}nobody/simple/")
        assert (code, found["error"]["kind"]) == (4, "not-on-index")
    wheels = [path for path in places.cache.parent.glob("*.whl") if "pt2.12" in path.name]
    with index_servers.pages({PROJECT: wheels}, tmp_path / "pages") as (url, _):
        code, found = audit(url, "--only", "*pt2.12*sm90")
        assert (code, found["cells"][0]["status"], found["cells"][0]["fetched"]) == (10, "unread", 0)
        assert "whole files only" in found["cells"][0]["reasons"][0]
