"""The service's pages in a real browser, over a real server that makes real builds of small C projects."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from page_service import Lists, application, build_answer, failed, served
from pages import CORPUS, chromium, some_units
from playwright.sync_api import Browser, Page, expect

from buildkit.index.tokens import new_token
from buildkit.report.ansi import pieces
from buildkit.service.answers import CellAnswer, MatrixAnswer, MatrixRow
from buildkit.store.builds import BuildRecord, BuildRecords
from buildkit.store.store import Store
from buildkit.store.traces import Traces
from tests.integration.conftest import clean_environment

pytestmark = pytest.mark.integration

SOON = 60_000
"""Milliseconds in which a small build begins and ends."""
RECIPE = """
edition = 1
name = "{name}"
summary = "Two small C files"
license = {{ spdx = "MIT", redistributable = true }}
status = "unconfirmed"
[[version]]
version = "1.0"
folder = "{folder}"
[build]
torch = false
[verify]
imports = ["{module}._one"]
"""
SETUP = """
import os, sys, time
from setuptools import Extension, setup
while "bdist_wheel" in sys.argv and not os.path.exists({latch!r}):
    time.sleep(0.05)
print("\\033[1;32mgreen\\033[0m <b>not bold</b>", flush=True)
modules = [Extension("{module}._" + name, [name + ".c"]) for name in ("one", "two")]
setup(name="{name}", version="1.0", packages=["{module}"], ext_modules=modules)
"""
MODULE = """
#include <Python.h>
static struct PyModuleDef module = {{PyModuleDef_HEAD_INIT, "_{name}", 0, -1, 0, 0, 0, 0, 0}};
PyMODINIT_FUNC PyInit__{name}(void) {{ return PyModule_Create(&module); }}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that may say nothing and ask nobody else."""
    with browser.new_context() as context:
        page = context.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(f"{page.url}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        refused = "the server responded with a status of 422"  # a form that comes back: the browser's own words
        asked: set[str] = set()
        page.on("request", lambda request: asked.add(request.url.split("/")[2] if "://" in request.url else "data"))
        yield page
        assert [one for one in said if refused not in one] == []
        assert len(asked - {"data"}) == 1


def violations(page: Page) -> list[str]:
    """What axe finds that is serious."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in {"serious", "critical"}
    ]


# A real server, real builds


@pytest.fixture(scope="module")
def unique() -> str:
    """What makes the names of this run's packages its own: no store has them."""
    return f"{os.getpid()}x{time.time_ns() % 10**9}"


@pytest.fixture(scope="module")
def latch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds go on when this exists."""
    return tmp_path_factory.mktemp("latch") / "open"


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory, unique: str, latch: Path) -> Path:
    """``gentle-*`` builds, ``broken-*`` does not."""
    folder = tmp_path_factory.mktemp("recipes")
    for kind in ("gentle", "broken"):
        name, module = f"{kind}-{unique}", f"{kind}_{unique}"
        source = folder / "sources" / name
        (source / module).mkdir(parents=True)
        (source / module / "__init__.py").write_text("")
        (source / "setup.py").write_text(SETUP.format(name=name, module=module, latch=str(latch)))
        system = '[build-system]\nrequires = ["setuptools>=64"]\nbuild-backend = "setuptools.build_meta"\n'
        (source / "pyproject.toml").write_text(system)
        for each in ("one", "two"):
            (source / f"{each}.c").write_text(MODULE.format(name=each))
        if kind == "broken":
            (source / "two.c").write_text('#include "nowhere_to_be_found.h"\n')
        (folder / name).mkdir()
        (folder / name / "recipe.toml").write_text(RECIPE.format(name=name, folder=source, module=module))
    return folder


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, cache: Path, console_script: Path, plain_environment: Path, recipes: Path
) -> Iterator[str]:
    """`cudabuild serve` with one slot and a queue of its own; gives its URL."""
    folder = tmp_path_factory.mktemp("server")
    command = [str(console_script), "serve", "--port", "0", "--recipes", str(recipes), "--slots", "1",
               "--on-stop", "end",
               "--database", f"sqlite:///{folder / 'queue.db'}", "--log-format", "text"]  # fmt: skip
    environment = clean_environment({"CUDABUILD_CACHE": str(cache), "VIRTUAL_ENV": str(plain_environment)})
    with (folder / "said").open("wb") as said:
        running = subprocess.Popen(command, env=environment, stdout=said, stderr=said, cwd=folder)
    try:
        yield until_it_says(running, folder / "said")
    finally:
        running.terminate()
        running.wait(60)


def until_it_says(running: subprocess.Popen[bytes], said: Path) -> str:
    while not (found := re.search(r"look at builds: +(http\S+/)ui/", said.read_text())):
        assert running.poll() is None, said.read_text()
        time.sleep(0.1)
    return found[1]


def ask(page: Page, server: str, recipe: str) -> None:
    """Send the form."""
    page.goto(f"{server}ui/submit")
    page.get_by_label("Recipe").fill(recipe)
    page.get_by_label("Device").select_option("cpu")
    page.get_by_role("button", name="Build it").click()


def test_builds_are_asked_for_followed_cancelled_and_looked_at(
    page: Page, server: str, unique: str, latch: Path
) -> None:
    page.goto(f"{server}ui/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Recipes by variants")

    # One runs until the latch opens, the next one waits, and is cancelled.
    ask(page, server, f"gentle-{unique}")
    expect(page.locator("#state .phase")).to_be_visible(timeout=SOON)
    gentle = page.url
    ask(page, server, f"broken-{unique}")
    expect(page.locator("#state")).to_contain_text("number 1 in line")
    broken = page.url
    page.goto(f"{server}ui/machine")
    expect(page.locator("#now")).to_contain_text(f"broken-{unique}")
    assert violations(page) == []
    page.goto(broken)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".badge.is-cancelled")).to_be_visible()
    page.get_by_role("button", name="Build it again").click()
    expect(page.locator("#state")).to_contain_text("Waits")

    # The first one, live, to its end.
    page.goto(gentle)
    expect(page.locator("#state .phase")).to_contain_text("build", timeout=SOON)
    assert violations(page) == []
    latch.touch()
    expect(page.get_by_role("link", name="Keep this page as a file")).to_be_visible(timeout=SOON)
    expect(page.locator(".state .is-succeeded")).to_be_visible()
    expect(page.locator("#log i.b.c2").first).to_have_text("green")
    expect(page.locator("#log")).to_contain_text("<b>not bold</b>")
    expect(page.locator("#copy + dl")).to_contain_text(f"--index-url {server}cpu/simple/ gentle-{unique}")
    expect(page.locator(".names")).to_contain_text("one.c")
    with page.expect_download() as kept:
        page.get_by_role("link", name="Keep this page as a file").click()
    assert "one.c" in Path(kept.value.path()).read_text("utf-8")

    # The other one, which fails: why, and the line that shows it.
    page.goto(broken)
    expect(page.locator(".diagnosis .cause")).to_contain_text("nowhere_to_be_found.h", timeout=SOON)
    page.locator(".evidence a").first.click()
    expect(page.locator(".log div:target")).to_contain_text("fatal error")
    assert violations(page) == []

    # Both in the matrix and in the list, and the filters in the address.
    page.goto(f"{server}ui/?recipe={unique}")
    expect(page.locator("table.matrix td.failed")).to_contain_text("at build")
    assert "build failed" in (page.locator("td.failed").get_attribute("title") or "")
    expect(page.locator("table.matrix td.grade-imported")).to_be_visible()
    page.get_by_label("Newest build").select_option("failed")
    expect(page.locator("table.matrix td.grade-imported")).to_have_count(0)
    expect(page).to_have_url(re.compile("status=failed"))
    page.reload()
    expect(page.locator("table.matrix tbody tr")).to_have_count(1)
    assert violations(page) == []
    page.goto(f"{server}ui/builds?status=succeeded")
    expect(page.locator("tbody tr")).to_have_count(1)


def test_a_form_with_something_wrong_comes_back_with_it(page: Page, server: str) -> None:
    page.goto(f"{server}ui/submit")
    page.get_by_label("Recipe").fill("-x")
    page.get_by_label("Targets").fill("12.0")
    with page.expect_response(lambda response: response.request.method == "POST") as answered:
        page.get_by_role("button", name="Build it").click()
    assert answered.value.status == 422
    expect(page.get_by_role("alert")).to_contain_text("recipe")
    expect(page.get_by_label("Targets")).to_have_value("12.0")
    assert violations(page) == []


# What a real server is seldom in


@pytest.fixture
def lists(tmp_path: Path) -> Lists:
    every = " ".join(CORPUS)
    cell = CellAnswer(variant=CORPUS[0], grade=None, version=every, filename=every, created=every, pythons=[every],
                      build="bad", status="failed", error=every, step=every)  # fmt: skip
    matrix = MatrixAnswer(variants=[CORPUS[0]], rows=[MatrixRow(recipe=every, cells=[cell])])
    return Lists(
        every=[
            build_answer("live", status="running", ended=None, grade=None),
            build_answer("bad", recipe=every, version=every, torch=every, targets=[every], by=every, note=every,
                         **failed(every, every, evidence=every, hint=every)),
        ],
        table=matrix,
    )  # fmt: skip


def test_nothing_of_the_corpus_does_anything_on_any_page(page: Page, lists: Lists, tmp_path: Path) -> None:
    with served(application(lists, tmp_path)) as url:
        for path in ("", "builds", "builds/bad", "machine", "submit?recipe=%22%3E%3Cscript%3E"):
            page.goto(f"{url}/ui/{path}")
            assert page.locator("iframe, img, svg[onload], main b, main script:not([type])").count() == 0, path
            assert page.evaluate("document.title").endswith(" - cudabuild")


def test_lines_that_come_live_look_as_they_do_afterwards(page: Page, lists: Lists, tmp_path: Path) -> None:
    lists.log = [*(f"{line}\n" for line in CORPUS), "the last has ", "no end"]
    with served(application(lists, tmp_path)) as url:
        page.goto(f"{url}/ui/builds/live")
        lines = "".join(lists.log).split("\n")
        expect(page.locator("#log > div")).to_have_count(len(lines))
        expect(page.locator("#log > div").last).to_contain_text("the last has no end")
        script = "line => window.cudabuildLog.pieces(line)"
        for line in (*CORPUS, "\x1b[1;3;4mx\x1b[22;23my\x1b[0mz", "\x1b[97;104mq\x1b[39;49mr", "x" * 5000):
            assert [tuple(piece) for piece in page.evaluate(script, line)] == pieces(line), line
        lists.replace("live", status="succeeded", ended="2026-11-21T06:02:00Z")
        expect(page.get_by_role("link", name="Keep this page as a file")).to_be_visible(timeout=SOON)


def test_what_a_person_has_opened_stays_open(page: Page, lists: Lists, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    running = BuildRecord(id="b1", recipe="fast", started="2026-11-21T06:00:00Z", status="running")
    BuildRecords(store.root).write(running)
    Traces(store.root).write("b1", some_units().as_bytes())
    lists.replace("live", build="b1")
    with served(application(lists, tmp_path)) as url:
        page.goto(f"{url}/ui/builds/live")
        figures = page.get_by_text("The 4 longest in figures")
        figures.click()
        part = "#curves"
        with page.expect_response(re.compile("curves")):
            page.evaluate("part => htmx.ajax('GET', document.querySelector(part).getAttribute('hx-get'), part)", part)
        expect(page.locator("#curves details[open] table")).to_be_visible()
        figures.click()
        page.get_by_label("Search the log").focus()
        page.locator("#curves .names").evaluate("names => names.classList.add('old')")
        with page.expect_response(re.compile("curves")):
            page.evaluate("part => htmx.ajax('GET', document.querySelector(part).getAttribute('hx-get'), part)", part)
        expect(page.locator("#curves .names.old")).to_have_count(0)
        lists.replace("live", status="succeeded", ended="2026-11-21T06:02:00Z")


def test_pages_work_without_script(browser: Browser, lists: Lists, tmp_path: Path) -> None:
    with served(application(lists, tmp_path)) as url, browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"{url}/ui/submit")
        page.get_by_label("Recipe").fill("fast")
        page.get_by_role("button", name="Build it").click()
        expect(page.locator("#state")).to_contain_text("number 1 in line")
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator(".state .is-cancelled")).to_be_visible()
        page.goto(f"{url}/ui/")
        page.get_by_label("Newest build").select_option("succeeded")
        page.get_by_role("button", name="Filter").click()
        expect(page.locator("#matrix")).to_contain_text("Nothing fits this filter")


def test_a_token_is_a_browsers_password(browser: Browser, lists: Lists, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    reader, team = new_token(file, "reader", ["read"]), new_token(file, "team", ["read", "build"])
    lists.log = ["a line\n"]
    with served(application(lists, tmp_path, tokens=file)) as url:
        with browser.new_context() as nobody:
            assert nobody.request.get(f"{url}/ui/").status == 401
        for secret, status in ((reader, 403), (team, 303)):
            with browser.new_context(http_credentials={"username": "me", "password": secret}) as context:
                page = context.new_page()
                page.goto(f"{url}/ui/builds/live")
                expect(page.locator("#log")).to_contain_text("a line")
                page.goto(f"{url}/ui/submit")
                page.get_by_label("Recipe").fill("fast")
                with page.expect_response(lambda response: response.request.method == "POST") as sent:
                    page.get_by_role("button", name="Build it").click()
                assert sent.value.status == status
        assert lists.every[0].by == "team"
        lists.replace("live", status="succeeded", ended="2026-11-21T06:02:00Z")


def test_there_is_nothing_to_read_from_a_page_of_another_site(browser: Browser, server: str, tmp_path: Path) -> None:
    elsewhere = f"<form method=post action={server}ui/builds><input name=recipe value=x><button>send</button></form>"
    (tmp_path / "evil.html").write_text(elsewhere)
    with browser.new_context() as context:
        page = context.new_page()
        page.goto((tmp_path / "evil.html").as_uri())
        with page.expect_response(lambda response: response.request.method == "POST") as answered:
            page.get_by_role("button").click()
        assert answered.value.status == 403
