"""The person's environment and settings, and all that builds share, are the same after a build that tries otherwise.

Once where the guard isolates, and once where the kernel permits no namespaces (for root: without
CAP_SYS_ADMIN), where changes must be found, named, and what is shared made again.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

PACKAGE = Path(__file__).parents[1] / "packages" / "meddler"
HOME = Path(pwd.getpwuid(os.getuid()).pw_dir)
_WITHOUT_RIGHT = ("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin")
# Anyone but root has to be a root of their own making first: else they may still make user namespaces.
NO_NAMESPACES = _WITHOUT_RIGHT if os.geteuid() == 0 else ("unshare", "--user", "--map-root-user", *_WITHOUT_RIGHT)
WORDS = ("--target", "7.5", "--torch", "active", "--no-canary", "--json")


def everything(folder: Path) -> dict[str, tuple[object, ...]]:
    """Mode, size, times, link target and (of small files) content of all below a folder."""
    found: dict[str, tuple[object, ...]] = {}
    for top, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(top, name)
            status = path.lstat()
            if path.is_symlink():
                content = str(path.readlink())
            elif path.is_file() and status.st_size < 1 << 20:
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                content = ""
            size = 0 if path.is_dir() else status.st_size
            found[str(path)] = (status.st_mode, size, status.st_mtime_ns, content)
    return found


def settings() -> dict[str, bytes | None]:
    """The settings that the meddler is after."""
    paths = [HOME / ".pydistutils.cfg", HOME / ".config" / "pip" / "pip.conf"]
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


@pytest.fixture(autouse=True)
def settings_are_put_back() -> Iterator[None]:
    """Whatever goes wrong here: this person's own settings are not to be lost to a test."""
    before = settings()
    yield
    for name, content in before.items():
        path = Path(name)
        if content is None:
            path.unlink(missing_ok=True)
        elif path.read_bytes() != content:
            path.write_bytes(content)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A meddler that no store has."""
    folder = tmp_path / "project"
    shutil.copytree(PACKAGE, folder / "meddler")
    with (folder / "meddler" / "setup.py").open("a", encoding="utf-8") as file:
        file.write(f"# {os.getpid()} {tmp_path}\n")
    return folder


def tries(log: str) -> dict[str, str]:
    """How each try ended: ``wrote ...`` or ``refused ...``."""
    return dict(re.findall(r"^meddled: (\S+): (.*)$", log, re.MULTILINE))


def test_a_build_that_writes_everywhere_changes_nothing(
    cudabuild: Callable[..., Any], torch_environment: Path, project: Path, cache: Path
) -> None:
    before, own = everything(torch_environment), settings()
    assert not [name for name in before if "__pycache__" in name], "the test begins without byte code"
    env = {"VIRTUAL_ENV": str(torch_environment), "PYTHONDONTWRITEBYTECODE": ""}
    done = cudabuild("build", "./meddler", *WORDS, env=env, cwd=project)
    assert done.code == 0, done.err
    assert done.json["guard"]["isolation"] == "namespace"
    log = (cache / "logs" / f"{done.json['build']}.log").read_text(encoding="utf-8")
    ended = tries(log)
    assert len(ended) == 11
    assert {name: text for name, text in ended.items() if "Read-only" not in text} == {}
    assert everything(torch_environment) == before
    assert settings() == own
    assert not list(cache.glob("store/meddled")) + list(cache.glob("views/*/include/meddled.h"))


@pytest.fixture
def own_cache(cache: Path, tmp_path: Path) -> Path:
    """A cache whose environments and views no other build uses: they are going to be damaged."""
    folder = tmp_path / "cache"
    folder.mkdir()
    for name in ("uv", "toolkits"):
        (folder / name).symlink_to(cache / name)
    return folder


def test_without_namespaces_what_is_shared_is_made_again(
    cudabuild: Callable[..., Any], torch_environment: Path, project: Path, own_cache: Path
) -> None:
    env = {"VIRTUAL_ENV": str(torch_environment), "CUDABUILD_CACHE": str(own_cache)}
    meddle = "MEDDLE=environment-changed toolkit-new"
    done = cudabuild("build", "./meddler", *WORDS, "--pass-env", meddle, env=env, cwd=project, prefix=NO_NAMESPACES)
    assert done.code == 5, done.err
    assert done.json["guard"]["isolation"] == "none"
    error = done.json["error"]
    assert error["kind"] == "environment-changed"
    assert re.search(r"a file was changed: .*setuptools/__init__\.py", error["evidence"])
    folder = Path(re.findall(r"wrote into (\S+),", error["message"])[0])
    assert folder.parent == own_cache / "environments"
    assert not folder.exists()
    assert not list(own_cache.glob("views/*/include/meddled.h"))

    before = everything(torch_environment)
    status = next(torch_environment.glob("lib/python*/site-packages/torch/version.py")).stat()
    times = (status.st_atime_ns, status.st_mtime_ns)
    done = cudabuild(
        "build", "./meddler", *WORDS, "--pass-env", "MEDDLE=torch-new torch-changed", env=env, cwd=project,
        prefix=NO_NAMESPACES,
    )  # fmt: skip
    assert (folder / "bin" / "python").exists(), "the environment was made again"
    assert done.code == 5, done.err
    assert done.json["error"]["kind"] == "environment-changed"
    assert "meddled.py" in done.json["error"]["evidence"]
    assert str(torch_environment) in done.json["error"]["message"]
    after = everything(torch_environment)
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert {Path(name).name for name in changed} == {"torch", "meddled.py", "version.py"}, "and nothing else"
    _put_back(torch_environment, times)


def _put_back(environment: Path, times: tuple[int, int]) -> None:
    torch = next(environment.glob("lib/python*/site-packages/torch"))
    (torch / "meddled.py").unlink()
    version = torch / "version.py"
    version.write_text(version.read_text(encoding="utf-8").replace("# meddled\n", ""), encoding="utf-8")
    os.utime(version, ns=times)
