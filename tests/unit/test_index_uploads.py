"""Uploads: what twine and uv send is taken once; all else is refused by name, and no bytes bring a traceback."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from texts import CHARACTERS
from upload_wheels import WheelMaker, fake_cuobjdump, marked_object
from uploading import Answer, basic, form, post, upload_form

from buildkit.build.final import with_build_tag
from buildkit.errors import VerificationFailed
from buildkit.index import uploads, uploads_verdicts
from buildkit.index.app import create_app
from buildkit.index.checks import check_wheel
from buildkit.index.settings import IndexSettings
from buildkit.index.tokens import Tokens, new_token
from buildkit.index.uploads import routes
from buildkit.index.uploads_place import changing_releases, sweep_places, upload_place
from buildkit.index.uploads_settings import UploadSettings
from buildkit.store.locks import LockBusy, file_lock
from buildkit.store.store import Store
from buildkit.verify.verdict import Stage, Verdict, make_verdict

PATH = "/pt2.13-cu130-sm120/legacy/"


class Index:
    """An index over an empty store, and the tokens for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(folder / "store")
        tokens = folder / "tokens.json"
        self.secrets = {scope: new_token(tokens, scope, [scope]) for scope in ("read", "upload", "verify")}
        fake_cuobjdump(folder)
        self.settings = UploadSettings(
            Tokens(tokens), {"fast-voxels": True, "odd-terms": False}, cuobjdump=folder / "cuobjdump"
        )

    @property
    def app(self) -> Starlette:
        return Starlette(routes=routes(self.store, self.settings))

    def upload(self, wheel: Path, path: str = PATH, *, scope: str = "upload", **changes: str | None) -> Answer:
        return post(self.app, path, upload_form(wheel, **changes), basic(self.secrets[scope]))

    def wheel(self, **changes: Any) -> Path:
        return WheelMaker(**changes).write(self.folder)

    def nothing_half(self) -> None:
        assert list((self.store.root / "tmp" / "uploads").glob("*")) == []
        assert [path.name for path in self.store.blobs.all()] == sorted(each.sha256 for each in self.store.releases())


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    found = Index(tmp_path)
    yield found
    found.nothing_half()


def refused(answer: Answer, status: int, text: str) -> None:
    assert answer.status == status, answer.text
    assert text in answer.text
    assert answer.text.count("\n") == 1


def test_a_wheel_is_taken_and_the_same_again_changes_nothing(index: Index) -> None:
    wheel = index.wheel()
    answer = index.upload(wheel)
    assert (answer.status, answer.text) == (200, f"{wheel.name} is there: /pt2.13-cu130-sm120/simple/fast-voxels/\n")
    (release,) = index.store.releases()
    assert (release.filename, release.by, release.origin) == (wheel.name, "upload", "upload")
    assert release.sha256 == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert index.store.blobs.path(release.sha256).read_bytes() == wheel.read_bytes()
    again = index.upload(wheel, "/legacy/")
    assert (again.status, again.text) == (200, f"{wheel.name} was there already, with the same bytes\n")
    assert index.store.releases() == [release]


def test_the_same_bytes_put_right_what_was_damaged(index: Index) -> None:
    wheel = index.wheel()
    index.upload(wheel)
    (release,) = index.store.releases()
    blob = index.store.blobs.path(release.sha256)
    blob.chmod(0o644)
    blob.write_bytes(b"x" * release.size)
    assert index.upload(wheel).status == 200
    assert blob.read_bytes() == wheel.read_bytes()


def test_other_bytes_under_one_name_are_a_conflict(index: Index) -> None:
    index.upload(index.wheel())
    refused(index.upload(index.wheel(text="x = 2\n")), 409, "is there with other bytes")
    assert len(index.store.releases()) == 1


@pytest.mark.parametrize("changes", [{"name": "Fast_Voxels"}, {"version": "1.0.0+pt2.13.cu130.sm120"}])
def test_another_spelling_of_a_name_is_a_conflict_too(index: Index, changes: dict[str, str]) -> None:
    first = index.wheel()
    index.upload(first)
    refused(index.upload(index.wheel(**changes)), 409, f"is there as {first.name}")
    assert index.upload(index.wheel(version="1.1+pt2.13.cu130.sm120")).status == 200


def test_what_was_built_again_takes_the_place_of_the_older_one(index: Index) -> None:
    first = index.wheel()
    again = with_build_tag(index.wheel(text="x = 2\n"), "1")
    assert [index.upload(wheel).status for wheel in (first, again)] == [200, 200]
    yanked = {release.filename: release.yanked for release in index.store.releases()}
    assert yanked == {first.name: f"built again as {again.name}", again.name: ""}


def test_a_licence_is_remembered(index: Index) -> None:
    assert index.upload(index.wheel(name="odd_terms")).status == 200
    assert [release.redistributable for release in index.store.releases()] == [False]


def test_who_may_not(index: Index) -> None:
    body = upload_form(index.wheel())
    refused(post(index.app, PATH, body), 401, "needs a token with the scope upload")
    answer = post(index.app, PATH, body, basic("cudabuild_other"))
    refused(answer, 401, "this token is not known here")
    assert answer.headers["www-authenticate"].startswith("Basic")
    refused(index.upload(index.wheel(), scope="verify"), 403, "has no scope upload")
    refused(index.upload(index.wheel(name="requests")), 403, "requests is nobody's here")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"action": None}, ":action: Field required"),
        ({"action": "submit"}, ":action: Input should be 'file_upload'"),
        ({"protocol_version": "2"}, "protocol_version: Input should be '1'"),
        ({"filetype": "sdist"}, "only wheels are taken here"),
        ({"name": "other"}, "the form is for other"),
        ({"name": ""}, "name: Field required"),
        ({"sha256_digest": "0" * 64}, "arrived with sha256"),
        ({"blake2_256_digest": "0" * 64}, "arrived with blake2_256"),
        ({"md5_digest": "0" * 32}, "arrived with md5"),
        ({"md5_digest": "never"}, "md5_digest: String should match pattern"),
    ],
)
def test_a_form_that_does_not_fit_its_file(index: Index, changes: dict[str, Any], text: str) -> None:
    refused(index.upload(index.wheel(), **changes), 400, text)


def test_hashes_are_checked_as_given_in_capitals_or_not_at_all(index: Index) -> None:
    wheel = index.wheel()
    given = hashlib.sha256(wheel.read_bytes()).hexdigest().upper()
    assert index.upload(wheel, sha256_digest=given, md5_digest="", blake2_256_digest=None).status == 200


@pytest.mark.parametrize(
    "filename",
    [
        "fast_voxels-1.0.tar.gz",
        "fast_voxels-1.0.zip",
        "",
        "../fast_voxels-1.0-py3-none-any.whl",
        "fast_voxels-1.0-py3-none-any.whl\0",
        ".whl",
        "fast_voxels.whl",
        "fast_voxels-1.0-" + "a" * 300 + "-none-any.whl",
    ],
)
def test_what_is_no_name_of_a_wheel(index: Index, filename: str) -> None:
    fields = [(":action", b"file_upload"), ("name", b"fast-voxels"), ("version", b"1.0")]
    refused(post(index.app, "/legacy/", form(fields, filename, b"x"), basic(index.secrets["upload"])), 400, "")


def test_the_path_has_to_be_the_wheels_own(index: Index) -> None:
    refused(
        index.upload(index.wheel(), "/pt2.13-cu130/legacy/"), 400, "is of the variant pt2.13-cu130-sm120: upload it to"
    )
    assert index.upload(index.wheel()).status == 200


def test_a_wheel_that_is_not_what_it_says(index: Index) -> None:
    refused(index.upload(index.wheel(code=marked_object())), 400, "cpu-only-wheel: CPU-only wheel")
    refused(index.upload(index.wheel(code=marked_object("86"))), 400, "missing-targets: ")
    refused(index.upload(index.wheel(more={"../evil": b"x"})), 400, "unsafe-wheel: ")


def test_the_plain_linux_tag_is_refused_unless_the_index_is_ones_own(index: Index) -> None:
    wheel = index.wheel(tags="cp311-cp311-linux_x86_64")
    refused(index.upload(wheel), 400, "says nothing about the C library")
    index.settings = replace(index.settings, linux_tags=True)
    assert index.upload(wheel).status == 200


def test_what_is_too_large_ends_early_but_is_read_to_its_end(index: Index) -> None:
    index.settings = replace(index.settings, limit=2000)
    wheel = index.wheel(more={"fast_voxels/data": random.Random(1).randbytes(9000)})
    headers = basic(index.secrets["upload"])
    refused(post(index.app, PATH, upload_form(wheel), headers, piece=512), 413, "the file has more than 2000 bytes")
    announced = {**headers, "content-length": str(1 << 40)}
    refused(post(index.app, PATH, upload_form(wheel), announced), 413, "at most 2000 bytes")
    many = form([("a", b"")] * 2100, wheel.name, b"x")
    refused(post(index.app, PATH, many, headers), 413, "more than 2000 parts")
    long = form([("description", bytes(5 << 20))], wheel.name, b"x")
    refused(post(index.app, PATH, long, headers), 413, "the form's fields have more than")


def test_odd_forms(index: Index) -> None:
    wheel, headers = index.wheel(), basic(index.secrets["upload"])
    body = upload_form(wheel)
    refused(post(index.app, PATH, body, headers, content_type="application/json"), 400, "is multipart/form-data")
    refused(post(index.app, PATH, body[:-400], headers), 400, "breaks off")
    refused(post(index.app, PATH, b"", headers), 400, "breaks off")
    twice = form([("name", b"a"), ("name", b"fast-voxels"), ("content", b"")], wheel.name, wheel.read_bytes())
    refused(post(index.app, PATH, twice, headers), 400, "")
    assert post(index.app, PATH, body[: len(body) // 2], headers, breaks_off=True).status == 400


def test_a_full_disk_is_said_without_saying_where(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", str(index.folder))

    monkeypatch.setattr("buildkit.store.blobs.copy_hashing", full)
    refused(index.upload(index.wheel()), 507, "the index's disk is full")


def test_leftovers_of_a_killed_server_are_swept_and_work_is_not(tmp_path: Path) -> None:
    left = tmp_path / "tmp" / "uploads" / "left"
    left.mkdir(parents=True)
    (left / "received").write_bytes(b"half")
    with upload_place(tmp_path) as place:
        assert sweep_places(tmp_path) == 1
        assert place.is_dir()
    assert list(left.parent.iterdir()) == []


# Verdicts


def verdict(index: Index, *, torch: str = "2.13.0+cu130", grade: str = "executed", gpu: str = "12.0") -> Verdict:
    (release,) = index.store.releases()
    object_ = {"path": "fast_voxels/_C.so", "elf": ["12.0"], "ptx": [], "units": 1}
    stages = [
        Stage(name="audit", outcome="passed", seconds=0, evidence={"targets": ["12.0"], "objects": [object_]}),
        Stage(name="import", outcome="passed", seconds=0),
    ]
    if grade == "executed":
        evidence = {
            "device": "A GPU", "capability": gpu, "kernels": [{"object": "_C.so", "launches": 1}],
            "ran": [{"target": "12.0", "by": "sass"}],
        }  # fmt: skip
        stages.append(Stage(name="probe", outcome="passed", seconds=0, evidence=evidence))
    return make_verdict(
        stages, wheel_sha256=release.sha256, device="cuda", targets=("12.0",), torch=torch, probe_sha256="p"
    )


def attach(index: Index, value: Verdict | bytes, sha256: str = "", scope: str = "verify") -> Answer:
    body = value if isinstance(value, bytes) else value.model_dump_json(by_alias=True).encode()
    sha256 = sha256 or index.store.releases()[0].sha256
    headers = {"authorization": f"Bearer {index.secrets[scope]}"}
    return post(index.app, f"/api/v1/verdicts/{sha256}", body, headers, content_type="application/json")


@pytest.fixture
def with_wheel(index: Index) -> Index:
    assert index.upload(index.wheel()).status == 200
    return index


def test_a_verdict_raises_the_grade_and_a_lesser_one_changes_nothing(with_wheel: Index) -> None:
    def grade() -> tuple[str, bool]:
        said = json.loads(answer.text)
        assert with_wheel.store.releases()[0].grade == said["grade"]
        return said["grade"], said["changed"]

    answer = attach(with_wheel, verdict(with_wheel, grade="imported"))
    assert grade() == ("imported", True)
    answer = attach(with_wheel, verdict(with_wheel))
    assert grade() == ("executed", True)
    answer = attach(with_wheel, verdict(with_wheel, grade="imported"))
    assert grade() == ("executed", False)


@pytest.mark.parametrize("what", ["the same bytes", "a verdict"])
def test_a_yank_that_came_meanwhile_stays(with_wheel: Index, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    (release,) = with_wheel.store.releases()

    def yank(*_: object) -> None:
        with_wheel.store.amend_release(release, lambda known: known.model_copy(update={"yanked": "it is slow"}))

    @contextlib.contextmanager
    def after_another(_store: Store) -> Iterator[None]:
        yank()
        yield

    value = verdict(with_wheel)
    monkeypatch.setattr(uploads, "changing_releases", after_another)
    if what == "a verdict":
        monkeypatch.setattr(uploads_verdicts, "_check_subject", yank)  # which is asked of what was read before
    answer = with_wheel.upload(with_wheel.wheel()) if what == "the same bytes" else attach(with_wheel, value)
    assert answer.status == 200
    (now,) = with_wheel.store.releases()
    assert (now.yanked, now.grade) == ("it is slow", "none" if what == "the same bytes" else "executed")


def test_changes_of_releases_wait_for_each_other(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    lock = store.root / "locks" / "uploads.lock"
    with changing_releases(store), pytest.raises(LockBusy), file_lock(lock, patience=0):
        pass


def test_another_spelling_of_a_name_that_was_cleared_away_is_a_conflict_too(index: Index) -> None:
    index.upload(index.wheel())
    (release,) = index.store.releases()
    index.store.forget([], [release])
    index.store.blobs.path(release.sha256).unlink()
    refused(index.upload(index.wheel(name="Fast_Voxels")), 409, "one name means one content for ever")


def test_verdicts_of_two_gpus_add_up(with_wheel: Index) -> None:
    attach(with_wheel, verdict(with_wheel, gpu="12.0"))
    assert attach(with_wheel, verdict(with_wheel, gpu="12.1")).status == 200
    kept = Verdict.model_validate(with_wheel.store.releases()[0].verdict)
    assert {run.capability for run in kept.rows[0].runs} == {"12.0", "12.1"}


def test_verdicts_that_say_nothing_of_the_wheel(with_wheel: Index) -> None:
    good = verdict(with_wheel)
    other = good.model_copy(update={"wheel_sha256": "b" * 64})
    refused(attach(with_wheel, other), 400, "the verdict is about other bytes")
    refused(attach(with_wheel, other, "b" * 64), 404, "no wheel here has the sha256")
    refused(attach(with_wheel, good, "last"), 400, "64 hexadecimal digits")
    refused(attach(with_wheel, verdict(with_wheel, torch="2.12.0+cu130")), 400, "was made for 2.13.0+cu130")
    refused(attach(with_wheel, verdict(with_wheel, torch="2.13.0+cu128")), 400, "was made for 2.13.0+cu130")
    refused(attach(with_wheel, good, scope="upload"), 403, "has no scope verify")
    text = good.model_dump_json(by_alias=True)
    for lie in (
        text.replace('"schema":2', '"schema":3'),
        text.replace('"passed"', '"failed"', 1),
        "{}",
        "",
        "[" * 9999,
    ):
        refused(attach(with_wheel, lie.encode()), 400, "verdict")
    refused(attach(with_wheel, b" " * (5 << 20)), 413, "a verdict has at most")
    assert with_wheel.store.releases()[0].grade == "none"


# Any bytes


@st.composite
def disturbed(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes with a few changes."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(changed)))
        change = draw(st.sampled_from(["cut", "insert", "flip", "copy"]))
        length = draw(st.sampled_from([1, 2, 4, 30, 400]))
        if change == "cut":
            del changed[place : place + length]
        elif change == "insert":
            changed[place:place] = draw(st.binary(max_size=length))
        elif change == "copy":
            changed[place:place] = changed[-length:]
        elif place < len(changed):
            changed[place] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)


@settings(deadline=None)
@given(st.data())
def test_any_bytes_in_a_wheel_are_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    tool = fake_cuobjdump(folder)
    maker = WheelMaker()
    members = maker.contents()
    if member := data.draw(st.sampled_from(["", *members])):
        # RECORD tells the truth about it.
        maker.more[member] = data.draw(disturbed(members[member]))
    wheel = maker.write(folder)
    if not member:
        wheel.write_bytes(data.draw(disturbed(wheel.read_bytes())))
    (folder / "objects").mkdir()
    with contextlib.suppress(VerificationFailed):  # and nothing else
        check_wheel(wheel, folder / "objects", cuobjdump=tool)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """One index for all examples: what one of them does must not trouble the next."""
    return Index(tmp_path_factory.mktemp("fuzz"))


@settings(deadline=None)
@given(st.data())
def test_any_bytes_in_a_request_get_an_answer(fuzzed: Index, data: st.DataObject) -> None:
    body = data.draw(disturbed(upload_form(fuzzed.wheel())))
    piece = data.draw(st.sampled_from([60, 1000, 1 << 16]))
    answer = post(fuzzed.app, PATH, body, basic(fuzzed.secrets["upload"]), piece=piece)
    assert answer.status in {200, 400, 403, 409, 413}
    fuzzed.nothing_half()


@settings(deadline=None)
@given(
    st.binary(max_size=200)
    | st.text(CHARACTERS, max_size=100).map(lambda text: json.dumps({"schema": 2, text: text}).encode())
)
def test_any_bytes_for_a_verdict_get_an_answer(fuzzed: Index, body: bytes) -> None:
    assert attach(fuzzed, body, "c" * 64).status == 400


# Beside the pages


def test_the_index_has_them_where_they_are_set_and_reading_may_need_a_token(index: Index) -> None:
    def got(app: Starlette, headers: dict[str, str] | None = None) -> Answer:
        return post(app, "/pt2.13-cu130-sm120/simple/fast-voxels/", b"", headers, method="GET")

    assert post(create_app(index.store, IndexSettings()), PATH, upload_form(index.wheel())).status in {404, 405}
    open_ = create_app(index.store, IndexSettings(uploads=index.settings))
    assert post(open_, PATH, upload_form(index.wheel()), basic(index.secrets["upload"])).status == 200
    assert got(open_).status == 200
    closed = create_app(index.store, IndexSettings(uploads=index.settings, readers=index.settings.tokens))
    assert (got(closed).status, got(closed).headers["www-authenticate"][:5]) == (401, "Basic")
    answer = got(closed, basic(index.secrets["read"]))
    assert answer.status == 200
    assert answer.headers["cache-control"].startswith("private")
    assert "fast_voxels" in answer.text


def test_a_file_of_tokens_that_nobody_can_use_is_told_to_the_operator(
    index: Index, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(index.store, IndexSettings(readers=index.settings.tokens))
    (index.folder / "tokens.json").chmod(0o666)
    answer = post(app, "/", b"", basic(index.secrets["read"]), method="GET")
    assert (answer.status, str(index.folder) in answer.text) == (503, False)
    assert "chmod 600" in caplog.text
