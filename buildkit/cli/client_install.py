"""``cudabuild --server URL install``: built and proven there for the torch here, installed and imported here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildkit.cli.client_build import build_one, print_values
from buildkit.cli.client_http import cause_of_object
from buildkit.cli.client_request import active_torch, settings_of
from buildkit.cli.client_show import RemoteReporter
from buildkit.cli.output import error_object, say
from buildkit.errors import CudabuildError, NoTorch, TorchMismatch

if TYPE_CHECKING:
    from buildkit.build.context import Context
    from buildkit.cli.client import Asked
    from buildkit.machine.interpreter import Interpreter


def install_all(asked: Asked) -> int:
    """One package after the other, up to the first that fails."""
    from buildkit.build.installation import destination
    from buildkit.cli import options as local

    torch, _ = active_torch(asked.options["python"], asked.environ, settings_of(asked))
    if torch is None and asked.options["device"] != "cpu":
        raise NoTorch("there is no torch in the active environment to build for", hint="pip install torch")
    values: list[dict[str, Any]] = []
    lines: list[str] = []
    with RemoteReporter(verbose=asked.options["verbose"]) as reporter:
        context = local.make_context(local.Asked.read(asked.options), reporter)
        python = destination(asked.options["python"], context)
        for package in asked.options["packages"]:
            value = build_one(package, asked, reporter, torch=torch)
            values.append(value)
            if "error" not in value:
                lines += _install(value, python, torch, context)
            if "error" in value:
                break
    code = print_values(values, as_json=asked.options["as_json"], installed=True)
    for line in lines if not asked.options["as_json"] else ():
        say(line)
    return code


def _install(value: dict[str, Any], python: Interpreter, torch: str | None, context: Context) -> list[str]:
    try:
        return [_installed(value, python, torch, context)]
    except CudabuildError as error:
        value["error"] = error_object(cause_of_object(error_object(error), value["server"]["url"]))
        return []


def _installed(value: dict[str, Any], python: Interpreter, torch: str | None, context: Context) -> str:
    """Install the wheel and import it there. Raises what a local installation raises."""
    from buildkit.build.installation import install_foreign

    wheel, verdict = Path(value["wheel"]["path"]), value.get("verdict") or {}
    if verdict.get("torch") and verdict["torch"] != torch:
        raise TorchMismatch(
            f"the wheel is for torch {verdict['torch']}, and {python.prefix} holds {torch or 'none'}",
            hint=f"use an environment with that torch, or ask for this one: --torch {torch}",
        )
    done = install_foreign(wheel, python, context, device=str(value["device"]), torch=bool(verdict.get("torch")))
    what = f"replaced {done.replaced}" if done.replaced else "newly installed"
    return f"installed into {done.prefix} ({what}{', with ' + ', '.join(done.added) if done.added else ''})"
