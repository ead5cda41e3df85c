"""``cudabuild doctor``: what is here, whether a package can be built here, what to type."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from buildkit.cli.options import Asked, PackageType, SizeType, examples, json_option, make_context
from buildkit.cli.output import answer, print_json, say
from buildkit.errors import MachineError, UsageError
from buildkit.progress import Silent

if TYPE_CHECKING:
    from buildkit.build.context import Context
    from buildkit.build.doctor.look import Outside
    from buildkit.build.doctor.subject import Subject
    from buildkit.cli.doctor_schema import DoctorObject

_PATH = click.Path(path_type=Path)


@click.command(
    "doctor",
    epilog=examples("cudabuild doctor", "cudabuild doctor diso --target rtx4090", "cudabuild doctor --bundle bug.zip"),
)
@click.argument("package", required=False, type=PackageType(), metavar="[RECIPE|PATH|pypi:NAME]")
@click.option("--target", "targets", multiple=True, metavar="LIST", help="Judge for these targets.")
@click.option("--python", type=_PATH, metavar="PATH", help="Interpreter or environment to look at.")
@click.option(
    "--windows-memory", type=SizeType(), metavar="SIZE", help="What Windows has, under WSL2, where it does not say."
)
@click.option(
    "--bundle",
    type=_PATH,
    metavar="FILE.zip",
    help="Write all this, without names, hosts and tokens, for a bug report.",
)
@json_option
def command(
    package: str | None,
    targets: tuple[str, ...],
    python: Path | None,
    windows_memory: int | None,
    bundle: Path | None,
    as_json: bool,
) -> int:
    """Say what this machine is, whether CUDA extensions can be built here and run, and what to type.

    The verdict is `works`, `works with a warning` or `cannot`, with the smallest change that makes it work. With a
    package it is about that one, and the exit code is 5 where it cannot be built; otherwise it is 0. Nothing is
    fetched, built or installed.
    """
    if bundle is not None:
        _check_bundle(bundle)
    context = make_context(Asked.read({}), Silent(), may_install=False)
    found = examined(context, package, targets=targets, python=python, windows_memory=windows_memory)
    if as_json:
        print_json(found.model_dump(mode="json", by_alias=True))
    else:
        show(found)
    if bundle is not None:
        from buildkit.cli.doctor_bundle import write_bundle

        write_bundle(bundle, found, context)
        say(f"written: {bundle} (look through it before you pass it on)")
    return exit_code(found)


def _check_bundle(file: Path) -> None:
    """Before anything is looked at."""
    if file.suffix != ".zip":
        raise UsageError(f"--bundle {file}: the archive is a zip file", hint=f"--bundle {file.stem or 'doctor'}.zip")
    if file.exists():
        raise UsageError(f"--bundle {file}: there is such a file already", hint="choose another name")


def examined(
    context: Context,
    package: str | None = None,
    *,
    targets: Sequence[str] = (),
    python: Path | None = None,
    windows_memory: int | None = None,
    root: Path = Path("/"),
    outside: Outside | None = None,
) -> DoctorObject:
    """The answer. ``root`` is ``/``, or a machine that a test made; ``outside`` is what no root holds."""
    from buildkit.build.doctor.look import Looking

    looking = Looking(context, python, root=root, outside=outside)
    # What follows is imported, and the package looked at, while the machine is being asked.
    from buildkit.build.doctor.hosts import Asked as AskedFor
    from buildkit.build.doctor.judge import judge
    from buildkit.build.doctor.notes import notes_of
    from buildkit.cli.doctor_object import doctor_object
    from buildkit.cli.settings import load_settings

    settings = load_settings(context.environ, cwd=context.cwd)
    subject = _subject(package, settings.recipes, context)
    seen = looking.seen()
    if seen.windows is not None and windows_memory is not None:
        seen = replace(seen, windows=replace(seen.windows, memory=windows_memory))
    asked = AskedFor(tuple(targets), settings.targets, settings.torch, settings.memory, settings.jobs)
    judgement = judge(seen, subject, asked)
    return doctor_object(seen, subject, judgement, notes_of(seen, subject, judgement))


def _subject(package: str | None, recipes: Path | None, context: Context) -> Subject:
    if package is None:
        from buildkit.build.doctor.subject import Subject

        return Subject()
    from buildkit.build.doctor.package import subject_of

    return subject_of(package, recipes, context)


def exit_code(found: DoctorObject) -> int:
    """5 where the package that was named cannot be built here."""
    return MachineError.exit_code if found.recipe is not None and not found.ok else 0


def show(found: DoctorObject) -> None:
    """The screen, on standard output."""
    from buildkit.cli.doctor_page import WIDTH, doctor_lines
    from buildkit.cli.report_command import print_lines, terminal_width

    lines = doctor_lines(found, width=min(WIDTH, terminal_width()))
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") in {"dumb", "unknown"}:
        print_lines(lines)
        return
    encoding = sys.stdout.encoding or "ascii"
    for line in lines:  # by click, which is loaded: rich takes a tenth of a second to import
        text = "".join(_styled(piece, style) for piece, style in line)
        answer(text.encode(encoding, "backslashreplace").decode(encoding))


def _styled(text: str, style: str) -> str:
    words = style.split()
    colour = next((word for word in words if word not in {"bold", "dim"}), None)
    # False would take the other one back.
    return click.style(text, fg=colour, bold="bold" in words or None, dim="dim" in words or None) if words else text
