"""Identity, memo and manifest: what changes is noticed, and nothing else is."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from pathlib import Path

import pytest

from buildkit.errors import EnvironmentChanged
from buildkit.machine import identity
from buildkit.machine.identity import Memo, combined_sha256, content_sha256, file_identity, is_settled
from buildkit.machine.manifest import check_manifest, write_manifest


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files just written count as settled."""
    monkeypatch.setattr(identity, "SETTLED_NS", -(10**12))


def overwrite_in_place(path: Path, data: bytes) -> None:
    """Other bytes of the same size, with the modification time put back."""
    before = path.stat()
    assert len(data) == before.st_size
    time.sleep(0.02)
    with path.open("r+b") as stream:
        stream.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_content_is_hashed_once_and_again_after_an_overwrite_with_the_time_restored(
    tmp_path: Path, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "nvcc"
    file.write_bytes(b"one")
    memo = Memo(tmp_path / "memo")
    hashed: list[Path] = []
    real = identity.hash_file

    def counting(path: Path) -> str:
        hashed.append(path)
        return real(path)

    monkeypatch.setattr(identity, "hash_file", counting)
    first = content_sha256(file, memo)
    assert first == content_sha256(file, memo) == hashlib.sha256(b"one").hexdigest()
    assert hashed == [file]
    overwrite_in_place(file, b"two")
    assert content_sha256(file, memo) == hashlib.sha256(b"two").hexdigest()


def test_a_file_that_changed_just_now_is_not_remembered(tmp_path: Path) -> None:
    file = tmp_path / "new"
    file.write_bytes(b"x")
    assert not is_settled([file_identity(file)])
    content_sha256(file, Memo(tmp_path / "memo"))
    assert not (tmp_path / "memo").exists()


def test_memo_forgets_when_the_identity_differs_and_survives_rubbish(tmp_path: Path) -> None:
    memo = Memo(tmp_path / "memo")
    memo.put("kind", "key \udce9", (1, 2), {"a": [1, "b"]})
    assert memo.get("kind", "key \udce9", (1, 2)) == {"a": [1, "b"]}
    assert memo.get("kind", "key \udce9", (1, 3)) is None
    assert memo.get("other", "key \udce9", (1, 2)) is None
    for file in (tmp_path / "memo").rglob("*.json"):
        file.write_bytes(b"\xff{")
    assert memo.get("kind", "key \udce9", (1, 2)) is None


def test_memo_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    memo = Memo(tmp_path / "file")
    memo.put("kind", "key", 1, "value")
    assert memo.get("kind", "key", 1) is None
    nothing = Memo(None)
    nothing.put("kind", "key", 1, "value")
    assert nothing.get("kind", "key", 1) is None


def test_combined_hash_sees_each_file_and_a_missing_one(tmp_path: Path, settled: None) -> None:
    memo = Memo(tmp_path / "memo")
    (tmp_path / "a").write_bytes(b"a")
    files = {"a": tmp_path / "a", "b": tmp_path / "b"}
    without = combined_sha256(files, memo, key="k")
    assert without == combined_sha256(files, Memo(None), key="k")
    (tmp_path / "b").write_bytes(b"b")
    both = combined_sha256(files, memo, key="k")
    overwrite_in_place(tmp_path / "a", b"c")
    assert len({without, both, combined_sha256(files, memo, key="k")}) == 3


@pytest.fixture
def installed(tmp_path: Path) -> tuple[Path, Path]:
    folder = tmp_path / "env"
    (folder / "package" / "sub").mkdir(parents=True)
    (folder / "package" / "big.so").write_bytes(b"library")
    (folder / "package" / "sub" / "données").write_text("text", encoding="utf-8")
    (folder / "link").symlink_to("package/big.so")
    dist = folder / "package-1.0.dist-info"
    dist.mkdir()
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"library").digest()).rstrip(b"=").decode()
    (dist / "RECORD").write_text(
        f"package/big.so,sha256={digest},7\npackage-1.0.dist-info/RECORD,,\n", encoding="utf-8"
    )
    manifest = tmp_path / "env.manifest.json"
    write_manifest(folder, manifest)
    return folder, manifest


def test_unchanged_folder_passes_wherever_it_is_moved(installed: tuple[Path, Path], tmp_path: Path) -> None:
    folder, manifest = installed
    check_manifest(folder, manifest)
    check_manifest(folder.rename(tmp_path / "elsewhere"), manifest)


def test_a_further_hard_link_is_no_change_and_is_learned(installed: tuple[Path, Path], tmp_path: Path) -> None:
    folder, manifest = installed
    before = manifest.read_bytes()
    time.sleep(0.02)
    (tmp_path / "second-name").hardlink_to(folder / "package" / "big.so")
    check_manifest(folder, manifest)
    assert manifest.read_bytes() != before


def test_each_kind_of_change_is_named(installed: tuple[Path, Path]) -> None:
    folder, manifest = installed
    big = folder / "package" / "big.so"
    overwrite_in_place(big, b"LIBRARY")
    with pytest.raises(EnvironmentChanged) as caught:
        check_manifest(folder, manifest)
    assert "package/big.so" in caught.value.evidence
    assert str(folder) in caught.value.hint
    overwrite_in_place(big, b"library")
    check_manifest(folder, manifest)

    added = folder / "package" / "x.pyc"
    added.write_bytes(b"")
    with pytest.raises(EnvironmentChanged) as caught:
        check_manifest(folder, manifest)
    assert caught.value.evidence == "a file was added: package/x.pyc"
    added.unlink()

    (folder / "link").unlink()
    with pytest.raises(EnvironmentChanged) as caught:
        check_manifest(folder, manifest)
    assert caught.value.evidence == "a file was removed: link"
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(EnvironmentChanged) as caught:
        check_manifest(folder, manifest)
    assert caught.value.evidence == "a file was changed: link"


def test_a_lost_or_broken_manifest_is_a_change(installed: tuple[Path, Path]) -> None:
    folder, manifest = installed
    manifest.write_text("{}", encoding="utf-8")
    with pytest.raises(EnvironmentChanged, match="no longer"):
        check_manifest(folder, manifest)
    manifest.unlink()
    with pytest.raises(EnvironmentChanged):
        check_manifest(folder, manifest)
