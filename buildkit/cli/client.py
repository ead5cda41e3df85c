"""``cudabuild --server URL ...``: the same commands, done by a server, on machines that build nothing themselves.

Words, options, output and exit codes are those of the commands here; what a command does is replaced. Neither torch
nor the guard is imported, nor anything else that only a builder has.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from types import FrameType
from typing import Any

import click
from click.core import ParameterSource

from buildkit.cli.client_http import Server, not_ours
from buildkit.cli.client_words import can_be_remote
from buildkit.cli.credentials import access_to
from buildkit.cli.main import CommandGroup, cli, fail
from buildkit.cli.streams import READER_GONE, ReaderGone, flush_output, give_up_output
from buildkit.errors import CudabuildError, Terminated, UsageError

_ODD = (LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""What comes of reading an answer that is of the right format by its number alone."""
_HANDLERS = {
    "build": "client_build:build_all",
    "install": "client_install:install_all",
    "plan": "client_plan:show_plans",
    "log": "client_log:show_log",
    "cancel": "client_log:cancel",
    "report": "client_report:show_report",
    "recipes list": "client_plan:list_recipes",
    "recipes show": "client_plan:show_recipe",
}


@dataclass(frozen=True)
class Asked:
    """A command for a server: what was typed, under the names of the local command's parameters."""

    server: Server
    options: Mapping[str, Any]
    typed: frozenset[str]
    environ: Mapping[str, str]


class ClientGroup(CommandGroup):
    """The commands that a server can do, with what they do replaced."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The local command's own words."""
        command = super().get_command(ctx, cmd_name)
        return _for_server(command, cmd_name) if command is not None else None


def main(words: Sequence[str], url: str) -> int:
    """Run one command on a server; returns the exit code."""
    try:
        with _ending_signals():
            if words and not can_be_remote(words) and words[0] not in {"-h", "--help", "--version"}:
                name = " ".join(words[: 1 + (words[0] == "recipes")])
                hint = "leave --server out; `cudabuild --help` says what a server can do"
                raise UsageError(f"`cudabuild {name}` is about this machine: no server can do it", hint=hint)
            group = ClientGroup(
                cli.name, params=cli.params, help=cli.help, epilog=cli.epilog, no_args_is_help=True,
                context_settings=cli.context_settings,
            )  # fmt: skip
            result = group.main(args=list(words), prog_name="cudabuild", standalone_mode=False, obj=url)
        flush_output()
    except (ReaderGone, BrokenPipeError):
        give_up_output()
        return READER_GONE
    except (click.ClickException, click.exceptions.Abort, KeyboardInterrupt, CudabuildError, OSError) as error:
        return fail(error, words)
    return result if isinstance(result, int) else 0


def _for_server(command: click.Command, path: str) -> click.Command:
    changed = copy(command)
    if isinstance(command, click.Group) and isinstance(changed, click.Group):
        inner = {name: _for_server(each, f"{path} {name}") for name, each in command.commands.items()}
        changed.commands = {name: each for name, each in inner.items() if f"{path} {name}" in _HANDLERS}
    elif path in _HANDLERS:
        changed.callback = _callback(_HANDLERS[path])
    return changed


def _callback(handler: str) -> Callable[..., int]:
    module, _, name = handler.partition(":")

    def run(**options: Any) -> int:
        context = click.get_current_context()
        typed = frozenset(name for name in options if context.get_parameter_source(name) is ParameterSource.COMMANDLINE)
        with Server(access_to(str(context.obj), os.environ)) as server:
            function = getattr(importlib.import_module(f"buildkit.cli.{module}"), name)
            try:
                code: int = function(Asked(server, options, typed, dict(os.environ)))
            except _ODD as error:  # a key that is missing, a list where a number is to be
                raise not_ours(server.url, f"{type(error).__name__}: {error}") from error
        return code

    return run


@contextlib.contextmanager
def _ending_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the command as they end a local one; Ctrl-C is Python's own."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise Terminated(f"terminated by {signal.Signals(number).name}")

    numbers = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            if before[number] is not signal.SIG_IGN:
                signal.signal(number, end)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
