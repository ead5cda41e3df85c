"""The reference page's tables, made from the model. Pure, but for :func:`write_reference`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from buildkit.recipe.quantities import DURATION_PATTERN, SIZE_PATTERN
from buildkit.recipe.schema import recipe_schema, schema_text

BEGIN = "<!-- fields: begin (made from buildkit/recipe/model.py) -->"
END = "<!-- fields: end -->"

_TITLES = {
    "version": "[[version]]",
    "patch": "[[patch]]",
    "license": "license = { ... }",
    "patch.rewrite": "rewrite = { ... } of a patch",
    "build.env-when": "[[build.env-when]]",
}
_SPECIAL = {SIZE_PATTERN: "size", DURATION_PATTERN: "duration"}
_PLAIN = {"string": "text", "boolean": "true or false", "integer": "number"}


def field_tables() -> str:
    """One Markdown table for the top of the file and one for each of its tables."""
    schema = recipe_schema()
    parts = ["### Top of the file", _table(schema, schema), *_tables_below(schema, schema, "")]
    return "\n\n".join(parts)


def _tables_below(schema: dict[str, Any], above: dict[str, Any], path: str) -> Iterator[str]:
    for name, field in above["properties"].items():
        key = f"{path}{name}"
        section = _referred(schema, field)
        if section is not None:
            yield f"### `{_TITLES.get(key, f'[{key}]')}`"
            yield section["description"]
            yield _table(schema, section)
            yield from _tables_below(schema, section, f"{key}.")


def with_tables(page: str) -> str:
    """The page with what stands between its two markers made anew; ValueError where a marker is missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs the two lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{field_tables()}\n\n{END}{after}"


def write_reference(folder: Path) -> None:
    """Make docs/reference/recipe.md's tables and recipe.schema.json anew."""
    page = folder / "recipe.md"
    page.write_text(with_tables(page.read_text("utf-8")), "utf-8")
    (folder / "recipe.schema.json").write_text(schema_text(), "utf-8")


def _table(schema: dict[str, Any], section: dict[str, Any]) -> str:
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    required = section.get("required", [])
    for key, field in section["properties"].items():
        default = "required" if key in required else _default(field)
        # Pydantic leaves a description out where it is the one of the table that is referred to.
        meaning = field.get("description") or (_referred(schema, field) or {})["description"]
        rows.append(f"| `{key}` | {_kind(schema, field)} | {default} | {meaning} |")
    return "\n".join(rows)


def _default(field: dict[str, Any]) -> str:
    value = field.get("default")
    return "-" if value is None or value in ("", [], {}) else f"`{json.dumps(value)}`"


def _kind(schema: dict[str, Any], field: dict[str, Any]) -> str:
    if "enum" in field or "const" in field:
        return " or ".join(f"`{json.dumps(value)}`" for value in field.get("enum", [field.get("const")]))
    if "anyOf" in field:
        return " or ".join(_kind(schema, one) for one in field["anyOf"] if one.get("type") != "null")
    if _referred(schema, field) is not None:
        return "tables" if field.get("type") == "array" else "table"
    inner = field.get("items") or field.get("additionalProperties") or next(iter(_by_name(field)), None)
    if inner:
        return f"{'list of' if field['type'] == 'array' else 'table, each'} {_kind(schema, inner)}"
    return _SPECIAL.get(field.get("pattern", "")) or _PLAIN[field["type"]]


def _by_name(field: dict[str, Any]) -> list[dict[str, Any]]:
    return list(field.get("patternProperties", {}).values())


def _referred(schema: dict[str, Any], field: dict[str, Any]) -> dict[str, Any] | None:
    optional = next((one.get("$ref") for one in field.get("anyOf", []) if "$ref" in one), None)
    reference = field.get("$ref") or field.get("items", {}).get("$ref") or optional
    found = schema["$defs"][reference.rpartition("/")[2]] if reference else None
    return found if isinstance(found, dict) else None
