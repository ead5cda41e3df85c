"""The audit of an index: what fits which cell, what is stale or lacks code, and how few bytes that takes."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import pytest
from device_objects import Images, noise, shared_object
from ranged import Site, serving

from buildkit.build.remote_file import NoRanges, RemoteFile, TooMuch
from buildkit.build.remote_index import RemoteIndex
from buildkit.cli.matrix_audit import index_address
from buildkit.errors import IndexDenied, IndexUnreachable, NotOnIndex, UsageError
from buildkit.matrix.audit import Audit, Finding
from buildkit.matrix.audit_fit import misfit, read_name
from buildkit.matrix.audit_pages import NoPage, read_page
from buildkit.matrix.audit_places import places_of
from buildkit.matrix.audit_stale import Pinned
from buildkit.matrix.cell import Cell
from buildkit.source.index_settings import IndexSettings
from buildkit.verify.verdict import Stage, make_verdict

MIB = 1 << 20
JSON = "application/vnd.pypi.simple.v1+json"
BOTH = [("elf", 86), ("elf", 90)]
WHEEL = "kernels-1.0+pt2.13.cu130.sm86.sm90-cp311-cp311-manylinux_2_28_x86_64.whl"


def cell(**changes: Any) -> Cell:
    given: dict[str, Any] = {
        "id": "kernels-1.0", "recipe": "kernels", "version": "1.0", "torch": "2.13.0+cu130", "cuda": "13.0",
        "python": "3.11", "targets": ("8.6;9.0",), "device": "cuda", "platform": "linux_x86_64", "require": "imported",
    }  # fmt: skip
    return Cell(**{**given, **changes})


def wheel(*units: Images, stored: bool = False, filler: int = 0, materials: Any = None, **object_: Any) -> bytes:
    """A wheel with one shared object, and ``filler`` bytes of something else before it."""
    stream = io.BytesIO()
    with ZipFile(stream, "w", ZIP_STORED if stored else ZIP_DEFLATED) as archive:
        archive.writestr("kernels/weights.bin", noise(filler))
        archive.writestr("kernels/_C.so", shared_object(*units, **object_))
        archive.writestr("kernels-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: kernels\nVersion: 1.0\n")
        if materials is not None:
            archive.writestr("kernels-1.0.dist-info/sboms/cudabuild.cdx.json", json.dumps(materials))
    return stream.getvalue()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site({"/simple/": (JSON, b'{"projects": []}')})) as served:
        yield served


def put(site: Site, name: str = WHEEL, content: bytes = b"", *, verdict: Any = None, **file: Any) -> None:
    """A wheel on the page of its project."""
    content = content or wheel(BOTH)
    sha256 = hashlib.sha256(content).hexdigest()
    site.add(f"/files/{name}", content)
    said = {"filename": name, "url": f"../../files/{name}", "hashes": {"sha256": sha256}, **file}
    if verdict is not None:
        proof = make_verdict(verdict, wheel_sha256=sha256, device="cuda", targets=("8.6", "9.0"), torch="2.13.0+cu130")
        told = {"schema": 1, "filename": name, "verdict": proof.model_dump(mode="json", by_alias=True)}
        site.add(f"/files/{name}.verdict.json", json.dumps(told).encode(), "application/json")
        said["_cudabuild"] = {"grade": proof.grade, "verdict": f"../../files/{name}.verdict.json"}
    page = site.files.get("/simple/kernels/", (JSON, b'{"files": []}'))[1]
    site.add("/simple/kernels/", json.dumps({"files": [*json.loads(page)["files"], said]}).encode(), JSON)


def stages(*reached: str, elf: tuple[str, ...] = ("8.6", "9.0")) -> list[Stage]:
    evidence = {"targets": list(elf), "objects": [{"path": "_C.so", "elf": list(elf), "ptx": [], "units": 1}]}
    return [
        Stage(name=name, outcome="passed", seconds=1.0, evidence=evidence if name == "audit" else {})
        for name in reached
    ]


OPENED: list[RemoteIndex] = []


@pytest.fixture(scope="module", autouse=True)
def _opened() -> Iterator[None]:
    """One for all tests: reading the system's certificates takes longer than a test."""
    with RemoteIndex("http://127.0.0.1/", IndexSettings()) as index:
        OPENED.append(index)
        yield
    OPENED.clear()


def audited(
    site: Site, *, pinned: Pinned | None = None, limit: int = 16 * MIB, look: bool = False, **of: Any
) -> Finding:
    remote, wanted = OPENED[0], cell(**of)
    remote.url = f"{site.url}/simple/"
    audit = Audit(remote, {wanted.id: pinned or Pinned(("kernels",))}, limit, look_always=look)
    audit.check()
    return audit.of(wanted)


# names


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (WHEEL, ""),
        ("kernels-1.0+pt213cu130-cp311-cp311-linux_x86_64.whl", ""),
        ("kernels-1.0+cu130torch2.13-cp39-abi3-linux_x86_64.whl", ""),
        ("kernels-1.0+cu13torch2.13cxx11abiTRUE-cp311-cp311-linux_x86_64.whl", ""),
        ("kernels-1.0-cp311-cp311-linux_x86_64.whl", ""),
        ("kernels-1.0+pt2.12.cu130-cp311-cp311-linux_x86_64.whl", "it is for torch 2.12"),
        ("kernels-1.0+pt2.13.cu128-cp311-cp311-linux_x86_64.whl", "it is for CUDA 12.8"),
        ("kernels-1.0+pt2.13.cpu-cp311-cp311-linux_x86_64.whl", "it is for the CPU"),
        ("kernels-1.0+pt2.13.cu130-cp312-cp312-linux_x86_64.whl", "it is for cp312"),
        ("kernels-1.0+pt2.13.cu130-cp312-abi3-linux_x86_64.whl", "it is for cp312"),
        ("kernels-1.0+pt2.13.cu130-cp311-cp311-linux_aarch64.whl", "it is for linux_aarch64"),
        ("kernels-1.0+pt2.13.cu130-cp311-cp311-musllinux_1_2_x86_64.whl", "it is for musllinux_1_2_x86_64"),
    ],
)
def test_a_name_says_for_which_cell_a_wheel_is(name: str, why: str) -> None:
    named = read_name(name)
    assert named is not None
    assert misfit(cell(), named) == why


def test_what_is_for_the_cpu_is_for_cells_of_the_cpu() -> None:
    named = read_name("kernels-1.0+pt2.13.cpu-cp311-cp311-linux_x86_64.whl")
    assert named is not None
    assert misfit(cell(device="cpu", cuda="", targets=()), named) == ""


def test_pages_are_asked_in_groups() -> None:
    assert places_of("https://a.example/simple/", cell(), ["kernels"]) == [["https://a.example/simple/kernels/"]]
    of_each = [["https://a.example/pt2.13-cu130-sm86-sm90/simple/k/", "https://a.example/pt2.13-cu130/simple/k/"]]
    narrow = [group[:2] for group in places_of("https://a.example/{variant}/simple", cell(), ["k"])]
    assert narrow == of_each
    both = places_of("https://a.example", cell(), ["k"])
    assert [group[0] for group in both] == ["https://a.example/k/", of_each[0][0]]


# pages


def test_html_and_json_say_the_same() -> None:
    wheel_name = "a-1.0-py3-none-any.whl"
    html = (
        f'<html><head><base href="/whl/"></head><body><a href="../files/{wheel_name}#sha256=ab" data-yanked="old">a</a>'
        f'<a rel="nofollow" href="../files/{wheel_name}.verdict.json">imported</a><br><a href="a-1.0.tar.gz">sdist</a>'
        "</body></html>"
    )
    file = {
        "filename": wheel_name,
        "url": f"../files/{wheel_name}",
        "hashes": {"sha256": "ab"},
        "yanked": "old",
        "_cudabuild": {"grade": "imported", "verdict": f"../files/{wheel_name}.verdict.json"},
    }
    said = json.dumps({"files": [file, {"filename": "a-1.0.tar.gz", "url": "a-1.0.tar.gz"}]}).encode()
    (one,) = read_page("https://i.example/whl/a/", "text/html", html.encode())
    assert (one,) == read_page("https://i.example/whl/", JSON, said)
    assert one.verdict_url == f"https://i.example/files/{wheel_name}.verdict.json"


@pytest.mark.parametrize(
    ("media_type", "content"),
    [(JSON, b"[]"), (JSON, b"{"), (JSON, b'{"files": [1]}'), (JSON, b"[" * 100_000), ("image/png", b"")],
)
def test_what_is_no_page_is_said(media_type: str, content: bytes) -> None:
    with pytest.raises(NoPage):
        read_page("https://i.example/", media_type, content)


# the audit


def test_a_wheel_without_a_verdict_is_judged_by_what_is_in_it(site: Site) -> None:
    put(site)
    found = audited(site)
    assert (found.status, found.grade, found.held, found.evidence) == ("served", "", ("8.6", "9.0"), "wheel")


@pytest.mark.parametrize("stored", [False, True])
def test_code_that_one_unit_lacks_is_named(site: Site, stored: bool) -> None:
    put(site, content=wheel(BOTH, [("elf", 86), ("ptx", 86)], stored=stored))
    found = audited(site)
    assert (found.status, found.lacking, found.held) == ("lacking", ("sm_90",), ("8.6",))
    assert audited(site, targets=("8.6+PTX",)).lacking == ("PTX of 8.6",)


def test_a_wheel_without_any_device_code_lacks_all(site: Site) -> None:
    put(site, content=wheel())
    assert audited(site).lacking == ("sm_86", "sm_90")


@pytest.mark.parametrize("stored", [False, True])
def test_few_bytes_are_fetched(site: Site, stored: bool) -> None:
    content = wheel(BOTH, BOTH, stored=stored, filler=3 * MIB, writable=noise(2 * MIB))
    put(site, content=content)
    before = site.sent
    found = audited(site)
    assert found.status == "served"
    assert (found.size, found.fetched) == (len(content), found.fetched)
    assert found.fetched <= site.sent - before < len(content) / 10


def test_images_in_a_stored_member_are_left_out(site: Site) -> None:
    content = wheel(BOTH, BOTH, BOTH, stored=True, payload=2 * MIB)
    put(site, content=content)
    assert audited(site).status == "served"
    assert site.sent < len(content) / 4


def test_of_a_wheel_with_a_verdict_nothing_is_read_but_its_list(site: Site) -> None:
    put(site, content=wheel([("elf", 86)], filler=MIB), verdict=stages("build", "audit", "import"))
    found = audited(site)
    assert (found.status, found.grade, found.evidence, found.held) == ("served", "imported", "verdict", ("8.6", "9.0"))
    assert found.fetched <= 64 << 10
    assert audited(site, look=True).lacking == ("sm_90",)  # the verdict of this test lies


def test_a_verdict_of_other_bytes_counts_for_nothing(site: Site) -> None:
    put(site, verdict=stages("build", "audit"))
    path = f"/files/{WHEEL}.verdict.json"
    site.add(path, site.files[path][1].replace(b'"wheel_sha256": "', b'"wheel_sha256": "0'), "application/json")
    assert audited(site).evidence == "wheel"


def test_a_proof_that_shows_less_than_the_cell_requires(site: Site) -> None:
    put(site, verdict=stages("build", "audit"))
    found = audited(site)
    assert (found.status, found.reasons) == ("below", ("its proof is audited, imported is required",))


def test_a_verdict_that_lacks_a_target(site: Site) -> None:
    put(site, verdict=stages("build", "audit", "import", elf=("8.6",)))
    assert (audited(site).status, audited(site).lacking) == ("lacking", ("sm_90",))


def materials(source: str = "a" * 64, patch: str = "b" * 64, toolkit: str = "13.0.2") -> dict[str, Any]:
    def sha256(value: str) -> list[dict[str, str]]:
        return [{"alg": "SHA-256", "content": value}]

    return {
        "components": [
            {"name": "kernels (source)", "hashes": sha256(source)},
            {"name": "patch: fix.patch", "hashes": sha256(patch)},
            {"name": "CUDA Toolkit", "version": toolkit},
        ]
    }


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (materials(), ()),
        (materials(source="c" * 64), ("the recipe pins another source now",)),
        (materials(patch="c" * 64), ("the recipe's patch fix.patch changed",)),
        (materials(toolkit="12.9.1"), ("it was compiled with CUDA 12.9.1",)),
        ({"components": "nonsense"}, ()),
        ([], ()),
    ],
)
def test_a_wheel_of_another_recipe_is_stale(site: Site, made: Any, why: tuple[str, ...]) -> None:
    put(site, content=wheel(BOTH, materials=made))
    today = Pinned(("kernels",), "d" * 64, "a" * 64, {"fix.patch": "b" * 64})
    found = audited(site, pinned=today)
    assert (found.status, found.reasons) == ("stale" if why else "served", why)


def test_an_older_version_is_stale_and_a_newer_one_is_no_help(site: Site) -> None:
    put(site, WHEEL.replace("-1.0+", "-0.9+"))
    found = audited(site)
    assert (found.status, found.reasons) == ("stale", ("it is version 0.9, 1.0 is wanted",))
    found = audited(site, version="0.5")
    assert (found.status, found.reasons) == ("missing", ("only 0.9 is there",))


def test_what_is_not_there_is_missing_with_the_reason(site: Site) -> None:
    assert audited(site).reasons == ("the index has no wheel of it",)
    put(site, WHEEL.replace("pt2.13", "pt2.12"))
    assert audited(site).reasons == ("of 1 wheels none is for it: it is for torch 2.12",)
    put(site, yanked="broken")
    found = audited(site)
    assert (found.status, found.reasons) == ("missing", ("it is yanked",))


def test_the_best_of_several_files_counts(site: Site) -> None:
    put(site, WHEEL.replace("-cp311-cp311", "-2-cp311-cp311"), wheel([("elf", 86)]))
    put(site)
    found = audited(site)
    assert (found.status, found.filename) == ("served", WHEEL)


def test_a_server_without_ranges_is_said_and_nothing_is_downloaded(site: Site) -> None:
    site.ranges = False
    put(site, content=wheel(BOTH, filler=16 * MIB, stored=True))
    found = audited(site)
    assert (found.status, found.fetched) == ("unread", 0)
    assert found.reasons == ("the server sends whole files only, so nobody looked into it",)
    assert site.sent < 8 * MIB  # what was under way when the connection was closed


def test_the_limit_ends_a_look(site: Site) -> None:
    put(site, content=wheel(*[BOTH] * 4, payload=MIB // 4))
    found = audited(site, limit=MIB)
    assert (found.status, found.complete) == ("unread", False)
    assert "the first 1 MiB" in found.reasons[0]
    found = audited(site, limit=MIB, targets=("12.0",))
    assert (found.status, found.complete) == ("lacking", False)  # one unit is enough for that


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"no zip", "end record"), (wheel(BOTH)[:-1], "end record"), (b"PK\5\6" + bytes(18), "")],
)
def test_a_damaged_wheel_is_said(site: Site, content: bytes, why: str) -> None:
    put(site, content=content)
    found = audited(site)
    assert found.status in {"unread", "lacking"}
    assert why in found.reasons[0]


# what cannot be asked


@pytest.mark.parametrize(
    ("status", "cause"), [(404, NotOnIndex), (403, IndexDenied), (401, IndexDenied), (500, IndexUnreachable)]
)
def test_an_index_that_does_not_answer(site: Site, status: int, cause: type[Exception]) -> None:
    site.status = status
    with pytest.raises(cause):
        audited(site)


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(IndexUnreachable):
        audited(Site({}, url="http://127.0.0.1:9"))


def test_a_page_that_is_no_index(site: Site) -> None:
    site.add("/simple/kernels/", b"PNG", "image/png")
    with pytest.raises(NotOnIndex, match="no page of a simple index"):
        audited(site)


# parts of a file


def test_a_remote_file_reads_as_a_file_here(site: Site) -> None:
    content = noise(3 * MIB + 17)
    site.add("/file", content)

    def use(file: RemoteFile) -> None:
        here = io.BytesIO(content)
        for offset, size in [
            (0, 5),
            (2 * MIB, 100),
            (2 * MIB + 100, 70_000),
            (3 * MIB, 999),
            (10, 0),
            (3 * MIB + 17, 5),
        ]:
            assert file.seek(offset) == here.seek(offset)
            assert file.read(size) == here.read(size)
        file.seek(-40, io.SEEK_END)
        assert file.read() == content[-40:]
        assert file.size == len(content)

    with RemoteIndex(site.url, IndexSettings()) as index:
        index.read(f"{site.url}/file", 64 * MIB, use)
        assert index.fetched == site.sent


def test_no_ranges_and_too_much_are_causes_of_their_own(site: Site) -> None:
    site.add("/file", noise(MIB))
    with RemoteIndex(site.url, IndexSettings()) as index:
        with pytest.raises(TooMuch):
            index.read(f"{site.url}/file", 100_000, lambda file: file.read())
        site.ranges = False
        with pytest.raises(NoRanges):
            index.read(f"{site.url}/file", 100_000, lambda file: file.read())


@pytest.mark.parametrize("text", ["", "wheels", "file:///x", "https:///x", "http://[::1/", "http://h:port/", "-x"])
def test_what_is_no_address_of_an_index_is_said(text: str) -> None:
    with pytest.raises(UsageError, match="is not an index's address"):
        index_address(text)


def test_an_address_is_refused_without_its_login() -> None:
    with pytest.raises(UsageError) as caught:
        index_address("ftp://me:secret@h/")
    assert "secret" not in caught.value.message


def test_the_certificate_of_the_asked_index_is_verified() -> None:
    with RemoteIndex("https://wheels.example/simple/", IndexSettings()) as index:
        assert [pattern.pattern for pattern in index._session._mounts if "wheels.example" in pattern.pattern] == []
