"""``verify NAME|WHEEL --publish INDEX``: the wheel from there, the verdict to there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildkit.cli.index_options import warn_of_plain_http
from buildkit.errors import CudabuildError, UsageError

if TYPE_CHECKING:
    from buildkit.build.context import Context
    from buildkit.index.publishing import Remote
    from buildkit.plan.request import Request
    from buildkit.verify.verdict import Verdict


Sent = dict[str, Any] | CudabuildError | None
"""What came of sending a verdict; None where none was sent."""


def wheel_of(word: str, remote: Remote, request: Request, context: Context, folder: Path) -> Path:
    """The wheel file of that name here, else the newest of that project on the index.

    Raises UsageError, NotOnIndex, IndexUnreachable.
    """
    warn_of_plain_http(remote, context.reporter)
    path = context.cwd / word
    if path.is_file():
        return path
    if word.endswith(".whl") or "/" in word:
        raise UsageError(
            f"there is no file {word}", hint="give a wheel's path, or a package's name and --publish INDEX"
        )
    if not remote.url.rstrip("/").endswith("/simple"):
        hint = "--publish http://HOST/pt2.13-cu130/simple/"
        raise UsageError(f"to find {word} there, the address of a variant's simple index is needed", hint=hint)
    from buildkit.build.remote_wheel import fetch_wheel
    from buildkit.machine.interpreter import active_interpreter

    interpreter = active_interpreter(request.python, context.environ, context.cwd, context.memo)
    python = ".".join(interpreter.version.split(".")[:2])
    return fetch_wheel(word, remote.url, context, folder, python=python, user=remote.user, secret=remote.secret)


def send_verdict(verdict: Verdict, remote: Remote) -> Sent:
    """Attach a verdict to its wheel on the index; what the index says of the wheel now, or why it was not taken."""
    from buildkit.index.publishing import attach_verdict

    try:
        answer = attach_verdict(remote, verdict.wheel_sha256, verdict.model_dump_json(by_alias=True).encode())
        return answer.model_dump(mode="json")
    except CudabuildError as error:
        return error  # the proof itself is still worth showing
