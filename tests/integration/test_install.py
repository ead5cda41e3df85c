"""Installing into a person's environment with torch: one package changes, nothing else, and a failure is undone."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

PACKAGE = Path(__file__).parents[1] / "packages" / "plainc"


def files(folder: Path) -> dict[str, tuple[object, ...]]:
    """Mode, size, modification time, and content of what is small, of every file and link."""
    found: dict[str, tuple[object, ...]] = {}
    for top, _folders, names in os.walk(folder):
        for name in names:
            path = Path(top, name)
            if path == folder / ".lock":  # uv's own: it says that somebody installs just now
                continue
            status = path.lstat()
            small = status.st_size < 1 << 16 and not path.is_symlink()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if small else ""
            found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns, content)
    return found


@pytest.fixture
def person(torch_environment: Path) -> Iterator[Path]:
    """The environment; what a test put into it is taken out again, and nothing else may have changed."""
    before = files(torch_environment)
    yield torch_environment
    shutil.rmtree(torch_environment / "poison", ignore_errors=True)
    site = next(torch_environment.glob("lib/python*/site-packages"))
    for left in [*site.glob("plainc*"), *site.glob("present*")]:
        shutil.rmtree(left)
    (torch_environment / ".lock").unlink(missing_ok=True)  # uv's own
    after = files(torch_environment)
    assert {name for name in {*before, *after} if before.get(name) != after.get(name)} == set()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a plainc that no store has."""
    shutil.copytree(PACKAGE, tmp_path / "plainc")
    change(tmp_path, "# first")
    return tmp_path


def change(project: Path, line: str, **replaced: str) -> None:
    """Add a line (and a mark that no store knows) to the module, and replace texts in its pyproject.toml."""
    module, settings = project / "plainc" / "plainc" / "__init__.py", project / "plainc" / "pyproject.toml"
    module.write_text(f"{module.read_text()}{line}\nMARK = {time.time_ns()}\n", encoding="utf-8")
    text = settings.read_text(encoding="utf-8")
    for name, value in replaced.items():
        text = re.sub(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
    settings.write_text(text, encoding="utf-8")


def put_present(folder: Path, version: str, requires: str = "") -> None:
    """A package called ``present`` as an installer leaves it, or would unpack it."""
    info = folder / f"present-{version}.dist-info"
    info.mkdir(parents=True)
    (folder / "present.py").write_text(f"VERSION = {version!r}\n", encoding="utf-8")
    required = f"Requires-Dist: {requires}\n" if requires else ""
    metadata = f"Metadata-Version: 2.1\nName: present\nVersion: {version}\n{required}"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n", encoding="utf-8")
    rows = ["present.py,,", *(f"{info.name}/{name},," for name in ("METADATA", "WHEEL", "RECORD"))]
    (info / "RECORD").write_text("\n".join(rows) + "\n", encoding="utf-8")


def site_of(environment: Path) -> Path:
    return next(environment.glob("lib/python*/site-packages"))


def remove_present(site: Path) -> None:
    (site / "present.py").unlink()


def install(cudabuild: Callable[..., Any], person: Path, project: Path, *words: str) -> Any:
    env = {"VIRTUAL_ENV": str(person), "PYTHONDONTWRITEBYTECODE": ""}
    return cudabuild("install", "./plainc", "--device", "cpu", *words, env=env, cwd=project)


def said(person: Path, expression: str) -> str:
    command = [str(person / "bin" / "python"), "-B", "-c", f"import plainc; print({expression})"]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout.strip()


def test_the_same_version_is_replaced_and_nothing_else(
    cudabuild: Callable[..., Any], person: Path, project: Path
) -> None:
    before = files(person)
    assert not (person / "bin" / "pip").exists()
    for name, text in {
        "requirements.txt": "torch\n",
        "pyproject.toml": "[tool.uv]\n",
        "Dockerfile": "FROM debian:12\n",
    }.items():
        (project / name).write_text(text, encoding="utf-8")
    done = install(cudabuild, person, project)
    assert done.code == 0, done.err
    assert "newly installed" in done.err
    wheel = re.findall(r"^wheel: (.*)$", done.err, re.MULTILINE)[0]
    assert f"to keep it: uv add 'plainc @ file://{wheel.replace('+', '%2B')}'" in done.err
    assert re.search(r"to keep it: plainc @ file://\S+\.whl   # add to requirements\.txt", done.err)
    assert f"to keep it: COPY {Path(wheel).name} /tmp/" in done.err
    first = said(person, "plainc.answer(), plainc.MARK")
    assert first.startswith("42 ")
    change(project, "# second")
    done = install(cudabuild, person, project)
    assert done.code == 0, done.err
    assert "replaced 1.0+" in done.err
    assert said(person, "plainc.answer(), plainc.MARK") != first
    after = files(person)
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert {Path(name).relative_to(site_of(person)).parts[0].partition("-")[0] for name in changed} == {"plainc"}


def test_a_failed_proof_puts_the_old_one_back(cudabuild: Callable[..., Any], person: Path, project: Path) -> None:
    assert install(cudabuild, person, project).code == 0
    (person / "poison").mkdir()
    before = files(person)
    change(project, "import os, sys\nif os.path.isdir(sys.prefix + '/poison'): raise ImportError('poisoned here')")
    done = install(cudabuild, person, project, "--json")
    assert done.code == 9, done.err
    assert done.json["error"]["kind"] == "import-failed"
    assert "poisoned here" in done.json["error"]["evidence"]
    assert done.json["verdict"]["grade"] == "imported", "the wheel itself is sound"
    assert files(person) == before

    change(project, "", version='"2.0"', dependencies='["present>=2"]')
    put_present(project / "wheel", "2.0")
    (project / "links").mkdir()
    with zipfile.ZipFile(project / "links" / "present-2.0-py3-none-any.whl", "w") as archive:
        for path in sorted((project / "wheel").rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(project / "wheel"))
    done = install(cudabuild, person, project, "--find-links", str(project / "links"), "--json")
    assert done.code == 9, done.err
    assert files(person) == before, "another version, and a requirement that came with it"


@pytest.mark.parametrize("side", ["the new one requires", "the present one requires"])
def test_a_conflict_names_both_sides_and_changes_nothing(
    cudabuild: Callable[..., Any], person: Path, project: Path, side: str
) -> None:
    theirs = side == "the present one requires"
    put_present(site_of(person), "1.0", "plainc<2" if theirs else "")
    put_present(project / "wheel", "2.0")
    (project / "links").mkdir()
    with zipfile.ZipFile(project / "links" / "present-2.0-py3-none-any.whl", "w") as archive:
        for path in sorted((project / "wheel").rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(project / "wheel"))
    change(project, "", version='"2.0"', dependencies="[]" if theirs else '["present>=2"]')
    before = files(person)
    done = install(cudabuild, person, project, "--find-links", str(project / "links"), "--json")
    assert files(person) == before
    remove_present(site_of(person))
    assert done.code == 5, done.err
    error = done.json["error"]
    assert error["kind"] == "dependency-conflict"
    for word in ("plainc", "2.0", "present", "1.0", "plainc<2" if theirs else "present>=2"):
        assert word in error["message"] + error["evidence"], error


def test_an_externally_managed_python_is_refused_before_anything_is_built(
    cudabuild: Callable[..., Any], project: Path, tmp_path: Path
) -> None:
    managed = [path.parent for path in Path("/usr/lib").glob("python3.*/EXTERNALLY-MANAGED")]
    assert managed, "Debian 12 and later mark their Python as externally managed"
    python = f"/usr/bin/{managed[0].name}"
    done = cudabuild("install", "./plainc", "--device", "cpu", "--python", python, "--json", cwd=project)
    assert done.code == 5
    assert "belongs to the system's package manager" in done.json["error"]["message"]
    assert "python3 -m venv" in done.json["error"]["hint"]
    assert done.json["key"] is None
