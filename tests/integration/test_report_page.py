"""A build's page as one file, opened from disk in a real browser that has no network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from pages import CORPUS, chromium, failed_view, many_units, poisoned_view, view
from playwright.sync_api import Browser, BrowserContext, Page, expect

from buildkit.report.html import single_file
from buildkit.report.view import BuildView, Excerpt

pytestmark = pytest.mark.integration

PHONE = {"width": 390, "height": 844}
SERIOUS = {"serious", "critical"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


class Opened:
    """A page that was opened from disk, with all that it said and asked for."""

    def __init__(self, context: BrowserContext, file: Path, mark: str = "") -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page: Page = context.new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(f"{file.as_uri()}{mark}")

    def check(self, file: Path) -> None:
        assert self.said == []
        assert {url.partition("#")[0] for url in self.asked} == {file.as_uri()}


def written(folder: Path, build: BuildView) -> Path:
    file = folder / "build.html"
    file.write_text(single_file(build), encoding="utf-8", errors="backslashreplace")
    return file


def violations(page: Page) -> list[str]:
    """What axe finds that is serious."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in SERIOUS]


def is_inside(page: Page, what: str, box: str) -> bool:
    """Whether an element is in the part of a box that can be seen without scrolling the box."""
    script = """([what, box]) => {
        const a = document.querySelector(what).getBoundingClientRect();
        const b = document.querySelector(box).getBoundingClientRect();
        return a.top >= b.top && a.bottom <= b.bottom;
    }"""
    return bool(page.evaluate(script, [what, box]))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_opens_from_disk_asks_for_nothing_and_everybody_can_use_it(
    browser: Browser, tmp_path: Path, scheme: str
) -> None:
    file = written(tmp_path, view() if scheme == "light" else failed_view())
    with browser.new_context(color_scheme=scheme, offline=True) as context:  # type: ignore[arg-type]
        opened = Opened(context, file)
        expect(opened.page.locator(".plot canvas")).to_be_visible()
        assert violations(opened.page) == []
        opened.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
        wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert opened.page.evaluate(wider) == 0
        expect(opened.page.locator(".plot canvas")).to_be_visible()
        opened.check(file)


def test_a_link_to_a_line_leads_there_and_the_keyboard_too(browser: Browser, tmp_path: Path) -> None:
    lines = tuple(f"[{number}/3000] nvcc -c k{number}.cu" for number in range(1, 3001))
    file = written(tmp_path, failed_view(log=Excerpt(head=lines, size=90_000)))
    with browser.new_context(offline=True) as context:
        opened = Opened(context, file, "#L2500")
        line = opened.page.locator("#L2500")
        expect(line).to_be_in_viewport()
        mark = "getComputedStyle(document.querySelector('#L2500')).backgroundColor"
        assert opened.page.evaluate(mark) != "rgba(0, 0, 0, 0)"
        opened.page.locator(".evidence a").focus()
        opened.page.keyboard.press("Enter")
        expect(opened.page.locator("#L2")).to_be_in_viewport()
        assert opened.page.url.endswith("#L2")
        opened.page.locator("#L2990 a").click()
        assert opened.page.url.endswith("#L2990")
        opened.check(file)


def test_the_log_is_searched(browser: Browser, tmp_path: Path) -> None:
    file = written(tmp_path, view())
    with browser.new_context(offline=True) as context:
        page = Opened(context, file).page
        page.get_by_label("Search the log").fill("SRC/K1")  # k1, k10 to k19
        output = page.locator("form.search output")
        expect(output).to_have_text("1 of 11 lines")
        expect(page.locator("#log mark")).to_have_count(11)
        page.keyboard.press("Enter")
        expect(output).to_have_text("2 of 11 lines")
        page.get_by_role("button", name="Previous").click()
        page.get_by_role("button", name="Previous").click()
        expect(output).to_have_text("11 of 11 lines")
        assert is_inside(page, "#L21", "#log")
        page.get_by_label("only lines that match").check()
        expect(page.locator("#L1")).to_be_hidden()
        page.get_by_label("Search the log").fill("nowhere")
        expect(output).to_have_text("0 lines")
        page.get_by_label("Search the log").press("Escape")
        expect(page.locator("#L1")).to_be_visible()
        expect(page.locator("#log mark")).to_have_count(0)


def test_two_thousand_compilations_are_looked_at(browser: Browser, tmp_path: Path) -> None:
    log = Excerpt(head=("nvcc -c some.cu " * 8,) * 1000, tail=("ptxas info",) * 20_000, skipped=10**6, size=10**9)
    file = written(tmp_path, view(trace=many_units(2000), log=log))
    assert file.stat().st_size < 2_000_000
    with browser.new_context(offline=True) as context:
        opened = Opened(context, file)
        page = opened.page
        expect(page.locator(".lanes rect").nth(2000)).to_be_attached()
        assert is_inside(page, ".names .longest", ".scroll:has(> .gantt)")
        opened.check(file)


def test_nothing_of_the_corpus_does_anything(browser: Browser, tmp_path: Path) -> None:
    file = written(tmp_path, poisoned_view())
    with browser.new_context(offline=True) as context:
        opened = Opened(context, file)
        title = opened.page.title()
        opened.page.mouse.move(300, 300)
        opened.page.get_by_label("Search the log").fill("<script>")
        expect(opened.page.locator("form.search output")).to_have_text("1 of 4 lines")
        for button in opened.page.locator("summary").all():
            button.click()
        assert opened.page.title() == title
        assert "owned'" in title  # the build's name, as text
        assert opened.page.locator("iframe, img, svg[onload], b").count() == 0
        assert opened.page.locator("#L1").inner_text().endswith(CORPUS[0])
        opened.check(file)
