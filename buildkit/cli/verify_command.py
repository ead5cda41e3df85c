"""``cudabuild verify``: the proof stages again, on this machine."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from buildkit.cli.index_options import remote_index, token_option, user_option
from buildkit.cli.options import Asked, DurationType, TorchType, json_option, make_context, verbose_option
from buildkit.cli.output import SCHEMA, answer, error_object, print_failure, print_json, say
from buildkit.cli.terminal import reporter_for
from buildkit.cli.verify_publish import Sent, send_verdict, wheel_of
from buildkit.errors import CudabuildError, UsageError
from buildkit.report.text import evidence_line
from buildkit.verify.verdict import Grade, Verdict, check_requirement

if TYPE_CHECKING:
    from buildkit.build.context import Context
    from buildkit.build.installed_stages import Checked
    from buildkit.build.verification import Verified
    from buildkit.build.verification_app import App
    from buildkit.build.verification_installed import Environment
    from buildkit.index.publishing import Remote
    from buildkit.plan.request import Request

EPILOG = """\b
Examples:
  cudabuild verify dist/diso-0.1.4-cp311-cp311-linux_x86_64.whl --target 12.0
  cudabuild verify diso --publish https://wheels.example/pt2.13-cu130/simple/
  cudabuild verify --installed
  cudabuild verify --installed --gpu rtx4090 --gpu 12.0
  cudabuild verify --installed diso -- python run.py --output out/
"""
_PLACE = "cudabuild-verify-"
PROGRAM = "buildkit.verify.program"


class WithProgram(click.Command):
    """Keeps the words after ``--`` apart: they are another program's, options and all."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Everything before ``--`` is ours."""
        if "--" in args:
            place = args.index("--")
            ctx.meta[PROGRAM], args = tuple(args[place + 1 :]), args[:place]
            if not ctx.meta[PROGRAM]:
                raise UsageError("there is no command after --", hint="cudabuild verify --installed NAME -- COMMAND")
        return super().parse_args(ctx, args)


@click.command("verify", epilog=EPILOG, cls=WithProgram)
@click.argument("words", nargs=-1, metavar="[WHEEL] | NAME --publish INDEX | --installed [NAME] [-- COMMAND]")
@click.option("--installed", is_flag=True, help="Look at the active environment: the package named, or all compiled.")
@click.option("--gpu", "gpus", multiple=True, metavar="LIST", help="Judge for these GPUs: 8.6, rtx4090, '8.9;12.0'.")
@click.option("--target", "targets", multiple=True, metavar="LIST", help="Targets that must be there.")
@click.option("--torch", type=TorchType(), metavar="active|VERSION[+cuXXX]", help="Prove a wheel against this torch.")
@click.option("--python", type=click.Path(path_type=Path), metavar="PATH", help="Interpreter or environment.")
@click.option("--device", type=click.Choice(["cuda", "cpu", "auto"]), default="auto", show_default=True)
@click.option("--require", type=click.Choice(["audited", "imported", "executed"]), help="Grade to reach.")
@click.option("--timeout", type=DurationType(), metavar="TIME", help="Hard limit for COMMAND, such as 30m (1h).")
@click.option("--recipes", "recipes_folder", type=click.Path(path_type=Path), metavar="DIR", help="Recipes' folder.")
@click.option("--offline", is_flag=True, help="Use only what is in the cache.")
@click.option("--publish", "publish", metavar="INDEX", help="Attach the verdict to the wheel on this index.")
@token_option
@user_option
@json_option
@verbose_option
@click.pass_context
def command(
    ctx: click.Context, /, words: tuple[str, ...], installed: bool, gpus: tuple[str, ...], **options: Any
) -> int:
    """Run the proof stages again on WHEEL, or with --installed on what is installed, whoever built it.

    A COMMAND after -- is run in the environment as one more stage. With --installed each finding comes with the
    command that mends it; the exit code is 9 where one is an error. With --publish the wheel may be on an index that
    `cudabuild serve` runs, and its verdict goes there, where --min-grade counts it.
    """
    program: tuple[str, ...] = ctx.meta.get(PROGRAM, ())
    _check_words(words, installed, gpus, program, publish=options["publish"])
    asked = Asked.read(options)
    remote = _remote(asked, options)
    sent: Sent = None
    with reporter_for(verbose=options["verbose"]) as reporter, tempfile.TemporaryDirectory(prefix=_PLACE) as folder:
        context = make_context(asked, reporter)
        request = asked.request(words[0] if words else "")
        if installed:
            app = _app(program, options) if program else None
            found = _verify_installed(words, gpus, request, context, app)
        else:
            from buildkit.build.verification import verify_wheel

            path = wheel_of(words[0], remote, request, context, Path(folder)) if remote else Path(words[0])
            wheel = verify_wheel(path, request, context)
            sent = send_verdict(wheel.proof.verdict, remote) if remote and not wheel.proof.error else None
    if installed:
        return _print_installed(found, require=options["require"], as_json=options["as_json"])
    return _print(wheel, sent, require=options["require"], as_json=options["as_json"])


def _remote(asked: Asked, options: dict[str, Any]) -> Remote | None:
    if options["publish"] is None:
        return None
    return remote_index(options["publish"], options["token_env"], options["username"], asked.environ)


def _check_words(
    words: Sequence[str], installed: bool, gpus: Sequence[str], program: Sequence[str], *, publish: str | None
) -> None:
    hint = "cudabuild verify --help"
    if installed and publish is not None:
        raise UsageError("--publish goes with a wheel: what is installed has no sha256 of a wheel any more", hint=hint)
    if installed and len(words) > 1:
        raise UsageError("--installed takes one name, or none for all compiled packages", hint=hint)
    if program and not (installed and words):
        raise UsageError("a command after -- goes with --installed and the package that it is to use", hint=hint)
    if gpus and not installed:
        raise UsageError("--gpu goes with --installed; for a wheel say --target", hint=hint)
    if not installed and len(words) != 1:
        raise UsageError("give one wheel, or --installed", hint=hint)


def _app(program: tuple[str, ...], options: dict[str, Any]) -> App:
    """The person's program; what it prints goes through, away from the JSON."""
    from buildkit.build.verification_app import APP_TIMEOUT, App

    stream = sys.stderr if options["as_json"] else sys.stdout
    stream.flush()
    output = open(stream.fileno(), "wb", buffering=0, closefd=False)  # noqa: SIM115 - a standard stream
    return App(program, output, options["timeout"] or APP_TIMEOUT)


def _verify_installed(
    words: Sequence[str], gpus: Sequence[str], request: Request, context: Context, app: App | None
) -> Environment:
    from buildkit.build.verification_installed import verify_installed

    return verify_installed(words[0] if words else None, request, context, stated=gpus, app=app)


def _print_installed(found: Environment, *, require: Grade | None, as_json: bool) -> int:
    from buildkit.cli.installed_page import show

    errors = [each.error or _unmet(each, require) for each in found.results]
    if as_json:
        environment = _environment_object(found)
        objects = [_installed_object(each, error) for each, error in zip(found.results, errors, strict=True)]
        if len(objects) == 1:
            print_json({**objects[0], "environment": environment})
        else:
            print_json({"schema": SCHEMA, "environment": environment, "results": objects})
    else:
        show(found)
        for each, error in zip(found.results, errors, strict=True):
            if error is not None and error is not each.error:
                print_failure(error, as_json=False)
    return next((error.exit_code for error in errors if error is not None), 0)


def _environment_object(found: Environment) -> dict[str, Any]:
    gpus = [
        {"name": gpu.name, "capability": f"{gpu.capability[0]}.{gpu.capability[1]}", "stated": gpu.stated}
        for gpu in found.devices
    ]
    facts = {"torch": found.torch, "cuda": found.cuda, "driver": found.driver, "gpus": gpus}
    return {"prefix": str(found.prefix), **facts}


def _installed_object(each: Checked, error: CudabuildError | None) -> dict[str, Any]:
    value = {
        "schema": SCHEMA,
        "name": each.name,
        "version": each.version,
        "recipe": each.recipe,
        "code": [code.as_dict() for code in each.code],
        "findings": [finding.as_dict() for finding in each.findings],
        "verdict": each.verdict.model_dump(mode="json", by_alias=True) if each.verdict else None,
    }
    return {**value, "error": error_object(error)} if error else value


def _unmet(each: Checked, require: Grade | None) -> CudabuildError | None:
    """Where nothing is wrong, the grade still has to be reached; leftovers have none."""
    return _below(each.verdict, require, driver_missing=each.driver_missing) if each.verdict else None


def _print(wheel: Verified, sent: Sent, *, require: Grade | None, as_json: bool) -> int:
    proof = wheel.proof
    unsent = sent if isinstance(sent, CudabuildError) else None
    error = (
        proof.error or unsent or _below(proof.verdict, require or wheel.expected, driver_missing=proof.driver_missing)
    )
    if as_json:
        verdict = proof.verdict.model_dump(mode="json", by_alias=True)
        raised = [{"key": each.key, "before": each.before, "now": each.now} for each in wheel.raised]
        value = {"schema": SCHEMA, "name": wheel.name, "version": wheel.version, "verdict": verdict, "raised": raised}
        value |= {"published": sent} if isinstance(sent, dict) else {}
        print_json({**value, "error": error_object(error)} if error else value)
    else:
        _tell(wheel, error)
        if isinstance(sent, dict):
            say(f"the index shows it as {sent['grade']} now" + ("" if sent["changed"] else ", as before"))
    return error.exit_code if error else 0


def _below(verdict: Verdict, require: Grade | None, *, driver_missing: bool) -> CudabuildError | None:
    grade: Grade = require or ("audited" if driver_missing else "imported")
    try:
        check_requirement(verdict, grade)
    except CudabuildError as error:
        return error
    return None


def _tell(verified: Verified, error: CudabuildError | None) -> None:
    answer(f"{verified.name} {verified.version}: proven {verified.proof.verdict.grade}")
    for stage in verified.proof.verdict.stages:
        answer(f"  {stage.name:10} {stage.outcome:13} {stage.detail or evidence_line(stage.evidence)}")
    for row in verified.proof.verdict.rows:
        answer(f"  target {row.target:8} {row.summary}")
    for each in verified.raised:
        answer(f"  stored: {each.key[:12]} was {each.before}, is {each.now} now")
    if error is not None:
        print_failure(error, as_json=False)
    else:
        say("the proof holds here")
