"""``cudabuild plan`` and ``--plan``: what would be built, why, and what the store says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from buildkit.cli.options import Asked, json_option, make_context, packages_argument, plan_options, verbose_option
from buildkit.cli.output import SCHEMA, answer, error_object, print_failure, print_json
from buildkit.cli.terminal import reporter_for
from buildkit.errors import CudabuildError


@click.command("plan", epilog="\b\nExample:\n  cudabuild plan diso --target 12.0")
@packages_argument
@plan_options
@json_option
@verbose_option
def command(packages: tuple[str, ...], **options: Any) -> int:
    """Say what would be built, why that many jobs, how long it takes, and whether the store has it.

    Nothing is compiled or installed; the source is fetched if it is not in the cache.
    """
    return show_plans(packages, options)


def show_plans(packages: tuple[str, ...], options: dict[str, Any]) -> int:
    """Print a plan a package; returns the first failure's exit code."""
    from buildkit.build.forecast import Forecast, forecast

    asked = Asked.read(options)
    code = 0
    objects: list[dict[str, Any]] = []
    with reporter_for(verbose=options["verbose"]) as reporter:
        context = make_context(asked, reporter, may_install=False)
        for package in packages:
            try:
                found: Forecast = forecast(asked.request(package), asked.settings.targets, context)
            except CudabuildError as error:
                code = code or error.exit_code
                objects.append({"schema": SCHEMA, "build": None, "recipe": package, "error": error_object(error)})
                if not options["as_json"]:
                    print_failure(error, as_json=False)
                continue
            objects.append(_object(found))
            if not options["as_json"]:
                tell_plan(_object(found))
    if options["as_json"]:
        print_json(objects[0] if len(objects) == 1 else {"schema": SCHEMA, "results": objects})
    return code


def _object(found: Any) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "build": None,
        "recipe": found.recipe,
        "device": found.device,
        "version": found.version,
        "key": found.key,
        "cache": found.prediction.outcome,
        "plan": found.summary.model_dump(mode="json") if found.summary else None,
        "prediction": found.prediction.model_dump(mode="json"),
        "inputs": found.inputs,
    }


def tell_plan(value: Mapping[str, Any]) -> None:
    """A plan for people, from the same object that ``--json`` prints."""
    answer(f"{value['recipe']} {value['version'] or ''}".rstrip())
    summary, prediction = value["plan"], value["prediction"]
    if summary is not None:
        for name, shown in _rows(summary, value["key"]):
            answer(f"  {name:10} {shown}")
        for note in summary["notes"]:
            answer(f"  note: {note}")
    answer(f"  store      {prediction['outcome']}{': ' + prediction['note'] if prediction['note'] else ''}")
    for line in prediction["differs"]:
        answer(f"    differs  {line}")


def _rows(summary: Mapping[str, Any], key: str | None) -> tuple[tuple[str, object], ...]:
    expected = summary["expected_seconds"]
    return (
        ("targets", ", ".join(summary["targets"]) or "none (CPU)"),
        ("torch", f"{summary['torch'] or 'none'} ({summary['python']})"),
        ("toolkit", summary["toolkit"] or "none"),
        ("compiler", summary["compiler"]),
        ("canary", summary["canary"] or "none: nothing is compiled for CUDA"),
        ("jobs", f"{summary['jobs']}: {summary['jobs_reason']}"),
        ("time", f"about {expected:.0f} s" if expected else "not known"),
        ("deadline", f"{summary['timeout']:.0f} s: {summary['timeout_reason']}"),
        ("must reach", summary["require"]),
        ("key", key),
    )
