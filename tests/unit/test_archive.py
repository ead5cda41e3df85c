"""Archives that mean well, and those that do not."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from buildkit.errors import SourceError, UnsafeArchive
from buildkit.source.archive import Limits, extract, read_members

Change = Callable[[tarfile.TarInfo], None]


def tar(path: Path, members: list[tuple[str, bytes | None, dict[str, object]]], mode: str = "w:gz") -> Path:
    """An archive of (name, content or None for a folder, TarInfo's attributes)."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content, attributes in members:
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            info.size = len(content or b"")
            info.mode = 0o755 if content is None else 0o644
            for key, value in attributes.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content) if content else None)
    return path


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[str, bytes, dict[str, object]]:
    return name, b"", {"type": kind, "linkname": target}


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "w:"])
def test_a_good_tar(tmp_path: Path, mode: str) -> None:
    archive = tar(
        tmp_path / "demo-1.tar.gz",
        [
            ("./demo-1", None, {}),
            ("demo-1/run.sh", b"#!/bin/sh\n", {"mode": 0o6777, "mtime": 1_500_000_000}),
            ("demo-1/src/ä b.cu", b"x" * 5000, {}),
            ("demo-1/src/same.cu", b"", {"type": tarfile.LNKTYPE, "linkname": "demo-1/src/ä b.cu"}),
            link("demo-1/current", "src"),
        ],
        mode,
    )
    top = extract(archive, tmp_path / "out")
    assert top == tmp_path / "out/demo-1"
    status = (top / "run.sh").stat()
    assert stat.S_IMODE(status.st_mode) == 0o755  # setuid and write for all are gone
    assert status.st_mtime == 1_500_000_000
    assert (top / "src/same.cu").read_bytes() == b"x" * 5000
    assert (top / "current").readlink() == Path("src")


def test_a_repository_is_left_out(tmp_path: Path) -> None:
    members: list[tuple[str, bytes | None, dict[str, object]]] = [
        ("demo-1/.git", None, {}),
        ("demo-1/.git/config", b"[core]\n", {}),
        ("demo-1/inner/.GIT/config", b"[core]\n", {}),
        ("demo-1/linked/.git", b"gitdir: /tmp\n", {}),
        link("demo-1/more/.git", "../there"),
        ("demo-1/.gitattributes", b"*.cu text\n", {}),
    ]
    top = extract(tar(tmp_path / "demo-1.tar.gz", members), tmp_path / "out")
    assert [path.name for path in top.iterdir()] == [".gitattributes"]


def test_a_good_zip(tmp_path: Path) -> None:
    archive = tmp_path / "demo-1.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("demo-1/setup.py", "print(1)\n")
        info = zipfile.ZipInfo("demo-1/run", (2020, 1, 2, 3, 4, 6))
        info.external_attr = (stat.S_IFREG | 0o755) << 16
        file.writestr(info, "x")
    top = extract(archive, tmp_path / "out")
    assert (top / "setup.py").read_text() == "print(1)\n"
    assert (top / "run").stat().st_mode & stat.S_IXUSR
    assert (top / "run").stat().st_mtime == 1577934246
    assert read_members(archive, ("setup.py", "PKG-INFO")) == {"setup.py": b"print(1)\n"}


EVIL: list[tuple[str, list[tuple[str, bytes | None, dict[str, object]]]]] = [
    ("../evil", [("../evil", b"x", {})]),
    ("a/../../evil", [("a/../../evil", b"x", {})]),
    ("/etc/evil", [("/etc/evil", b"x", {})]),
    ("a\\b", [("a\\b", b"x", {})]),
    ("a/null", [("a/null", b"", {"type": tarfile.CHRTYPE})]),
    ("a/disk", [("a/disk", b"", {"type": tarfile.BLKTYPE})]),
    ("a/pipe", [("a/pipe", b"", {"type": tarfile.FIFOTYPE})]),
    ("a/l", [link("a/l", "/etc/passwd")]),
    ("a/l", [("a/f", b"x", {}), link("a/l", "../../outside")]),
    ("a/h", [link("a/h", "a/absent", tarfile.LNKTYPE)]),
    ("../x", [link("a/h", "../x", tarfile.LNKTYPE)]),
    # A link, then a file through it.
    ("a/l", [link("a/l", "../.."), ("a/l/evil", b"x", {})]),
    ("a/d", [("a/d/f", b"x", {}), ("a/d", b"x", {})]),
    ("a/l", [("a/f", b"x", {}), link("a/l", "f"), ("a/l", None, {})]),
    # Two links that look harmless one by one: x/l1 is x, so x/l1/../.. is outside.
    ("a/l2", [("a/x/f", b"x", {}), link("a/x/l1", "."), link("a/l2", "x/l1/../../..")]),
]


@pytest.mark.parametrize(("named", "members"), EVIL)
def test_members_that_would_leave(
    tmp_path: Path, named: str, members: list[tuple[str, bytes | None, dict[str, object]]]
) -> None:
    archive = tar(tmp_path / "evil.tar.gz", members)
    out = tmp_path / "deep/er/out"
    with pytest.raises(UnsafeArchive) as caught:
        extract(archive, out)
    assert named in caught.value.message.replace("\\\\", "\\")
    assert list(out.iterdir()) == []
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "deep/evil").exists()


def test_a_link_beside_the_top_folder_is_refused(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar.gz", [("a/f", b"x", {}), link("a/l", "../b")])
    with pytest.raises(UnsafeArchive, match="leads out"):
        extract(archive, tmp_path / "out")


def test_zip_members_that_would_leave(tmp_path: Path) -> None:
    for name, mode, content in (("../evil", 0o100644, "x"), ("a/l", 0o120777, "/etc/passwd"), ("a/p", 0o010644, "")):
        archive = tmp_path / "evil.zip"
        with zipfile.ZipFile(archive, "w") as file:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            file.writestr(info, content)
        with pytest.raises(UnsafeArchive, match=name):
            extract(archive, tmp_path / "out")


def test_the_last_of_two_members_stands(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar.gz", [("a/f", b"one", {"mode": 0o444}), ("a/f", b"two", {})])
    assert (extract(archive, tmp_path / "out") / "f").read_bytes() == b"two"


@pytest.mark.parametrize("members", [[("a/f", b"x", {}), ("b/f", b"x", {})], [("f", b"x", {})], []])
def test_exactly_one_folder(tmp_path: Path, members: list[tuple[str, bytes | None, dict[str, object]]]) -> None:
    with pytest.raises(SourceError, match="exactly one folder"):
        extract(tar(tmp_path / "a.tar.gz", members), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_bombs(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar.gz", [(f"a/{n}", bytes(1 << 20), {}) for n in range(4)])
    assert archive.stat().st_size < 1 << 16
    with pytest.raises(UnsafeArchive, match="more than 3 MiB"):
        extract(archive, tmp_path / "out", Limits(size=3 << 20))
    with pytest.raises(UnsafeArchive, match="more than 3 members"):
        extract(archive, tmp_path / "out", Limits(members=3))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/zeros", bytes(4 << 20))
    with pytest.raises(UnsafeArchive, match="more than 3 MiB"):
        extract(tmp_path / "a.zip", tmp_path / "out", Limits(size=3 << 20))


def test_a_header_bomb_is_not_read_into_memory(tmp_path: Path) -> None:
    header = tarfile.TarInfo("a/f")
    header.type, header.size = tarfile.XHDTYPE, 1 << 30
    (tmp_path / "a.tar").write_bytes(header.tobuf() + bytes(1 << 16))
    with pytest.raises(UnsafeArchive, match="header"):
        extract(tmp_path / "a.tar", tmp_path / "out")


@pytest.mark.parametrize("cut", [0, 40, 300])
def test_broken_archives(tmp_path: Path, cut: int) -> None:
    archive = tar(tmp_path / "a.tar.gz", [("a/f", bytes(range(256)) * 50, {})])
    archive.write_bytes(archive.read_bytes()[:cut])
    with pytest.raises(SourceError):
        extract(archive, tmp_path / "out")
    archive.write_bytes(b"PK\x03\x04" + bytes(40))
    with pytest.raises(SourceError, match="sound archive"):
        extract(archive, tmp_path / "out")


def test_read_members_only_of_the_top_folder(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar.gz", [("a/sub/PKG-INFO", b"no", {}), ("a/PKG-INFO", b"yes", {})])
    assert read_members(archive, ("PKG-INFO", "pyproject.toml")) == {"PKG-INFO": b"yes"}
