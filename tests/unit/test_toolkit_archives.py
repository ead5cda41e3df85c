"""Toolkits from archives: fetched in parallel, resumed, checked; whole or not there; from a real local server."""

from __future__ import annotations

import hashlib
import json
import resource
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from archive_mirror import Content, Mirror, components, serving

from buildkit.build.toolkit_archives import (
    ANOTHER,
    RECORD,
    Source,
    downloaded,
    ensure_archive_toolkit,
    recorded_version,
)
from buildkit.build.toolkit_place import place_of
from buildkit.errors import (
    CudabuildError,
    DiskFull,
    EnvironmentChanged,
    HashMismatch,
    IncompleteToolkit,
    IndexUnreachable,
    NotCached,
    NotOnIndex,
    NoToolkit,
    SourceError,
    UnsafeArchive,
)
from buildkit.machine.identity import Memo
from buildkit.machine.installable import asked_version
from buildkit.machine.toolkit import Toolkit
from buildkit.progress import Silent
from buildkit.source import downloads
from buildkit.source.index_settings import IndexSettings


class Told(Silent):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.transfers: list[tuple[int, int]] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def transfer(self, done: int, total: int) -> None:
        self.transfers.append((done, total))


class Machine:
    """A cache, and a mirror to fill it from."""

    def __init__(self, folder: Path, mirror: Mirror) -> None:
        self.folder, self.mirror, self.told = folder, mirror, Told()

    @property
    def source(self) -> Source:
        return Source(self.mirror.address, IndexSettings(timeout=10), self.folder / "downloads")

    @property
    def toolkits(self) -> Path:
        return self.folder / "toolkits"

    @property
    def root(self) -> Path:
        return place_of("12.8", self.toolkits).final

    def install(self, version: str = "12.8", source: Source | None = None) -> Toolkit:
        asked = asked_version(version)
        return ensure_archive_toolkit(asked, source or self.source, self.toolkits, Memo(None), self.told)

    def kept(self) -> list[str]:
        """Names of what is kept of downloads, without their hashes."""
        folder = self.source.folder("12.8")
        return sorted(path.name[17:] for path in folder.iterdir()) if folder.is_dir() else []

    def nothing_half(self) -> bool:
        """Whether there is no toolkit, nor a piece of one."""
        return not self.root.exists() and not list(self.toolkits.glob(".*"))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", "/nonexistent/certificates")  # to read all of the system's takes 0.2 s
    monkeypatch.setattr(downloads, "PAUSE", 0.0)
    with serving() as mirror:
        mirror.publish()
        yield Machine(tmp_path, mirror)


def test_archives_become_a_toolkit(machine: Machine) -> None:
    toolkit = machine.install()
    root = machine.root
    assert (toolkit.root, toolkit.release, toolkit.version, toolkit.origin) == (root, "12.8", "12.8.93", "archives")
    assert toolkit.missing == ()
    assert (root / "bin" / "ptxas").stat().st_mode & 0o111
    assert (root / "lib64" / "libcudart.so").resolve() == root / "lib" / "libcudart.so.1"
    assert sorted(path.name for path in (root / "lib").glob("*.a")) == ["libcudart_static.a"]
    assert "libcublas" in (root / "licenses" / "libcublas.txt").read_text("utf-8")
    versions = json.loads((root / "version.json").read_text("utf-8"))
    assert (versions["cuda"]["version"], versions["cuda_nvcc"]["name"]) == ("12.8.1", "CUDA_NVCC")
    record = json.loads((root / RECORD).read_text("utf-8"))
    assert record["manifest"] == f"{machine.mirror.address}/redistrib_12.8.1.json"
    assert {part["component"] for part in record["parts"]} == components("12.8").keys()
    assert sorted(path.name for path in machine.toolkits.iterdir()) == [
        "cuda-12.8",
        "cuda-12.8.lock",
        "cuda-12.8.manifest.json",
    ]
    assert not machine.source.folder("12.8").exists()


def test_it_is_fetched_once(machine: Machine) -> None:
    first = machine.install()
    asked = len(machine.mirror.asked)
    assert machine.install() == first
    assert len(machine.mirror.asked) == asked


def test_the_newest_version_that_the_server_has(machine: Machine) -> None:
    machine.install()
    paths = [path for path, _ in machine.mirror.asked]
    assert paths[:2] == ["/redistrib_12.8.2.json", "/redistrib_12.8.1.json"]


def test_a_version_that_the_server_does_not_give_is_as_one_that_it_has_not(machine: Machine) -> None:
    machine.mirror.statuses["/redistrib_12.8.2.json"] = [403]  # as object stores answer for what is not there
    machine.install()
    assert recorded_version(machine.root) == "12.8.1"


def test_a_server_that_gives_none_of_a_release(machine: Machine) -> None:
    machine.mirror.statuses |= {f"/redistrib_12.8.{number}.json": [403] for number in range(3)}
    with pytest.raises(IndexUnreachable, match=r"gives no CUDA 12\.8\.2 and no CUDA 12\.8\.1 and") as caught:
        machine.install()
    assert f"HTTP 403 from {machine.mirror.address}/redistrib_12.8.1.json" in caught.value.evidence
    assert "`cudabuild toolkit install 12.8.1`" in caught.value.hint
    machine.mirror.statuses |= {f"/redistrib_12.8.{number}.json": [403] for number in range(2)}
    machine.mirror.statuses["/redistrib_12.8.2.json"] = [410]
    with pytest.raises(NotOnIndex, match=r"has no CUDA 12\.8\.2"):
        machine.install()


def test_an_exact_version_replaces_another_of_its_release(machine: Machine) -> None:
    machine.install()
    machine.mirror.publish("12.8.0")
    assert machine.install("12.8.1").release == "12.8"
    machine.install("12.8.0")
    assert json.loads((machine.root / RECORD).read_text("utf-8"))["version"] == "12.8.0"
    machine.install("12.8")
    assert json.loads((machine.root / RECORD).read_text("utf-8"))["version"] == "12.8.0"


def test_a_cut_connection_goes_on_where_it_was_cut(machine: Machine) -> None:
    path = machine.mirror.path("libcublas")
    machine.mirror.cut[path] = [10_000]
    machine.install()
    (first, second) = machine.mirror.ranges_of(path)
    assert (first, second) == (None, "bytes=10000-")


def test_the_next_command_goes_on_where_the_last_one_was_cut(machine: Machine) -> None:
    path = machine.mirror.path("libcublas")
    machine.mirror.cut[path] = [10_000, 5_000, 0, 0, 0]
    with pytest.raises(IndexUnreachable, match="libcublas") as caught:
        machine.install()
    assert "goes on where it stopped" in caught.value.hint
    assert "CUDABUILD_TOOLKIT_ARCHIVES" in caught.value.hint
    assert machine.nothing_half()
    assert any(name.startswith("libcublas") and name.endswith(".part") for name in machine.kept())
    assert downloaded(machine.source, "12.8") >= 15_000
    machine.mirror.asked.clear()
    machine.install()
    assert machine.mirror.ranges_of(path) == ["bytes=15000-"]
    assert machine.kept() == []


def test_a_server_that_cannot_resume_is_asked_for_all_of_it(machine: Machine) -> None:
    path = machine.mirror.path("libcublas")
    machine.mirror.cut[path], machine.mirror.ranges = [10_000], False
    assert machine.install().missing == ()
    assert machine.mirror.ranges_of(path) == [None, "bytes=10000-"]


def test_a_piece_that_lies_here_and_is_bad_is_fetched_anew(machine: Machine) -> None:
    path = machine.mirror.path("libcublas")
    body = machine.mirror.files[path]
    folder = machine.source.folder("12.8")
    folder.mkdir(parents=True)
    name = f"{hashlib.sha256(body).hexdigest()[:16]}-{path.rpartition('/')[2]}.part"
    (folder / name).write_bytes(b"\0" * 1000)
    assert machine.install().missing == ()
    assert machine.mirror.ranges_of(path) == ["bytes=1000-", None]


def test_four_files_come_at_a_time(machine: Machine) -> None:
    machine.mirror.together = threading.Barrier(downloads.PARALLEL)
    machine.install()
    assert not machine.mirror.together.broken


def test_a_server_that_is_busy_is_asked_again(machine: Machine) -> None:
    machine.mirror.statuses[machine.mirror.path("cuda_nvcc")] = [503, 503]
    assert machine.install().missing == ()


def test_what_has_come_is_told(machine: Machine) -> None:
    machine.install()
    done, total = machine.told.transfers[-1]
    assert done == total == sum(len(body) for path, body in machine.mirror.files.items() if path.endswith(".xz"))


def test_a_wrong_hash_is_thrown_away_and_the_rest_is_kept(machine: Machine) -> None:
    machine.mirror.publish(said={"libcusparse": "0" * 64})
    with pytest.raises(HashMismatch, match="libcusparse") as caught:
        machine.install()
    assert "0000000000000000" in caught.value.evidence
    assert machine.nothing_half()
    assert not any("libcusparse" in name for name in machine.kept())
    machine.mirror.publish()
    machine.install()
    asked = [path for path, _ in machine.mirror.asked]
    assert asked.count(machine.mirror.path("libcusparse")) == 2


def test_nothing_of_an_archive_is_written_outside(machine: Machine, tmp_path: Path) -> None:
    evil: dict[str, Content] = {**components("12.8"), "cuda_cccl": {"../../../../../escaped": "gone"}}
    machine.mirror.publish(content=evil)
    with pytest.raises(UnsafeArchive, match=r"\.\."):
        machine.install()
    assert machine.nothing_half()
    assert not list(tmp_path.rglob("escaped"))
    assert not any("cuda_cccl" in name for name in machine.kept())


@pytest.mark.parametrize(
    ("manifest", "evidence"),
    [
        (b"<html>not found</html>", "Expecting value"),
        (b"[]", "no JSON object"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"cuda_nvcc": {"linux-x86_64": {}, "linux-sbsa": {}}}', "relative_path"),
    ],
)
def test_what_is_no_manifest(machine: Machine, manifest: bytes, evidence: str) -> None:
    machine.mirror.files["/redistrib_12.8.1.json"] = manifest
    with pytest.raises(SourceError, match="no manifest") as caught:
        machine.install()
    assert evidence in caught.value.evidence
    assert "toolkit-archives" in caught.value.hint
    assert machine.nothing_half()


def test_a_manifest_that_is_not_there(machine: Machine) -> None:
    with pytest.raises(NotOnIndex, match=r"no CUDA 12\.8\.7") as caught:
        machine.install("12.8.7")
    assert "cudabuild toolkit install 12.8" in caught.value.hint


def test_an_archive_that_is_not_there(machine: Machine) -> None:
    del machine.mirror.files[machine.mirror.path("libcusolver")]
    with pytest.raises(NotOnIndex, match="libcusolver"):
        machine.install()
    assert machine.nothing_half()


def test_archives_without_a_compiler(machine: Machine) -> None:
    content = components("12.8")
    del content["cuda_nvcc"]
    machine.mirror.publish(content=content)
    with pytest.raises(NotOnIndex, match="no CUDA compiler"):
        machine.install()


def test_archives_of_another_release_are_not_installed(machine: Machine) -> None:
    machine.mirror.publish(content=components("12.9"))
    with pytest.raises(NoToolkit, match="another compiler") as caught:
        machine.install()
    assert caught.value.hint == ANOTHER
    assert machine.nothing_half()


def test_archives_without_all_headers_are_not_installed(machine: Machine) -> None:
    content = components("12.8")
    del content["libcusparse"]
    machine.mirror.publish(content=content)
    with pytest.raises(IncompleteToolkit, match=r"cusparse\.h") as caught:
        machine.install()
    assert machine.nothing_half()
    assert not_of_the_scratch_folder(caught.value)
    assert f"{machine.root}/include" in caught.value.evidence


@pytest.mark.parametrize(
    ("nvcc", "message"),
    [(None, "no CUDA compiler at"), ("#!/bin/sh\nexit 3\n", "bin/nvcc does not "), ("#!/bin/sh\n", "tell its version")],
)
def test_archives_whose_compiler_does_not_run_are_not_installed(
    machine: Machine, nvcc: str | None, message: str
) -> None:
    content = components("12.8")
    if nvcc is None:
        del content["cuda_nvcc"]["bin/nvcc"]
    else:
        content["cuda_nvcc"]["bin/nvcc"] = nvcc
    machine.mirror.publish(content=content)
    with pytest.raises(NoToolkit, match=message) as caught:
        machine.install()
    assert machine.nothing_half()
    assert not_of_the_scratch_folder(caught.value)
    assert str(machine.root) in caught.value.message


def not_of_the_scratch_folder(error: CudabuildError) -> bool:
    """Whether an error speaks of the toolkit's place alone, and of what can be done."""
    return "/.cuda-" not in f"{error.message} {error.evidence} {error}" and error.hint == ANOTHER


def tar_of(*members: tuple[str, int]) -> bytes:
    """A tar archive of names and the sizes that their headers say; without the contents."""
    infos = [tarfile.TarInfo(name) for name, _ in members]
    for info, (_, size) in zip(infos, members, strict=True):
        info.size = size
    return b"".join(info.tobuf() for info in infos) + bytes(1024)


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (tar_of(("one/include/a.h", 0), ("other/include/b.h", 0)), "exactly one folder"),
        (tar_of(("one/include/a.h", 5 << 30)), "says it holds 5120 MiB"),
        (b"no archive at all", "is not a sound archive"),
    ],
)
def test_an_archive_that_cannot_be_taken_names_another_server(machine: Machine, archive: bytes, message: str) -> None:
    machine.mirror.publish(content={**components("12.8"), "cuda_cccl": archive})
    with pytest.raises(SourceError, match=message) as caught:
        machine.install()
    assert caught.value.hint == ANOTHER
    assert machine.nothing_half()
    assert not any("cuda_cccl" in name for name in machine.kept())


@pytest.mark.parametrize("damage", ["missing", "changed", "added", "manifest"])
def test_a_damaged_one_is_replaced(machine: Machine, damage: str) -> None:
    machine.install()
    header = machine.root / "include" / "cusparse.h"
    if damage == "missing":
        header.unlink()
    elif damage == "changed":
        header.write_text("#error", "utf-8")
    elif damage == "added":
        (machine.root / "include" / "more.h").touch()
    else:
        place_of("12.8", machine.toolkits).manifest.unlink()
    machine.install()
    assert header.read_bytes() == b""
    assert not (machine.root / "include" / "more.h").exists()
    (warning,) = machine.told.warnings
    assert "installing it again" in warning


def test_a_damaged_one_that_cannot_be_replaced_stays_and_is_refused(machine: Machine) -> None:
    machine.install()
    (machine.root / "include" / "cusparse.h").unlink()
    offline = Source(machine.mirror.address, IndexSettings(), machine.folder / "downloads", offline=True)
    with pytest.raises(EnvironmentChanged, match="no longer what was installed") as caught:
        machine.install(source=offline)
    assert isinstance(caught.value.__cause__, NotCached)
    assert "cusparse.h" in caught.value.evidence
    assert machine.root.is_dir()


def test_two_at_once_fetch_once(machine: Machine) -> None:
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: machine.install(), range(2))
    assert one == other
    path = machine.mirror.path("libcublas")
    assert len(machine.mirror.ranges_of(path)) == 1


def test_offline_takes_what_is_there_and_asks_nobody(machine: Machine) -> None:
    offline = Source("http://127.0.0.1:9", IndexSettings(), machine.folder / "downloads", offline=True)
    with pytest.raises(NotCached, match="--offline") as caught:
        machine.install(source=offline)
    assert caught.value.exit_code == 4
    assert "cudabuild toolkit install 12.8" in caught.value.hint
    machine.install()
    assert machine.install(source=offline).release == "12.8"


def test_nobody_answers(machine: Machine) -> None:
    with pytest.raises(IndexUnreachable, match="redistrib") as caught:
        machine.install(source=Source("http://127.0.0.1:9", IndexSettings(timeout=5), machine.folder / "downloads"))
    assert caught.value.exit_code == 4
    assert "Connect" in caught.value.evidence


def test_a_login_in_the_address_is_not_shown(machine: Machine) -> None:
    address = machine.mirror.address.replace("://", "://me:secret@")
    source = Source(address, IndexSettings(timeout=5), machine.folder / "downloads")
    machine.install(source=source)
    assert "secret" not in (machine.root / RECORD).read_text("utf-8")
    with pytest.raises(CudabuildError) as caught:
        machine.install("12.4", source=source)
    assert "secret" not in f"{caught.value.message} {caught.value.evidence} {caught.value.hint}"


def test_a_machine_without_archives(machine: Machine) -> None:
    with pytest.raises(NoToolkit, match="ppc64le"):
        machine.install(source=replace(machine.source, machine="ppc64le"))
    assert machine.mirror.asked == []


def test_what_has_come_before_it_was_ended_is_of_use(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(machine.told, "transfer", end)
        with pytest.raises(KeyboardInterrupt):
            machine.install()
    assert machine.nothing_half()
    assert machine.install().missing == ()


def test_a_file_that_may_not_grow_is_kept_as_far_as_it_came(machine: Machine) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))  # a real refusal by the system, as of a full disk
    try:
        with pytest.raises(DiskFull) as caught:
            machine.install()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.exit_code == 10
    assert machine.nothing_half()
    machine.install()
    assert machine.mirror.ranges_of(machine.mirror.path("libcublas")) == [None, "bytes=10000-"]


def test_a_full_disk_is_told_before_anything_is_fetched(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buildkit.build.toolkit_archives.free_bytes", lambda _folder: 1000)
    with pytest.raises(DiskFull, match=r"1000 bytes free, about .* needed"):
        machine.install()
    assert [path for path, _ in machine.mirror.asked if path.endswith(".xz")] == []


def test_a_cache_that_is_a_file(machine: Machine) -> None:
    machine.toolkits.touch()
    with pytest.raises(CudabuildError, match="cannot be used") as caught:
        machine.install()
    assert caught.value.exit_code == 10
