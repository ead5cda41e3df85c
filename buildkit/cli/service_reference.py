"""What docs/reference has of the service: its settings, and the description of its API. Pure, but for writing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

BEGIN = "<!-- settings: begin (python -m buildkit.cli.reference) -->"
END = "<!-- settings: end -->"


def openapi_text() -> str:
    """docs/reference/openapi.json."""
    from buildkit.service import openapi
    from buildkit.service.app import create_api

    return openapi.openapi_text(create_api(cast(Any, _NoService())))


class _NoService:
    """An API is described without what it is of."""

    waiters: list[object]

    def __init__(self) -> None:
        self.waiters = []


def settings_text() -> str:
    """One table: every setting of ``[service]``."""
    from buildkit.service.settings import PREFIX, ServiceSettings

    rows = ["| in `[service]` | variable | default | meaning |", "|---|---|---|---|"]
    for name, field in ServiceSettings.model_fields.items():
        default = ", ".join(field.default) if isinstance(field.default, tuple) else field.default
        shown = "" if default in (None, "") else f"`{default:g}`" if isinstance(default, float) else f"`{default}`"
        rows.append(f"| `{name.replace('_', '-')}` | `{PREFIX}{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(rows)


def write_service_reference(folder: Path) -> None:
    """Make both anew."""
    (folder / "openapi.json").write_text(openapi_text(), "utf-8")
    page = folder / "service.md"
    before, begin, rest = page.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs the two lines {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{settings_text()}\n\n{END}{after}", "utf-8")
