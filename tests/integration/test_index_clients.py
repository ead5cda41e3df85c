"""pip, old and new, and uv install from our index: one variant each, by hash, locked, and never from elsewhere."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uv
from index_servers import cudabuild, environment, pages
from index_wheels import DECLARED, publish, wheel_bytes

from buildkit.index.lines import uv_index
from buildkit.index.variants import variant_of
from buildkit.store.store import Store

Pip = Callable[..., subprocess.CompletedProcess[str]]
PIPS = ("22.3", "23.2", "26")
PROJECT = "some-kernels"
CU130: dict[str, Any] = {"torch": "2.13.0+cu130", "cuda": "13.0"}
CU128 = {"torch": "2.9.1+cu128", "cuda": "12.8"}
CPU = {"torch": "2.13.0+cpu", "cuda": "", "device": "cpu", "targets": ()}
BUILDS: dict[str, Mapping[str, Any]] = {
    "pt2.13.cu130": CU130,
    "pt2.13.cu130.sm120": {**CU130, "targets": ("12.0",)},
    "pt2.13.cu130.sm86": {**CU130, "targets": ("8.6",)},
    "pt2.13.cu130.sm86.sm120ptx": {**CU130, "targets": ("8.6", "12.0+PTX")},
    "pt2.13.cu130.sm90a": {**CU130, "targets": ("9.0a",)},
    "pt2.13.cpu": CPU,
    "pt2.9.cu128": {**CU128, "targets": ("7.0", "7.5", "8.0", "8.6", "9.0", "10.0", "12.0+PTX")},
    "pt2.9.cu128.sm86": {**CU128, "targets": ("8.6",)},
    "pt2.10.cu130": {"torch": "2.10.0+cu130", "cuda": "13.0"},
    "cu130": {"torch": "", "cuda": "13.0"},
}
"""Ten builds of one version, by local version."""


@dataclass(frozen=True)
class Index:
    """The running index, what else there is, and the requests that the other index has seen."""

    base: str
    fake: str
    asked: list[str]

    def simple(self, label: str) -> str:
        """The path of a build."""
        return f"{self.base}{label.replace('.cu', '-cu').replace('.sm', '-sm').replace('.cpu', '-cpu')}/simple/"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """Ten variants of version 1.0, a requirement that is nobody's own, and a 99.0 of it all on another index."""
    root = tmp_path_factory.mktemp("index")
    store = Store(root / "cache" / "store")
    for label, fields in BUILDS.items():
        given: dict[str, Any] = {"targets": DECLARED, **fields}
        release = publish(store, root, PROJECT, f"1.0+{label}", requires=["common-part"], **given)
        assert variant_of(release) == label.replace(".cu", "-cu").replace(".sm", "-sm").replace(".cpu", "-cpu")
    publish(store, root, PROJECT, "1.1+pt2.9.cu128", requires=["common-part"], **BUILDS["pt2.9.cu128"], yanked="wrong")
    fakes = {}
    for project, version in ((PROJECT, "99.0"), ("common-part", "2.0")):
        wheel = root / f"{project.replace('-', '_')}-{version}-py3-none-any.whl"
        wheel.write_bytes(wheel_bytes(project, version))
        fakes[project] = [wheel]
    with (
        pages(fakes, root / "fake") as (fake, asked),
        cudabuild(root / "cache", root / "log", "--upstream", fake) as (base, _),
    ):
        yield Index(base, fake, asked)


@pytest.fixture(scope="module")
def pip(tmp_path_factory: pytest.TempPathFactory) -> Pip:
    """Run a version of pip: ``pip("22.3", "install", ...)``. Each is taken from the package index once."""
    root = tmp_path_factory.mktemp("pips")

    def run(version: str, *words: str) -> subprocess.CompletedProcess[str]:
        folder = root / version
        if not folder.is_dir():
            wanted = f"pip=={version}.*" if version == "26" else f"pip=={version}"
            command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--target", str(folder), wanted]
            subprocess.run(command, check=True, capture_output=True)
        env = {**environment(), "PYTHONPATH": str(folder), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
        command = [sys.executable, "-m", "pip", *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    return run


def run_uv(*words: str, cwd: Path | None = None, config: bool = False) -> subprocess.CompletedProcess[str]:
    env = environment()
    if config:  # a project's own pyproject.toml is to be read
        del env["UV_NO_CONFIG"]
    return subprocess.run([uv.find_uv_bin(), *words], env=env, cwd=cwd, capture_output=True, text=True, check=False)


def installed(folder: Path) -> str:
    """The version that the installed module says it is."""
    return (folder / PROJECT.replace("-", "_") / "__init__.py").read_text().split("'")[1]


@pytest.mark.parametrize("version", PIPS)
def test_pip_installs_by_name_and_by_hash(version: str, index: Index, pip: Pip, tmp_path: Path) -> None:
    words = ("install", "--no-cache-dir", "--no-deps", "--index-url", index.simple("pt2.13.cu130.sm120"))
    done = pip(version, *words, "--target", str(tmp_path / "plain"), f"{PROJECT}==1.0")
    assert done.returncode == 0, done.stderr
    assert installed(tmp_path / "plain") == "1.0+pt2.13.cu130.sm120"
    digest = _digest("1.0+pt2.13.cu130.sm120")
    for name, sha256 in (("right", digest), ("wrong", "0" * 64)):
        requirements = tmp_path / f"{name}.txt"
        requirements.write_text(f"{PROJECT}==1.0+pt2.13.cu130.sm120 --hash=sha256:{sha256}\n")
        done = pip(version, *words, "--require-hashes", "--target", str(tmp_path / name), "-r", str(requirements))
        assert (done.returncode == 0) is (name == "right"), done.stderr
    assert installed(tmp_path / "right") == "1.0+pt2.13.cu130.sm120"
    assert "DO NOT MATCH" in done.stderr


def _digest(version: str) -> str:
    return hashlib.sha256(wheel_bytes(PROJECT, version, requires=["common-part"])).hexdigest()


def test_each_path_installs_only_its_own(index: Index, tmp_path: Path) -> None:
    for label in BUILDS:
        folder = tmp_path / label
        words = ("pip", "install", "--no-cache", "--python", sys.executable, "--target", str(folder))
        done = run_uv(*words, "--default-index", index.simple(label), PROJECT)
        assert done.returncode == 0, done.stderr
        assert installed(folder) == f"1.0+{label}"
        assert (folder / "common_part").is_dir()  # by way of this index, from the other one
    assert not [path for path in index.asked if PROJECT in path]


def test_pip_resolves_through_the_index_and_never_asks_elsewhere_for_what_is_owned(
    index: Index, pip: Pip, tmp_path: Path
) -> None:
    for label in ("pt2.9.cu128", "pt2.13.cpu"):
        folder = tmp_path / label
        words = ("install", "--no-cache-dir", "--index-url", index.simple(label), "--target", str(folder), PROJECT)
        done = pip("26", *words)
        assert done.returncode == 0, done.stderr
        assert installed(folder) == f"1.0+{label}"  # not the yanked 1.1, and not the other index's 99.0
    absent = f"{index.base}pt2.13-cu128/simple/"
    done = pip("26", "install", "--no-cache-dir", "--index-url", absent, "--target", str(tmp_path / "none"), PROJECT)
    assert done.returncode != 0
    assert "99.0" not in done.stderr + done.stdout
    assert not [path for path in index.asked if PROJECT in path]


def test_uv_locks_and_installs_from_a_named_explicit_index(index: Index, tmp_path: Path) -> None:
    """The other index is the default one, and has a higher version of the same name."""
    variant = "pt2.13-cu130-sm86"
    project = (
        '[project]\nname = "a-project"\nversion = "1"\nrequires-python = ">=3.10"\n'
        f'dependencies = ["{PROJECT}", "common-part"]\n\n'
        f'[[tool.uv.index]]\nname = "other"\nurl = "{index.fake}"\ndefault = true\n\n'
        f"{uv_index(f'{index.base}{variant}/simple/', variant, PROJECT)}\n"
    )
    (tmp_path / "pyproject.toml").write_text(project)
    words = ("--no-cache", "--python", sys.executable)
    locked = run_uv("lock", *words, cwd=tmp_path, config=True)
    assert locked.returncode == 0, locked.stderr
    lock = (tmp_path / "uv.lock").read_text()
    assert f"sha256:{_digest('1.0+pt2.13.cu130.sm86')}" in lock
    assert "99.0" not in lock
    synced = run_uv("sync", "--locked", "--no-install-project", *words, cwd=tmp_path, config=True)
    assert synced.returncode == 0, synced.stderr
    (site,) = (tmp_path / ".venv").glob("lib/python*/site-packages")
    assert installed(site) == "1.0+pt2.13.cu130.sm86"
    exported = run_uv(
        "export", "--locked", "--no-emit-project", "-o", "requirements.txt", *words, cwd=tmp_path, config=True
    )
    assert exported.returncode == 0, exported.stderr
    hashed = run_uv(
        "pip", "install", *words, "--target", str(tmp_path / "hashed"), "--require-hashes", "-r", "requirements.txt",
        "--no-deps", "--default-index", f"{index.base}{variant}/simple/", cwd=tmp_path,
    )  # fmt: skip
    assert hashed.returncode == 0, hashed.stderr
    assert installed(tmp_path / "hashed") == "1.0+pt2.13.cu130.sm86"
