"""Images that are built for real, and Dockerfiles that the linter of this trade accepts.

The base is made by debootstrap and built upon by buildah in a chroot: no engine is needed, but root is. What pip gets
comes from an index on loopback that wants a password.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from buildah import BASE, Buildah, holding, make_base
from images import IMAGES, make_wheel, put_wheel, write_recipe
from index_servers import cudabuild as cudabuild_index

from buildkit.build.places import Places
from buildkit.docker.texts import texts
from buildkit.store.release import Release
from buildkit.store.store import Store

pytestmark = pytest.mark.integration

HADOLINT = str(Path(sys.executable).with_name("hadolint"))
PLANTED = "planted-0f3a9c-secret"
"""The password of the index: it is used by every step that asks it, and may be left nowhere."""
CREDENTIALS = base64.b64encode(f"person:{PLANTED}".encode()).decode()
MODULE = """\
#define Py_LIMITED_API 0x03080000
#include <Python.h>
#ifdef WITH_DRIVER
int cuInit(unsigned flags);
#define ANSWER cuInit(0)
#else
#define ANSWER 42
#endif
static PyObject *answer(PyObject *self, PyObject *none) { return PyLong_FromLong(ANSWER); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, 0}, {0}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, MODULE_NAME, 0, -1, methods};
PyMODINIT_FUNC INIT(void) { return PyModule_Create(&definition); }
"""


def compiled(folder: Path, name: str, *, driver: bool = False) -> bytes:
    """An extension module for every Python 3, linked to the GPU's driver if that is wanted."""
    from sysconfig import get_path

    folder.mkdir()
    (folder / "module.c").write_text(MODULE, encoding="utf-8")
    command = ["cc", "-shared", "-fPIC", "-o", "module.so", f'-DMODULE_NAME="{name}"', f"-DINIT=PyInit_{name}"]
    command += ["-I", get_path("include"), "module.c"]
    if driver:
        (folder / "stub.c").write_text("int cuInit(unsigned flags) { return 0; }\n", encoding="utf-8")
        stub = ["cc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", "libcuda.so", "stub.c"]
        subprocess.run(stub, cwd=folder, check=True)
        command += ["-DWITH_DRIVER", "-L.", "-lcuda"]
    subprocess.run(command, cwd=folder, check=True)
    return (folder / "module.so").read_bytes()


class Guarded(SimpleHTTPRequestHandler):
    """Answers who has the password; keeps what was asked for."""

    asked: list[str]

    def do_GET(self) -> None:
        """A file or a folder, or the question for the password."""
        self.asked.append(self.path)
        if self.headers.get("Authorization") == f"Basic {CREDENTIALS}":
            super().do_GET()
        else:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nobody reads it."""


@dataclass(frozen=True)
class World:
    """An index that has everything but the compiled package, and what a build is given."""

    folder: Path
    url: str
    asked: list[str]
    secrets: dict[str, Path]

    def put(self, page: str, wheel: Path) -> None:
        """Show a wheel on a project's page."""
        project = re.sub("[-_.]+", "-", wheel.name.split("-")[0]).lower()
        (self.folder / page / project).mkdir(parents=True, exist_ok=True)
        shutil.copy2(wheel, self.folder / page / project)


@pytest.fixture(scope="module")
def buildah(cache: Path) -> Iterator[Buildah]:
    """With the base image, which stays for the next session; images of tests are taken away."""
    found = Buildah(cache / "images")
    make_base(found)
    yield found
    names = found.run("images", "--format", "{{.ID}} {{.Name}}").stdout.splitlines()
    for image in [line.split()[0] for line in names if not line.endswith(BASE)]:
        found.run("rmi", "--force", image, check=False)
    shutil.rmtree(found.root / "tmp", ignore_errors=True)


@pytest.fixture(scope="module")
def tools(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """pip and setuptools as wheels, by the person's own index; kept for the next session."""
    kept = cache / "image-tools"
    if not list(kept.glob("setuptools-*.whl")):
        environment = tmp_path_factory.mktemp("downloader") / "venv"
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        download = [str(environment / "bin/pip"), "download", "-q", "--no-deps", "--dest", str(kept)]
        subprocess.run([*download, "pip>=24", "setuptools>=70"], check=True)
    return sorted(kept.glob("*.whl"))


@pytest.fixture(scope="module")
def world(tools: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    asked: list[str] = []
    handler = functools.partial(type("Handler", (Guarded,), {"asked": asked}), directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        secrets = {"netrc": folder.with_name("netrc"), "pipconf": folder.with_name("pip.conf")}
        secrets["netrc"].write_text(f"machine 127.0.0.1 login person password {PLANTED}\n", encoding="utf-8")
        secrets["pipconf"].write_text(f"[global]\nindex-url = {url}/simple\nretries = 0\n", encoding="utf-8")
        found = World(folder, url, asked, secrets)
        for wheel in [*tools, *plain_wheels(folder / "made")]:
            found.put("simple", wheel)
        yield found
        server.shutdown()


def plain_wheels(folder: Path) -> Iterator[Path]:
    """What the index has beside: two versions of a dependency, and the compiled package's name with a high version."""
    for version in ("1.0", "2.0"):
        yield make_wheel(folder, f"dependency-{version}-py3-none-any.whl", code=f"VERSION = '{version}'\n")
    yield make_wheel(folder, "other-1.0-py3-none-any.whl", requires=["dependency"])
    yield make_wheel(folder, "extension-9.0-py3-none-any.whl", code="raise SystemExit('somebody else')\n")
    yield make_wheel(folder, "torch-2.13.0-py3-none-any.whl", code="__version__ = '2.13.0+cu130'  # as torch's own\n")


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with requirements, recipes, and a store with the wheels of ``kernel`` and ``linked``."""
    folder = tmp_path_factory.mktemp("person")
    store = Store(Places(folder / "cache").store)
    for name, more in (("kernel", ""), ("linked", "[runtime]\ndriver = true\n")):
        write_recipe(folder / "recipes", name, more=more)
        extension = compiled(folder / name, name, driver=bool(more))
        filename = f"{name}-1.0+cpu-cp38-abi3-linux_x86_64.whl"
        wheel = make_wheel(folder / "made", filename, requires=["dependency<2"], extension=extension)
        put_wheel(store, wheel, name, torch="")
    write_recipe(folder / "recipes", "extension", torch=True)
    (folder / "requirements.txt").write_text("other\ndependency\n", encoding="utf-8")
    return folder


Docker = Callable[..., Path]


@pytest.fixture(scope="module")
def python(buildah: Buildah) -> str:
    """The Python of the base image: "3.11"."""
    return buildah.run_in(BASE, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()


@pytest.fixture
def docker(person: Path, python: str, cudabuild: Callable[..., Any], tmp_path: Path) -> Docker:
    """``docker("kernel", "--style", ...)``: what the command writes into a folder with the requirements."""

    def write(*words: str) -> Path:
        context = tmp_path / "context"
        shutil.copytree(person / "recipes", context / "recipes")
        shutil.copy2(person / "requirements.txt", context)
        common = ["--base", BASE, "--recipes", "recipes", "--requirements", "requirements.txt"]
        done = cudabuild("docker", *words, *common, "--out", ".", "--python", python, cwd=context,
                         env={"CUDABUILD_CACHE": str(person / "cache")})  # fmt: skip
        assert done.code == 0, done.err
        return context

    return write


def released(store: Store, wheel: Path) -> None:
    """Store a wheel for 8.6 under its name, as an upload does."""
    data = wheel.read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read("extension-1.0+pt2.13.cu130.sm86.dist-info/METADATA")
    release = Release(
        filename=wheel.name,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        project="extension",
        version="1.0+pt2.13.cu130.sm86",
        created="2026-11-21T10:00:00.000000Z",
        metadata_sha256=hashlib.sha256(metadata).hexdigest(),
        torch="2.13.0+cu130",
        cuda="13.0",
        device="cuda",
        targets=("8.6",),
        python="cp38",
        origin="upload",
    )
    store.publish(wheel, release)


def token_file(path: Path) -> Path:
    """One in which the planted password is a reader's token."""
    digest = hashlib.sha256(PLANTED.encode()).hexdigest()
    token = {"name": "reader", "sha256": digest, "scopes": ["read"], "created": "2026-11-21T10:00:00.000000Z"}
    path.write_text(json.dumps({"schema": 1, "tokens": [token]}), encoding="utf-8")
    path.chmod(0o600)
    return path


LATER = """
RUN --mount=type=secret,id=netrc,target=/root/.netrc --mount=type=secret,id=pipconf,target=/etc/pip.conf \\
    python -m pip install --upgrade dependency other \\
    && python -m pip freeze | grep -x dependency==1.0 \\
    && ! python -m pip install dependency==2.0
"""
"""What people add later: an upgrade leaves the pin alone, a demand for another version fails."""


def in_no_layer(buildah: Buildah, image: str, log: str, folder: Path) -> None:
    """The secret is neither in a layer nor in the configuration, its history or the log; what is there is found."""
    exported = buildah.exported(image, folder / "exported")
    found = holding(exported, PLANTED, CREDENTIALS, "answered by other", "PIP_CONSTRAINT")
    assert found["answered by other"] != []
    assert "configuration" in found["PIP_CONSTRAINT"]
    assert found[PLANTED] == found[CREDENTIALS] == []
    assert PLANTED not in log
    assert CREDENTIALS not in log


def test_an_image_from_a_wheelhouse(buildah: Buildah, world: World, docker: Docker, tmp_path: Path) -> None:
    context = docker("kernel", "linked", "--variant", "cpu")
    with (context / "Dockerfile").open("a", encoding="utf-8") as file:
        file.write(LATER)
    log = buildah.build(context, "localhost/wheelhouse", secrets=world.secrets)
    assert "kernel: imported" in log
    assert "linked: not possible here: no GPU driver is there while an image is built (libcuda.so.1" in log
    code = "import kernel, dependency; print(kernel.__file__, kernel.answer(), dependency.VERSION)"
    assert buildah.run_in("localhost/wheelhouse", "python", "-c", code).split()[1:] == ["42", "1.0"]
    kept = buildah.run_in("localhost/wheelhouse", "cat", "/opt/venv/constraints.txt").splitlines()
    assert [line for line in kept if not line.startswith(("pip=", "setuptools="))] == [
        "dependency==1.0", "kernel==1.0+cpu", "linked==1.0+cpu", "other==1.0",
    ]  # fmt: skip
    in_no_layer(buildah, "localhost/wheelhouse", log, tmp_path)


def test_an_image_from_an_index_on_loopback(buildah: Buildah, world: World, docker: Docker, tmp_path: Path) -> None:
    """Ours, which wants a token. Beside a torch that only says which one it is; a higher version under the name lies
    on the other index."""
    name = "extension-1.0+pt2.13.cu130.sm86-cp38-abi3-linux_x86_64.whl"
    extension = compiled(tmp_path / "extension", "extension")
    wheel = make_wheel(tmp_path, name, requires=["dependency<2", "torch==2.13.*"], extension=extension)
    released(Store(tmp_path / "cache" / "store"), wheel)
    tokens = token_file(tmp_path / "tokens.json")
    world.asked.clear()
    with cudabuild_index(tmp_path / "cache", tmp_path / "log", "--private", "--tokens", str(tokens)) as (url, _):
        assert httpx2.get(f"{url}pt2.13-cu130-sm86/simple/extension/").status_code == 401
        context = docker("extension", "--variant", "pt2.13-cu130-sm86", "--style", "index", "--index", url)
        assert not (context / "wheelhouse").exists()
        log = buildah.build(context, "localhost/index", secrets=world.secrets)
    assert "extension: imported" in log
    assert not any("extension-" in path for path in world.asked)
    code = (
        "import os, extension, torch; print(extension.answer(), torch.__version__, os.environ['TORCH_CUDA_ARCH_LIST'])"
    )
    assert buildah.run_in("localhost/index", "python", "-c", code) == "42 2.13.0+cu130 8.6\n"
    in_no_layer(buildah, "localhost/index", log, tmp_path)


def test_a_wheel_that_is_not_the_one_that_was_proven_is_not_installed(
    buildah: Buildah, world: World, docker: Docker
) -> None:
    context = docker("kernel", "--variant", "cpu")
    (wheel,) = (context / "wheelhouse").glob("*.whl")
    make_wheel(context / "wheelhouse", wheel.name, code="ANSWER = 'changed'\n", requires=["dependency<2"])
    file = context / "Dockerfile"
    # An instruction of its own: this buildah does not look into mounts, and would take what it has of the others.
    file.write_text(file.read_text().replace("# One resolution", "ENV ANEW=1\n# One resolution"), encoding="utf-8")
    log = buildah.build(context, "localhost/changed", secrets=world.secrets, check=False)
    assert "DO NOT MATCH THE HASHES" in log
    assert not buildah.has("localhost/changed")


def test_hadolint_finds_nothing(tmp_path: Path) -> None:
    """In every instruction that there is; a file takes a fifth of a second, so few that hold all of them are read."""
    parts = {image: set(texts(image)[0].text.split("\n\n")[1:]) for image in IMAGES}
    left = set[str]().union(*parts.values())
    files: list[str] = []
    while left:
        image = max(IMAGES, key=lambda image: len(parts[image] & left))
        left -= parts[image]
        files.append(str(tmp_path / f"Dockerfile.{len(files)}"))
        Path(files[-1]).write_text(texts(image)[0].text, encoding="utf-8")
    assert 10 < len(files) < 40
    done = subprocess.run([HADOLINT, "--no-color", *files], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN pip install numpy && sudo true\n", encoding="utf-8")
    command = [HADOLINT, "--no-color", str(tmp_path / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert {"DL3006", "DL3013", "DL3004"} <= set(re.findall(r"DL\d+", done.stdout))
    assert done.returncode == 1
