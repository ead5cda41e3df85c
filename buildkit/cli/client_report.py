"""``cudabuild --server URL report``: where a build's time and memory went, by its trace from the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildkit.cli.client_http import API, Server
from buildkit.cli.client_log import find_build
from buildkit.errors import CudabuildError, NoSuchBuild, UsageError

if TYPE_CHECKING:
    from buildkit.build.recorded import Recorded
    from buildkit.cli.client import Asked


def show_report(asked: Asked) -> int:
    """The same pages and objects as of a build here."""
    from buildkit.cli.report_command import present

    if asked.options.get("html_file"):
        raise UsageError("a server shows its builds as pages itself", hint=f"open {asked.server.url} in a browser")
    build = find_build(asked.server, asked.options["build"])
    return present(
        _recorded(asked.server, build), asked.options["trace_file"], asked.options["units"],
        as_json=asked.options["as_json"],
    )  # fmt: skip


def _recorded(server: Server, build: dict[str, object]) -> Recorded:
    from buildkit.build.recorded import Recorded
    from buildkit.guard.trace import read_trace

    data = _trace(server, str(build["id"]))
    trace = read_trace(data) if data is not None else None
    error = build.get("error")
    return Recorded(
        build=str(build["id"]),
        recipe=str(build["recipe"]),
        key=_text(build.get("key")),
        status=build["status"] if build["status"] != "queued" else "running",  # type: ignore[arg-type]
        started=str(build.get("started") or build["created"]),
        finished=_text(build.get("ended")),
        cause=_text(error.get("kind")) if isinstance(error, dict) else None,
        log=None,
        trace=trace,
        damaged=data is not None and trace is None,
    )


def _trace(server: Server, build: str) -> bytes | None:
    """The recorded trace as it lies there; None where there is none."""
    try:
        with server.open(f"{API}/builds/{build}/trace") as response:
            return response.read()
    except CudabuildError as error:
        if error.kind == NoSuchBuild.kind:
            return None
        raise


def _text(value: object) -> str | None:
    return str(value) if value else None
