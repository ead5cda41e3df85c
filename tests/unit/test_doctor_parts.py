"""What doctor is made of: the kind of place, Windows, the index, what a build would be held by, redaction."""

from __future__ import annotations

import base64
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from buildkit.build.doctor.redact import Redactor, redactor_for
from buildkit.build.doctor.subject import Subject
from buildkit.errors import MachineError
from buildkit.guard import native, tier
from buildkit.guard.native import existing_supervisor, supervisor_program
from buildkit.guard.tier import permitted_tier
from buildkit.machine.compiler import glibc_version
from buildkit.machine.identity import Memo
from buildkit.machine.place import read_surroundings, without_windows_drives
from buildkit.machine.windows import POWERSHELL, given_by, read_windows, wslconfig
from buildkit.recipe.model import Patch
from buildkit.source.index_settings import IndexSettings
from buildkit.source.reach import Reach, reach

GIB = 1 << 30


def put(root: Path, **files: str) -> Path:
    for name, text in files.items():
        file = root / name.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return root


# places


@pytest.mark.parametrize(
    ("kernel", "wsl2"),
    [
        ("5.15.167.4-microsoft-standard-WSL2", True),
        ("4.19.104-microsoft-standard", True),
        ("4.4.0-19041-Microsoft", False),
        ("6.8.0-45-generic", False),
        ("", False),
    ],
)
def test_wsl2_is_told_by_its_kernel(tmp_path: Path, kernel: str, wsl2: bool) -> None:
    put(tmp_path, proc__sys__kernel__osrelease=f"{kernel}\n")
    found = read_surroundings({}, root=tmp_path)
    assert (found.wsl2, found.place) == (wsl2, "wsl2" if wsl2 else "linux")


OVERLAY = "602 481 0:51 / / rw,relatime master:249 - overlay overlay rw,lowerdir=/x\n"
DISK = "25 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n26 25 0:23 / /var/lib/docker rw - overlay overlay rw\n"


@pytest.mark.parametrize(
    ("files", "environ", "container"),
    [
        ({"_dot_dockerenv": ""}, {}, "Docker"),
        ({"run___dot_containerenv": ""}, {}, "Podman"),
        ({}, {"container": "lxc"}, "lxc"),
        ({}, {"APPTAINER_CONTAINER": "/x.sif"}, "Apptainer"),
        ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "Kubernetes"),
        ({"proc__1__cgroup": "0::/kubepods.slice/pod1"}, {}, "a container"),
        ({"proc__self__mountinfo": OVERLAY}, {}, "a container"),
        ({"proc__self__mountinfo": DISK, "proc__1__cgroup": "0::/init.scope"}, {}, ""),
    ],
)
def test_containers(tmp_path: Path, files: dict[str, str], environ: dict[str, str], container: str) -> None:
    found = read_surroundings(environ, root=put(tmp_path, **files))
    assert (found.container, found.place) == (container, "container" if container else "linux")


def test_slurm_is_a_job_or_a_login_node(tmp_path: Path) -> None:
    job = read_surroundings({"SLURM_JOB_ID": "17"}, root=tmp_path)
    assert (job.slurm, job.slurm_job, job.place) == (True, "17", "slurm")
    (tmp_path / "sbatch").touch(mode=0o755)
    login = read_surroundings({"PATH": str(tmp_path)}, root=tmp_path)
    assert (login.slurm, login.slurm_job, login.place) == (True, "", "slurm")


def test_a_jetson_by_its_release_or_its_device_tree(tmp_path: Path) -> None:
    put(tmp_path, **{"proc__device-tree__compatible": "nvidia,p3737-0000\0nvidia,tegra234\0"})
    assert read_surroundings({}, root=tmp_path).jetson == "Jetson"
    put(tmp_path, etc__nv_tegra_release="# R35 (release), REVISION: 4.1, GCID: 1\n")
    found = read_surroundings({"SLURM_JOB_ID": "1"}, root=tmp_path)
    assert (found.jetson, found.place) == ("L4T 35.4.1", "jetson")


def test_the_distribution_names_itself(tmp_path: Path) -> None:
    assert read_surroundings({}, root=tmp_path).system == "Linux"
    put(tmp_path, usr__lib__os_dash_release="").joinpath("etc").mkdir()
    (tmp_path / "etc/os-release").write_text('ID=debian\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n', "utf-8")
    assert read_surroundings({}, root=tmp_path).system == "Debian GNU/Linux 12 (bookworm)"


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/usr/bin:/mnt/c/Windows:/mnt/d", "/usr/bin"),
        ("/mnt/data/bin:/mnt/wsl/x:/usr/bin", "/mnt/data/bin:/mnt/wsl/x:/usr/bin"),
        ("", ""),
    ],
)
def test_windows_drives_are_taken_from_a_path(path: str, kept: str) -> None:
    assert without_windows_drives(path) == (kept, path.count(":") - kept.count(":") + (not kept and bool(path)))


def test_glibc_of_another_root(tmp_path: Path) -> None:
    with pytest.raises(MachineError):
        glibc_version(tmp_path)
    put(tmp_path, **{"usr__lib__x86_64-linux-gnu__libc_dot_so_dot_6": "\0stable release version 2.31.\n\0"})
    assert glibc_version(tmp_path) == "2.31"


# Windows


@pytest.mark.parametrize(
    ("gib", "lines"),
    [
        (63.8, ("[wsl2]", "memory=48GB", "swap=16GB")),
        (31.7, ("[wsl2]", "memory=24GB", "swap=8GB")),
        (15.9, ("[wsl2]", "memory=12GB", "swap=4GB")),
        (7.9, ("[wsl2]", "memory=4GB", "swap=2GB")),
        (3.9, ("[wsl2]", "memory=1GB", "swap=2GB")),
    ],
)
def test_a_wslconfig_leaves_windows_its_share(gib: float, lines: tuple[str, ...]) -> None:
    assert wslconfig(round(gib * GIB)) == lines
    assert given_by(lines) < gib * GIB


def test_windows_tells_what_it_has_and_gives(tmp_path: Path) -> None:
    memo = Memo(tmp_path / "memo")
    program = tmp_path / POWERSHELL
    assert read_windows({}, memo, root=tmp_path, patience=5.0).memory is None
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "$4" >&2\nprintf "17179869184\\r\\n"\n', "utf-8")
    program.chmod(0o755)
    config = tmp_path / "mnt/c/Users/Ann Other/.wslconfig"
    config.parent.mkdir(parents=True)
    config.write_text("[wsl2]\nprocessors=4\nmemory = 8GB\n", "utf-8")
    found = read_windows(dict(os.environ), memo, root=tmp_path, patience=30.0)
    assert (found.memory, found.given) == (16 * GIB, 8 * GIB)


# the index


class Index(BaseHTTPRequestHandler):
    """Answers as the path says; notes who asked."""

    asked: list[tuple[str, str, str]] = []  # noqa: RUF012 - the server makes one handler for each question

    def do_HEAD(self) -> None:
        """``/401/`` answers with 401."""
        self.asked.append((self.command, self.path, self.headers.get("Authorization", "")))
        word = self.path.strip("/").partition("/")[0]
        self.send_response(int(word) if word.isdigit() else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def index() -> Iterator[str]:
    """A local index; its address without the scheme."""
    Index.asked.clear()
    with HTTPServer(("127.0.0.1", 0), Index) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def never(*_: object) -> str:
    raise AssertionError("the default index is not to be asked")


def settings(*urls: str, **more: Any) -> IndexSettings:
    return IndexSettings(index_url=urls[0] if urls else None, extra_index_urls=urls[1:], **more)


def test_an_index_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with index() as place:
        assert reach(settings(f"http://{place}/simple/"), 30.0, never) == Reach("answers")
        assert reach(settings(f"http://{place}/404/"), 30.0, never) == Reach("answers")
        broken = reach(settings(f"http://{place}/503/"), 30.0, never)
        assert broken == Reach("silent", f"http://{place}/503/: HTTP 503")
        both = reach(settings(f"http://{place}/", f"http://{place}/401/"), 30.0, never)
        assert both == Reach("partly", f"http://{place}/401/: HTTP 401, it wants a login")


def test_a_login_travels_in_a_header_and_is_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with index() as place:
        found = reach(settings(f"http://ann:s3cr%40t@{place}/403/"), 30.0, never)
        login = base64.b64encode(b"ann:s3cr@t").decode()
        assert Index.asked == [("HEAD", "/403/", f"Basic {login}")]
        assert "s3cr" not in repr(found)


def test_nobody_there_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        refused = reach(settings(f"http://127.0.0.1:{closed.getsockname()[1]}/"), 30.0, never)
    assert (refused.outcome, refused.slow) == ("silent", False)
    assert "refused" in refused.detail
    assert reach(settings(tmp_path.as_uri()), 1.0, never) == Reach("answers")
    assert reach(settings(f"{tmp_path}/no"), 1.0, never).detail == f"{tmp_path}/no: there is no such folder"
    for wrong in ("http://[index/", "file://[index/"):
        assert reach(settings(wrong), 30.0, never) == Reach("silent", f"{wrong}: Invalid IPv6 URL")
    links = settings(no_index=True, find_links=(str(tmp_path),))
    assert reach(links, 1.0, never) == Reach("answers")
    assert reach(settings(no_index=True), 1.0, never).outcome == "none"


def test_who_accepts_and_says_nothing_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        place = f"http://127.0.0.1:{mute.getsockname()[1]}/"
        assert reach(settings(place), 0.05, never) == Reach("silent", f"{place}: no answer within 0.05 s", slow=True)


def test_folders_are_looked_at_without_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        place = f"http://127.0.0.1:{mute.getsockname()[1]}/"
        links = (str(tmp_path), f"{tmp_path}/no")
        found = reach(settings(place, find_links=links), 0.05, never)
    late, missing = f"{place}: no answer within 0.05 s", f"{tmp_path}/no: there is no such folder"
    assert found == Reach("partly", f"{late}; {missing}", slow=True)


def test_the_default_index_is_asked_for_once(tmp_path: Path) -> None:
    """Not the index itself: what it is called. It is taken from what was remembered."""
    asked: list[str] = []

    def remember(kind: str, file: Path, find: Callable[[], str]) -> str:
        asked.append(kind)
        assert file.is_file()
        assert file.parent.name == "unearth"
        return tmp_path.as_uri()

    assert reach(IndexSettings(), 1.0, remember) == Reach("answers")
    assert asked == ["default-index"]


# what a build would be held by


def test_the_tier_is_what_the_supervisor_says(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor_program()
    found = permitted_tier(os.environ, 30.0)
    assert (found.containment is None) is (found.isolation is None) is bool(found.note)
    assert found.containment is not None
    monkeypatch.setenv("CUDABUILD_CONTAINMENT", "subreaper")
    assert permitted_tier(os.environ, 30.0).containment == "subreaper"


def test_to_look_compiles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_PACKAGE", native._PACKAGE.parent / "buildkit")
    if not os.access(native._PACKAGE / "_native" / native.PROGRAM, os.X_OK):
        assert existing_supervisor(tmp_path) is None
    monkeypatch.setattr(tier, "existing_supervisor", lambda: None)
    assert "before the first build" in permitted_tier(os.environ, 1.0).note
    assert list(tmp_path.iterdir()) == []


# the package's C++ standard


def patch(**values: Any) -> Patch:
    return Patch.model_validate({"reason": "why", **values})


RAISED = patch(rewrite={"files": ["setup.py"], "find": r"-std=c\+\+1[47]\b", "replace": "-std=c++20"})


@pytest.mark.parametrize(
    ("standards", "patches", "cxx"),
    [
        ((), (), None),
        (("-std=c++14",), (), 14),
        (("-std=c++14", "-std=gnu++17"), (), 17),
        (("-std=c++2a",), (), 20),
        (("-std=c++latest",), (), None),
        (("-std=c++14",), (RAISED,), 20),
        (("-std=c++14",), (RAISED.model_copy(update={"when": "torch >= 2.14"}),), 14),
    ],
)
def test_the_standard_after_the_patches(
    standards: tuple[str, ...], patches: tuple[Patch, ...], cxx: int | None
) -> None:
    assert Subject("x", standards=standards, patches=patches).cxx({"torch": "2.13.0"}) == cxx


def test_a_diff_that_changes_the_standard_leaves_it_open(tmp_path: Path) -> None:
    (tmp_path / "p.patch").write_text("+  '-std=c++17',\n", "utf-8")
    subject = Subject("x", standards=("-std=c++14",), patches=(patch(file="p.patch"),), folder=tmp_path)
    assert subject.cxx({}) is None


# redaction


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    environ = {
        "USER": "annabel",
        "HOME": "/srv/people/annabel",
        "HOSTNAME": "box.lab.example",
        "MY_TOKEN": "qwertyuiop",
        "HF_TOKEN": "short",
    }
    return redactor_for(
        environ,
        user="annabel",
        home="/srv/people/annabel",
        host="box",
        urls=["https://x:geheim99@files.example/simple"],
    )


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("/srv/people/annabel/x.cu:3: error", "~/x.cu:3: error"),
        ("/home/bob/x and /Users/eve/y and /mnt/c/Users/eve", "~/x and ~/y and /mnt/c~"),
        ("/root/.cache/x, /rootless", "~/.cache/x, /rootless"),
        ("annabel@box: annabelle", "USER@HOST: annabelle"),
        ("on box.lab.example", "on HOST"),
        ("https://a:b@other.example:8080/simple/x", "https://HOST/simple/x"),
        ("git+ssh://git@github.example/x", "git+ssh://HOST/x"),
        ("git@github.example:org/repo", "USER@HOST:org/repo"),
        ("file:///opt/wheels", "file:///opt/wheels"),
        ("HTTPConnectionPool(host='pkg.corp.example', port=443)", "HTTPConnectionPool(host='HOST', port=443)"),
        ("C:\\Users\\Eve\\x.cu(3)", "C:~\\x.cu(3)"),
        ("ssh: Could not resolve hostname git.corp.example: no", "ssh: Could not resolve hostname HOST: no"),
        ("the host compiler gcc-11.4 of this hostname", "the host compiler gcc-11.4 of this hostname"),
        ("geheim99 qwertyuiop", "*** ***"),
        ("a short word", "a short word"),
        ('"api_key": "abcd1234"', '"api_key": "***"'),
        ("Authorization: Bearer abcd.efgh", "Authorization: Bearer ***"),
        ("hf_0123456789abcdefXYZ", "***"),
        ("mail ann@lab.example now", "mail MAIL now"),
        ("from 192.168.10.20 port 22", "from ADDRESS port 22"),
        ("GPU-8f2c1d3e-1111-2222-3333-444455556666", "GPU-UUID"),
        # what has to stay as it is
        ("nvcc 12.8.93, V12.8.93, libcudart.so.12.8.90", "nvcc 12.8.93, V12.8.93, libcudart.so.12.8.90"),
        ("torch.utils.cpp_extension, 550.54.15, 2.13.0+cu130", "torch.utils.cpp_extension, 550.54.15, 2.13.0+cu130"),
        ("cuda-12.8.1.3-1 [with T = int] a.cu(3): error", "cuda-12.8.1.3-1 [with T = int] a.cu(3): error"),
    ],
)
def test_redaction(redactor: Redactor, text: str, clean: str) -> None:
    assert redactor.clean(text) == clean


def test_names_that_say_nothing_stay() -> None:
    redactor = redactor_for({"USER": "root"}, user="root", home="/", host="localhost")
    assert redactor.clean("the root of /usr on localhost") == "the root of /usr on localhost"
