"""The JSON schema of ``recipe.toml``, for editors (``#:schema``) and for other programs. Pure."""

from __future__ import annotations

import json
from typing import Any

from buildkit.recipe.model import Recipe


def recipe_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of what a person writes: sizes and durations are texts."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cudabuild recipe, edition 1",
        **{key: value for key, value in Recipe.model_json_schema(by_alias=True).items() if key != "title"},
    }


def schema_text() -> str:
    """The schema as docs/reference/recipe.schema.json holds it."""
    return json.dumps(recipe_schema(), indent=2, ensure_ascii=False) + "\n"
