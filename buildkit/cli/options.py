"""Options that several commands share, and how they become a request."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from buildkit.cli.output import say
from buildkit.cli.settings import Settings, cache_folder, load_settings
from buildkit.errors import UsageError
from buildkit.plan.request import MOST_JOBS, Request, parse_torch
from buildkit.progress import Reporter, Silent
from buildkit.recipe.quantities import parse_duration, parse_size

if TYPE_CHECKING:
    from buildkit.build.context import Context
    from buildkit.build.second_level import SharedStores

Command = TypeVar("Command", bound=Callable[..., Any])


class SizeType(click.ParamType[int]):
    """``8GiB``, ``512M`` or a number of bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes."""
        try:
            return value if isinstance(value, int) else parse_size(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class DurationType(click.ParamType[float]):
    """``90s``, ``30m``, ``2h``; with ``never`` also 0."""

    name = "duration"

    def __init__(self, *, never: bool = False) -> None:
        self._never = never

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        try:
            return value if isinstance(value, float) else float(parse_duration(str(value), zero=self._never))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class TorchType(click.ParamType[str]):
    """``active``, ``2.13.0`` or ``2.13.0+cu130``."""

    name = "torch"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """A version with its three numbers."""
        try:
            return parse_torch(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class PackageType(click.ParamType[str]):
    """A recipe's name, a project's folder, or ``pypi:NAME``: it goes into records and JSON, so it is text."""

    name = "package"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As it was typed."""
        try:
            str(value).encode()
        except UnicodeEncodeError:
            shown = str(value).encode("utf-8", "backslashreplace").decode()
            self.fail(f"'{shown}' is not UTF-8: rename the folder, or link to it under another name", param, ctx)
        return str(value)


_PATH = click.Path(path_type=Path)

_PLAN_OPTIONS = (
    click.option(
        "--target", "targets", multiple=True, metavar="LIST", help="8.6, '8.9;12.0+PTX', rtx4090, native, all."
    ),
    click.option("--torch", type=TorchType(), metavar="active|VERSION[+cuXXX]", help="Which torch to build against."),
    click.option("--python", type=_PATH, metavar="PATH", help="Interpreter or environment to build for."),
    click.option("--cuda-home", type=_PATH, metavar="PATH", help="CUDA toolkit to compile with."),
    click.option("--memory", type=SizeType(), metavar="SIZE", help="At most this much memory, such as 8GiB."),
    click.option("--jobs", "-j", type=click.IntRange(1, MOST_JOBS), metavar="N",
                 help="At most this many compilers at a time."),
    click.option("--timeout", type=DurationType(), metavar="TIME", help="Hard limit for the build, such as 30m."),
    click.option("--stall-timeout", type=DurationType(never=True), metavar="TIME",
                 help="End an idle build (10m; 0: never)."),
    click.option("--device", type=click.Choice(["cuda", "cpu", "auto"]), default="cuda", show_default=True,
                 help="auto: CPU only where CUDA cannot be had, said loudly."),
    click.option("--require", type=click.Choice(["built", "audited", "imported", "executed"]),
                 help="Grade under which the command fails."),
    click.option("--source", metavar="PATH|URL@REV", help="Build this source with the recipe."),
    click.option("--refresh", is_flag=True, help="Build again, and resolve the build requirements again."),
    click.option("--no-resume", is_flag=True, help="Start anew, not with what an ended try has finished."),
    click.option("--offline", is_flag=True, help="Use only what is in the cache."),
    click.option("--find-links", multiple=True, metavar="DIR|URL", help="More places to find packages in."),
    click.option("--store", metavar="URL|PATH", help="Ask this store for wheels that are not here."),
    click.option("--no-canary", is_flag=True, help="Compile without building the small test kernel first."),
    click.option("--no-defer", is_flag=True, help="Compile one file after the other where the package does so."),
    click.option("--recipes", "recipes_folder", type=_PATH, metavar="DIR", help="Look for recipes here first."),
    click.option("--pass-env", multiple=True, metavar="NAME[=VALUE]",
                 help="Let the backend see this variable; it becomes part of the key."),
)  # fmt: skip


packages_argument = click.argument(
    "packages", nargs=-1, required=True, type=PackageType(), metavar="RECIPE|PATH|pypi:NAME..."
)


def plan_options(command: Command) -> Command:
    """Everything that determines a build."""
    for option in reversed(_PLAN_OPTIONS):
        command = option(command)
    return command


def examples(*commands: str) -> str:
    """The end of a command's help, where its lines stay as they are."""
    return "\n".join(["\b", "Example:" if len(commands) == 1 else "Examples:", *(f"  {line}" for line in commands)])


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
verbose_option = click.option("--verbose", "-v", is_flag=True, help="Show the build's output as it comes.")


class Warnings(Silent):
    """Says only what a person should act on; for what is read before a command's reporter is there."""

    def warn(self, text: str) -> None:
        """One line on standard error."""
        say(f"warning: {text}")


@dataclass(frozen=True)
class Asked:
    """A command's options with the configuration behind them."""

    settings: Settings
    options: Mapping[str, Any]
    environ: Mapping[str, str]
    cwd: Path

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> Asked:
        """Read the configuration file and CUDABUILD_* variables. Raises ConfigError."""
        from buildkit.guard.containment import wanted_containment
        from buildkit.guard.switch import guard_wanted

        # Those that are no settings are looked at here, too, before anything is planned or fetched.
        guard_wanted(os.environ)
        wanted_containment(os.environ)
        return cls(load_settings(os.environ, reporter=Warnings()), options, dict(os.environ), Path.cwd())

    def request(self, package: str) -> Request:
        """Options over variables over the file over defaults."""
        from buildkit.build.environ import passed_variables

        options, settings = self.options, self.settings
        names = [*settings.pass_env, *options.get("pass_env", ())]
        stall = options.get("stall_timeout")
        return Request(
            package=package,
            targets=tuple(options.get("targets") or ()),
            torch=options.get("torch") or settings.torch,
            python=options.get("python"),
            cuda_home=_existing(options.get("cuda_home"), "--cuda-home"),
            memory=options.get("memory") or settings.memory,
            jobs=options.get("jobs") or settings.jobs,
            timeout=options.get("timeout") or settings.timeout,
            stall_timeout=600.0 if stall is None else stall,
            device=options.get("device", "cuda"),
            require=options.get("require"),
            source=options.get("source"),
            refresh=bool(options.get("refresh")),
            resume=not options.get("no_resume"),
            offline=bool(options.get("offline")),
            find_links=tuple(options.get("find_links", ())),
            recipes=_existing(options.get("recipes_folder"), "--recipes") or settings.recipes,
            canary=not options.get("no_canary"),
            defer=settings.defer is not False and not options.get("no_defer"),
            passed_environment=passed_variables(names, self.environ),
        )


def _existing(path: Path | None, option: str) -> Path | None:
    if path is not None and not path.is_dir():
        raise UsageError(f"{option} {path} is not a folder", hint="check the path")
    return path


def make_context(asked: Asked, reporter: Reporter, *, may_install: bool = True) -> Context:
    """Folders, memory, store and index settings for a command."""
    from buildkit.build.context import Context
    from buildkit.build.places import Places
    from buildkit.machine.identity import Memo
    from buildkit.source.index_settings import read_index_settings
    from buildkit.store.store import Store

    places = Places(cache_folder(asked.settings, asked.environ))
    return Context(
        places=places,
        memo=Memo(places.memo),
        store=Store(places.store),
        index=read_index_settings(asked.environ, extra_find_links=asked.options.get("find_links", ())),
        reporter=reporter,
        environ=asked.environ,
        cwd=asked.cwd,
        offline=bool(asked.options.get("offline")),
        may_install=may_install,
        shared=_shared(asked, may_install=may_install),
        archives=asked.settings.toolkit_archives,
    )


def _shared(asked: Asked, *, may_install: bool) -> SharedStores | None:
    place = asked.options.get("store") or asked.settings.store
    if not place or not may_install:
        return None
    from buildkit.build.second_level import SharedStores

    return SharedStores(str(place), asked.settings.trusted_keys, asked.cwd)
