"""Exports and imports: what goes out comes in again, and nothing that lies does."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import certificate
from pydantic import ValidationError
from stored import entry_of, inputs_of, release_of, wheel_of

from buildkit.build.exchange import Import, export, import_bundle
from buildkit.build.foreign import ForeignLies, check_inputs, is_unproven
from buildkit.build.places import Places
from buildkit.cli.settings import Settings
from buildkit.errors import NoSuchBuild, StoreError
from buildkit.store import in_use
from buildkit.store.bundle import MANIFEST, SIGNATURE, BadBundle
from buildkit.store.model import Entry
from buildkit.store.signing import BadSignature, new_key, public_key, sign, signer
from buildkit.store.store import Store


@pytest.fixture
def source(tmp_path: Path) -> Store:
    """A store with three wheels, two of them with a release."""
    store = Store(tmp_path / "source")
    for number in (1, 2, 3):
        wheel = wheel_of(tmp_path / "made", number)
        entry = entry_of(wheel, number)
        store.put(wheel, entry, release_of(wheel, entry) if number < 3 else None)
    return store


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "cache", tmp_path / "elsewhere")


@pytest.fixture
def here(places: Places) -> Store:
    return Store(places.store)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "key.pem"


@pytest.fixture(autouse=True)
def _hold_nothing() -> Iterator[None]:
    yield
    in_use.let_go()


def outcomes(done: Import) -> list[str]:
    return [each.outcome for each in done.wheels]


@pytest.mark.parametrize("name", ["wheelhouse", "wheels.tar", "wheels.tar.gz"])
def test_what_goes_out_comes_in_again(source: Store, here: Store, places: Places, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    exported = export(source, [], out, key=tmp_path / "none")
    assert sorted(exported.manifest.files) == [f"sample-1.{n}-py3-none-any.whl" for n in (1, 2, 3)]
    assert not exported.signed
    done = import_bundle(out, here, places, [])
    assert (done.signer, outcomes(done)) == ("", ["imported"] * 3)
    assert {e.key for e in here.entries()} == {e.key for e in source.entries()}
    assert all(is_unproven(entry) and entry.verdict["grade"] == "none" for entry in here.entries())
    assert [r.filename for r in here.releases()] == [r.filename for r in source.releases()]
    assert {(r.origin, r.grade) for r in here.releases()} == {("import", "none")}
    assert here.verify_all() == []
    before = {path: path.stat().st_ino for path in here.root.rglob("*.json")}
    assert outcomes(import_bundle(out, here, places, [])) == ["there"] * 3
    assert {path: path.stat().st_ino for path in here.root.rglob("*.json")} == before
    assert not list(places.work.glob("import-*"))


def test_a_folder_is_a_wheelhouse_and_other_files_in_it_stay(source: Store, tmp_path: Path) -> None:
    out = tmp_path / "wheelhouse"
    out.mkdir()
    (out / "own.txt").write_text("mine")
    export(source, ["sample"], out, key=tmp_path / "none")
    names = {path.name for path in out.iterdir()}
    assert names == {MANIFEST, "own.txt", *(f"sample-1.{n}-py3-none-any.whl" for n in (1, 2, 3))}
    assert export(source, [], out, key=tmp_path / "none").manifest.files


def test_the_same_content_gives_the_same_archive(
    source: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("buildkit.build.exchange.utc_now", lambda: "2026-11-21T10:00:00Z")
    for name in ("a.tar.gz", "b.tar.gz"):
        export(source, [], tmp_path / name, key=tmp_path / "none")
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tar.gz").read_bytes()


def test_some_of_it(source: Store, tmp_path: Path) -> None:
    entries = {entry.version: entry for entry in source.entries()}
    chosen = export(source, [entries["1.1"].key[:10], entries["1.3"].build], tmp_path / "out", key=tmp_path / "none")
    assert sorted(entry.version for entry in chosen.manifest.entries) == ["1.1", "1.3"]
    assert [release.version for release in chosen.manifest.releases] == ["1.1"]
    with pytest.raises(NoSuchBuild):
        export(source, ["nothing"], tmp_path / "out", key=tmp_path / "none")


def test_of_two_wheels_of_one_name_the_newer_goes_out(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for number in (1, 2):
        wheel = wheel_of(tmp_path, number)
        store.put(wheel, entry_of(wheel, number, filename="sample-1-py3-none-any.whl"))
    exported = export(store, [], tmp_path / "out", key=tmp_path / "none")
    assert [entry.version for entry in exported.manifest.entries] == ["1.2"]
    assert "a newer wheel has this name" in exported.left[0]


def test_a_signed_export_is_believed_by_who_trusts_the_key(
    source: Store, here: Store, places: Places, tmp_path: Path, key: Path
) -> None:
    public = new_key(key)
    assert export(source, [], tmp_path / "out", key=key).signed
    assert not is_unproven(next(iter(_imported(tmp_path / "out", here, places, [public]).entries())))
    other = Places(tmp_path / "other", tmp_path / "elsewhere")
    stranger = _imported(tmp_path / "out", Store(other.store), other, [])
    assert all(map(is_unproven, stranger.entries()))


def _imported(path: Path, store: Store, places: Places, trusted: list[str]) -> Store:
    assert set(outcomes(import_bundle(path, store, places, trusted))) == {"imported"}
    return store


def test_a_changed_manifest_is_refused_where_its_key_is_trusted(
    source: Store, here: Store, places: Places, tmp_path: Path, key: Path
) -> None:
    public = new_key(key)
    out = tmp_path / "out"
    export(source, [], out, key=key)
    text = (out / MANIFEST).read_text()
    (out / MANIFEST).write_text(text.replace('"imported"', '"executed"'))
    with pytest.raises(BadSignature):
        import_bundle(out, here, places, [public])
    assert list(here.entries()) == []


def test_signatures(key: Path, tmp_path: Path) -> None:
    public = new_key(key)
    assert key.stat().st_mode & 0o777 == 0o600
    assert Settings.model_validate({"trusted-keys": [public]}).trusted_keys == (public,)
    with pytest.raises(ValidationError):
        Settings.model_validate({"trusted-keys": ["ed25519:short"]})
    assert public_key(key) == public
    signature = sign(key, b"document")
    assert signer(b"document", signature, [public]) == public
    assert signer(b"document", signature, []) == ""
    assert signer(b"document", "", [public]) == ""
    other = new_key(tmp_path / "other.pem")
    for wrong in (f"{public} {sign(tmp_path / 'other.pem', b'document').split()[1]}", f"{public} ed25519:AAAA", public):
        with pytest.raises(BadSignature):
            signer(b"document", wrong, [public, other])
    with pytest.raises(BadSignature):
        signer(b"another", signature, [public])
    with pytest.raises(StoreError, match="a key already"):
        new_key(key)
    with pytest.raises(StoreError, match="no key to sign with"):
        public_key(tmp_path / "none.pem")
    certificate(tmp_path, "tls")
    with pytest.raises(StoreError, match="Ed25519 is needed") as caught:
        public_key(tmp_path / "tls.key")
    assert caught.value.hint.startswith("move it away")


# Lies


def rewritten(out: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((out / MANIFEST).read_text())
    change(manifest)
    (out / MANIFEST).write_text(json.dumps(manifest))


def swapped(manifest: dict[str, Any]) -> None:
    """The first wheel under the key and inputs of the second."""
    first, second = manifest["entries"][:2]
    for name in ("key", "inputs", "family"):
        first[name] = second[name]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda manifest: manifest["entries"][0].update(key="a" * 64), "is not the hash of the inputs"),
        (lambda manifest: manifest["entries"][0]["inputs"].update(device="cuda"), "is not the hash of the inputs"),
        (lambda manifest: manifest["entries"][0].update(family="b" * 64), "is not the hash of the inputs"),
        (lambda manifest: manifest["entries"][0]["inputs"].update(more="x"), "not those of this cudabuild"),
        (lambda manifest: manifest["entries"][0].update(recipe="other"), "another recipe or version"),
        (swapped, "another recipe or version"),
        (lambda manifest: manifest["entries"][0].update(version="9.9"), "another recipe or version"),
    ],
)
def test_an_entry_that_lies_is_refused_and_the_others_are_not(
    source: Store, here: Store, places: Places, tmp_path: Path, change: Callable[[dict[str, Any]], None], why: str
) -> None:
    export(source, [], tmp_path / "out", key=tmp_path / "none")
    rewritten(tmp_path / "out", change)
    done = import_bundle(tmp_path / "out", here, places, [])
    refused = [each.why for each in done.wheels if each.outcome == "refused"]
    assert len(refused) == 1
    assert why in refused[0]
    assert len(list(here.entries())) == 2


def test_a_release_that_lies_is_refused(source: Store, here: Store, places: Places, tmp_path: Path) -> None:
    export(source, [], tmp_path / "out", key=tmp_path / "none")
    rewritten(tmp_path / "out", lambda manifest: manifest["releases"][0].update(metadata_sha256="a" * 64))
    done = import_bundle(tmp_path / "out", here, places, [])
    assert sorted(outcomes(done)) == ["imported", "imported", "refused"]
    assert len(here.releases()) == 1


def test_names_are_kept(source: Store, here: Store, places: Places, tmp_path: Path) -> None:
    """Another wheel has the name of one of them here, and another has a key."""
    wheel = wheel_of(tmp_path / "own", 9)
    taken = entry_of(wheel, 9, filename="sample-1.1-py3-none-any.whl")
    here.put(wheel, taken, release_of(wheel, taken))
    here.put(wheel, entry_of(wheel, 9, key=entry_of(wheel_of(tmp_path, 3), 3).key))
    export(source, [], tmp_path / "out", key=tmp_path / "none")
    done = {
        each.filename: (each.outcome, each.why) for each in import_bundle(tmp_path / "out", here, places, []).wheels
    }
    assert done["sample-1.1-py3-none-any.whl"] == (
        "refused",
        "sample-1.1-py3-none-any.whl is another wheel's name already",
    )
    assert done["sample-1.2-py3-none-any.whl"][0] == "imported"
    assert "another wheel under key" in done["sample-1.3-py3-none-any.whl"][1]
    assert here.verify_all() == []


def damaged(out: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    wheel = out / "sample-1.1-py3-none-any.whl"

    def linked() -> None:
        wheel.rename(out / "elsewhere")
        wheel.symlink_to("elsewhere")

    def flipped() -> None:
        data = bytearray(wheel.read_bytes())
        data[100] ^= 1
        wheel.write_bytes(data)

    def instead(path: Path, make: Callable[[Path], None]) -> None:
        path.unlink()
        make(path)

    yield "linked", linked
    yield "flipped", flipped
    yield "longer", lambda: wheel.write_bytes(wheel.read_bytes() + b"x")
    yield "gone", wheel.unlink
    yield "a folder", lambda: instead(wheel, Path.mkdir)
    yield "a pipe", lambda: instead(wheel, os.mkfifo)
    yield "no manifest", (out / MANIFEST).unlink
    yield "another schema", lambda: rewritten(out, lambda manifest: manifest.update(schema=9))
    yield "a name that leads out", lambda: rewritten(out, lambda m: m["entries"][0].update(filename="../x.whl"))
    yield "two contents", lambda: rewritten(out, lambda m: m["releases"][0].update(sha256="a" * 64))
    yield "a linked manifest", lambda: instead(out / MANIFEST, lambda path: path.symlink_to("elsewhere"))


@pytest.mark.parametrize("number", range(11))
def test_a_damaged_folder_is_refused(source: Store, here: Store, places: Places, tmp_path: Path, number: int) -> None:
    out = tmp_path / "out"
    export(source, [], out, key=tmp_path / "none")
    name, damage = list(damaged(out))[number]
    damage()
    with pytest.raises(BadBundle):
        import_bundle(out, here, places, [])
    assert here.verify_all() == [], name
    assert here.release("sample-1.1-py3-none-any.whl") is None


def changed_tar(source: Path, target: Path, change: Callable[[list[tarfile.TarInfo]], list[tarfile.TarInfo]]) -> None:
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for member in change(old.getmembers()):
            known = member.isreg() and member.name in old.getnames()
            new.addfile(member, old.extractfile(member.name) if known else io.BytesIO(b"x" * member.size))


def extra(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.linkname = kind, 1 if kind == tarfile.REGTYPE else 0, "/etc/passwd"
    return member


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda members: [*members, extra("../../evil.whl")], "does not name"),
        (lambda members: [*members, extra("/etc/evil.whl")], "does not name"),
        (lambda members: [*members, members[1]], "does not name"),
        (lambda members: [members[0], extra("sample-1.1-py3-none-any.whl", tarfile.SYMTYPE)], "not a regular file"),
        (lambda members: [members[0], extra("sample-1.1-py3-none-any.whl", tarfile.LNKTYPE)], "not a regular file"),
        (lambda members: [members[0], extra("folder", tarfile.DIRTYPE)], "not a regular file"),
        (lambda members: members[:-1], "lacks"),
        (lambda members: members[1:], "does not begin with"),
        (lambda members: members[:0], "does not begin with"),
    ],
)
def test_a_damaged_archive_is_refused(
    source: Store,
    here: Store,
    places: Places,
    tmp_path: Path,
    change: Callable[[list[tarfile.TarInfo]], list[tarfile.TarInfo]],
    why: str,
) -> None:
    export(source, [], tmp_path / "good.tar", key=tmp_path / "none")
    changed_tar(tmp_path / "good.tar", tmp_path / "bad.tar", change)
    with pytest.raises(BadBundle, match=why):
        import_bundle(tmp_path / "bad.tar", here, places, [])
    assert here.verify_all() == []
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("name", ["good.tar", "good.tar.gz"])
def test_an_archive_that_was_cut_short(source: Store, here: Store, places: Places, tmp_path: Path, name: str) -> None:
    export(source, [], tmp_path / name, key=tmp_path / "none")
    data = (tmp_path / name).read_bytes()
    for share in (0.0, 0.1, 0.5, 0.8):
        (tmp_path / "cut.tar").write_bytes(data[: int(len(data) * share)])
        with pytest.raises(BadBundle):
            import_bundle(tmp_path / "cut.tar", here, places, [])
    assert here.verify_all() == []


@pytest.mark.parametrize("ending", ["gz", "xz"])
def test_an_archive_whose_compressed_bytes_are_damaged(
    source: Store, here: Store, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr("buildkit.build.exchange.utc_now", lambda: "2026-11-21T10:00:00.000000Z")
    export(source, [], tmp_path / "good.tar", key=tmp_path / "none")
    good = (tmp_path / "good.tar").read_bytes()
    packed = gzip.compress(good, mtime=0) if ending == "gz" else lzma.compress(good)
    bad = tmp_path / f"bad.tar.{ending}"
    for place in (len(packed) * share // 13 for share in (7, 8, 9, 10)):
        bad.write_bytes(packed[:place] + b"\xff" * 64 + packed[place + 64 :])
        with pytest.raises(BadBundle):
            import_bundle(bad, here, places, [])


def test_what_a_stranger_says_of_a_wheel_is_not_kept(
    source: Store, here: Store, places: Places, tmp_path: Path
) -> None:
    export(source, ["sample"], tmp_path / "out", key=tmp_path / "none")
    rewritten(tmp_path / "out", lambda manifest: manifest["releases"][0].update(targets=["8.6"], torch="9.9"))
    import_bundle(tmp_path / "out", here, places, [], {"sample": False})
    first, second = here.releases()
    assert (first.targets, first.torch, first.device, first.origin) == ((), "2.13.0+cu130", "cpu", "import")
    assert (first.redistributable, second.redistributable) == (False, False)


def test_entries_that_every_import_refuses_are_left_out(source: Store, tmp_path: Path) -> None:
    entry = next(source.entries())
    source.amend(entry.model_copy(update={"inputs": {**entry.inputs, "targets": "nonsense"}}))
    done = export(source, [], tmp_path / "out", key=tmp_path / "none")
    assert len(done.manifest.entries) == 2
    assert any(entry.filename in line and "not the hash of the inputs" in line for line in done.left)


def test_a_wheel_whose_record_lies_is_refused(here: Store, places: Places, tmp_path: Path) -> None:
    wheel = wheel_of(tmp_path, 1)
    data = wheel.read_bytes().replace(b"NUMBER = 1", b"NUMBER = 2")
    wheel.write_bytes(data)
    store = Store(tmp_path / "source")
    store.put(wheel, entry_of(wheel, 1))
    export(store, [], tmp_path / "out", key=tmp_path / "none")
    done = import_bundle(tmp_path / "out", here, places, [])
    assert outcomes(done) == ["refused"]
    assert list(here.entries()) == []


def test_what_an_entry_may_say(tmp_path: Path) -> None:
    entry: Entry = entry_of(wheel_of(tmp_path, 1), 1)
    check_inputs(entry)
    check_inputs(entry.model_copy(update={"version": "1.1+pt2.13"}))
    with pytest.raises(ForeignLies):
        check_inputs(entry.model_copy(update={"inputs": inputs_of(2).as_dict()}))


def test_no_export_where_there_is_nothing(tmp_path: Path, places: Places, here: Store) -> None:
    with pytest.raises(NoSuchBuild):
        export(here, [], tmp_path / "out", key=tmp_path / "none")
    with pytest.raises(StoreError):
        import_bundle(tmp_path / "nowhere.tar", here, places, [])
    assert not (tmp_path / "out" / SIGNATURE).exists()


def test_a_pipe_is_not_waited_for(here: Store, places: Places, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "wheels.tar")
    with pytest.raises(BadBundle, match="not a regular file"):
        import_bundle(tmp_path / "wheels.tar", here, places, [])


def test_an_entry_of_endless_nesting_is_a_damaged_one(source: Store) -> None:
    entry = next(source.entries())
    (source.root / "entries" / f"{entry.key}.json").write_text("[" * 100_000)
    assert len(list(source.entries())) == 2
    assert [problem.key for problem in source.verify_all()] == [entry.key]
