"""``cudabuild verify``: the proof stages again, on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from buildkit.cli.options import Asked, TorchType, json_option, make_context, verbose_option
from buildkit.cli.output import SCHEMA, answer, error_object, print_failure, print_json, say
from buildkit.cli.results import evidence_line
from buildkit.cli.terminal import reporter_for
from buildkit.errors import CudabuildError, UsageError
from buildkit.verify.verdict import Grade, check_requirement

if TYPE_CHECKING:
    from buildkit.build.verification import Verified

EPILOG = """\b
Examples:
  cudabuild verify dist/diso-0.1.4-cp311-cp311-linux_x86_64.whl --target 12.0
  cudabuild verify --installed diso
  cudabuild verify --installed diso -- python -c 'import diso'
"""


@click.command("verify", epilog=EPILOG)
@click.argument("words", nargs=-1, metavar="[WHEEL] [-- COMMAND]")
@click.option("--installed", is_flag=True, help="Look at the active environment: the package named, or all of ours.")
@click.option("--target", "targets", multiple=True, metavar="LIST", help="Targets that must be there.")
@click.option("--torch", type=TorchType(), metavar="active|VERSION[+cuXXX]", help="Prove a wheel against this torch.")
@click.option("--python", type=click.Path(path_type=Path), metavar="PATH", help="Interpreter or environment.")
@click.option("--device", type=click.Choice(["cuda", "cpu", "auto"]), default="auto", show_default=True)
@click.option("--require", type=click.Choice(["audited", "imported", "executed"]), help="Grade to reach.")
@click.option("--recipes", "recipes_folder", type=click.Path(path_type=Path), metavar="DIR", help="Recipes' folder.")
@click.option("--offline", is_flag=True, help="Use only what is in the cache.")
@json_option
@verbose_option
def command(words: tuple[str, ...], installed: bool, **options: Any) -> int:
    """Run the proof stages again on WHEEL, or with --installed on what is installed.

    A COMMAND after -- is run in the environment as one more stage.
    """
    asked = Asked.read(options)
    with reporter_for(verbose=options["verbose"]) as reporter:
        context = make_context(asked, reporter)
        # click drops the "--" itself: only the words as they were typed show where COMMAND begins.
        test = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
        names = words[: len(words) - len(test)]
        request = asked.request(names[0] if names else "")
        found = _verify(names, tuple(test), installed, request, context)
    return _print(found, require=options["require"], as_json=options["as_json"])


def _verify(
    words: tuple[str, ...], test: tuple[str, ...], installed: bool, request: Any, context: Any
) -> list[Verified]:
    from buildkit.build.verification import verify_installed, verify_wheel

    if installed and len(words) <= 1:
        return verify_installed(words[0] if words else None, request, context, test)
    if installed or test or len(words) != 1:
        raise UsageError(
            "give one wheel, or --installed with one name and a command after --", hint="cudabuild verify --help"
        )
    return [verify_wheel(Path(words[0]), request, context)]


def _print(found: list[Verified], *, require: Any, as_json: bool) -> int:
    code = 0
    objects = []
    for each in found:
        error = each.proof.error or _below(each, require)
        code = code or (error.exit_code if error else 0)
        value = {
            "schema": SCHEMA,
            "name": each.name,
            "version": each.version,
            "verdict": each.proof.verdict.model_dump(mode="json", by_alias=True),
        }
        objects.append({**value, "error": error_object(error)} if error else value)
        if not as_json:
            _tell(each, error)
    if as_json:
        print_json(objects[0] if len(objects) == 1 else {"schema": SCHEMA, "results": objects})
    return code


def _below(verified: Verified, require: Any) -> CudabuildError | None:
    grade: Grade = require or ("audited" if verified.proof.driver_missing else "imported")
    try:
        check_requirement(verified.proof.verdict, grade)
    except CudabuildError as error:
        return error
    return None


def _tell(verified: Verified, error: CudabuildError | None) -> None:
    answer(f"{verified.name} {verified.version}: proven {verified.proof.verdict.grade}")
    for stage in verified.proof.verdict.stages:
        answer(f"  {stage.name:10} {stage.outcome:13} {stage.detail or evidence_line(stage.evidence)}")
    if error is not None:
        print_failure(error, as_json=False)
    else:
        say("the proof holds here")
