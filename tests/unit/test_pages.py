"""The service's pages without a browser: what they are made of, and what each address answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import httpx2
import pytest
from page_service import Lists, application, build_answer, failed
from pages import failed_view, view

from buildkit.errors import UsageError
from buildkit.report.html import environment
from buildkit.report.view import Excerpt
from buildkit.service.answers import CellAnswer, MatrixAnswer, MatrixRow, WheelAnswer
from buildkit.service.pages import STATIC, TEMPLATES, request_of
from buildkit.service.pages_data import (
    Filter,
    age_of,
    grid_of,
    hits_of,
    phase_of,
    usual_seconds,
    view_of,
    waiting_line,
)

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)


def cell(variant: str, grade: str | None = "imported", **changes: Any) -> CellAnswer:
    values: dict[str, Any] = {
        "variant": variant, "grade": grade, "version": "1.0" if grade else None, "filename": None,
        "created": "2026-11-20T11:00:00Z" if grade else None, "pythons": ["cp311"],
    }  # fmt: skip
    return CellAnswer(**{**values, **changes})


MATRIX = MatrixAnswer(
    variants=["cpu", "cu126", "cu130"],
    rows=[
        MatrixRow(recipe="fast", cells=[cell("cpu", "built"),
                                        cell("cu130", "executed", build="b", status="succeeded")]),
        MatrixRow(recipe="slow", cells=[cell("cu126", build="c", status="failed", error="timeout", step="build"),
                                        cell("cu130", None, build="d", status="queued")]),
    ],
)  # fmt: skip


# the matrix


@pytest.mark.parametrize(
    ("wanted", "rows"),
    [
        (Filter(), {"fast": ["grade-built", None, "grade-executed"], "slow": [None, "failed", "queued"]}),
        (Filter(recipe="SLO"), {"slow": ["failed", "queued"]}),
        (Filter(variant="cu130"), {"fast": ["grade-executed"], "slow": ["queued"]}),
        (Filter(grade="imported"), {"fast": [None, "grade-executed"], "slow": ["failed", None]}),
        (Filter(status="failed"), {"slow": ["failed"]}),
        (Filter(recipe="fast", status="failed"), {}),
        (Filter(grade="nonsense", status=""), {"fast": ["grade-built", None, "grade-executed"],
                                               "slow": [None, "failed", "queued"]}),
    ],
)  # fmt: skip
def test_a_filter_leaves_what_is_wanted(wanted: Filter, rows: dict[str, list[str | None]]) -> None:
    grid = grid_of(MATRIX, wanted, NOW)
    assert {recipe: [one and one.colour for one in cells] for recipe, cells in grid.rows} == rows


def test_a_cell_says_what_failed() -> None:
    grid = grid_of(MATRIX, Filter(recipe="slow"), NOW)
    assert [one.title for one in grid.rows[0][1] if one] == [
        "1.0: imported, 25 h old; for cp311; newest build failed at build (timeout)",
        "no wheel; for cp311; newest build queued",
    ]


@pytest.mark.parametrize(
    ("text", "age"),
    [("2026-11-21T11:58:30Z", "1 min"), ("2026-11-21T07:00:00Z", "5 h"), ("2026-11-11T07:00:00Z", "10 d"),
     ("2026-11-22T07:00:00Z", "0 min"), ("nonsense", "")],
)  # fmt: skip
def test_ages(text: str, age: str) -> None:
    assert age_of(text, NOW) == age


# one build


@pytest.mark.parametrize(
    ("lines", "phase"),
    [
        (("source       pypi", "build        2 at a time", "[1/2] nvcc -c a.cu"), "build: 2 at a time"),
        (("\x1b[1mimport\x1b[0m       in a clean environment",), "import: in a clean environment"),
        (("build it yourself", "building  x", "  build        x"), ""),
        ((), ""),
    ],
)
def test_the_phase_is_the_last_that_the_log_told(lines: tuple[str, ...], phase: str) -> None:
    assert phase_of(Excerpt(head=lines)) == phase


def test_what_the_service_says_goes_over_what_the_machine_knows() -> None:
    wheel = WheelAnswer(filename="f.whl", sha256="a" * 64, size=1, url="http://x/",
                        install="pip install --trusted-host x --index-url http://x/cpu/simple/ fast")  # fmt: skip
    shown = view_of(build_answer("s", wheel=wheel, by="ci", attempt=2), view())
    assert dict(shown.asked)["asked by"] == "ci"
    assert dict(shown.asked)["attempt"] == "2"
    assert [line.text for line in shown.lines] == [
        "pip install --trusted-host x --index-url http://x/cpu/simple/ fast",
        "uv pip install --default-index http://x/cpu/simple/ fast",
        "RUN pip install --no-cache-dir --trusted-host x --index-url http://x/cpu/simple/ fast",
    ], "no path of the server's own disk"
    running = view_of(build_answer("s", status="running", ended=None, grade=None), failed_view())
    assert running.diagnosis is None
    unknown = view_of(build_answer("s", **failed("lost", "its worker went away", hint="again")), None)
    assert unknown.diagnosis is not None
    assert (unknown.diagnosis.cause, unknown.log.note) == ("its worker went away", "Its log is not on this machine.")


# the queue, the hits


def test_the_queue_is_estimated_by_what_builds_usually_take() -> None:
    ended = [build_answer(str(n), cache="miss", seconds=took) for n, took in enumerate((50.0, 60.0, 900.0))]
    usual = usual_seconds(
        [*ended, build_answer("hit", cache="hit", seconds=0.1), build_answer("no", **failed("a", "b"))]
    )
    assert usual == {"fast": 60.0}
    running = [build_answer("r", status="running", seconds=20.0)]
    queued = [build_answer("q2", status="queued", position=2, recipe="new"),
              build_answer("q1", status="queued", position=1),
              build_answer("q3", status="queued", position=3)]  # fmt: skip
    assert [(one.answer.id, one.begins, one.takes) for one in waiting_line(queued, running, usual, 1)] == [
        ("q1", 40.0, 60.0), ("q2", 100.0, None), ("q3", None, 60.0),
    ]  # fmt: skip
    assert [one.begins for one in waiting_line(queued, running, usual, 2)] == [0.0, 40.0, 60.0]


def test_hits_and_what_they_saved() -> None:
    every = [build_answer("a", cache="hit", key="k", seconds=1.0), build_answer("b", cache="miss", seconds=90.0),
             build_answer("c", **failed("x", "y")),
             build_answer("d", cache="hit", key="gone", seconds=1.0)]  # fmt: skip
    found = hits_of(every, {"k": 91.0})
    assert (found.builds, found.hits, found.saved) == (3, 2, 90.0)


# the form


def test_a_form_becomes_a_request() -> None:
    wanted = request_of({"recipe": "fast", "targets": "8.9; 12.0+PTX,9.0", "torch": "", "priority": "5"})
    assert (wanted.recipe, wanted.targets, wanted.torch, wanted.priority) == (
        "fast",
        ["8.9", "12.0+PTX", "9.0"],
        None,
        5,
    )


@pytest.mark.parametrize(
    "given",
    [{}, {"recipe": "../x"}, {"recipe": "-x"}, {"recipe": "a", "targets": "::set-output"}, {"recipe": "a", "more": "1"},
     {"recipe": "a", "priority": "many"}, {"recipe": "a", "device": "rocm"}],
)  # fmt: skip
def test_a_form_that_cannot_be_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        request_of(given)


# the addresses

Get = Callable[..., httpx2.Response]


@pytest.fixture
def lists() -> Lists:
    return Lists(every=[build_answer("live", status="running", ended=None), build_answer("ended")], table=MATRIX)


@pytest.fixture
def get(lists: Lists, tmp_path: Path) -> Get:
    """Requests to the pages, without a server."""
    app = application(lists, tmp_path)

    async def once(path: str, method: str, **more: Any) -> httpx2.Response:
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
            response: httpx2.Response = await client.request(method, path, **more)
            return response

    return lambda path, method="GET", **more: asyncio.run(once(path, method, **more))


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/ui/", 200, "Recipes by variants"), ("/ui/?status=failed", 200, "at build"),
        ("/ui/?recipe=none", 200, "Nothing fits this filter"), ("/ui/builds", 200, "ended"),
        ("/ui/builds?status=failed", 200, "No build fits"), ("/ui/builds/live", 200, "data-events"),
        ("/ui/builds/ended", 200, "Keep this page"), ("/ui/builds/none", 404, "no build none is known here"),
        ("/ui/builds/%3Cscript%3E", 404, "no build &lt;script&gt; is known"),
        ("/ui/builds/a%00b", 404, "no build a\ufffdb is known"), ("/ui/builds?recipe=%00", 200, "\ufffd"),
        ("/ui/submit?recipe=fast", 200, 'value="fast"'),
        ("/ui/machine", 200, "Running now"), ("/ui/static/live.js", 200, "EventSource"),
        ("/ui/static/htmx.LICENSE", 404, ""), ("/ui/static/..%2Fpages.py", 404, ""),
    ],
)  # fmt: skip
def test_what_an_address_answers(get: Get, path: str, status: int, told: str) -> None:
    answer = get(path)
    assert answer.status_code == status
    assert told in answer.text
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "http:" not in policy


def test_parts_of_pages_come_alone_and_end_with_the_build(get: Get, lists: Lists) -> None:
    part = {"HX-Request": "true"}
    assert "<html" not in get("/ui/", headers=part).text
    assert "<html" in get("/ui/", headers={**part, "HX-History-Restore-Request": "true"}).text
    assert "HX-Refresh" not in get("/ui/builds/live/state", headers=part).headers
    lists.replace("live", status="succeeded", ended="2026-11-21T06:02:00Z")
    assert get("/ui/builds/live/state", headers=part).headers["HX-Refresh"] == "true"


def test_a_build_is_asked_for_cancelled_and_tried_again(get: Get, lists: Lists) -> None:
    sent = get("/ui/builds", "POST", data={"recipe": "fast", "device": "cpu"})
    assert (sent.status_code, sent.headers["location"]) == (303, "/ui/builds/new-2")
    assert lists.build("new-2").by == "local"
    assert get("/ui/builds/new-2/cancel", "POST").status_code == 303
    assert lists.build("new-2").status == "cancelled"
    assert get("/ui/builds/new-2/retry", "POST").headers["location"] == "/ui/builds/new-2"
    assert get("/ui/builds/new-2/cancel").status_code == 405
    assert get("/ui/builds", "POST", data={"recipe": "-x"}).status_code == 422
    assert get("/ui/builds", "POST", data={"recipe": "a"}, headers={"Origin": "http://evil.example"}).status_code == 403


def test_the_file_to_keep_is_the_report(get: Get) -> None:
    answer = get("/ui/builds/ended/report.html")
    assert answer.headers["content-disposition"] == 'attachment; filename="ended.html"'
    assert "uPlot" in answer.text


def test_every_template_can_be_read_and_no_page_has_a_script_of_its_own() -> None:
    for path in TEMPLATES.glob("*.html"):
        environment(TEMPLATES).get_template(path.name)
        text = path.read_text("utf-8")
        assert "|safe" not in text.replace(" ", "")
        assert "hx-on" not in text
        assert "<style" not in text
        assert text.count("<script") == text.count("<script src=")


def test_what_is_vendored_has_its_licence() -> None:
    report = STATIC.parents[1] / "report" / "static"
    assert "MIT License" in (report / "uPlot.LICENSE").read_text("utf-8")
    assert "Zero-Clause BSD" in (STATIC / "htmx.LICENSE").read_text("utf-8")
