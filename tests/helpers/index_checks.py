"""What a package index is asked, one function for each thing: it passes or raises AssertionError, whoever serves.

The same functions are run against ours, pypiserver and devpi-server, and against ours with one line broken. What
each is expected to show stands in EXPECTED; docs/reference/index-conformance.md is made of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin

import httpx2

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"
SERVERS = ("cudabuild", "pypiserver", "devpi")
PROJECT = "some-kernels"
GOOD, YANKED, SPOILED = "1.0+pt2.13.cu130", "1.1+pt2.13.cu130", "1.2+pt2.13.cu130"
"""Versions of the project: a good one, one that is yanked where the server can do so, one whose bytes are damaged."""


def wheel_name(version: str) -> str:
    """The project's wheel of a version."""
    return f"{PROJECT.replace('-', '_')}-{version}-py3-none-any.whl"


@dataclass
class Site:
    """An index with the project's three wheels. ``simple`` is the URL of its list, ending in a slash."""

    client: httpx2.Client
    simple: str
    wheels: Mapping[str, bytes]
    """The bytes that were stored, by version."""
    damaged: Path
    """The server's own file of the version to be damaged."""
    _page: dict[str, dict[str, Any]] = field(default_factory=dict)

    def get(self, path: str, **headers: str) -> httpx2.Response:
        """Ask for a path relative to the list of projects; names of headers have underscores."""
        return self.client.get(urljoin(self.simple, path), headers=_headers(headers))

    def head(self, path: str, **headers: str) -> httpx2.Response:
        """Ask for the head alone."""
        return self.client.head(urljoin(self.simple, path), headers=_headers(headers))

    def files(self) -> dict[str, dict[str, Any]]:
        """The project's files as an installer sees them, by file name: from JSON where there is some, else HTML."""
        answer = self.get(f"{PROJECT}/", Accept=f"{JSON}, text/html;q=0.1")
        assert answer.status_code == 200
        if answer.headers["content-type"].startswith(JSON):
            return {
                file["filename"]: {**file, "url": urljoin(str(answer.url), file["url"])}
                for file in answer.json()["files"]
            }
        return dict(_from_html(answer.text, str(answer.url)))

    def good(self) -> dict[str, Any]:
        """The good wheel's file."""
        return self.files()[wheel_name(GOOD)]


def _headers(named: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in named.items()}


def _from_html(text: str, base: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for attributes, label in re.findall(r"<a\s([^>]*)>([^<]*)</a>", text):
        named = {name: unescape(value) for name, value in re.findall(r'([\w-]+)="([^"]*)"', attributes)}
        url, _, fragment = named["href"].partition("#")
        if label.strip().endswith(".whl"):
            file: dict[str, Any] = {"filename": unescape(label.strip()), "url": urljoin(base, url), "raw": url}
            algorithm, _, digest = fragment.partition("=")
            file["hashes"] = {algorithm: digest} if digest else {}
            if (core := named.get("data-core-metadata", named.get("data-dist-info-metadata"))) is not None:
                file["core-metadata"] = dict([core.split("=", 1)]) if "=" in core else core == "true"
            file["yanked"] = named.get("data-yanked", False)
            file["requires-python"] = named.get("data-requires-python")
            found.append((file["filename"], file))
    return found


CHECKS: dict[str, Callable[[Site], None]] = {}


def check(function: Callable[[Site], None]) -> Callable[[Site], None]:
    """Have a function be one of the checks; its docstring is its row in the table."""
    CHECKS[function.__name__] = function
    return function


@check
def speaks_json(site: Site) -> None:
    """Pages as JSON (PEP 691) for who asks for it"""
    answer = site.get(f"{PROJECT}/", Accept=JSON)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == JSON
    said = answer.json()
    assert said["name"] == PROJECT
    assert re.fullmatch(r"1\.\d+", said["meta"]["api-version"])
    listed = site.get("", Accept=JSON)
    assert {"name": PROJECT} in listed.json()["projects"]


@check
def speaks_html(site: Site) -> None:
    """Pages as HTML (PEP 503) for browsers and for who takes anything"""
    for accept in ("text/html", "*/*"):
        answer = site.get(f"{PROJECT}/", Accept=accept)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")
        assert wheel_name(GOOD) in dict(_from_html(answer.text, str(answer.url)))
    assert f'href="{PROJECT}/"' in site.get("", Accept="text/html").text.replace("/simple/", "")


@check
def weighs_the_accept_header(site: Site) -> None:
    """The quality values of `Accept` count"""
    assert site.get(f"{PROJECT}/", Accept=f"{JSON};q=0.1, {HTML};q=0.5").headers["content-type"].startswith(HTML)
    assert site.get(f"{PROJECT}/", Accept=f"text/html;q=0.1, {JSON};q=0.9").headers["content-type"] == JSON
    assert not site.get(f"{PROJECT}/", Accept=f"{JSON};q=0, */*;q=0.1").headers["content-type"].startswith(JSON)


@check
def refuses_unknown_forms(site: Site) -> None:
    """406 where a client takes no form that there is"""
    assert site.get(f"{PROJECT}/", Accept="application/vnd.pypi.simple.v99+json").status_code == 406


@check
def varies_by_accept(site: Site) -> None:
    """`Vary: Accept`, so that a cache keeps the forms apart"""
    assert "accept" in site.get(f"{PROJECT}/", Accept=JSON).headers.get("vary", "").lower()


@check
def normalises_names(site: Site) -> None:
    """Other spellings of a name are redirected to the normal one (PEP 503)"""
    for spelled in ("Some_Kernels/", "some.kernels/", "SOME-kernels"):
        led, answer = spelled, site.get(spelled)
        for _ in range(2):  # the slash may be a step of its own
            if answer.status_code in {301, 302, 303, 307, 308}:
                led = urljoin(str(answer.url), answer.headers["location"])
                answer = site.get(led)
        assert answer.status_code == 200
        assert led.endswith(f"/{PROJECT}/")


@check
def adds_the_slash(site: Site) -> None:
    """A name without its slash is redirected"""
    answer = site.get(PROJECT)
    assert answer.status_code in {301, 302, 303, 307, 308}
    assert urljoin(str(answer.url), answer.headers["location"]).endswith(f"/{PROJECT}/")


@check
def quotes_plus_signs(site: Site) -> None:
    """Links spell the plus sign of a local version `%2B`"""
    answer = site.get(f"{PROJECT}/", Accept=f"{JSON}, text/html;q=0.1")
    is_json = answer.headers["content-type"].startswith(JSON)
    urls = [f["url"] for f in answer.json()["files"]] if is_json else [f["raw"] for _, f in _from_html(answer.text, "")]
    assert urls
    assert all("+" not in url.rpartition("/")[2] and "%2B" in url for url in urls)


@check
def takes_plus_signs(site: Site) -> None:
    """Files are found under `+`, `%2B` and `%2b`"""
    folder, _, name = site.good()["url"].rpartition("/")
    for plus in ("+", "%2B", "%2b"):
        answer = site.get(f"{folder}/{unquote(name).replace('+', plus)}")
        assert answer.status_code == 200, plus
        assert answer.content == site.wheels[GOOD]


@check
def names_the_hash(site: Site) -> None:
    """A sha256 for each file, and it is right"""
    file = site.good()
    assert file["hashes"]["sha256"] == hashlib.sha256(site.get(file["url"]).content).hexdigest()
    assert file["hashes"]["sha256"] == hashlib.sha256(site.wheels[GOOD]).hexdigest()


@check
def serves_metadata(site: Site) -> None:
    """Metadata beside each file (PEP 658), with the right hash"""
    file = site.good()
    answer = site.get(f"{file['url']}.metadata")
    assert answer.status_code == 200
    assert answer.content.startswith(b"Metadata-Version")
    assert file["core-metadata"]["sha256"] == hashlib.sha256(answer.content).hexdigest()


@check
def says_sizes_and_times(site: Site) -> None:
    """Size, upload time and the list of versions (PEP 700)"""
    file = site.good()
    assert file["size"] == len(site.wheels[GOOD])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", file["upload-time"])
    said = site.get(f"{PROJECT}/", Accept=JSON).json()
    assert GOOD in said["versions"]
    assert tuple(map(int, said["meta"]["api-version"].split("."))) >= (1, 1)


@check
def says_requires_python(site: Site) -> None:
    """`Requires-Python` on the page"""
    assert site.good().get("requires-python") == ">=3.9"


@check
def marks_yanked(site: Site) -> None:
    """Yanked files are marked, with the reason (PEP 592)"""
    files = site.files()
    assert files[wheel_name(YANKED)]["yanked"] == "rebuilt"
    assert files[wheel_name(GOOD)]["yanked"] is False


@check
def answers_head(site: Site) -> None:
    """HEAD of pages and files"""
    url = site.good()["url"]
    for path in (url, f"{PROJECT}/"):
        head, get = site.head(path), site.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers.get("content-length") == get.headers.get("content-length")
    assert int(site.head(url).headers["content-length"]) == len(site.wheels[GOOD])


@check
def serves_ranges(site: Site) -> None:
    """Parts of a file: 206 with `Content-Range`, 416 beyond the end"""
    content, url = site.wheels[GOOD], site.good()["url"]
    assert site.head(url).headers.get("accept-ranges") == "bytes"
    for asked, part in (("0-9", content[:10]), ("5-", content[5:]), ("-22", content[-22:])):
        answer = site.get(url, Range=f"bytes={asked}")
        assert answer.status_code == 206
        assert answer.content == part
        assert re.fullmatch(rf"bytes \d+-\d+/{len(content)}", answer.headers["content-range"])
    assert site.get(url, Range=f"bytes={len(content)}-").status_code == 416


@check
def limits_ranges(site: Site) -> None:
    """Hundreds of ranges at once are not answered one by one"""
    answer = site.get(site.good()["url"], Range="bytes=" + ",".join(f"{n}-{n}" for n in range(0, 600, 2)))
    assert answer.status_code in {200, 206, 400, 416}
    assert answer.content.lower().count(b"content-range") <= 16


@check
def remembers_pages(site: Site) -> None:
    """304 for a page that the client has, with an entity tag for each form"""
    tags = set()
    for accept in (JSON, HTML, "text/html"):
        first = site.get(f"{PROJECT}/", Accept=accept)
        tags.add(first.headers["etag"])
        again = site.get(f"{PROJECT}/", Accept=accept, If_None_Match=first.headers["etag"])
        assert (again.status_code, again.content) == (304, b"")
        assert site.get(f"{PROJECT}/", Accept=accept, If_None_Match='"another"').status_code == 200
    assert len(tags) == 3


@check
def limits_the_age_of_pages(site: Site) -> None:
    """Pages say for how long they may be kept"""
    assert re.search(r"max-age=\d+|no-cache", site.get(f"{PROJECT}/", Accept=JSON).headers.get("cache-control", ""))


@check
def remembers_files(site: Site) -> None:
    """304 for a file that the client has"""
    url = site.good()["url"]
    first = site.get(url).headers
    had = {"If_None_Match": first["etag"]} if "etag" in first else {"If_Modified_Since": first["last-modified"]}
    again = site.get(url, **had)
    assert (again.status_code, again.content) == (304, b"")


@check
def keeps_files(site: Site) -> None:
    """Files are `immutable`: a client that has one need not ask again"""
    assert "immutable" in site.get(site.good()["url"]).headers.get("cache-control", "")


@check
def knows_what_is_absent(site: Site) -> None:
    """404 for a project and a file that are not there, never an empty page"""
    assert site.get("no-such-project/", Accept=JSON).status_code == 404
    assert site.get("no-such-project/", Accept="text/html").status_code == 404
    assert site.get(site.good()["url"].replace("1.0%2B", "7.0%2B").replace("1.0+", "7.0+")).status_code == 404


@check
def stays_in_its_folder(site: Site) -> None:
    """Paths that lead out of the folder find nothing"""
    folder = site.good()["url"].rpartition("/")[0]
    for path in ("..%2f..%2f..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "%2fetc%2fpasswd"):
        answer = site.get(f"{folder}/{path}")
        assert answer.status_code in {400, 403, 404}
        assert b"root:" not in answer.content


@check
def never_serves_damaged_bytes(site: Site) -> None:
    """Bytes that changed on the server's disk are not handed out as the file, which leaves the page"""
    name = wheel_name(SPOILED)
    url = site.files()[name]["url"]
    site.damaged.chmod(0o644)
    data = bytearray(site.wheels[SPOILED])
    data[len(data) // 2] ^= 1
    site.damaged.write_bytes(data)
    try:
        assert site.get(url).status_code >= 400
        assert name not in site.files()
    finally:
        site.damaged.write_bytes(site.wheels[SPOILED])


@check
def tells_errors_apart(site: Site) -> None:
    """An error says its cause in the form that was asked for"""
    said = json.loads(site.get("no-such-project/", Accept=JSON).text)
    assert said["error"]["message"]


@check
def links_the_proof(site: Site) -> None:
    """The proof of each file, beside it"""
    verdict = site.get(urljoin(f"{site.simple}{PROJECT}/", site.good()["_cudabuild"]["verdict"]))
    assert verdict.json()["sha256"] == site.good()["hashes"]["sha256"]
    assert verdict.json()["grade"] == site.good()["_cudabuild"]["grade"]


UV_CHECK = "honours_exclude_newer"
UV_TEXT = "uv's `--exclude-newer` leaves out what was uploaded later, and takes what was there before"

FAILS: dict[str, frozenset[str]] = {
    "cudabuild": frozenset(),
    "pypiserver": frozenset({
        "speaks_json", "weighs_the_accept_header", "refuses_unknown_forms", "varies_by_accept", "quotes_plus_signs",
        "serves_metadata", "says_sizes_and_times", "says_requires_python", "marks_yanked", "remembers_pages",
        "limits_the_age_of_pages", "keeps_files", "never_serves_damaged_bytes", "tells_errors_apart",
        "links_the_proof", UV_CHECK,
    }),
    "devpi": frozenset({
        "weighs_the_accept_header", "refuses_unknown_forms", "quotes_plus_signs", "serves_metadata",
        "says_sizes_and_times", "marks_yanked", "serves_ranges", "remembers_pages", "limits_the_age_of_pages",
        "remembers_files", "never_serves_damaged_bytes", "tells_errors_apart", "links_the_proof", UV_CHECK,
    }),
}  # fmt: skip
"""The checks that each server does not pass, exactly."""


def table() -> str:
    """The table for the docs."""
    rows = [f"| what | {' | '.join(SERVERS)} |", f"|---|{'---|' * len(SERVERS)}"]
    texts = {name: (function.__doc__ or "").strip() for name, function in CHECKS.items()}
    for name, text in {**texts, UV_CHECK: UV_TEXT}.items():
        cells = ["no" if name in FAILS[server] else "yes" for server in SERVERS]
        rows.append(f"| {text} | {' | '.join(cells)} |")
    return "\n".join(rows)


PAGE = Path(__file__).parents[2] / "docs" / "reference" / "index-conformance.md"
BEGIN, END = "<!-- generated: begin (python tests/helpers/index_checks.py) -->", "<!-- generated: end -->"


def page_with_table(page: str) -> str:
    """The page with its table made anew."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text("utf-8")), "utf-8")
