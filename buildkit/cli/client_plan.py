"""``cudabuild --server URL plan`` and ``recipes``: what a server would build, and what it can."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from buildkit.cli.client_http import API, cause_of_object
from buildkit.cli.client_request import request_for, settings_of
from buildkit.cli.output import SCHEMA, answer, error_object, print_failure, print_json, say
from buildkit.errors import CudabuildError, UnknownRecipe

if TYPE_CHECKING:
    from buildkit.cli.client import Asked


def show_plans(asked: Asked) -> int:
    """Print a plan a package; returns the first failure's exit code."""
    from buildkit.cli.plan_command import tell_plan

    code, as_json = 0, asked.options["as_json"]
    objects: list[dict[str, Any]] = []
    settings = settings_of(asked)
    for package in asked.options["packages"]:
        try:
            plan = asked.server.post(f"{API}/plan", request_for(package, asked, settings))
            if isinstance(plan.get("error"), dict):  # it could be asked, and there is no plan
                raise cause_of_object(plan["error"], asked.server.url)
        except CudabuildError as error:
            code = code or error.exit_code
            objects.append({"schema": SCHEMA, "build": None, "recipe": package, "error": error_object(error)})
            if not as_json:
                print_failure(error, as_json=False)
            continue
        objects.append({**plan, "server": {"url": asked.server.url}})
        if not as_json:
            tell_plan(plan)
    if as_json:
        print_json(objects[0] if len(objects) == 1 else {"schema": SCHEMA, "results": objects})
    return code


def list_recipes(asked: Asked) -> int:
    """What the server can build."""
    from buildkit.cli.recipes_list import table

    rows = asked.server.get(f"{API}/recipes").get("recipes", [])
    if asked.options["as_json"]:
        print_json({"schema": SCHEMA, "recipes": rows, "server": {"url": asked.server.url}})
        return 0
    heading, *lines = table([{"source": "-", **row} for row in rows])
    say(heading)
    for line in lines:
        answer(line)
    return 0


def show_recipe(asked: Asked) -> int:
    """What the server's list says of one recipe. Raises UnknownRecipe."""
    from buildkit.recipe.suggest import did_you_mean

    name = asked.options["name"]
    rows = {row["name"]: row for row in asked.server.get(f"{API}/recipes").get("recipes", [])}
    if name not in rows:
        hint = "cudabuild --server URL recipes list"
        raise UnknownRecipe(f"{asked.server.url} has no recipe {name}{did_you_mean(name, sorted(rows))}", hint=hint)
    if asked.options["as_json"]:
        print_json({"schema": SCHEMA, "recipe": rows[name], "server": {"url": asked.server.url}})
    else:
        answer(json.dumps(rows[name], indent=2, ensure_ascii=False))
    return 0
