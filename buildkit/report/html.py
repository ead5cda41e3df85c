"""A build's page as one file that opens from disk, and the templates that the service's pages share with it.

Nothing in a page comes from elsewhere, and only the scripts and styles of this package run in it: a content security
policy names them by hash. Names, logs and errors are escaped wherever they stand.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from buildkit.recipe.quantities import format_size
from buildkit.report.curves import curves_of
from buildkit.report.excerpt import LogLine, shown_lines
from buildkit.report.gantt import gantt_of
from buildkit.report.page import duration, facts_of, longest_sentence
from buildkit.report.summary import Summary, summarise
from buildkit.report.text import evidence_line, printable, shortened
from buildkit.report.view import BuildView
from buildkit.verify.verdict import Stage

FOLDER = Path(__file__).parent
TEMPLATES = FOLDER / "templates"
STATIC = FOLDER / "static"
LARGEST = 2_000_000
"""Bytes of a file at most."""
LOG_BUDGETS = (800_000, 300_000, 60_000, 0)
"""Bytes that a log may take of it; the next one where everything else leaves less."""
MOST_ROWS = (150, 150, 60, 20)
"""Compilations that have a bar of their own, likewise."""
_EVIDENCE = 8000
"""Characters of a stage's evidence that are shown."""
_LISTED = 30
"""Compilations in the table."""


def single_file(view: BuildView) -> str:
    """The page of one build as one HTML text, smaller than :data:`LARGEST`."""
    text = ""
    for log, rows in zip(LOG_BUDGETS, MOST_ROWS, strict=True):
        text = _file(build_facts(view, log=log, rows=rows))
        if len(text.encode("utf-8", "replace")) <= LARGEST:
            break
    return text


def _file(facts: dict[str, Any]) -> str:
    scripts = [asset(name) for name in ("uPlot.iife.min.js", "report.js")]
    style = asset("uPlot.min.css") + asset("page.css")
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_hash, scripts))}; style-src {_hash(style)}; "
        "base-uri 'none'; form-action 'none'"
    )
    template = environment().get_template("report.html")
    return template.render(**facts, scripts=[Markup(one) for one in scripts], style=Markup(style), policy=policy)  # noqa: S704  (our own files)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@lru_cache(maxsize=8)
def asset(name: str) -> str:
    """A file of the package's own, such as the script of a page."""
    return (STATIC / name).read_text("utf-8")


@lru_cache(maxsize=4)
def environment(*folders: Path) -> Environment:
    """The templates of this package, and before them those of ``folders``. Whatever they are given is escaped."""
    made = Environment(
        loader=FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(size=format_size, duration=duration, moment=moment, printable=printable, short=shortened)
    made.tests["log_line"] = lambda value: isinstance(value, LogLine)
    return made


def _visible(value: Any) -> Any:
    """Whatever a template shows: of a text every line with its control characters visible."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "\n".join(map(printable, value.split("\n")))


def moment(text: str | None) -> str:
    """``2026-11-21 06:00 UTC``."""
    return f"{text[:16].replace('T', ' ')} UTC" if text else ""


def build_facts(view: BuildView, *, log: int = LOG_BUDGETS[0], rows: int = MOST_ROWS[0]) -> dict[str, Any]:
    """What the templates of a build's page are given. ``log``: bytes for the log; ``rows``: compilations with a bar."""
    summary = summarise(view.trace) if view.trace is not None else None
    return {
        "view": view,
        "summary": summary,
        "figures": _figures(view, summary),
        "gantt": gantt_of(view.trace, summary, most=rows) if view.trace is not None and summary is not None else None,
        "curves": curves_of(view.trace, summary) if view.trace is not None and summary is not None else None,
        "longest": longest_sentence(summary) if summary is not None else "",
        "listed": list(_listed(view, summary)),
        "stages": [(stage, _said(stage), _evidence(stage)) for stage in view.verdict.stages] if view.verdict else [],
        "log_lines": list(shown_lines(view.log, log)),
        "took": duration(view.seconds) if view.seconds is not None else "",
    }


def _figures(view: BuildView, summary: Summary | None) -> str:
    if view.trace is None or summary is None:
        return ""
    return " ".join(text for text, _style in facts_of(view.trace, summary))


def _listed(view: BuildView, summary: Summary | None) -> Iterator[tuple[Any, float]]:
    """The longest compilations with their share of the critical path."""
    if view.trace is None or summary is None:
        return
    ran = sorted((unit for unit in view.trace.units if unit.seconds > 0), key=lambda unit: unit.seconds, reverse=True)
    for unit in ran[:_LISTED]:
        yield unit, summary.path.seconds_of(unit) / summary.path.seconds if summary.path.seconds else 0.0


def _said(stage: Stage) -> str:
    return printable(stage.detail or evidence_line(stage.evidence))


def _evidence(stage: Stage) -> str:
    """A stage's evidence, line by line."""
    if not stage.evidence:
        return ""
    text = json.dumps(stage.evidence, indent=1, ensure_ascii=False, default=str)
    return "\n".join(printable(line) for line in shortened(text, _EVIDENCE).split("\n"))
