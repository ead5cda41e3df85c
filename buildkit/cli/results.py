"""Results of builds as JSON and as text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from buildkit.cli.output import SCHEMA, error_object, print_failure, print_json, say
from buildkit.report.text import evidence_line

if TYPE_CHECKING:
    from buildkit.build.pipeline import BuildResult


def result_object(result: BuildResult) -> dict[str, Any]:
    """The object of ``cudabuild build --json``; of a failure, what is known and the error."""
    value: dict[str, Any] = {
        "schema": SCHEMA,
        "build": result.build,
        "recipe": result.recipe,
        "device": result.device,
        "version": result.version,
        "key": result.key,
        "cache": result.cache,
        "wheel": _wheel(result),
        "plan": result.plan.model_dump(mode="json") if result.plan else None,
        "verdict": result.verdict.model_dump(mode="json", by_alias=True) if result.verdict else None,
        "guard": result.guard,
        "install": result.install,
        "notes": result.notes,
        "seconds": result.seconds,
    }
    if result.error is not None:
        value["error"] = error_object(result.error)
    return value


def _wheel(result: BuildResult) -> dict[str, Any] | None:
    if result.wheel is None or result.entry is None:
        return None
    entry = result.entry
    return {"path": str(result.wheel), "filename": entry.filename, "sha256": entry.sha256, "size": entry.size}


def print_objects(values: Sequence[Mapping[str, Any]], *, as_json: bool) -> int:
    """Print results that are objects already; returns 0, for only good ones are remembered."""
    if as_json:
        print_json(values[0] if len(values) == 1 else {"schema": SCHEMA, "results": values})
        return 0
    for value in values:
        tell_object(value)
        say(f"install it: {value['install']}")
    return 0


def print_results(results: Sequence[BuildResult], *, as_json: bool, installed: bool = False) -> int:
    """Print; returns the exit code of the first failure, or 0."""
    if as_json:
        values = [result_object(result) for result in results]
        print_json(values[0] if len(values) == 1 else {"schema": SCHEMA, "results": values})
    for result in results:
        if not as_json:
            _tell(result)
    for result in results:
        if result.error is None and not as_json and not installed:
            say(f"install it: {result.install}")
    return next((result.error.exit_code for result in results if result.error is not None), 0)


def _tell(result: BuildResult) -> None:
    if result.error is None:
        tell_object(result_object(result))
        return
    for note in result.notes:
        say(f"note: {note}")
    say(f"{result.recipe}: failed after {result.seconds:.1f} s")
    print_failure(result.error, as_json=False)


def tell_object(value: Mapping[str, Any]) -> None:
    """A good result for people, from the same object that ``--json`` prints."""
    for note in value["notes"] if value["cache"] == "hit" else ():
        say(f"note: {note}")  # a build has said them before it began
    source = "from the store" if value["cache"] == "hit" else "built"
    grade = value["verdict"]["grade"]
    say(f"{value['recipe']} {value['version']}: {source} in {value['seconds']:.1f} s, proven: {grade}")
    for stage in value["verdict"]["stages"]:
        say(f"  {stage['name']:10} {stage['outcome']:13} {stage['detail'] or evidence_line(stage['evidence'])}")
    for row in value["verdict"]["rows"]:
        say(f"  target {row['target']:13} {row['summary']}")
    say(f"wheel: {value['wheel']['path']}")
