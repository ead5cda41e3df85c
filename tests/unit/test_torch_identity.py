"""torch is identified by what lies on disk: never imported, its metadata never believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.errors import NoTorch
from buildkit.machine.torch_identity import identify_torch

VERSION = """
from typing import Optional
__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip']
__version__ = '{version}'
debug = False
cuda: Optional[str] = {cuda}
git_version = 'cf30153'
hip: Optional[str] = {hip}
raise SystemExit("imported")
"""
RECORD = """\
torch/version.py,sha256=abc,200
torch/lib/libtorch_cuda.so,sha256=def,7
torch-2.13.0.dist-info/METADATA,sha256=ghi,100
"""


def make_torch(
    site: Path, *, version: str = "2.13.0+cu130", cuda: str = "'13.0'", hip: str = "None", record: str | None = RECORD
) -> Path:
    (site / "torch" / "lib").mkdir(parents=True)
    (site / "torch" / "version.py").write_text(VERSION.format(version=version, cuda=cuda, hip=hip), encoding="utf-8")
    (site / "torch" / "lib" / "libtorch_cuda.so").write_bytes(b"library")
    if record is not None:
        (site / "torch-2.13.0.dist-info").mkdir()
        (site / "torch-2.13.0.dist-info" / "RECORD").write_text(record, encoding="utf-8")
    return site


def hash_of(site: Path) -> str:
    found = identify_torch([site])
    assert found is not None
    return found.record_sha256


def test_version_file_is_parsed(tmp_path: Path) -> None:
    found = identify_torch([tmp_path / "empty", make_torch(tmp_path / "site"), make_torch(tmp_path / "later")])
    assert found is not None
    assert (found.version, found.cuda, found.git_version, found.hip) == ("2.13.0+cu130", "13.0", "cf30153", None)
    assert found.location == tmp_path / "site"


def test_cpu_and_rocm_builds(tmp_path: Path) -> None:
    cpu = identify_torch([make_torch(tmp_path / "cpu", version="2.13.0+cpu", cuda="None")])
    rocm = identify_torch([make_torch(tmp_path / "rocm", version="2.13.0+rocm6.4", cuda="None", hip="'6.4.1'")])
    assert cpu is not None
    assert rocm is not None
    assert (cpu.cuda, cpu.hip) == (None, None)
    assert (rocm.cuda, rocm.hip) == (None, "6.4.1")


def test_no_torch(tmp_path: Path) -> None:
    assert identify_torch([tmp_path]) is None
    (tmp_path / "torch").mkdir()
    assert identify_torch([tmp_path]) is None


def test_damaged_torch(tmp_path: Path) -> None:
    site = make_torch(tmp_path)
    (site / "torch" / "version.py").write_text("__version__ = (", encoding="utf-8")
    with pytest.raises(NoTorch, match="cannot be read"):
        identify_torch([site])
    (site / "torch" / "version.py").write_text("cuda = '13.0'", encoding="utf-8")
    with pytest.raises(NoTorch, match="does not tell its version"):
        identify_torch([site])


def test_same_wheel_in_another_place_is_the_same_torch(tmp_path: Path) -> None:
    own = (
        "../../../bin/torchrun,sha256=differs-by-path,300\n"
        "torch-2.13.0.dist-info/INSTALLER,sha256=uv,2\n"
        "torch/__pycache__/version.cpython-311.pyc,,\n"
    )
    one = make_torch(tmp_path / "one")
    other = make_torch(tmp_path / "other", record=own + "".join(reversed(RECORD.splitlines(keepends=True))))
    assert hash_of(one) == hash_of(other)


def test_another_build_is_another_torch(tmp_path: Path) -> None:
    hashes = {
        hash_of(make_torch(tmp_path / "one")),
        hash_of(make_torch(tmp_path / "two", record=RECORD.replace("def", "xyz"))),
        hash_of(make_torch(tmp_path / "three", version="2.13.1+cu130")),
    }
    assert len(hashes) == 3


def test_library_replaced_without_telling_record(tmp_path: Path) -> None:
    site = make_torch(tmp_path)
    before = hash_of(site)
    (site / "torch" / "lib" / "libtorch_cuda.so").write_bytes(b"another library")
    assert hash_of(site) != before


@pytest.mark.parametrize("record", [None, "torch-2.13.0.dist-info/METADATA,sha256=ghi,100\n__editable__.pth,,\n"])
def test_without_a_record_of_its_files_the_libraries_identities_count(tmp_path: Path, record: str | None) -> None:
    site = make_torch(tmp_path, record=record)
    library = site / "torch" / "lib" / "libtorch_cuda.so"
    before = hash_of(site)
    assert hash_of(site) == before
    library.unlink()
    library.write_bytes(b"LIBRARY")
    assert hash_of(site) != before


def test_dist_info_in_another_folder_of_the_path(tmp_path: Path) -> None:
    site, metadata = make_torch(tmp_path / "site", record=None), tmp_path / "metadata"
    (metadata / "torch-2.13.0.dist-info").mkdir(parents=True)
    (metadata / "torch-2.13.0.dist-info" / "RECORD").write_text(RECORD, encoding="utf-8")
    found = identify_torch([site, metadata])
    assert found is not None
    assert found.record_sha256 == hash_of(make_torch(tmp_path / "whole"))
