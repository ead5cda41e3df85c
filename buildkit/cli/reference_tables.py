"""Tables of reference pages from models: a row a key. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel


def tables(sections: Iterable[tuple[str, type[BaseModel]]]) -> str:
    """A section a model: what it is, and its keys."""
    return "\n\n".join(f"### {title}\n\n{_doc(model)}\n\n{_keys(model)}" for title, model in sections)


def _keys(model: type[BaseModel]) -> str:
    rows = ["| key | meaning |", "|---|---|"]
    for name, field in model.model_fields.items():
        inner = "See below." if field.description is None else field.description
        rows.append(f"| `{field.alias or name}` | {cell(inner)} |")
    return "\n".join(rows)


def _doc(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").replace("``", "`").split())


def cell(text: str) -> str:
    """Text as a table's cell holds it."""
    return " ".join(text.replace("``", "`").replace("|", "\\|").split())
