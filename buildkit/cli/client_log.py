"""``cudabuild --server URL log`` and ``cancel``."""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING, Any

from buildkit.cli.client_build import ENDED
from buildkit.cli.client_http import API, Server
from buildkit.cli.client_stream import Following, follow
from buildkit.cli.console import printable
from buildkit.cli.output import SCHEMA, print_json, say
from buildkit.errors import Cancelled, CudabuildError, NoSuchBuild, UsageError

if TYPE_CHECKING:
    from buildkit.cli.client import Asked

_NAMES_A_BUILD = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
"""What the API takes as a build; all else would be another path, or a query."""


def find_build(server: Server, text: str) -> dict[str, Any]:
    """The newest build that is meant by an id, a recipe's name, or ``last``. Raises NoSuchBuild."""
    if not _NAMES_A_BUILD.fullmatch(text):
        raise NoSuchBuild(f"no build {text!r} is known to {server.url}", hint="name a build's id, a recipe, or `last`")
    if text != "last":
        try:
            return server.get(f"{API}/builds/{text}")
        except NoSuchBuild:
            pass
        except CudabuildError as error:
            if error.kind != NoSuchBuild.kind:
                raise
    named = {} if text == "last" else {"recipe": text}
    builds = server.get(f"{API}/builds", limit="1", **named).get("builds", [])
    if not builds:
        what = "no build" if text == "last" else f"no build {text}"
        raise NoSuchBuild(f"{what} is known to {server.url}", hint="name a build's id, a recipe, or `last`")
    found: dict[str, Any] = builds[0]
    return found


def show_log(asked: Asked) -> int:
    """The log as it is, or until the build has ended: then the exit code is the build's own."""
    if asked.options["path_only"]:
        raise UsageError("the log lies on the server", hint="leave --path out; into a file: ... log BUILD > FILE")
    build = find_build(asked.server, asked.options["build"])
    sink = Sink()
    if not asked.options["follow"]:
        with asked.server.open(f"{API}/builds/{build['id']}/log", {"Accept": "text/plain, */*"}) as response:
            for piece in response.iter_bytes():
                sink.take(piece)
        sink.end()
        return 0
    build = follow(asked.server, build["id"], Following(log=sink.take))
    sink.end()
    error = build.get("error") or {}
    cause = f" ({error.get('kind')})" if build["status"] == "failed" else ""
    say(f"build {build['id']} of {build['recipe']}: {build['status']}{cause}")
    return exit_code_of(build)


def exit_code_of(build: dict[str, Any]) -> int:
    """As the build ended."""
    code = (build.get("error") or {}).get("exit_code")
    codes = {"succeeded": 0, "cancelled": Cancelled.exit_code}
    return int(code) if isinstance(code, int) else codes.get(build["status"], CudabuildError.exit_code)


def cancel(asked: Asked) -> int:
    """End a build; returns when nothing of it is left."""
    started = time.monotonic()
    build = find_build(asked.server, asked.options["build"])
    build = asked.server.post(f"{API}/builds/{build['id']}/cancel")
    if build.get("status") not in ENDED:
        build = follow(asked.server, build["id"], Following())
    if asked.options["as_json"]:
        print_json({
            "schema": SCHEMA, "build": build["id"], "recipe": build["recipe"], "key": build.get("key"),
            "status": build["status"], "log": f"{asked.server.url}{API}/builds/{build['id']}/log",
            "seconds": round(time.monotonic() - started, 3), "server": {"url": asked.server.url},
        })  # fmt: skip
    elif build["status"] == "cancelled":
        say(f"build {build['id']} of {build['recipe']} was cancelled; nothing of it is left running")
    else:
        say(f"build {build['id']} of {build['recipe']} {build['status']} before it could be cancelled")
    return 0


class Sink:
    """Standard output: byte for byte into a file or pipe; on a terminal whole lines, control characters shown."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._rest = b""

    def take(self, data: bytes) -> None:
        """What has come."""
        if not self._terminal:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            sys.stdout.write(printable(line.decode("utf-8", "backslashreplace").rstrip("\r")) + "\n")
        sys.stdout.flush()

    def end(self) -> None:
        """A last line without its end."""
        if self._rest:
            self.take(b"\n")
