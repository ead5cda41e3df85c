"""Pages of the simple repository as JSON and as HTML, both from the one model. Pure."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from buildkit.index.model import API_VERSION, FileLine, ProjectPage, VariantPage

_META = {"api-version": API_VERSION}


def variant_json(page: VariantPage) -> bytes:
    """The list of projects (PEP 691)."""
    return _encoded({"meta": _META, "projects": [{"name": name} for name in page.names]})


def variant_html(page: VariantPage) -> bytes:
    """The same as HTML (PEP 503)."""
    links = [f'<a href="{escape(name)}/">{escape(name)}</a><br>' for name in page.names]
    return _document("Simple index", [], links)


def project_json(page: ProjectPage) -> bytes:
    """A project's files (PEP 691, 700, 714, 792), and beside each its proof, under a key of our own."""
    return _encoded(
        {
            "meta": _META,
            "name": page.name,
            "project-status": {"status": page.status},
            "versions": list(page.versions),
            "files": [_file(line) for line in page.files],
        }
    )


def project_html(page: ProjectPage) -> bytes:
    """The same as HTML (PEP 503, 658, 714, 592). Beside each file a link to its proof, which installers pass over."""
    meta = [f'<meta name="pypi:project-status" content="{escape(page.status)}">']
    return _document(f"Links for {page.name}", meta, [_anchor(line) for line in page.files])


def _file(line: FileLine) -> dict[str, Any]:
    said: dict[str, Any] = {
        "filename": line.filename,
        "url": line.url,
        "hashes": {"sha256": line.sha256},
        "size": line.size,
        "upload-time": line.upload_time,
        # Never `dist-info-metadata` as well: pip before 22.3 ends with a traceback over it.
        "core-metadata": {"sha256": line.metadata_sha256},
        "yanked": line.yanked or False,
        "_cudabuild": {"grade": line.grade, "verdict": line.verdict_url},
    }
    if line.requires_python:
        said["requires-python"] = line.requires_python
    return said


def _anchor(line: FileLine) -> str:
    attributes = [
        ("href", f"{line.url}#sha256={line.sha256}"),
        ("data-core-metadata", f"sha256={line.metadata_sha256}"),
    ]
    if line.requires_python:
        attributes.append(("data-requires-python", line.requires_python))
    if line.yanked:
        attributes.append(("data-yanked", line.yanked))
    spelled = " ".join(f'{name}="{escape(value)}"' for name, value in attributes)
    proof = f'<a rel="nofollow" href="{escape(line.verdict_url)}">{escape(line.grade)}</a>'
    return f"<a {spelled}>{escape(line.filename)}</a> {proof}<br>"


def _document(title: str, meta: list[str], lines: list[str]) -> bytes:
    head = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta name="pypi:repository-version" content="{API_VERSION}">',
        *meta,
        f"<title>{escape(title)}</title>",
        "</head>",
        "<body>",
        f"<h1>{escape(title)}</h1>",
    ]
    return "\n".join([*head, *lines, "</body>", "</html>", ""]).encode()


def _encoded(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
