"""The index's application, asked as clients ask: pages, files, what is refused, what is damaged, where names lead."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
from index_wheels import metadata_of, publish, release_of, wheel_bytes
from starlette.testclient import TestClient

from buildkit.index.app import create_app
from buildkit.index.negotiation import HTML, JSON
from buildkit.index.settings import IndexSettings
from buildkit.progress import Silent
from buildkit.store.release import Release
from buildkit.store.store import Store

FULL = "/pt2.13-cu130/simple"
FILES = "/pt2.13-cu130/files"
VERSION = "1.0+pt2.13.cu130"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def add(store: Store, tmp_path: Path) -> Callable[..., Release]:
    def add(project: str = "some-kernels", version: str = VERSION, **fields: Any) -> Release:
        return publish(store, tmp_path, project, version, **fields)

    return add


def client(store: Store, **settings: Any) -> TestClient:
    return TestClient(create_app(store, IndexSettings(**settings)), follow_redirects=False)


def blob(store: Store, release: Release) -> Path:
    return store.blobs.path(release.sha256)


def damage(path: Path) -> None:
    """One byte in the middle becomes another; the size stays."""
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_page_its_file_its_metadata_and_its_verdict(store: Store, add: Callable[..., Release]) -> None:
    release = add()
    ours = client(store)
    page = ours.get(f"{FULL}/some-kernels/", headers={"Accept": JSON})
    assert page.status_code == 200
    assert page.headers["content-type"] == JSON
    assert page.headers["vary"] == "Accept"
    assert page.headers["cache-control"] == "max-age=600"
    (file,) = page.json()["files"]
    wheel = ours.get(f"{FULL}/some-kernels/{file['url']}")
    assert hashlib.sha256(wheel.content).hexdigest() == file["hashes"]["sha256"] == release.sha256
    assert len(wheel.content) == file["size"]
    assert wheel.headers["cache-control"] == "public, max-age=31536000, immutable"
    metadata = ours.get(f"{FULL}/some-kernels/{file['url']}.metadata")
    assert metadata.content == metadata_of("some-kernels", VERSION)
    assert hashlib.sha256(metadata.content).hexdigest() == file["core-metadata"]["sha256"]
    verdict = ours.get(f"{FULL}/some-kernels/{file['_cudabuild']['verdict']}")
    assert verdict.json()["sha256"] == release.sha256
    assert verdict.json()["verdict"] == release.verdict
    assert verdict.headers["cache-control"] == "max-age=600"


@pytest.mark.parametrize("plus", ["+", "%2B", "%2b"])
def test_a_plus_sign_in_every_spelling(store: Store, add: Callable[..., Release], plus: str) -> None:
    release = add()
    answer = client(store).get(f"{FILES}/{release.filename.replace('+', plus)}")
    assert (answer.status_code, len(answer.content)) == (200, release.size)


@pytest.mark.parametrize(
    ("path", "location"),
    [
        (f"{FULL}/Some_Kernels/", "../some-kernels/"),
        (f"{FULL}/some.kernels", "some-kernels/"),
        (f"{FULL}/some-kernels", "some-kernels/"),
        (f"{FULL}/SOME--__kernels/?format=x", "../some-kernels/?format=x"),
        (FULL, "simple/"),
        ("/pt2.13-cu130/", "simple/"),
    ],
)
def test_where_a_name_that_is_not_normal_leads(
    store: Store, add: Callable[..., Release], path: str, location: str
) -> None:
    add()
    answer = client(store).get(path)
    assert (answer.status_code, answer.headers["location"]) == (301, location)


def test_forms_and_what_is_not_acceptable(store: Store, add: Callable[..., Release]) -> None:
    add()
    ours = client(store)
    for path in (f"{FULL}/", f"{FULL}/some-kernels/"):
        assert ours.get(path, headers={"Accept": HTML}).headers["content-type"] == f"{HTML}; charset=utf-8"
        assert ours.get(path, headers={"Accept": "*/*"}).headers["content-type"] == "text/html; charset=utf-8"
        assert ours.get(f"{path}?format={HTML}", headers={"Accept": JSON}).headers["content-type"].startswith(HTML)
        refused = ours.get(path, headers={"Accept": "application/json"})
        assert (refused.status_code, refused.json()["error"]["kind"]) == (406, "not-acceptable")
        assert ours.get(f"{path}?format=application/json").status_code == 406


def test_what_a_client_has_is_not_sent_again(store: Store, add: Callable[..., Release]) -> None:
    release = add()
    ours = client(store)
    paths = [f"{FULL}/", f"{FULL}/some-kernels/"]
    paths += [f"{FILES}/{release.filename}{ending}" for ending in ("", ".metadata", ".verdict.json")]
    for path in paths:
        first = ours.get(path)
        again = ours.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b""), path
        assert again.headers["cache-control"] == first.headers["cache-control"]
        assert again.headers["etag"] == first.headers["etag"]
        assert ours.get(path, headers={"If-None-Match": '"another"'}).status_code == 200
    html = ours.get(paths[1], headers={"Accept": HTML}).headers["etag"]
    assert ours.get(paths[1], headers={"Accept": JSON, "If-None-Match": html}).status_code == 200


def test_heads(store: Store, add: Callable[..., Release]) -> None:
    release = add()
    ours = client(store)
    for path in (
        f"{FULL}/",
        f"{FULL}/some-kernels/",
        f"{FILES}/{release.filename}",
        f"{FILES}/{release.filename}.metadata",
    ):
        head, get = ours.head(path), ours.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.content))
        assert head.headers["etag"] == get.headers["etag"]


def test_parts_of_a_file(store: Store, add: Callable[..., Release]) -> None:
    release = add(filler=300_000)
    content = blob(store, release).read_bytes()
    ours, path = client(store), f"{FILES}/{release.filename}"
    assert ours.get(path).content == content
    assert ours.get(path).headers["accept-ranges"] == "bytes"
    part = ours.get(path, headers={"Range": "bytes=100-250099"})
    assert (part.status_code, part.content) == (206, content[100:250_100])
    assert part.headers["content-range"] == f"bytes 100-250099/{len(content)}"
    assert ours.get(path, headers={"Range": "bytes=-22"}).content == content[-22:]
    several = ours.get(path, headers={"Range": "bytes=0-3,10-13"})
    assert several.status_code == 206
    assert several.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert int(several.headers["content-length"]) == len(several.content)
    boundary = several.headers["content-type"].rpartition("=")[2].encode()
    first, second = several.content.split(b"--" + boundary)[1:3]
    assert first.endswith(b"\r\n\r\n" + content[:4] + b"\r\n")
    assert second.endswith(f"bytes 10-13/{len(content)}\r\n\r\n".encode() + content[10:14] + b"\r\n")
    beyond = ours.get(path, headers={"Range": f"bytes={len(content)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(content)}")
    many = ours.get(path, headers={"Range": "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 2000, 2))})
    assert (many.status_code, many.content) == (200, content)
    etag = f'"{release.sha256}"'
    assert ours.get(path, headers={"Range": "bytes=0-3", "If-Range": etag}).status_code == 206
    assert ours.get(path, headers={"Range": "bytes=0-3", "If-Range": '"older"'}).content == content


def test_a_wheel_stands_under_its_own_path_only(store: Store, add: Callable[..., Release]) -> None:
    wide = add()
    narrow = add(version="1.0+pt2.13.cu130.sm120", targets=("12.0",))
    ours = client(store)
    narrow_path = "/pt2.13-cu130-sm120"
    for path, own, other in ((FULL.rpartition("/")[0], wide, narrow), (narrow_path, narrow, wide)):
        page = ours.get(f"{path}/simple/some-kernels/", headers={"Accept": JSON}).json()
        assert [file["filename"] for file in page["files"]] == [own.filename]
        assert ours.get(f"{path}/files/{own.filename}").status_code == 200
        for ending in ("", ".metadata", ".verdict.json"):
            refused = ours.get(f"{path}/files/{other.filename}{ending}", headers={"Accept": JSON})
            assert refused.status_code == 404
            assert refused.json()["error"]["kind"] == "no-such-file"


def test_a_variant_that_is_not_here(store: Store, add: Callable[..., Release]) -> None:
    add()
    answer = client(store).get("/pt2.13-cu128/simple/some-kernels/", headers={"Accept": JSON})
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["variants"] == ["pt2.13-cu130"]
    assert (
        error["command"] == "cudabuild some-kernels --torch 2.13.0+cu128 --target '7.0;7.5;8.0;8.6;9.0;10.0;12.0+PTX'"
    )
    listing = client(store).get("/pt2.13-cu128/simple/", headers={"Accept": "text/html"})
    assert listing.status_code == 404
    assert "cudabuild RECIPE" in listing.text
    assert "pt2.13-cu130" in client(store).get("/nonsense/simple/").text


def test_a_name_that_nobody_owns(store: Store, add: Callable[..., Release]) -> None:
    add()
    answer = client(store).get(f"{FULL}/some-kernel/", headers={"Accept": JSON})
    assert answer.status_code == 404
    assert answer.json()["error"]["names"] == ["some-kernels"]
    for path in ("/", FULL, "/pt2.13-cu130/files/x.whl", "/nothing/here/at/all"):
        assert client(store).get(path).status_code in {200, 301, 404}


def test_a_page_of_an_error_escapes_what_was_asked_for(store: Store) -> None:
    answer = client(store).get("/<script>x/simple/", headers={"Accept": "text/html"})
    assert answer.status_code == 404
    assert "<script>" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_names_that_are_owned_never_come_from_upstream(store: Store, add: Callable[..., Release]) -> None:
    add()
    add("held-back", verdict={})
    settings = {"upstream": "https://index.example/simple", "owned": frozenset({"by-recipe"}), "min_grade": "built"}
    ours = client(store, **settings)
    foreign = ours.get(f"{FULL}/requests/")
    assert (foreign.status_code, foreign.headers["location"]) == (302, "https://index.example/simple/requests/")
    assert foreign.headers["cache-control"] == "no-store"
    assert ours.get("/pt2.9-cu128/simple/requests/").status_code == 302
    for owned in ("by-recipe", "held-back", "some-kernels"):
        assert ours.get(f"/pt2.9-cu128/simple/{owned}/").status_code == 404
    assert ours.get(f"{FULL}/held-back/").status_code == 404
    assert ours.get("/typing-error/simple/requests/").status_code == 404
    listed = ours.get(f"{FULL}/", headers={"Accept": JSON}).json()
    assert listed["projects"] == [{"name": "some-kernels"}]
    assert client(store).get(f"{FULL}/requests/").status_code == 404


def test_what_is_kept_back_cannot_be_had_by_its_address_either(store: Store, add: Callable[..., Release]) -> None:
    release = add(tags="cp311-cp311-linux_x86_64")
    ours = client(store, shared=True)
    for ending in ("", ".metadata", ".verdict.json"):
        answer = ours.get(f"{FILES}/{release.filename}{ending}", headers={"Accept": JSON})
        assert (answer.status_code, answer.json()["error"]["kind"]) == (404, "withheld")
        assert "manylinux" in answer.json()["error"]["message"]
    page = ours.get(f"{FULL}/some-kernels/", headers={"Accept": JSON})
    assert (page.status_code, page.json()["error"]["kind"]) == (404, "withheld")
    assert client(store).get(f"{FILES}/{release.filename}").status_code == 200


class Heard(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def test_bytes_of_a_damaged_wheel_are_never_sent_and_it_leaves_the_page(
    store: Store, add: Callable[..., Release]
) -> None:
    release, other = add(), add(version="2.0+pt2.13.cu130")
    heard = Heard()
    ours = TestClient(create_app(store, IndexSettings(), heard))
    path = f"{FILES}/{release.filename}"
    assert len(ours.get(path).content) == release.size
    damage(blob(store, release))  # after it was found to be sound
    for _ in range(2):
        answer = ours.get(path, headers={"Accept": JSON})
        assert (answer.status_code, answer.json()["error"]["kind"]) == (404, "damaged-wheel")
    assert ours.get(path, headers={"Range": "bytes=0-9"}).status_code == 404
    assert ours.head(path).status_code == 404
    page = ours.get(f"{FULL}/some-kernels/", headers={"Accept": JSON}).json()
    assert [file["filename"] for file in page["files"]] == [other.filename]
    assert page["versions"] == ["2.0+pt2.13.cu130"]
    assert len(heard.warnings) == 1
    assert release.filename in heard.warnings[0]


def test_a_damaged_wheel_that_is_put_right_is_served_again(
    store: Store, add: Callable[..., Release], tmp_path: Path
) -> None:
    release = add()
    ours = client(store)
    sound = blob(store, release).read_bytes()
    damage(blob(store, release))
    assert ours.get(f"{FILES}/{release.filename}").status_code == 404
    blob(store, release).write_bytes(sound)
    assert ours.get(f"{FILES}/{release.filename}").status_code == 200
    blob(store, release).unlink()
    assert ours.get(f"{FILES}/{release.filename}").status_code == 404
    store.publish(tmp_path / release.filename, release)
    assert ours.get(f"{FILES}/{release.filename}").status_code == 200


def test_a_wheel_that_was_removed_or_cut(store: Store, add: Callable[..., Release]) -> None:
    gone, cut = add(), add(version="2.0+pt2.13.cu130")
    ours = client(store)
    assert ours.get(f"{FULL}/some-kernels/").status_code == 200
    blob(store, gone).unlink()
    blob(store, cut).chmod(0o644)
    blob(store, cut).write_bytes(b"PK")
    for release in (gone, cut):
        answer = ours.get(f"{FILES}/{release.filename}", headers={"Accept": JSON})
        assert (answer.status_code, answer.json()["error"]["kind"]) == (404, "damaged-wheel")
    assert ours.get(f"{FULL}/some-kernels/").status_code == 404


def test_metadata_that_is_not_the_one_announced(store: Store, add: Callable[..., Release]) -> None:
    release = add(requires=["numpy"])
    store.amend_release(release, lambda known: known.model_copy(update={"metadata_sha256": "0" * 64}))
    ours = client(store)
    answer = ours.get(f"{FILES}/{release.filename}.metadata", headers={"Accept": JSON})
    assert (answer.status_code, answer.json()["error"]["kind"]) == (404, "damaged-wheel")
    assert ours.get(f"{FULL}/some-kernels/").status_code == 404


def test_metadata_whose_compressed_bytes_are_damaged(store: Store, tmp_path: Path) -> None:
    plain, wheel = wheel_bytes("some-kernels", VERSION), tmp_path / "packed.whl"
    with ZipFile(io.BytesIO(plain)) as source, ZipFile(wheel, "w", ZIP_DEFLATED) as packed:
        for name in source.namelist():
            packed.writestr(name, source.read(name))
    content = wheel.read_bytes()
    release = store.publish(wheel, release_of("some-kernels", VERSION, content))
    with ZipFile(wheel) as packed:
        info = next(each for each in packed.infolist() if each.filename.endswith("METADATA"))
    start = info.header_offset + 30 + len(info.filename)
    blob(store, release).chmod(0o644)
    blob(store, release).write_bytes(content[:start] + b"\xff" * 8 + content[start + 8 :])
    answer = client(store).get(f"{FILES}/{release.filename}.metadata", headers={"Accept": JSON})
    assert (answer.status_code, answer.json()["error"]["kind"]) == (404, "damaged-wheel")


def test_a_new_release_a_yanked_one_and_a_new_verdict_appear_at_once(store: Store, add: Callable[..., Release]) -> None:
    ours = client(store)
    assert ours.get(f"{FULL}/some-kernels/").status_code == 404
    release = add()
    first = ours.get(f"{FULL}/some-kernels/", headers={"Accept": JSON})
    assert first.json()["files"][0]["yanked"] is False
    store.amend_release(
        release, lambda known: known.model_copy(update={"yanked": "rebuilt", "verdict": {"grade": "executed"}})
    )
    second = ours.get(f"{FULL}/some-kernels/", headers={"Accept": JSON})
    assert second.json()["files"][0]["yanked"] == "rebuilt"
    assert second.json()["files"][0]["_cudabuild"]["grade"] == "executed"
    assert first.headers["etag"] != second.headers["etag"]


def test_a_method_that_nothing_takes_is_answered_as_everything_is(store: Store) -> None:
    answer = client(store).put(f"{FULL}/some-kernels/", headers={"Accept": "application/json"})
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"
    assert answer.json()["error"]["kind"] == "wrong-method"


def test_what_device_code_nobody_has_looked_at_is_not_served(store: Store, add: Callable[..., Release]) -> None:
    release = add(targets=(), origin="import")
    answer = client(store).get(f"{FILES}/{release.filename}", headers={"Accept": "application/json"})
    assert answer.json()["error"]["kind"] == "withheld"
    assert "cudabuild verify" in answer.json()["error"]["message"]


def test_the_page_for_people(store: Store, add: Callable[..., Release]) -> None:
    add()
    add("other", "3.0+pt2.13.cu130.sm120", targets=("12.0",), yanked="no")
    answer = TestClient(create_app(store, IndexSettings()), base_url="https://wheels.example", root_path="/a").get("/")
    assert answer.status_code == 200
    text = answer.text
    assert "pip install --no-deps --index-url https://wheels.example/a/pt2.13-cu130/simple/ some-kernels" in text
    assert "explicit = true" in text
    assert 'href="pt2.13-cu130-sm120/simple/other/"' in text
    policy = answer.headers["content-security-policy"]
    assert "script-src" not in policy
    style = text.partition("<style>")[2].partition("</style>")[0]
    import base64

    assert f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" in policy
    hostile = client(store).get("/", headers={"Host": '"><script>alert(1)</script>'})
    assert "<script>" not in hostile.text
    assert "No wheel is served yet" in client(Store(store.root / "other")).get("/").text


def test_a_store_that_cannot_be_read_is_told_by_its_cause(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    answer = client(Store(tmp_path / "store")).get(f"{FULL}/", headers={"Accept": JSON})
    assert answer.status_code == 500
    assert json.loads(answer.content)["error"]["kind"] == "store"


def test_the_key_of_old_pips_traceback_is_never_sent(store: Store, add: Callable[..., Release]) -> None:
    add()
    assert "dist-info-metadata" not in client(store).get(f"{FULL}/some-kernels/", headers={"Accept": JSON}).text


def test_the_store_itself_is_served_where_that_was_said(store: Store, add: Callable[..., Release]) -> None:
    path = f"/store/blobs/{add().sha256}"
    assert client(store).get(path).status_code == 404
    answer = client(store, share_store=True).get(path)
    assert (answer.status_code, hashlib.sha256(answer.content).hexdigest()) == (200, path.rpartition("/")[2])
