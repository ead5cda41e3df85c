"""``cudabuild toolkit``: what people type and read, against a real local server; and builds that take what came."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from archive_mirror import Mirror, components, serving

from buildkit.build.places import Places
from buildkit.build.survey import Machine
from buildkit.build.toolkit_choice import choose_toolkit, no_toolkit, other_torch, preferred
from buildkit.build.toolkit_view import make_view
from buildkit.build.toolkits import install_toolkit, toolkits_here
from buildkit.cli.main import main
from buildkit.cli.options import Asked, make_context
from buildkit.errors import IncompleteToolkit, NoToolkit
from buildkit.machine import toolkit_search
from buildkit.machine.gpus import Gpus
from buildkit.machine.place import jetson_release
from buildkit.machine.toolkit import Toolkit
from buildkit.plan.request import Request
from buildkit.progress import Silent
from buildkit.source import downloads
from buildkit.store import in_use


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_machine: None) -> Iterator[Mirror]:
    """A server that the settings name, on a machine that has no toolkits but those below ``root``."""
    candidates = toolkit_search.toolkit_candidates

    def below(environ: Mapping[str, str], cuda_home: Path | None, *, root: Path) -> list[toolkit_search.Candidate]:
        named = {name: value for name, value in environ.items() if name == "CUDA_HOME"}
        return candidates(named, cuda_home, root=tmp_path / "root")

    monkeypatch.setattr("buildkit.machine.toolkit.toolkit_candidates", below)
    monkeypatch.setattr(downloads, "PAUSE", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_DIR", "/nonexistent/certificates")  # to read all of the system's takes 0.2 s
    for name in ("CUDA_HOME", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    with serving() as served:
        served.publish()
        monkeypatch.setenv("CUDABUILD_TOOLKIT_ARCHIVES", served.address)
        yield served


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command; its exit code, and what it said on each stream."""

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["toolkit", *words])
        in_use.let_go()  # as the end of its process does
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


Said = Callable[..., tuple[int, str, str]]


def system_toolkit(root: Path, release: str, *, without: str = "") -> Path:
    """A toolkit at ``root``, as an administrator would have installed it."""
    for files in components(release).values():
        for name, content in files.items():
            if content is not None and name != without:
                file = root / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content.encode() if isinstance(content, str) else content)
    (root / "bin" / "nvcc").chmod(0o755)
    return root


def this_machine() -> Machine:
    """What a toolkit is chosen by: a Python, and no driver. To find out the rest takes a second."""
    python = SimpleNamespace(version="3.11.2", executable=Path(sys.executable))
    return cast("Machine", SimpleNamespace(python=python, gpus=Gpus((), None, "none")))


def made(tmp_path: Path, release: str = "12.8") -> Path:
    return tmp_path / "cache" / "toolkits" / f"cuda-{release}"


def test_install_prints_what_cuda_home_has_to_be(mirror: Mirror, said: Said, tmp_path: Path) -> None:
    code, out, err = said("install", "12.8")
    assert (code, out) == (0, f"{made(tmp_path)}\n")
    assert "download     CUDA 12.8.1: 6 archives" in err
    assert "export CUDA_HOME=$(cudabuild toolkit path 12.8)" in err
    assert said("path", "12.8") == (0, f"{made(tmp_path)}\n", "")
    assert said("path", "12.8.1")[:2] == (0, f"{made(tmp_path)}\n")
    assert said("path", "012.08.01")[:2] == said("install", "012.8")[:2] == (0, f"{made(tmp_path)}\n")
    code, out, err = said("install", "12.8", "--offline", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {"schema": 1, "release": "12.8", "version": "12.8.93", "path": str(made(tmp_path))}


def test_list_shows_what_is_here_and_what_each_lacks(mirror: Mirror, said: Said, tmp_path: Path) -> None:
    whole = system_toolkit(tmp_path / "root/usr/local/cuda-12.6", "12.6")
    partial = system_toolkit(tmp_path / "root/usr/local/cuda-12.4", "12.4", without="include/cusparse.h")
    said("install", "12.8")
    code, out, err = said("list")
    rows = [line.split() for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert rows[0] == ["12.6.93", str(whole), str(whole), "complete"]
    assert rows[1] == ["12.4.93", str(partial), str(partial), "lacks", "cusparse.h"]
    assert rows[2] == ["12.8.93", str(made(tmp_path)), "archives", "complete"]
    assert rows[3][:5] == ["can", "be", "installed", "from", "wheels:"]
    assert rows[4][-1] == "11.8"


def test_list_says_what_is_damaged_and_what_was_not_finished(mirror: Mirror, said: Said, tmp_path: Path) -> None:
    said("install", "12.8")
    (made(tmp_path) / "include" / "cuda.h").unlink()
    mirror.publish("12.4.1")
    mirror.cut[mirror.path("libcublas", "12.4.1")] = [10_000, 0, 0, 0]
    assert said("install", "12.4")[0] == 4
    _, out, _ = said("list")
    assert "damaged (a file was removed: include/cuda.h): cudabuild toolkit install 12.8" in out
    assert "`install 12.4` goes on" in out
    answer = json.loads(said("list", "--json")[1])
    (row,) = answer["toolkits"]
    assert (row["release"], row["made"], row["complete"], row["missing"]) == ("12.8", True, False, ["cuda.h"])
    assert row["problem"] == "a file was removed: include/cuda.h"
    offered = {each["release"]: each for each in answer["installable"]}
    assert offered["12.8"]["installed"]
    assert offered["12.4"]["downloaded"] > 10_000
    assert (offered["13.0"]["origin"], offered["13.0"]["versions"]) == ("wheels", [])
    code, _, err = said("path", "12.8")
    assert code == 5
    assert "next: cudabuild toolkit install 12.8" in err


@pytest.mark.parametrize("kind", ["file", "loop"])
def test_the_machines_own_toolkits_need_no_cache_that_can_be_read(
    mirror: Mirror, said: Said, tmp_path: Path, kind: str
) -> None:
    whole = system_toolkit(tmp_path / "root/usr/local/cuda-12.6", "12.6")
    cache = tmp_path / "cache"
    if kind == "file":
        cache.touch()
    else:
        cache.symlink_to(cache)
    code, out, err = said("list")
    assert (code, out.splitlines()[0].split()) == (0, ["12.6.93", str(whole), str(whole), "complete"])
    (note,) = err.splitlines()
    assert note.startswith(f"the cache {cache} cannot be read (")
    assert "set CUDABUILD_CACHE" in note
    assert json.loads(said("list", "--json")[1])["notes"] == [note]
    assert said("path", "12.6") == (0, f"{whole}\n", "")


def test_list_on_a_machine_that_has_none(mirror: Mirror, said: Said) -> None:
    code, out, err = said("list")
    assert code == 0
    assert len(out.splitlines()) == 2
    assert "no CUDA toolkit is here" in err


def test_uninstall_leaves_nothing(mirror: Mirror, said: Said, tmp_path: Path) -> None:
    said("install", "12.8")
    code, out, err = said("uninstall", "12.8.0")
    assert code == 5
    assert "12.8.1 is" in err
    code, out, err = said("uninstall", "12.8", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["freed"] > 30_000
    assert [path.name for path in made(tmp_path).parent.iterdir()] == ["cuda-12.8.lock"]
    code, _, err = said("uninstall", "12.8")
    assert code == 5
    assert "cudabuild has installed no CUDA 12.8" in err
    assert said("path", "12.8")[0] == 5


def test_uninstall_takes_downloads_that_were_not_finished(mirror: Mirror, said: Said, tmp_path: Path) -> None:
    mirror.cut[mirror.path("libcublas")] = [10_000, 0, 0, 0]
    assert said("install", "12.8")[0] == 4
    assert said("uninstall", "12.8")[0] == 0
    assert list((tmp_path / "cache" / "downloads").iterdir()) == []


def test_one_that_a_build_uses_is_not_taken_away(mirror: Mirror, said: Said, tmp_path: Path) -> None:
    said("install", "12.8")
    in_use.hold(Places(tmp_path / "cache", tmp_path).in_use, made(tmp_path))
    try:
        code, _, err = said("uninstall", "12.8")
    finally:
        in_use.let_go()
    assert code == 10
    assert f"in use by process {os.getpid()}" in err
    assert made(tmp_path).is_dir()
    assert said("uninstall", "12.8")[0] == 0


def test_a_toolkit_of_the_machine_is_not_taken_away(mirror: Mirror, said: Said, tmp_path: Path) -> None:
    whole = system_toolkit(tmp_path / "root/usr/local/cuda-12.6", "12.6")
    code, _, err = said("uninstall", "12.6")
    assert code == 5
    assert f"the one at {whole} is not of its making" in err
    assert said("path", "12.6") == (0, f"{whole}\n", "")


def test_one_from_wheels_gets_a_home_that_build_systems_understand(
    mirror: Mirror, said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def install_into(_self: object, folder: Path, requirements: list[str], *, python: Path) -> None:
        root = system_toolkit(folder / "nvidia" / "cu13", "13.0")
        (root / "lib" / "libcudart.so.1").rename(root / "lib" / "libcudart.so.13")

    monkeypatch.setattr("buildkit.build.installer.Installer.install_into", install_into)
    code, out, _ = said("install", "13.0")
    home = Path(out.strip())
    assert code == 0
    assert home == tmp_path / "cache" / "views" / "cuda-13.0"
    assert (home / "lib64" / "libcudart.so").exists()
    assert (home / "bin" / "nvcc").exists()
    monkeypatch.setenv("CUDA_HOME", str(home))  # ours, though a variable names it
    (row,) = json.loads(said("list", "--json")[1])["toolkits"]
    assert (row["origin"], row["made"], row["complete"]) == ("wheels", True, True)
    assert said("uninstall", "13.0")[0] == 0
    assert not home.exists()


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (("install", "12.7"), 2, "no CUDA 12.7", "cudabuild toolkit install 12.8 or 12.6"),
        (("install", "latest"), 2, "no version of CUDA", "cudabuild toolkit list"),
        (("install", "12.8.9"), 4, "no CUDA 12.8.9", "cudabuild toolkit install 12.8"),
        (("install", "12.4", "--offline"), 4, "--offline forbids", "cudabuild toolkit install 12.4"),
        (("path", "12.4"), 5, "no CUDA 12.4 toolkit is here", "cudabuild toolkit install 12.4"),
        (("path", "\u0967\u0968.\u096e"), 2, "no version of CUDA", "cudabuild toolkit list"),
        (("path", "newest"), 2, "no version of CUDA", "cudabuild toolkit list"),
        (("uninstall", "12.4"), 5, "has installed no CUDA 12.4", "cudabuild toolkit list"),
    ],
)
def test_what_cannot_be_done_says_so_and_what_to_do(
    mirror: Mirror, said: Said, words: tuple[str, ...], code: int, message: str, hint: str
) -> None:
    ended, out, err = said(*words)
    assert (ended, out) == (code, "")
    assert message in err
    assert hint in err.partition("next: ")[2]


@pytest.mark.parametrize("release", ["12.8", "13.0"])
def test_a_jetson_takes_jetpacks_own(
    mirror: Mirror, said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    """Typed, or by a build: neither archives nor wheels."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.0, GCID: 1", "utf-8")
    monkeypatch.setattr("buildkit.build.toolkits.jetson_release", lambda: jetson_release(tmp_path))
    code, out, err = said("install", release)
    assert (code, out) == (5, "")
    assert "JetPack" in err
    assert "next: sudo apt-get install nvidia-jetpack" in err
    with pytest.raises(NoToolkit, match="JetPack"):
        install_toolkit(release, this_machine().python, make_context(Asked.read({}), Silent()))
    assert mirror.asked == []


def test_builds_take_the_one_that_was_installed(mirror: Mirror, said: Said, tmp_path: Path) -> None:
    context = make_context(Asked.read({}), Silent())
    machine = this_machine()
    with pytest.raises(NoToolkit) as caught:
        choose_toolkit(Request("x"), "12.8", machine, context, torch="2.8.0+cu128")
    assert "`cudabuild toolkit install 12.8`" in caught.value.hint
    assert "--torch 2." in caught.value.hint
    said("install", "12.8")
    choice = choose_toolkit(Request("x"), "12.8", machine, context, torch="2.8.0+cu128")
    assert (choice.toolkit.root, choice.toolkit.origin, choice.fill) == (made(tmp_path), "archives", ())
    view = make_view(choice.toolkit, [], tmp_path / "view")
    for name in ("bin/nvcc", "nvvm/bin/cicc", "include/cub/cub.cuh", "lib64/libcublas.so"):
        assert (view / name).exists(), name
    # What the build does before it compiles: a damaged one is made again.
    (made(tmp_path) / "bin" / "ptxas").write_text("broken", "utf-8")
    assert install_toolkit("12.8", machine.python, context) == choice.toolkit
    assert (made(tmp_path) / "bin" / "ptxas").read_text("utf-8") == "#!/bin/sh\n"


def test_a_partial_one_of_12_names_the_way_to_a_whole_one(mirror: Mirror, said: Said, tmp_path: Path) -> None:
    system_toolkit(tmp_path / "root/usr/local/cuda-12.8", "12.8", without="include/cusparse.h")
    context = make_context(Asked.read({}), Silent())
    machine = this_machine()
    with pytest.raises(IncompleteToolkit, match="lacks headers") as caught:
        choose_toolkit(Request("x"), "12.8", machine, context)
    assert "`cudabuild toolkit install 12.8`" in caught.value.hint
    said("install", "12.8")
    assert choose_toolkit(Request("x"), "12.8", machine, context).toolkit.root == made(tmp_path)
    assert said("path", "12.8")[1] == f"{made(tmp_path)}\n"


def test_a_build_without_a_toolkit_names_both_ways_out(
    mirror: Mirror, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["diso", "--torch", "2.8.0+cu128", "--target", "12.0", "--json"]
    assert main(words) == 5
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["kind"] == "no-toolkit"
    assert "cudabuild toolkit install 12.8" in error["hint"]
    assert "--torch 2." in error["hint"]
    assert mirror.asked == []


def toolkit(like: Toolkit, release: str, origin: str) -> Toolkit:
    return replace(like, release=release, origin=origin)


def test_which_of_several_is_preferred(mirror: Mirror, said: Said) -> None:
    said("install", "12.8")
    (ours,) = toolkits_here(None, make_context(Asked.read({}), Silent()))
    found, named = toolkit(ours, "12.4", "/usr/local/cuda"), toolkit(ours, "12.4", "CUDA_HOME")
    same = toolkit(ours, "12.8", "/usr/local/cuda")
    assert preferred([found, ours], "12.8") == [ours, found]
    assert preferred([found, ours], "12.6") == [found, ours]
    assert preferred([named, ours], "12.8") == [named, ours]
    assert preferred([same, ours], "12.8") == [same, ours]
    assert preferred([], "12.8") == []


@pytest.mark.parametrize(
    ("torch", "majors", "python", "driver", "other"),
    [
        ("2.9.0+cu128", {13}, "3.11", None, "2.9.0+cu130"),
        ("2.13.0+cu126", {13}, "3.11", "580.65", "2.13.0+cu130"),
        ("2.13.0", {12}, "3.11", None, "2.13.0+cu126"),
        ("", {13}, "3.10", None, "2.14.0+cu130"),
        ("2.8.0+cu128", {11}, "3.11", None, "2.7.0+cu118"),
        ("2.13.0+cu126", {13}, "3.11", "550.54", None),
        ("9.99.0", {13}, "3.10", None, "2.14.0+cu130"),
    ],
)
def test_the_torch_for_another_toolkit(
    torch: str, majors: set[int], python: str, driver: str | None, other: str | None
) -> None:
    assert other_torch(torch, majors, python, driver) == other


def test_a_release_that_nobody_offers() -> None:
    assert "`cudabuild toolkit install 12.8`" in no_toolkit([], "12.7", "", "3.11", None).hint
    assert "a CUDA 10.x, with --cuda-home PATH" in no_toolkit([], "10.2", "", "3.11", None).hint
    assert no_toolkit([], "", "", "3.11", None).hint
