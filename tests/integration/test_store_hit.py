"""What is stored is handed out without network and without starting anything; what was replaced in place is seen."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buildkit.build.admit_entry import check_entry
from buildkit.machine.toolkit import Toolkit
from buildkit.store.store import Store

pytestmark = pytest.mark.integration

PACKAGE = Path(__file__).parents[1] / "packages" / "fastcuda"
DEAD = {
    "UV_OFFLINE": "1",
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "http://127.0.0.1:9",
}
"""No way to any index: a port where nobody listens."""
RECIPE = """
edition = 1
name = "fastcuda"
summary = "compiles in seconds"
license = { spdx = "Apache-2.0", redistributable = true }
status = "unconfirmed"
[[version]]
version = "1.0"
sdist = "fastcuda"
sha256 = "{sha256}"
[build.env-cuda]
FORCE_CUDA = "1"
[verify]
imports = ["fastcuda"]
"""


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe for fastcuda, with a source that no store has."""
    folder = tmp_path_factory.mktemp("recipes")
    source = folder / "fastcuda-1.0"
    shutil.copytree(PACKAGE, source)
    with (source / "setup.py").open("a", encoding="utf-8") as file:
        file.write(f"# {os.getpid()} {folder} {time.time_ns()}\n")
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: fastcuda\nVersion: 1.0\n", encoding="utf-8")
    archive = shutil.make_archive(str(folder / "links" / source.name), "gztar", folder, source.name)
    shutil.rmtree(source)
    (folder / "fastcuda").mkdir()
    sha256 = hashlib.sha256(Path(archive).read_bytes()).hexdigest()
    (folder / "fastcuda" / "recipe.toml").write_text(RECIPE.replace("{sha256}", sha256), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def words(recipes: Path) -> tuple[str, ...]:
    """What all commands here say."""
    places = ("--recipes", str(recipes), "--find-links", str(recipes / "links"))
    return ("fastcuda", *places, "--torch", "2.13.0+cu130", "--no-canary", "--json")


@pytest.fixture(scope="module")
def built(cudabuild: Callable[..., Any], words: tuple[str, ...]) -> dict[str, Any]:
    """The entry that the tests are about: built for two targets."""
    done = cudabuild("build", *words, "--target", "8.6;12.0")
    assert done.code == 0, done.err
    assert done.json["cache"] == "miss"
    return dict(done.json)


def plan(cudabuild: Callable[..., Any], *words: str, **options: Any) -> dict[str, Any]:
    done = cudabuild("plan", *words, "--target", "8.6;12.0", **options)
    assert done.code == 0, done.err
    return dict(done.json)


@pytest.mark.parametrize("receipt", [True, False], ids=["receipt", "whole way"])
def test_hit_starts_nothing_and_needs_no_network(
    cudabuild: Callable[..., Any],
    words: tuple[str, ...],
    built: dict[str, Any],
    cache: Path,
    tmp_path: Path,
    receipt: bool,
) -> None:
    words = ("build", *words, "--target", "8.6;12.0")
    assert cudabuild(*words, env=DEAD).json["cache"] == "hit"  # leaves a receipt for these words and variables
    if not receipt:
        shutil.rmtree(cache / "receipts", ignore_errors=True)
    trace = tmp_path / "trace"
    strace = ("strace", "-f", "-qq", "-e", "trace=execve,connect,openat", "-o", str(trace))
    done = cudabuild(*words, env=DEAD, prefix=strace)
    assert done.code == 0, done.err
    assert done.json["cache"] == "hit"
    assert done.json["guard"] is None
    assert (done.json["key"], done.json["build"]) == (built["key"], built["build"])
    assert done.json["wheel"]["sha256"] == built["wheel"]["sha256"]
    said = trace.read_text(encoding="utf-8", errors="replace")
    assert len(re.findall(r"execve\(.* = 0$", said, re.MULTILINE)) == 1, "only itself"
    assert not re.findall(r"connect\(.*AF_INET", said)
    assert "site-packages/torch/__init__" not in said
    assert not re.findall(r"site-packages/torch/lib/.*\.so", said)


def test_superset_serves_and_is_said(
    cudabuild: Callable[..., Any], words: tuple[str, ...], built: dict[str, Any]
) -> None:
    planned = cudabuild("plan", *words, "--target", "12.0").json
    assert planned["cache"] == "superset"
    assert "8.6;12.0" in planned["prediction"]["note"]
    done = cudabuild("build", *words, "--target", "12.0")
    assert done.code == 0, done.err
    assert done.json["cache"] == "hit"
    assert done.json["wheel"]["sha256"] == built["wheel"]["sha256"]
    assert [note for note in done.json["notes"] if "more targets: 8.6;12.0" in note]
    more = cudabuild("plan", *words, "--target", "8.6;12.0+PTX").json
    assert more["cache"] == "miss", "PTX is a target of its own"


def test_plan_says_which_field_differs(
    cudabuild: Callable[..., Any], words: tuple[str, ...], built: dict[str, Any]
) -> None:
    found = plan(cudabuild, *words, "--pass-env", "CFLAGS=-O1")
    assert found["cache"] == "miss"
    assert found["prediction"]["differs"] == ["environment.CFLAGS: (unset) -> -O1"]
    assert found["prediction"]["entry"] == built["key"]


def test_what_cannot_change_the_wheel_is_a_hit(
    cudabuild: Callable[..., Any], words: tuple[str, ...], built: dict[str, Any]
) -> None:
    more = ["--jobs", "1", "--memory", "7GiB", "--timeout", "77m", "--stall-timeout", "3m", "--require", "audited"]
    env = {"CFLAGS": "-O1", "MAX_JOBS": "7", "SOME_TOKEN": "x", "PYTHONHASHSEED": "5"}
    found = plan(cudabuild, *words, *more, env=env)
    assert (found["cache"], found["key"]) == ("hit", built["key"])


def test_nvcc_replaced_in_place_is_another_toolkit(
    cudabuild: Callable[..., Any], words: tuple[str, ...], built: dict[str, Any], wheel_toolkit: Toolkit, tmp_path: Path
) -> None:
    home = tmp_path / "cuda"
    shutil.copytree(wheel_toolkit.root, home, copy_function=os.symlink)
    nvcc = home / "bin" / "nvcc"
    nvcc.unlink()
    shutil.copy2(wheel_toolkit.root / "bin" / "nvcc", nvcc)
    first = plan(cudabuild, *words, "--cuda-home", str(home))
    assert plan(cudabuild, *words, "--cuda-home", str(home))["key"] == first["key"]
    before = nvcc.stat()
    with nvcc.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    os.utime(nvcc, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (nvcc.stat().st_size, nvcc.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    second = plan(cudabuild, *words, "--cuda-home", str(home))
    assert second["key"] != first["key"]
    changed = {name for name, value in second["inputs"].items() if value != first["inputs"][name]}
    assert changed == {"toolkit"}


def test_torch_replaced_in_place_is_another_torch(
    cudabuild: Callable[..., Any], words: tuple[str, ...], built: dict[str, Any], torch_environment: Path
) -> None:
    words = ("plan", *words, "--target", "12.0", "--torch", "active")
    env = {"VIRTUAL_ENV": str(torch_environment)}
    first = cudabuild(*words, env=env).json
    version = next(torch_environment.glob("lib/python*/site-packages/torch/version.py"))
    before, text = version.stat(), version.read_text(encoding="utf-8")
    revision = re.findall(r"git_version = '([0-9a-f]+)'", text)[0]
    try:
        version.write_text(text.replace(revision, revision[::-1]), encoding="utf-8")
        os.utime(version, ns=(before.st_atime_ns, before.st_mtime_ns))
        second = cudabuild(*words, env=env).json
    finally:
        version.write_text(text, encoding="utf-8")
        os.utime(version, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert second["key"] != first["key"]
    assert {name for name, value in second["inputs"].items() if value != first["inputs"][name]} == {"torch"}
    assert cudabuild(*words, env=env).json["key"] == first["key"]


def test_flipped_byte_is_quarantined_and_built_again(
    cudabuild: Callable[..., Any], words: tuple[str, ...], built: dict[str, Any], cache: Path
) -> None:
    digest = built["wheel"]["sha256"]
    (blob,) = (path for path in cache.glob("store/blobs/sha256/*/*") if path.name.startswith(digest))
    before = blob.stat()
    blob.chmod(0o644)
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))
    done = cudabuild("build", *words, "--target", "8.6;12.0")
    assert done.code == 0, done.err
    assert done.json["cache"] == "miss"
    assert done.json["key"] == built["key"]
    assert "quarantine" in done.err
    store = Store(cache / "store")
    entry = store.get(built["key"]).entry
    assert entry is not None
    assert check_entry(entry, store.wheel(entry)) == []
