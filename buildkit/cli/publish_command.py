"""``cudabuild publish``: wheels to an index, this one's or any other, by twine's protocol."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from buildkit.cli.index_options import remote_index, token_option, user_option, warn_of_plain_http
from buildkit.cli.options import Asked, PackageType, examples, json_option, make_context, verbose_option
from buildkit.cli.output import SCHEMA, error_object, print_failure, print_json, say
from buildkit.cli.terminal import reporter_for
from buildkit.errors import CudabuildError, UsageError
from buildkit.process import redact

if TYPE_CHECKING:
    from buildkit.build.context import Context
    from buildkit.cli.publish_wheels import Outgoing
    from buildkit.index.publishing import Remote


@click.command(
    "publish",
    epilog=examples(
        "cudabuild publish diso --index https://wheels.example/pt2.13-cu130/simple/",
        "cudabuild publish dist/*.whl --index https://index.example/legacy/ --token-env INDEX_TOKEN",
        "cudabuild publish last --index http://127.0.0.1:8080/legacy/ --with-verdict",
    ),
)
@click.argument("words", nargs=-1, required=True, type=PackageType(), metavar="WHEEL|ENTRY|RECIPE...")
@click.option(
    "--index", "url", required=True, metavar="URL", help="Its address for uploads, or of a simple index here."
)
@click.option("--check-url", metavar="URL", help="Simple index that says what is there already (not needed for ours).")
@token_option
@user_option
@click.option(
    "--with-verdict", is_flag=True, help="Send the stored proof along (scope verify; `cudabuild serve` only)."
)
@click.option("--allow-non-redistributable", is_flag=True, help="Send what a licence does not let everybody have, too.")
@json_option
@verbose_option
def command(*, words: tuple[str, ...], url: str, **options: Any) -> int:
    """Check wheels, then upload them: files, entries of the store, or all releases of a recipe here.

    Nothing is sent of a wheel that is not what it says. One that is there already with the same bytes is no failure.
    """
    asked = Asked.read({})
    remote = remote_index(url, options["token_env"], options["username"], asked.environ)
    remote = replace(remote, check_url=_bare(options["check_url"] or ""))
    results: list[dict[str, Any]] = []
    errors: list[CudabuildError] = []
    with (
        reporter_for(verbose=options["verbose"]) as reporter,
        tempfile.TemporaryDirectory(prefix="cudabuild-publish-") as folder,
    ):
        from buildkit.cli.publish_wheels import every

        context = make_context(asked, reporter)
        warn_of_plain_http(remote, reporter)
        for wheel in every(words, context, Path(folder)):
            error = _published(wheel, remote, context, options)
            result: dict[str, Any] = {"filename": wheel.path.name, "sha256": wheel.sha256}
            results.append({**result, "error": error_object(error)} if error else result)
            errors += [error] if error else []
    _tell(results, errors, remote, as_json=options["as_json"])
    return errors[0].exit_code if errors else 0


def _bare(url: str) -> str:
    if redact(url) != url:
        raise UsageError("--check-url takes no credentials: they would be on a command line", hint="use a netrc file")
    return url


def _published(wheel: Outgoing, remote: Remote, context: Context, options: dict[str, Any]) -> CudabuildError | None:
    from buildkit.build.installer import find_uv
    from buildkit.cli.publish_wheels import check_outgoing
    from buildkit.index.publishing import attach_verdict, publish

    try:
        context.reporter.phase("check", wheel.path.name)
        check_outgoing(wheel, remote, context, any_licence=options["allow_non_redistributable"])
        context.reporter.phase("publish", f"{wheel.path.name} to {remote.upload_url}")
        publish(wheel.path, remote, uv=find_uv(), environ=context.environ, cache=context.places.uv_cache)
        if options["with_verdict"] and wheel.verdict:
            attach_verdict(remote, wheel.sha256, _verdict_text(wheel.verdict))
    except CudabuildError as error:
        return error
    return None


def _verdict_text(verdict: dict[str, object]) -> bytes:
    import json

    return json.dumps(verdict).encode()


def _tell(results: list[dict[str, Any]], errors: list[CudabuildError], remote: Remote, *, as_json: bool) -> None:
    if as_json:
        print_json({"schema": SCHEMA, "index": redact(remote.url), "results": results})
        return
    for result in results:
        if "error" not in result:
            say(f"{result['filename']} is on {remote.base}")
    for error in errors:
        print_failure(error, as_json=False)
