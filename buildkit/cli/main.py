"""The outermost shell: finds the command, turns causes into text (or JSON) and exit codes, and nothing else."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

# A plugin of somebody's pydantic has no business here, and looking for one takes 40 ms of every command.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

import click

from buildkit import __version__
from buildkit.cli.commands import COMMANDS, hint_when_ended
from buildkit.cli.streams import READER_GONE, ReaderGone, flush_output, give_up_output, open_missing_streams
from buildkit.errors import CudabuildError, Interrupted, Terminated, UsageError

EPILOG = """\b
Examples:
  cudabuild diso --target 12.0                  one wheel, for RTX 50
  cudabuild diso --target '8.6;12.0+PTX'        for RTX 30, RTX 50 and later
  cudabuild build ./my-extension --json         a folder, the answer as JSON
  cudabuild install diso                        into the active environment
  cudabuild plan diso --target 12.0             what would be done, and why
  cudabuild doctor                              what is here, what is missing
  cudabuild toolkit install 12.8                a CUDA toolkit, without root
  cudabuild explain build.log                   why a build failed, pip's and Docker's too
"""


class CommandGroup(click.Group):
    """Loads a command's module when it is used; anything that is no command is a package to build."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The commands in the order in which people need them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import ``buildkit.cli.NAME_command`` and give its ``command``."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"buildkit.cli.{cmd_name}_command")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """One line a command, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Where the reader has gone, click itself would end the process with 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderGone from error

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """``cudabuild NAME ...`` means ``cudabuild build NAME ...``."""
        own = {"--help", "-h", "--version"}
        if args and args[0] not in COMMANDS and args[0] not in own:
            args = ["build", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=CommandGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)
@click.version_option(__version__, prog_name="cudabuild")
@click.option(
    "--server",
    metavar="URL",
    expose_value=False,
    help="Let this server build, show or cancel (CUDABUILD_SERVER; 'none': this machine).",
)
def cli() -> None:
    """Build CUDA/PyTorch extensions under a guard, and get a wheel with proof.

    `cudabuild RECIPE ...` is the same as `cudabuild build RECIPE ...`.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    from buildkit.guard.signals import ending_signals

    words = list(sys.argv[1:] if arguments is None else arguments)
    open_missing_streams()
    try:
        with ending_signals():
            result = cli.main(args=words, prog_name="cudabuild", standalone_mode=False)
        flush_output()
    except (ReaderGone, BrokenPipeError):
        give_up_output()
        return READER_GONE
    except click.exceptions.NoArgsIsHelpError as error:
        return _failed(_no_words(error), as_json=True) if _as_json(words) else _help(error)
    except (click.ClickException, click.exceptions.Abort, KeyboardInterrupt, CudabuildError, OSError) as error:
        return fail(error, words)
    return result if isinstance(result, int) else 0


def cause_of(error: BaseException) -> CudabuildError:
    """The cause behind whatever came up to the shell."""
    if isinstance(error, CudabuildError):
        return error
    if isinstance(error, click.ClickException):
        return _usage(error)
    if isinstance(error, OSError):
        from buildkit.store.disk import plain_cause

        return plain_cause(error)
    if isinstance(error, (click.exceptions.Abort, KeyboardInterrupt)):
        return Interrupted("interrupted")
    hint = "type it again; if that fails as well, report it with the command's whole output"
    return CudabuildError(f"cudabuild itself failed: {type(error).__name__}", evidence=str(error), hint=hint)


def _usage(error: click.ClickException) -> UsageError:
    context = getattr(error, "ctx", None)
    hint = f"see `{context.command_path} --help`" if context else "see `cudabuild --help`"
    return UsageError(error.format_message(), hint=hint)


def _no_words(error: click.exceptions.NoArgsIsHelpError) -> UsageError:
    path = error.ctx.command_path if error.ctx else "cudabuild"
    return UsageError(f"`{path}` alone does nothing", hint=f"see `{path} --help`")


def _help(error: click.exceptions.NoArgsIsHelpError) -> int:
    """Nothing was typed: the help, on standard error as all usage errors."""
    sys.stderr.write(error.format_message() + "\n")
    return UsageError.exit_code


def fail(error: BaseException, words: Sequence[str]) -> int:
    """Tell what came up to the shell when these words were typed, and return the exit code."""
    cause = cause_of(error)
    if isinstance(cause, (Interrupted, Terminated)):
        cause.hint = cause.hint or hint_when_ended(words)
    return _failed(cause, as_json=_as_json(words))


def _as_json(words: Sequence[str]) -> bool:
    own = words[: words.index("--")] if "--" in words else words  # what follows are another program's options
    return "--json" in own


def _failed(error: CudabuildError, *, as_json: bool) -> int:
    from buildkit.cli.output import print_failure

    try:
        print_failure(error, as_json=as_json)
        flush_output()
    except (OSError, ValueError):  # a full disk or a closed terminal takes no words: the exit code still tells
        give_up_output()
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
