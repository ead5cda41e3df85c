"""One set of checks against three package indexes that really run, and against ours with one line of it broken.

What each server shows is in tests/helpers/index_checks.py, exactly: a server that learns something fails this too.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uv
from index_checks import CHECKS, FAILS, GOOD, PROJECT, SERVERS, SPOILED, UV_CHECK, YANKED, Site, wheel_name
from index_servers import cudabuild, devpi, environment, pypiserver
from index_wheels import publish, release_of, wheel_bytes
from starlette.testclient import TestClient

from buildkit.index import answers, app, catalogue, model, ranges, sending, shelf
from buildkit.index.app import create_app
from buildkit.index.negotiation import OFFERED
from buildkit.index.settings import IndexSettings
from buildkit.store.release import Release
from buildkit.store.store import Store

WHEELS = {version: wheel_bytes(PROJECT, version, filler=2000) for version in (GOOD, YANKED, SPOILED)}


def filled(store: Store, folder: Path) -> Store:
    """A store with the project's three wheels, the second one yanked."""
    for version, content in WHEELS.items():
        release = publish(store, folder, PROJECT, version, filler=2000)
        assert folder.joinpath(release.filename).read_bytes() == content
        if version == YANKED:
            store.amend_release(release, lambda known: known.model_copy(update={"yanked": "rebuilt"}))
    return store


def blob(store: Store) -> Path:
    return store.blobs.path(release_of(PROJECT, SPOILED, WHEELS[SPOILED]).sha256)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Site]]:
    """The three servers with the same three wheels."""
    root = tmp_path_factory.mktemp("servers")
    wheels = root / "wheels"
    wheels.mkdir()
    store = filled(Store(root / "cache" / "store"), wheels)
    files = [wheels / wheel_name(version) for version in WHEELS]
    with ExitStack() as stack:
        client = stack.enter_context(httpx2.Client(follow_redirects=False, timeout=60))
        base, _ = stack.enter_context(cudabuild(root / "cache", root / "ours.log"))
        theirs = stack.enter_context(pypiserver(wheels, root / "pypiserver.log"))
        other = stack.enter_context(devpi(root, files, root / "devpi.log"))
        stored = next((root / "devpi").rglob(wheel_name(SPOILED)))
        yield {
            "cudabuild": Site(client, f"{base}pt2.13-cu130/simple/", WHEELS, blob(store)),
            "pypiserver": Site(client, theirs.simple, WHEELS, wheels / wheel_name(SPOILED)),
            "devpi": Site(client, other.simple, WHEELS, stored),
        }


def passes(function: Callable[[Site], None], site: Site) -> tuple[bool, str]:
    """Whether a site passes a check; what is missing counts as what is wrong."""
    try:
        function(site)
    except (AssertionError, KeyError, ValueError, TypeError, StopIteration, httpx2.HTTPError) as error:
        return False, f"{type(error).__name__}: {error}"
    return True, ""


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("name", CHECKS)
def test_conformance(name: str, server: str, sites: dict[str, Site]) -> None:
    passed, why = passes(CHECKS[name], sites[server])
    assert passed is (name not in FAILS[server]), why or "it passes, and FAILS says that it does not"


@pytest.mark.parametrize("server", SERVERS)
def test_uvs_exclude_newer(server: str, sites: dict[str, Site]) -> None:
    """Our wheels were uploaded in March 2026, the others' just now: each by its own clock."""
    before, after = ("2026-02-01", "2026-04-01") if server == "cudabuild" else ("2026-02-01", "2099-01-01")
    found = {limit: _resolved(sites[server].simple, limit) for limit in (before, after)}
    passed = f"{PROJECT}==1.2" in found[after] and PROJECT not in found[before]
    assert passed is (UV_CHECK not in FAILS[server]), found


def _resolved(index: str, limit: str) -> str:
    words = [uv.find_uv_bin(), "pip", "compile", "--no-deps", "--default-index", index, "--exclude-newer", limit]
    done = subprocess.run(
        [*words, "--no-cache", "--no-header", "--python", sys.executable, "-"],
        input=PROJECT.encode(), env=environment(), capture_output=True, check=False,
    )  # fmt: skip
    return done.stdout.decode()


# Ours, with one line of it broken


@pytest.fixture(scope="module")
def own_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store for the application in this process."""
    root = tmp_path_factory.mktemp("own")
    return filled(Store(root / "store"), root)


def failed_checks(store: Store) -> set[str]:
    """The checks that the application in this process does not pass."""
    with TestClient(create_app(store, IndexSettings()), follow_redirects=False) as client:
        site = Site(client, "http://testserver/pt2.13-cu130/simple/", WHEELS, blob(store))
        return {name for name, function in CHECKS.items() if not passes(function, site)[0]}


def test_the_application_passes_all_of_them_while_it_is_whole(own_store: Store) -> None:
    assert failed_checks(own_store) == set()


Patch = Callable[[pytest.MonkeyPatch], None]
_line, _page, _body_of, _error = model._line, answers.page, shelf.body_of, answers.error


def _set(owner: Any, name: str, value: Any) -> Patch:
    return lambda patch: patch.setattr(owner, name, value)


def _without_vary(request: Any, body: Any) -> Any:
    answer = _page(request, body)
    del answer.headers["vary"]
    return answer


def _one_byte_short(header: str, size: int) -> list[tuple[int, int]] | None:
    found = ranges.wanted_ranges(header, size)
    return found and [(start, end - 1) for start, end in found]


def _line_with(**changes: Callable[[Release], Any]) -> Callable[[Release], Any]:
    return lambda release: replace(_line(release), **{name: change(release) for name, change in changes.items()})


BREAKAGES: dict[str, tuple[Patch, str]] = {
    "quality values are not read": (
        _set(answers, "choose", lambda accept, *_: model_of(accept)), "weighs_the_accept_header"),
    "no form is refused": (
        _set(answers, "not_acceptable", lambda request: _error(request, 200, "x", "x")), "refuses_unknown_forms"),
    "no Vary": (_set(answers, "page", _without_vary), "varies_by_accept"),
    "names are taken as they are": (_set(app, "canonicalize_name", lambda name: name), "normalises_names"),
    "plus signs are linked as they are": (_set(model, "quote", lambda text, **_: text), "quotes_plus_signs"),
    "the wheel's hash for its metadata": (
        _set(model, "_line", _line_with(metadata_sha256=lambda release: release.sha256)), "serves_metadata"),
    "the size in KiB": (
        _set(model, "_line", _line_with(size=lambda release: release.size >> 10)), "says_sizes_and_times"),
    "the upload time as a local one": (
        _set(model, "_line", _line_with(upload_time=lambda release: release.created[:19])), "says_sizes_and_times"),
    "yanked files look like others": (_set(model, "_line", _line_with(yanked=lambda _: "")), "marks_yanked"),
    "one entity tag for all forms": (
        _set(shelf, "body_of", lambda content, form: replace(_body_of(content, form), etag='"x"')), "remembers_pages"),
    "entity tags are not compared": (_set(answers, "etag_matches", lambda *_: False), "remembers_pages"),
    "files are sent again": (_set(sending, "etag_matches", lambda *_, **__: False), "remembers_files"),
    "ranges are passed over": (_set(sending, "wanted_ranges", lambda *_: None), "serves_ranges"),
    "ranges end one byte early": (_set(sending, "wanted_ranges", _one_byte_short), "serves_ranges"),
    "any number of ranges": (_set(ranges, "MOST_RANGES", 10**6), "limits_ranges"),
    "an empty page for what is absent": (
        _set(answers, "error", lambda request, _status, *words, **more: _error(request, 200, *words, **more)),
        "knows_what_is_absent"),
    "hashes are not compared": (
        _set(catalogue.Catalogue, "_check", lambda *_: None), "never_serves_damaged_bytes"),
    "errors are text for everybody": (_set(answers, "error_form", lambda _: "text/plain"), "tells_errors_apart"),
}  # fmt: skip


def model_of(accept: str) -> str | None:
    """The first type of the header that is served, whatever its weight."""
    return next((form for form in OFFERED if form in accept), None)


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_line_is_caught(breakage: str, own_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    break_it, check = BREAKAGES[breakage]
    break_it(monkeypatch)
    assert check in failed_checks(own_store)
