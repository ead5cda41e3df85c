"""``cudabuild --server URL build``: submitted, followed live, proven there, the wheel fetched."""

from __future__ import annotations

import secrets
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildkit.cli.client_http import API, Server, cause_of_object
from buildkit.cli.client_request import quoted_server, request_for, settings_of, wheels_folder
from buildkit.cli.client_show import RemoteReporter, Shown
from buildkit.cli.client_stream import Following, follow
from buildkit.cli.client_wheel import fetch_wheel
from buildkit.cli.output import SCHEMA, error_object, print_failure, print_json, say
from buildkit.cli.results import tell_object
from buildkit.errors import CudabuildError, Interrupted, NoSuchBuild, Terminated
from buildkit.input_errors import ServerUnreachable

if TYPE_CHECKING:
    from buildkit.cli.client import Asked

ENDED = frozenset({"succeeded", "failed", "cancelled"})


def build_all(asked: Asked) -> int:
    """Submit one package after the other and follow each; the first failure's exit code counts."""
    options = asked.options
    if options["plan_only"]:
        from buildkit.cli.client_plan import show_plans

        return show_plans(asked)
    if options["install_too"]:
        from buildkit.cli.client_install import install_all

        return install_all(asked)
    if options["detach"]:
        return _detached(asked)
    values = []
    with RemoteReporter(verbose=options["verbose"]) as reporter:
        for package in options["packages"]:
            values.append(build_one(package, asked, reporter))
            if values[-1].get("error", {}).get("exit_code") in {130, 143}:
                break
    return print_values(values, as_json=options["as_json"])


def build_one(package: str, asked: Asked, reporter: RemoteReporter, *, torch: str | None = None) -> dict[str, Any]:
    """The object of one build; its wheel is here. Causes are in it, never raised."""
    started = time.monotonic()
    known: dict[str, Any] = {"build": None, "recipe": package, "device": asked.options.get("device", "cuda")}
    try:
        settings = settings_of(asked)
        answer = submit(asked.server, request_for(package, asked, settings, torch=torch))
        known |= {"build": answer["id"], "recipe": answer["recipe"]}
        shown = Shown(reporter, quoted_server(asked.server.url))
        answer = follow(asked.server, answer["id"], Following(shown.status, shown.log, shown.restart))
        value = object_of(asked.server, answer)
        if value["wheel"] is not None:
            folder = asked.options["out"] or wheels_folder(settings, asked.environ, str(value["key"] or ""))
            path = fetch_wheel(asked.server, value["wheel"], Path(folder), reporter)
            value["wheel"] = {**{name: value["wheel"][name] for name in ("filename", "sha256", "size")}}
            value["wheel"]["path"] = str(path)
            value["install"] = shlex.join(["pip", "install", str(path)])
    except (CudabuildError, KeyboardInterrupt) as error:
        value = _failed(known, _cause(error, known, asked.server), asked.server)
    value["seconds"] = round(time.monotonic() - started, 3)
    return value


def submit(server: Server, body: dict[str, Any]) -> dict[str, Any]:
    """Ask for a build; the same one however often the connection breaks meanwhile."""
    answer = server.post(f"{API}/builds", body, idempotency=secrets.token_hex(16))
    return {**answer, "id": str(answer.get("id")), "recipe": str(answer.get("recipe") or body["recipe"])}


def object_of(server: Server, answer: dict[str, Any]) -> dict[str, Any]:
    """The object of ``cudabuild build --json``, with ``server`` beside it; ``build`` is the server's id of it."""
    own = _own_object(server, answer)
    wheel = answer.get("wheel")
    value = {
        "schema": SCHEMA,
        "recipe": answer.get("recipe"),
        "device": answer.get("device"),
        "version": answer.get("version"),
        "key": answer.get("key"),
        "cache": answer.get("cache") or "miss",
        "plan": None,
        "verdict": None,
        "guard": None,
        "install": None,
        "notes": [],
        **own,
        "build": answer["id"],
        "wheel": dict(wheel) if isinstance(wheel, dict) else None,
        "seconds": answer.get("seconds") or 0.0,
        "server": server_object(server, answer),
    }
    value.pop("error", None)
    if answer.get("status") != "succeeded":
        value["error"] = error_object(_cause_of_build(server, answer, own.get("error")))
    return value


def server_object(server: Server, answer: dict[str, Any]) -> dict[str, Any]:
    """Who built it: the server, its id of the build, and the id on the machine that ran it."""
    return {"url": server.url, "id": answer.get("id"), "build": answer.get("build"), "worker": answer.get("worker")}


def print_values(values: list[dict[str, Any]], *, as_json: bool, installed: bool = False) -> int:
    """Print as the local command does; returns the exit code of the first failure, or 0."""
    if as_json:
        print_json(values[0] if len(values) == 1 else {"schema": SCHEMA, "results": values})
    for value in values if not as_json else ():
        _tell(value)
    for value in values if not as_json and not installed else ():
        if "error" not in value:
            say(f"install it: {value['install']}")
    return next((int(value["error"]["exit_code"]) for value in values if "error" in value), 0)


def _tell(value: dict[str, Any]) -> None:
    if "error" not in value:
        tell_object(value)
        return
    for note in value["notes"]:
        say(f"note: {note}")
    say(f"{value['recipe']}: failed after {value['seconds']:.1f} s")
    print_failure(cause_of_object(value["error"], value["server"]["url"]), as_json=False)


def _own_object(server: Server, answer: dict[str, Any]) -> dict[str, Any]:
    """What the builder itself printed; of a server that does not tell that, what its parts say."""
    try:
        return server.get(f"{API}/builds/{answer['id']}/answer")
    except NoSuchBuild:
        pass
    found: dict[str, Any] = {}
    if verdict := _part(server, answer, "verdict"):
        found["verdict"] = verdict.get("verdict")
    if plan := _part(server, answer, "plan"):
        found["plan"] = plan.get("plan")
    return found


def _part(server: Server, answer: dict[str, Any], name: str) -> dict[str, Any] | None:
    """One part of what is known of a build; None where there is none, as after an early failure."""
    try:
        return server.get(f"{API}/builds/{answer['id']}/{name}")
    except ServerUnreachable:
        raise
    except CudabuildError:
        return None


def _cause_of_build(server: Server, answer: dict[str, Any], own: Any) -> CudabuildError:
    told = own if isinstance(own, dict) else answer.get("error")
    log = f"{server.url}{API}/builds/{answer['id']}/log"
    if not isinstance(told, dict):
        status = str(answer.get("status"))
        told = {"kind": "cancelled" if status == "cancelled" else "build-failed", "message": f"the build {status}"}
    return cause_of_object({**told, "log": log}, server.url)


def _cause(error: BaseException, known: dict[str, Any], server: Server) -> CudabuildError:
    """What ended the following; of Ctrl-C with what becomes of the build."""
    if isinstance(error, KeyboardInterrupt):
        error = Interrupted("interrupted (Ctrl-C)")
    if isinstance(error, (Interrupted, Terminated)) and known["build"]:
        own = quoted_server(server.url)
        error.message += f"; build {known['build']} goes on on {server.url}"
        error.hint = f"{own} log {known['build']} --follow, or {own} cancel {known['build']}"
    return error if isinstance(error, CudabuildError) else CudabuildError(str(error))


def _failed(known: dict[str, Any], error: CudabuildError, server: Server) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        **known,
        **dict.fromkeys(("version", "key")),
        "cache": "miss",
        **dict.fromkeys(("wheel", "plan", "verdict", "guard", "install")),
        "notes": [],
        "server": {"url": server.url, "id": known["build"], "build": None, "worker": None},
        "error": error_object(error),
    }


def _detached(asked: Asked) -> int:
    """Submit only; the objects say how to go on."""
    values = []
    settings, own = settings_of(asked), quoted_server(asked.server.url)
    for package in asked.options["packages"]:
        answer = submit(asked.server, request_for(package, asked, settings))
        place = f"{asked.server.url}{API}/builds/{answer['id']}"
        values.append({
            "schema": SCHEMA, "build": answer["id"], "recipe": answer["recipe"], "key": answer.get("key"),
            "status": answer.get("status"), "log": f"{place}/log", "answer": place,
            "server": server_object(asked.server, answer),
        })  # fmt: skip
        if not asked.options["as_json"]:
            say(f"build {answer['id']} is {answer.get('status')} on {asked.server.url}")
            say(f"follow it: {own} log {answer['id']} --follow")
            say(f"end it:    {own} cancel {answer['id']}")
    if asked.options["as_json"]:
        print_json(values[0] if len(values) == 1 else {"schema": SCHEMA, "results": values})
    return 0
