"""The index's pure parts: paths of variants, pages, which form, which ranges, which lines."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from index_checks import CHECKS, FAILS, PAGE, UV_CHECK, page_with_table
from index_wheels import DECLARED, release_of

from buildkit.index import pages
from buildkit.index.lines import lines_for
from buildkit.index.model import VariantPage, file_url, project_page
from buildkit.index.negotiation import HTML, JSON, LEGACY_HTML, asked_by_format, choose, error_form
from buildkit.index.ranges import MOST_RANGES, Unsatisfiable, etag_matches, wanted_ranges
from buildkit.index.settings import IndexSettings
from buildkit.index.shelf import make_shelf, why_withheld
from buildkit.index.variants import build_command, declared, nearest, read_variant, variant_of
from buildkit.store.release import Release

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PIP = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01"
UV = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def a_release(version: str = "1.0+pt2.13.cu130", **fields: Any) -> Release:
    return release_of("some-kernels", version, b"wheel", **fields)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({}, "pt2.13-cu130"),
        ({"targets": ("12.0",)}, "pt2.13-cu130-sm120"),
        ({"targets": ("12.0+PTX", "8.6")}, "pt2.13-cu130-sm86-sm120ptx"),
        ({"targets": (*DECLARED, "12.1")}, "pt2.13-cu130"),
        ({"targets": DECLARED[1:]}, "pt2.13-cu130-sm80-sm86-sm90-sm100-sm120ptx"),
        ({"targets": ("9.0a",), "torch": "2.14.0.dev20261101+cu130"}, "pt2.14.0.dev20261101-cu130-sm90a"),
        ({"torch": "2.9.1+cu128", "cuda": "12.8", "targets": ("8.6",)}, "pt2.9-cu128-sm86"),
        ({"torch": "2.13.0+cpu", "cuda": "", "device": "cpu", "targets": ()}, "pt2.13-cpu"),
        ({"torch": ""}, "cu130"),
        ({"torch": "", "cuda": "", "device": "cpu", "targets": ()}, "cpu"),
        ({"cuda": "14.9", "targets": ("12.0",), "torch": "3.0.0+cu149"}, "pt3.0-cu149-sm120"),
    ],
)
def test_the_path_of_a_release(fields: dict[str, Any], path: str) -> None:
    assert variant_of(a_release(**fields)) == path
    wanted = read_variant(path)
    assert wanted is not None
    assert (wanted.cuda, wanted.device) == (fields.get("cuda", "13.0"), fields.get("device", "cuda"))


def test_a_file_name_that_claims_the_whole_set_does_not_get_onto_its_page() -> None:
    narrow = a_release("1.0+pt2.13.cu130", targets=("12.0",))
    shelf = make_shelf([narrow], IndexSettings(), lambda _release: "")
    assert list(shelf.variants) == ["pt2.13-cu130-sm120"]


@pytest.mark.parametrize(
    "path", ["simple", "pt2.13", "cu13", "pt2.13-cu130-x", "pt2.13-cpu-sm120", "ptx-cu130", "-", ""]
)
def test_what_is_no_path_of_a_variant(path: str) -> None:
    assert read_variant(path) is None
    assert build_command("x", path) == ""


def test_a_long_path_is_read_in_one_go() -> None:
    assert read_variant(f"pt2{'.1' * 500_000}!-cu130") is None  # with a way to read it for each dot: hours


@pytest.mark.parametrize(
    ("path", "torches", "command"),
    [
        ("pt2.13-cu130", (), "cudabuild x --torch 2.13.0+cu130 --target '7.5;8.0;8.6;9.0;10.0;12.0+PTX'"),
        ("pt2.13-cu130-sm120", ("2.13.2+cu130", "2.13.10+cu130", "2.13.9+cu128"),
         "cudabuild x --torch 2.13.10+cu130 --target '12.0'"),
        ("pt2.13-cpu", (), "cudabuild x --torch 2.13.0+cpu --device cpu"),
        ("cu128-sm86ptx", (), "cudabuild x --target '8.6+PTX'"),
    ],
)  # fmt: skip
def test_the_command_that_makes_a_variants_wheel(path: str, torches: tuple[str, ...], command: str) -> None:
    assert build_command("x", path, torches) == command


def test_near_variants_share_their_torch_first() -> None:
    known = ["pt2.12-cu130", "pt2.13-cpu", "pt2.13-cu128", "pt2.9-cu128"]
    assert nearest("pt2.13-cu130", known) == ["pt2.13-cu128", "pt2.13-cpu", "pt2.12-cu130"]
    assert nearest("pt2.13-cu128", known) == ["pt2.13-cpu", "pt2.9-cu128", "pt2.12-cu130"]
    assert declared("pt2.13-cu130-sm120") == "12.0"
    assert declared("pt2.13-cpu") == ""


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", LEGACY_HTML),
        ("*/*", LEGACY_HTML),
        (PIP, JSON),
        (UV, JSON),
        (BROWSER, LEGACY_HTML),
        ("text/html", LEGACY_HTML),
        (HTML, HTML),
        ("application/vnd.pypi.simple.latest+json", JSON),
        ("application/vnd.pypi.simple.latest+html", HTML),
        (f"{JSON};q=0.1, {HTML};q=0.5", HTML),
        (f"{JSON};q=0, */*", LEGACY_HTML),
        ("text/html;q=0, */*;q=0.1", JSON),
        ("text/*, application/*;q=0.9", LEGACY_HTML),
        ("application/*", JSON),
        (f"{JSON.upper()} ; Q=0.9 ; x=y", JSON),
        ("application/json", None),
        ("application/vnd.pypi.simple.v2+json", None),
        (f"{JSON};q=0", None),
        (f"{JSON};q=much", None),
    ],
)
def test_which_form_a_client_gets(accept: str, chosen: str | None) -> None:
    assert choose(accept) == chosen


def test_the_form_in_the_query() -> None:
    assert asked_by_format(JSON) == JSON
    assert asked_by_format("application/vnd.pypi.simple.v1 json") == JSON  # an unquoted plus sign
    assert asked_by_format("application/vnd.pypi.simple.latest+html") == HTML
    assert asked_by_format("json") is None


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        (PIP, "application/json"),
        (BROWSER, "text/html"),
        ("application/json", "application/json"),
        ("image/png", "text/plain"),
    ],
)
def test_the_form_of_an_error(accept: str, form: str) -> None:
    assert error_form(accept) == form


@pytest.mark.parametrize(
    ("header", "ranges"),
    [
        ("bytes=0-0", [(0, 1)]),
        ("bytes=10-19", [(10, 20)]),
        ("bytes=90-", [(90, 100)]),
        ("bytes=90-1000", [(90, 100)]),
        ("bytes=-5", [(95, 100)]),
        ("bytes=-1000", [(0, 100)]),
        ("Bytes = 0-1", [(0, 2)]),
        ("bytes=0-9,20-29", [(0, 10), (20, 30)]),
        ("bytes=20-29, 0-9", [(0, 10), (20, 30)]),
        ("bytes=0-9,5-19,20-29", [(0, 30)]),
        ("bytes=0-9,200-", [(0, 10)]),
        ("bytes=9-5", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=\u0661-", None),
        ("lines=0-9", None),
        ("bytes", None),
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(0, 2 * MOST_RANGES, 2)), [(n, n + 1) for n in range(0, 16, 2)]),
        ("bytes=" + ",".join(["0-"] * (MOST_RANGES + 1)), None),
        ("bytes=" + "9" * 19 + "-", None),
    ],
)
def test_ranges(header: str, ranges: list[tuple[int, int]] | None) -> None:
    assert wanted_ranges(header, 100) == ranges


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=-0", "bytes=100-200,300-"])
def test_ranges_outside_of_the_file(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        wanted_ranges(header, 100)


def test_entity_tags() -> None:
    assert etag_matches('"a"', '"a"')
    assert etag_matches('"b", W/"a"', '"a"')
    assert etag_matches("*", '"a"')
    assert not etag_matches('"b"', '"a"')
    assert not etag_matches("", '"a"')
    assert etag_matches('"a"', '"a"', strong=True)
    assert not etag_matches('W/"a"', '"a"', strong=True)
    assert not etag_matches("Sun, 01 Mar 2026 12:00:00 GMT", '"a"', strong=True)


class Anchors(HTMLParser):
    """What an installer reads of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.meta: dict[str, str | None] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found.append(dict(attrs))
        elif tag == "meta" and "name" in dict(attrs):
            self.meta[str(dict(attrs)["name"])] = dict(attrs)["content"]


def anchors(page: bytes) -> Anchors:
    reader = Anchors()
    reader.feed(page.decode())
    return reader


def test_both_forms_say_the_same() -> None:
    yanked = a_release("1.0+pt2.13.cu130", yanked='wrong <on> "sm75"', requires_python=">=3.9,<4")
    newer = a_release("1.10+pt2.13.cu130")
    page = project_page("some-kernels", [newer, yanked, a_release("1.9+pt2.13.cu130")])
    said = json.loads(pages.project_json(page))
    html = anchors(pages.project_html(page))
    assert said["meta"] == {"api-version": "1.4"}
    assert html.meta == {"pypi:repository-version": "1.4", "pypi:project-status": "active"}
    assert said["name"] == "some-kernels"
    assert said["project-status"] == {"status": "active"}
    assert said["versions"] == ["1.0+pt2.13.cu130", "1.9+pt2.13.cu130", "1.10+pt2.13.cu130"]
    files = [anchor for anchor in html.found if "data-core-metadata" in anchor]
    assert len(files) == len(said["files"]) == 3
    for entry, anchor in zip(said["files"], files, strict=True):
        assert anchor["href"] == f"{entry['url']}#sha256={entry['hashes']['sha256']}"
        assert anchor["data-core-metadata"] == f"sha256={entry['core-metadata']['sha256']}"
        assert anchor["data-requires-python"] == entry["requires-python"]
        assert anchor.get("data-yanked", False) == entry["yanked"]
        assert {"href": entry["_cudabuild"]["verdict"], "rel": "nofollow"} in html.found
        assert set(entry) == {
            "filename", "url", "hashes", "size", "upload-time", "core-metadata", "yanked", "_cudabuild",
            "requires-python",
        }  # fmt: skip
        assert (entry["size"], entry["upload-time"]) == (5, "2026-03-01T12:00:00.000000Z")
    assert said["files"][0]["yanked"] == 'wrong <on> "sm75"'
    assert said["files"][2]["_cudabuild"]["grade"] == "imported"


def test_a_variants_projects_in_both_forms() -> None:
    page = VariantPage(("a-b", "c"))
    assert json.loads(pages.variant_json(page))["projects"] == [{"name": "a-b"}, {"name": "c"}]
    assert [anchor["href"] for anchor in anchors(pages.variant_html(page)).found] == ["a-b/", "c/"]


def test_a_plus_sign_is_quoted_in_links_and_nothing_leads_out_of_the_folder() -> None:
    assert file_url("a-1+pt2.13-py3-none-any.whl") == "../../files/a-1%2Bpt2.13-py3-none-any.whl"
    assert file_url("a/../b?c#d") == "../../files/a%2F..%2Fb%3Fc%23d"


@pytest.mark.parametrize(
    ("fields", "settings", "reason"),
    [
        ({}, IndexSettings(shared=True), ""),
        ({"tags": "cp311-cp311-linux_x86_64"}, IndexSettings(), ""),
        ({"tags": "cp311-cp311-linux_x86_64"}, IndexSettings(shared=True), "linux_"),
        ({"tags": "cp311-cp311-manylinux_2_28_x86_64.linux_x86_64"}, IndexSettings(shared=True), "linux_"),
        ({"tags": "cp311-cp311-manylinux_2_28_x86_64"}, IndexSettings(shared=True), ""),
        ({"redistributable": False}, IndexSettings(), ""),
        ({"redistributable": False}, IndexSettings(shared=True), "licence"),
        ({"redistributable": False}, IndexSettings(shared=True, allow_non_redistributable=True), ""),
        ({}, IndexSettings(min_grade="imported"), ""),
        ({}, IndexSettings(min_grade="executed"), "its proof is imported"),
        ({"verdict": {}}, IndexSettings(min_grade="built"), "its proof is none"),
        ({"verdict": {"grade": "perfect"}}, IndexSettings(min_grade="built"), "its proof is perfect"),
        ({"verdict": {"grade": "executed"}}, IndexSettings(min_grade="executed"), ""),
    ],
)
def test_what_is_kept_back(fields: dict[str, Any], settings: IndexSettings, reason: str) -> None:
    why = why_withheld(a_release(**fields), settings)
    assert why.find(reason) >= 0 if reason else why == ""
    assert bool(make_shelf([a_release(**fields)], settings, lambda _release: "").variants) is not bool(reason)


def test_each_form_has_its_own_entity_tag() -> None:
    shelf = make_shelf([a_release()], IndexSettings(), lambda _release: "")
    bodies = [shelf.project_body("pt2.13-cu130", "some-kernels", form) for form in (JSON, HTML, LEGACY_HTML)]
    assert len({body.etag for body in bodies if body}) == 3
    assert bodies[1] is not None
    assert bodies[2] is not None
    assert bodies[1].content == bodies[2].content
    changed = make_shelf([a_release(yanked="no")], IndexSettings(), lambda _release: "")
    other = changed.project_body("pt2.13-cu130", "some-kernels", JSON)
    assert other is not None
    assert bodies[0] is not None
    assert other.etag != bodies[0].etag


def test_owned_names_are_those_of_recipes_and_of_all_releases_even_of_such_as_are_kept_back() -> None:
    settings = IndexSettings(owned=frozenset({"by-recipe"}), min_grade="executed")
    assert make_shelf([a_release()], settings, lambda _release: "").owned == {"by-recipe", "some-kernels"}


@pytest.mark.parametrize(
    ("base", "upstream", "pip"),
    [
        ("http://127.0.0.1:8080/", False, "pip install --no-deps --index-url http://127.0.0.1:8080/cu130/simple/ x"),
        ("https://wheels.example/a/", True, "pip install --index-url https://wheels.example/a/cu130/simple/ x"),
        ("http://box:8080/", True,
         "pip install --trusted-host box:8080 --index-url http://box:8080/cu130/simple/ x"),
        ("http://[::1]:8080/", True, "pip install --index-url http://[::1]:8080/cu130/simple/ x"),
    ],
)  # fmt: skip
def test_lines_for_pip(base: str, upstream: bool, pip: str) -> None:
    lines = lines_for(base, "cu130", "x", upstream=upstream)
    assert lines.pip == pip
    assert "extra-index" not in "".join([lines.pip, lines.uv, lines.uv_project, lines.docker])
    assert ("--network host" in lines.docker) is ("127.0.0.1" in base or "::1" in base)


def test_lines_for_a_project_of_uv_parse_and_name_the_index() -> None:
    said = tomllib.loads(lines_for("https://wheels.example/", "pt2.13-cu130", "x", upstream=False).uv_project)
    (index,) = said["tool"]["uv"]["index"]
    assert index == {
        "name": "cudabuild-pt2.13-cu130",
        "url": "https://wheels.example/pt2.13-cu130/simple/",
        "explicit": True,
    }
    assert said["tool"]["uv"]["sources"] == {"x": {"index": index["name"]}}


def test_a_changed_verdict_changes_the_page_and_not_the_file() -> None:
    before = project_page("some-kernels", [a_release()]).files[0]
    after = project_page("some-kernels", [a_release(verdict={"grade": "executed"})]).files[0]
    assert after == replace(before, grade="executed")


def test_the_table_of_what_each_index_shows_is_made_of_the_checks() -> None:
    page = PAGE.read_text("utf-8")
    assert page == page_with_table(page), "run: python tests/helpers/index_checks.py"
    assert FAILS["cudabuild"] == frozenset()
    assert frozenset().union(*FAILS.values()) <= {*CHECKS, UV_CHECK}
