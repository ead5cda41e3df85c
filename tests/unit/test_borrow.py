"""Borrowing torch: the closure of its requirements and nothing else, linked once, checked against what is asked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.build.borrow import Loan, check_against_loan, lend, make_links, marker_environment, plan_loan
from buildkit.errors import DependencyConflict
from buildkit.machine.identity import Memo
from buildkit.machine.interpreter import Interpreter
from buildkit.machine.torch_identity import TorchIdentity


@pytest.fixture
def python(tmp_path: Path) -> Interpreter:
    return Interpreter(
        executable=tmp_path / "bin" / "python",
        version="3.11.2",
        implementation="cpython",
        abi="cp311",
        platform="linux_x86_64",
        machine="x86_64",
        prefix=tmp_path,
        base_executable=Path("/usr/bin/python3.11"),
        site_packages=(tmp_path / "site",),
        include=Path("/usr/include/python3.11"),
        has_headers=True,
        externally_managed=False,
    )


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site-packages folder with a torch, what it needs, and what it does not."""
    folder = tmp_path / "site"
    asks = ["filelock", "sympy>=1.13", "nvidia-cublas; platform_system == 'Linux'", "colorama; sys_platform == 'win32'"]
    asks += ["setuptools", "opt-einsum; extra == 'opt'", "triton[tests]", "not ! valid"]
    besides = ["torchgen/__init__.py", "../../../bin/torchrun", "__pycache__/x.pyc", "torch-nspkg.pth"]
    put(folder, "torch", "2.13.0", asks, extra=besides)
    put(folder, "filelock", "3.1", [])
    put(folder, "sympy", "1.14", ["mpmath<1.4,>=1.1"])
    put(folder, "mpmath", "1.3.0", [])
    put(folder, "Triton", "3.7", ["filelock", "pytest; extra == 'tests'"])
    put(folder, "pytest", "9.0", ["pluggy"])
    put(folder, "pluggy", "1.6", [])
    put(folder, "nvidia_cublas", "13.1", [], extra=["nvidia/cublas/lib.so"])
    put(folder, "numpy", "2.0", [])
    put(folder, "setuptools", "81.0", [])
    return folder


def put(folder: Path, name: str, version: str, requires: list[str], extra: list[str] | None = None) -> None:
    info = folder / f"{name}-{version}.dist-info"
    files = [f"{name}/__init__.py", f"{info.name}/METADATA", *(extra or [])]
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {text}" for text in requires)]
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *lines]) + "\n", encoding="utf-8")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files), encoding="utf-8")


def torch_at(site: Path) -> TorchIdentity:
    return TorchIdentity("2.13.0+cu130", "13.0", "abc", "def", site, None)


def test_the_closure_and_nothing_else(site: Path, python: Interpreter) -> None:
    loan = plan_loan(torch_at(site), python, Memo(None))
    assert dict(loan.versions) == {
        "torch": "2.13.0+cu130",
        "filelock": "3.1",
        "sympy": "1.14",
        "mpmath": "1.3.0",
        "triton": "3.7",
        "pytest": "9.0",
        "pluggy": "1.6",
        "nvidia-cublas": "13.1",
    }
    assert {"torch", "torchgen", "nvidia", "Triton", "sympy-1.14.dist-info"} <= set(loan.entries)
    unwanted = {"numpy", "setuptools", "..", "__pycache__", "torch-nspkg.pth"}
    assert not unwanted & set(loan.entries)
    assert {"torch", "torchgen", "nvidia"} <= loan.modules()
    assert not [name for name in loan.modules() if name.endswith(".dist-info")]


def test_remembered_until_something_is_installed(site: Path, python: Interpreter, tmp_path: Path) -> None:
    memo = Memo(tmp_path / "memo")
    first = plan_loan(torch_at(site), python, memo)
    assert plan_loan(torch_at(site), python, memo) == first
    put(site, "opt_einsum", "3.4", [])
    put(site, "more", "1", [])
    (site / "sympy-1.14.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: sympy\nVersion: 1.14\nRequires-Dist: more\n", encoding="utf-8"
    )
    assert "more" in dict(plan_loan(torch_at(site), python, memo).versions)


def test_the_fingerprint_is_of_versions_not_of_places(site: Path, python: Interpreter) -> None:
    loan = plan_loan(torch_at(site), python, Memo(None))
    assert replace(loan, site=Path("/elsewhere")).fingerprint == loan.fingerprint
    assert replace(loan, versions=(*loan.versions, ("x", "1"))).fingerprint != loan.fingerprint


def test_links_are_made_once_and_lead_to_the_lender(site: Path, python: Interpreter, tmp_path: Path) -> None:
    loan = plan_loan(torch_at(site), python, Memo(None))
    folder = make_links(loan, tmp_path / "borrowed")
    assert (folder / "torch").readlink() == site / "torch"
    assert {path.name for path in folder.iterdir()} == set(loan.entries)
    inode = folder.stat().st_ino
    assert make_links(loan, tmp_path / "borrowed").stat().st_ino == inode
    assert make_links(replace(loan, entries=("torch",)), tmp_path / "borrowed") != folder
    assert [path.name for path in (tmp_path / "borrowed").glob(".new-*")] == []


def test_lent_by_a_pth_file(tmp_path: Path) -> None:
    site = tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    lend(tmp_path / "env", tmp_path / "links")
    assert (site / "cudabuild-borrowed.pth").read_text(encoding="utf-8") == f"{tmp_path / 'links'}{os.linesep}"


LOAN = Loan(Path("/site"), (("numpy", "2.0.1"), ("torch", "2.13.0+cu130")), ("torch",))


@pytest.mark.parametrize(
    "requirement",
    [
        "torch",
        "torch>=2.12",
        "torch==2.13.*",
        "torch==2.13.0",
        "Torch[opt]",
        "numpy<3",
        "other==1",
        "torch<2; python_version<'3'",
    ],
)
def test_requirements_that_the_loan_meets(python: Interpreter, requirement: str) -> None:
    check_against_loan([requirement], LOAN, python, whose="package")


@pytest.mark.parametrize("requirement", ["torch<2.13", "torch==2.12.*", "numpy>=2.1", "torch>3; sys_platform=='linux'"])
def test_requirements_that_it_does_not_meet_name_both_sides(python: Interpreter, requirement: str) -> None:
    with pytest.raises(DependencyConflict) as caught:
        check_against_loan([requirement], LOAN, python, whose="package")
    name = requirement.partition(";")[0].rstrip("<>=.*0123456789 ")
    held: Mapping[str, str] = dict(LOAN.versions)
    assert caught.value.exit_code == 5
    assert "package requires" in caught.value.message
    assert f"{name} {held[name]}" in caught.value.message
    assert "--torch" in caught.value.hint


def test_a_requirement_that_does_not_parse_is_said(python: Interpreter) -> None:
    with pytest.raises(DependencyConflict, match="does not parse"):
        check_against_loan(["torch >> 2"], LOAN, python, whose="package")


def test_markers_mean_the_other_interpreter(python: Interpreter) -> None:
    other = replace(python, version="3.13.1", implementation="pypy", machine="aarch64")
    assert marker_environment(other) == {
        "python_version": "3.13",
        "python_full_version": "3.13.1",
        "implementation_name": "pypy",
        "platform_machine": "aarch64",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
    }
