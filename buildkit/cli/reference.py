"""The reference pages' tables, made from what they describe: commands, causes, settings. Pure, but for writing.

Each page is written by hand around one generated part, which stands between two markers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from pydantic import BaseModel

from buildkit.cli.cache_schema import (
    ExportObject,
    GcObject,
    ImportedObject,
    ImportObject,
    KeptObject,
    KeyObject,
    KindObject,
    RemovedObject,
)
from buildkit.cli.commands import COMMANDS
from buildkit.cli.docker_schema import DockerObject, FileObject, ImageWheelObject
from buildkit.cli.doctor_schema import SECTIONS, doctor_schema_text
from buildkit.cli.explain_schema import CauseObject, ExplainObject, LineObject, explain_schema_text
from buildkit.cli.json_model import ErrorObject
from buildkit.cli.main import cli
from buildkit.cli.matrix_audit_schema import audit_schema_text
from buildkit.cli.matrix_schema import run_matrix_schema_text, show_matrix_schema_text
from buildkit.cli.monitor_schema import GpuObject, MonitorObject, RunningObject, UnitObject, monitor_schema_text
from buildkit.cli.reference_matrix import matrix_text
from buildkit.cli.reference_tables import cell, tables
from buildkit.cli.report_schema import (
    LinkObject,
    LongestObject,
    PathObject,
    ReportObject,
    SummaryObject,
    report_schema_text,
)
from buildkit.cli.schema import (
    BuildObject,
    CancelObject,
    DetachedObject,
    GuardObject,
    ServerObject,
    WheelObject,
    causes,
    schema_text,
)
from buildkit.cli.service_reference import write_service_reference
from buildkit.cli.settings import CONFIG_VARIABLE, PREFIX, Settings
from buildkit.cli.show_schema import EntryObject, show_schema_text
from buildkit.cli.toolkit_schema import (
    InstallableObject,
    InstalledToolkitObject,
    RemovedToolkitObject,
    ToolkitObject,
    ToolkitsObject,
)
from buildkit.cli.verify_schema import (
    CodeObject,
    DeviceObject,
    EnvironmentObject,
    FindingObject,
    InstalledObject,
    installed_schema_text,
)
from buildkit.diagnose.rule import rules
from buildkit.errors import CudabuildError
from buildkit.guard.trace import MemoryPoint, Run, Trace, TreePoint, UnitTrace
from buildkit.verify.coverage import Ran, TargetRow
from buildkit.verify.verdict import Stage, Verdict

BEGIN = "<!-- generated: begin (python -m buildkit.cli.reference) -->"
END = "<!-- generated: end -->"

PLANNING = ("build", "install", "plan", "fetch")
"""Commands that take the options that determine a build."""


def with_generated(page: str, text: str) -> str:
    """The page with what stands between its markers made anew; ValueError where a marker is missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs the two lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def commands_text() -> str:
    """A section a command: usage, what it does, its options, examples."""
    context = click.Context(cli, info_name="cudabuild")
    commands = {name: command for name in COMMANDS if (command := cli.get_command(context, name)) is not None}
    shared = _shared([commands[name] for name in PLANNING])
    parts = ["## Shared options", f"What {_listed(PLANNING)} take.", _options(shared)]
    names: set[str | None] = {option.name for option in shared}
    for name, command in commands.items():
        parts += _section(f"cudabuild {name}", command, "##", names)
    return "\n\n".join(parts)


def exit_codes_text() -> str:
    """One table: exit code, kind, meaning."""
    rows = ["| exit code | `kind` | meaning |", "|---|---|---|"]
    every: list[type[CudabuildError]] = [CudabuildError, *causes()]
    for cause in every:
        meaning = (cause.__doc__ or "").split("\n\n")[0] if cause is not CudabuildError else "None of those below."
        rows.append(f"| {cause.exit_code} | `{cause.kind}` | {cell(meaning)} |")
    return "\n".join(rows)


def settings_text() -> str:
    """One table: key of the file, variable, meaning."""
    rows = ["| in the file | variable | meaning |", "|---|---|---|", f"| | `{CONFIG_VARIABLE}` | The file itself. |"]
    for name, field in Settings.model_fields.items():
        rows.append(f"| `{field.alias or name}` | `{PREFIX}{name.upper()}` | {cell(field.description or '')} |")
    return "\n".join(rows)


def json_text() -> str:
    """A table for each object of the answer that has its descriptions in ``schema.py``."""
    sections: tuple[tuple[str, type[BaseModel]], ...] = (
        ("The object", BuildObject),
        ("`wheel`", WheelObject),
        ("`guard`", GuardObject),
        ("`error`", ErrorObject),
        ("`server`", ServerObject),
        ("The object of `build --detach`", DetachedObject),
        ("The object of `cancel`", CancelObject),
        ("`verdict`", Verdict),
        ("`verdict.stages`", Stage),
        ("`verdict.rows`", TargetRow),
        ("`verdict.rows.runs`", Ran),
        ("The object of `cache show`", EntryObject),
        ("A result of `verify --installed`", InstalledObject),
        ("`findings`", FindingObject),
        ("`code`", CodeObject),
        ("`environment`", EnvironmentObject),
        ("`environment.gpus`", DeviceObject),
        ("The object of `report`", ReportObject),
        ("`summary`", SummaryObject),
        ("`summary.longest`", LongestObject),
        ("`summary.critical_path`", PathObject),
        ("`summary.critical_path.links`", LinkObject),
        ("`trace`", Trace),
        ("`trace.units`", UnitTrace),
        ("`trace.units.runs`", Run),
        ("`trace.memory`", MemoryPoint),
        ("`trace.tree`", TreePoint),
        ("The object of `explain`", ExplainObject),
        ("`findings`", CauseObject),
        ("`findings.evidence`, `first_error`", LineObject),
        ("The object of `monitor`", MonitorObject),
        ("`builds`", RunningObject),
        ("`builds.units`", UnitObject),
        ("`gpus`", GpuObject),
        ("The object of `cache gc`", GcObject),
        ("`kinds`", KindObject),
        ("`removed`", RemovedObject),
        ("`kept`", KeptObject),
        ("The object of `cache export`", ExportObject),
        ("The object of `cache import`", ImportObject),
        ("`wheels` of `cache import`", ImportedObject),
        ("The object of `cache key`", KeyObject),
        ("The object of `toolkit list`", ToolkitsObject),
        ("`toolkits`", ToolkitObject),
        ("`installable`", InstallableObject),
        ("The object of `toolkit install`", InstalledToolkitObject),
        ("The object of `toolkit uninstall`", RemovedToolkitObject),
        ("The object of `docker`", DockerObject),
        ("`files`", FileObject),
        ("`wheels`", ImageWheelObject),
    )
    return tables(sections)


def doctor_text() -> str:
    """The same for the object of ``doctor``."""
    return tables(SECTIONS)


def rules_text() -> str:
    """One table: every rule of diagnosis, with what it says and the kind of error it makes of a failed build."""
    rows = ["| rule | cause | next | `kind` | log |", "|---|---|---|---|---|"]
    for rule in sorted(rules(), key=lambda rule: rule.id):
        cause, hint = (cell(re.sub(r"(\{\w+\})+", "…", text)) for text in (rule.cause, rule.hint))
        log = "provoked" if rule.provoked else f"[public]({rule.source})"
        rows.append(f"| `{rule.id}` | {cause} | {hint} | `{rule.kind}` | {log} |")
    return "\n".join(rows)


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands_text,
    "exit-codes.md": exit_codes_text,
    "configuration.md": settings_text,
    "json.md": json_text,
    "explain.md": rules_text,
    "doctor.md": doctor_text,
    "matrix.md": matrix_text,
}

SCHEMAS: dict[str, Callable[[], str]] = {
    "build": schema_text,
    "show": show_schema_text,
    "verify": installed_schema_text,
    "report": report_schema_text,
    "doctor": doctor_schema_text,
    "explain": explain_schema_text,
    "monitor": monitor_schema_text,
    "matrix-show": show_matrix_schema_text,
    "matrix-run": run_matrix_schema_text,
    "matrix-audit": audit_schema_text,
}


def write_reference(folder: Path) -> None:
    """Make the generated parts of ``docs/reference`` anew."""
    for name, text in PAGES.items():
        page = folder / name
        page.write_text(with_generated(page.read_text("utf-8"), text()), "utf-8")
    for name, text in SCHEMAS.items():
        (folder / f"{name}.schema.json").write_text(text(), "utf-8")
    write_service_reference(folder)


def _section(title: str, command: click.Command, level: str, shared: set[str | None]) -> list[str]:
    hidden = shared if shared <= {item.name for item in command.params} else set()
    arguments = " ".join(_argument(item) for item in command.params if isinstance(item, click.Argument))
    own = [item for item in command.params if isinstance(item, click.Option) and item.name not in hidden]
    parts = [f"{level} {title}"]
    if not isinstance(command, click.Group):
        usage = " ".join(part for part in (title, arguments, "[OPTIONS]" if command.params else "") if part)
        parts.append(f"```\n{usage}\n```")
    parts.append(" ".join((command.help or "").replace("\b", "").split("\n\n")[0].split()))
    parts += [" ".join(more.split()) for more in (command.help or "").split("\n\n")[1:]]
    if own:
        parts.append(_options(own))
    if hidden:
        parts.append("And the [shared options](#shared-options).")
    if command.epilog:
        parts.append(f"```\n{_examples(command.epilog)}\n```")
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            parts += _section(f"{title} {name}", inner, "###", shared)
    return parts


def _shared(commands: list[click.Command]) -> list[click.Option]:
    common = set.intersection(*({item.name for item in command.params} for command in commands))
    return [item for item in commands[0].params if isinstance(item, click.Option) and item.name in common]


def _argument(argument: click.Argument) -> str:
    # A metavar of our own says everything; without one, click's rules: brackets where it may be left out.
    if argument.metavar:
        return argument.metavar
    name = (argument.name or "").upper()
    return name if argument.required else f"[{name}]"


def _options(options: Iterable[click.Option]) -> str:
    rows = ["| option | meaning |", "|---|---|"]
    for option in options:
        value = _value(option)
        spelled = ", ".join(f"`{name}{f' {value}' if value else ''}`" for name in option.opts)
        default = f" Default: {option.default}." if option.show_default and option.default else ""
        rows.append(f"| {cell(spelled)} | {cell((option.help or '') + default)} |")
    return "\n".join(rows)


def _value(option: click.Option) -> str:
    if option.is_flag:
        return ""
    if isinstance(option.type, click.Choice):
        return "|".join(option.type.choices)
    return option.metavar or option.type.name.upper()


def _examples(epilog: str) -> str:
    lines = epilog.replace("\b", "").strip("\n").splitlines()[1:]
    return "\n".join(line.removeprefix("  ") for line in lines)


def _listed(names: Iterable[str]) -> str:
    *first, last = (f"`{name}`" for name in names)
    return f"{', '.join(first)} and {last}"


if __name__ == "__main__":
    write_reference(Path("docs/reference"))
