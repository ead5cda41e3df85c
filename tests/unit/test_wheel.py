"""Wheels as a stranger's files: what is accepted, and what is refused with the member's name."""

from __future__ import annotations

import base64
import hashlib
import stat
import struct
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from buildkit.errors import BadBackendAnswer, UnsafeWheel
from buildkit.verify import zip_structure
from buildkit.verify.wheel import check_backend_answer, open_wheel, unpack_wheel

NAME = "pack_age-1.0-cp311-cp311-linux_x86_64.whl"
INFO = "pack_age-1.0.dist-info"
METADATA = "Metadata-Version: 2.1\nName: Pack.Age\nVersion: 1.0\nRequires-Dist: torch\n\nlong description\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: cp311-cp311-linux_x86_64\n"


def digest(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def contents(**changes: str | bytes) -> dict[str, bytes]:
    members: dict[str, str | bytes] = {
        "pack_age/__init__.py": "x = 1\n",
        "pack_age/_C.so": b"\x7fELF",
        f"{INFO}/METADATA": METADATA,
        f"{INFO}/WHEEL": WHEEL,
    }
    members.update(changes)
    return {name: data.encode() if isinstance(data, str) else data for name, data in members.items()}


def record_of(members: dict[str, bytes]) -> bytes:
    rows = [f"{name},{digest(data)},{len(data)}\n" for name, data in members.items() if not name.endswith("/")]
    return "".join([*rows, f"{INFO}/RECORD,,\n"]).encode()


def make(
    folder: Path, members: dict[str, bytes] | None = None, *, record: bytes | None = None, name: str = NAME
) -> Path:
    members = contents() if members is None else members
    path = folder / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
        archive.writestr(f"{INFO}/RECORD", record_of(members) if record is None else record)
    return path


def refused(path: Path, member: str = "", **options: object) -> str:
    with pytest.raises(UnsafeWheel) as caught:
        open_wheel(path, **options)  # type: ignore[arg-type]
    assert member in caught.value.message
    assert caught.value.exit_code == 9
    return caught.value.message


def test_a_sound_wheel_says_what_it_is(tmp_path: Path) -> None:
    wheel = open_wheel(make(tmp_path), foreign={"torch", "numpy"})
    assert (wheel.name, wheel.version, wheel.build) == ("pack-age", "1.0", "")
    assert wheel.tags == ("cp311-cp311-linux_x86_64",)
    assert wheel.modules == ("pack_age",)
    assert wheel.record["pack_age/__init__.py"] == (digest(b"x = 1\n"), 6)
    assert wheel.dist_info == INFO
    assert wheel.metadata == METADATA


def test_folders_scripts_and_data_are_allowed(tmp_path: Path) -> None:
    members = contents(**{
        "pack_age/": b"",
        "pack_age/weights.pth": b"a model",
        "pack_age-1.0.data/scripts/tool": b"#!python\n",
        "pack_age-1.0.data/data/share/doc": b"text",
        "pack_age-1.0.data/platlib/pack_more/x.py": b"",
        "Größe mit Leerzeichen.txt": b"",
    })  # fmt: skip
    assert open_wheel(make(tmp_path, members)).modules == ("pack_age", "pack_more")


@pytest.mark.parametrize(
    "member",
    [
        "../evil.py",
        "/etc/evil",
        "pack_age/../../evil.py",
        "pack_age//evil.py",
        "./evil.py",
        "C:/evil.py",
        "pack_age\\evil.py",
        "pack_age/evil\n.py",
        "hook.pth",
        "pack_age-1.0.data/purelib/hook.pth",
        "sitecustomize.py",
        "other-2.0.dist-info/METADATA",
        "other.egg-info/PKG-INFO",
        "other.egg-link",
        "pack_age-1.0.data/data/lib/python3.11/site-packages/evil.py",
        "pack_age-1.0.data/data/pyvenv.cfg",
        "pack_age-1.0.data/rootfs/evil",
        "other-1.0.data/scripts/evil",
        "torch/evil.py",
        "numpy.py",
        "setuptools.cpython-311-x86_64-linux-gnu.so",
        "pack_age-1.0.data/platlib/torch/evil.py",
    ],
)
def test_a_member_in_a_wrong_place_is_refused_by_name(tmp_path: Path, member: str) -> None:
    path = make(tmp_path, contents(**{member: b"x"}))
    shown = repr(member) if "dist-info" not in member else "dist-info"
    refused(path, shown, foreign={"torch", "numpy", "setuptools"})


def test_links_and_special_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / NAME
    members = contents()
    for kind in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR):
        with zipfile.ZipFile(path, "w") as archive:
            for member, data in members.items():
                info = zipfile.ZipInfo(member)
                info.external_attr = ((kind if member.endswith(".so") else stat.S_IFREG) | 0o644) << 16
                archive.writestr(info, data)
            archive.writestr(f"{INFO}/RECORD", record_of(members))
        assert "is a link or a special file" in refused(path, "pack_age/_C.so")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("pack_age/__init__.py", "x = 2\n")
    assert "is there twice" in refused(path, "pack_age/__init__.py")


def test_a_file_that_is_also_a_folder_is_refused(tmp_path: Path) -> None:
    assert "a file and a folder" in refused(make(tmp_path, contents(**{"pack_age/_C.so/x": b""})), "pack_age/_C.so")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda text: text.replace("x = 1", "x = 1"), ""),
        (lambda text: text + "pack_age/ghost.py,sha256=AAAA,1\n", "is in RECORD but not there"),
        (lambda text: "".join(text.splitlines(keepends=True)[1:]), "is not in RECORD"),
        (lambda text: text.replace(",6\n", ",7\n"), "is not what RECORD says"),
        (lambda text: text.replace(digest(b"x = 1\n"), digest(b"x = 2\n")), "is not what RECORD says"),
        (lambda text: text.replace(digest(b"x = 1\n"), ""), "has no sha256"),
        (lambda text: text.replace(digest(b"x = 1\n"), "md5=AAAA"), "has no sha256"),
        (lambda text: text + text.splitlines(keepends=True)[0], "there twice"),
        (lambda text: text + "too,many,fields,here\n", "a row that is wrong"),
    ],
)
def test_record_must_tell_the_truth(tmp_path: Path, change: Callable[[str], str], why: str) -> None:
    path = make(tmp_path, record=change(record_of(contents()).decode()).encode())
    if why:
        assert why in refused(path)
    else:
        open_wheel(path)


@pytest.mark.parametrize(
    ("member", "old", "new", "name"),
    [
        ("METADATA", "Pack.Age", "Other", NAME),
        ("METADATA", "Version: 1.0", "Version: 1.1", NAME),
        ("METADATA", "Version: 1.0", "Version: ?", NAME),
        ("METADATA", "torch", "torch @ https://files.example/torch.whl", NAME),
        ("METADATA", "Requires-Dist: torch", "Requires-Dist: ===", NAME),
        ("WHEEL", "cp311-cp311", "cp312-cp312", NAME),
        ("WHEEL", "Tag:", "Gat:", NAME),
        ("WHEEL", "Tag:", "Tag:", "pack_age-1.1-cp311-cp311-linux_x86_64.whl"),
        ("WHEEL", "Tag:", "Tag:", "other-1.0-cp311-cp311-linux_x86_64.whl"),
        ("WHEEL", "Tag:", "Tag:", "pack_age.whl"),
    ],
)
def test_file_name_metadata_and_tags_must_agree(tmp_path: Path, member: str, old: str, new: str, name: str) -> None:
    texts = {"METADATA": METADATA, "WHEEL": WHEEL}
    members = contents(**{f"{INFO}/{member}": texts[member].replace(old, new)})
    refused(make(tmp_path, members, name=name))


def test_a_missing_metadata_or_record_is_refused(tmp_path: Path) -> None:
    members = contents()
    del members[f"{INFO}/METADATA"]
    refused(make(tmp_path, members), "does not say plainly what it is")
    with zipfile.ZipFile(tmp_path / NAME, "w") as archive:
        for member, data in contents().items():
            archive.writestr(member, data)
    refused(tmp_path / NAME, f"{INFO}/RECORD")


def patched(path: Path, change: Callable[[bytearray], None]) -> Path:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


def test_a_local_header_that_differs_from_the_central_directory_is_refused(tmp_path: Path) -> None:
    def rename(data: bytearray) -> None:
        place = data.index(b"pack_age/__init__.py")
        data[place : place + 4] = b"back"

    def resize(data: bytearray) -> None:
        place = data.index(b"PK\3\4")
        struct.pack_into("<L", data, place + 22, 5)

    assert "differs from the central directory" in refused(patched(make(tmp_path), rename), "pack_age/__init__.py")
    assert "differs from the central directory" in refused(patched(make(tmp_path), resize), "pack_age/__init__.py")


def test_bytes_that_belong_to_no_member_are_refused(tmp_path: Path) -> None:
    original = make(tmp_path).read_bytes()
    end = original.rindex(b"PK\5\6")
    for data in (
        original + b"trailing",
        original + original[end:],
        b"prefix" + original,
        original[:end] + original[end:-2] + struct.pack("<H", 7) + b"comment",
        original[:-1],
        b"",
        b"not a zip file at all",
    ):
        (tmp_path / NAME).write_bytes(data)
        refused(tmp_path / NAME)


def test_a_hidden_member_between_two_members_is_refused(tmp_path: Path) -> None:
    """A local entry that the central directory does not know: streaming readers would unpack it."""
    path = make(tmp_path)
    data = path.read_bytes()
    start = struct.unpack_from("<L", data, data.rindex(b"PK\5\6") + 16)[0]
    hidden = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 1, 1, 8, 0) + b"evil.pth" + b"x"
    end = data.rindex(b"PK\5\6")
    moved = bytearray(data[:start] + hidden + data[start:])
    struct.pack_into("<L", moved, end + len(hidden) + 16, start + len(hidden))
    path.write_bytes(moved)
    assert "belong to no member" in refused(path)


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = make(tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(b"pack_age/__init__.py") + len("pack_age/__init__.py") + 1] ^= 0xFF
    path.write_bytes(data)
    refused(path)


def test_streamed_members_are_understood(tmp_path: Path) -> None:
    """Writers that cannot seek leave sizes to a data descriptor behind the member."""

    class Pipe:
        def __init__(self) -> None:
            self.data = bytearray()

        def write(self, data: bytes) -> int:
            self.data += data
            return len(data)

        def flush(self) -> None:
            pass

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[call-overload]
        for member, data in contents().items():
            archive.writestr(member, data)
        archive.writestr(f"{INFO}/RECORD", record_of(contents()))
    path = tmp_path / NAME
    path.write_bytes(pipe.data)
    assert open_wheel(path).name == "pack-age"
    broken = pipe.data.replace(b"PK\x07\x08", b"PK\x07\x09", 1)
    path.write_bytes(broken)
    refused(path)


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_structure, "RATIO_FLOOR", 10_000)
    assert "unpacks to" in refused(make(tmp_path, contents(zeros=bytes(1_000_000))), "zeros")
    monkeypatch.setattr(zip_structure, "SIZE_LIMIT", 100)
    assert "more than 100" in refused(make(tmp_path))
    monkeypatch.setattr(zip_structure, "MEMBER_LIMIT", 2)
    assert "members, more than 2" in refused(make(tmp_path))


def test_odd_compression_is_refused(tmp_path: Path) -> None:
    path = tmp_path / NAME
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        for member, data in contents().items():
            archive.writestr(member, data)
        archive.writestr(f"{INFO}/RECORD", record_of(contents()))
    assert "compression method 12" in refused(path)


def test_unpacking_keeps_executable_bits_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / NAME
    members = contents()
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            info = zipfile.ZipInfo(member)
            info.external_attr = (stat.S_IFREG | (0o4777 if member.endswith(".so") else 0o600)) << 16
            archive.writestr(info, data)
        archive.writestr(f"{INFO}/RECORD", record_of(members))
    folder = unpack_wheel(open_wheel(path), tmp_path / "unpacked")
    assert (folder / "pack_age/__init__.py").read_text() == "x = 1\n"
    assert stat.S_IMODE((folder / "pack_age/_C.so").stat().st_mode) == 0o755
    assert stat.S_IMODE((folder / "pack_age/__init__.py").stat().st_mode) == 0o644


def test_the_backends_answer_is_a_wheel_of_the_package(tmp_path: Path) -> None:
    path = make(tmp_path)
    assert check_backend_answer(NAME, tmp_path, "pack-age", "1.0") == path
    assert check_backend_answer(NAME, tmp_path, "PACK.age", None) == path


def test_a_backend_may_add_a_local_version(tmp_path: Path) -> None:
    name = "pack_age-1.0+abc-cp311-cp311-linux_x86_64.whl"
    members = {name.replace("1.0", "1.0+abc"): data for name, data in contents().items()}
    members["pack_age-1.0+abc.dist-info/METADATA"] = METADATA.replace("1.0", "1.0+abc").encode()
    path = tmp_path / name
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    assert check_backend_answer(name, tmp_path, "pack-age", "1.0") == path
    with pytest.raises(BadBackendAnswer, match="version"):
        check_backend_answer(name, tmp_path, "pack-age", "1.0+other")


@pytest.mark.parametrize(
    ("answer", "name", "version"),
    [
        (f"../{NAME}", "pack-age", "1.0"),
        (f"sub/{NAME}", "pack-age", "1.0"),
        ("", "pack-age", "1.0"),
        (".whl", "pack-age", "1.0"),
        ("link.whl", "pack-age", "1.0"),
        ("folder.whl", "pack-age", "1.0"),
        ("absent-1.0-py3-none-any.whl", "pack-age", "1.0"),
        ("pack_age-1.0.tar.gz", "pack-age", "1.0"),
        (f"{NAME}\n", "pack-age", "1.0"),
        (NAME, "other", "1.0"),
        (NAME, "pack-age", "1.1"),
        ("pack_age-1.0-py3-none-any.whl", "pack-age", "1.0"),
    ],
)
def test_other_answers_of_a_backend_are_refused(tmp_path: Path, answer: str, name: str, version: str) -> None:
    path = make(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "folder.whl").mkdir()
    (tmp_path / "link.whl").symlink_to(path)
    (tmp_path / "pack_age-1.0-py3-none-any.whl").write_bytes(path.read_bytes())  # tags differ from its WHEEL
    with pytest.raises(BadBackendAnswer) as caught:
        check_backend_answer(answer, tmp_path, name, version)
    assert repr(answer) in caught.value.message
    assert caught.value.exit_code == 6


def test_what_would_fill_the_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path)
    monkeypatch.setattr(zip_structure, "DIRECTORY_LIMIT", 100)
    assert "a central directory of" in refused(path)
    monkeypatch.undo()
    monkeypatch.setattr("buildkit.verify.wheel.read_whole", partial(zip_structure.read_whole, limit=50))
    assert "more than 50" in refused(path, f"{INFO}/METADATA")


def test_many_members_that_pack_too_well_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_structure, "RATIO_FLOOR", 1 << 16)
    path = make(tmp_path, contents(**{f"pack_age/{number}": bytes(1 << 16) for number in range(9)}))
    assert "unpacks to" in refused(path)


def test_a_tag_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path, contents(**{f"{INFO}/WHEEL": WHEEL.encode() + b"Tag: cp311-cp311-linux_\xff\n"}))
    refused(path, "WHEEL")
