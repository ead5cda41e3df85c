"""A person's own program as the stage ``app``: run in the environment, guarded to its end, its kernels recorded."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from buildkit.build.context import Context
from buildkit.errors import TimedOut, UsageError, VerificationFailed
from buildkit.guard.protocol import Outcome
from buildkit.guard.supervise import run_guarded
from buildkit.machine.gpus import Gpu
from buildkit.machine.interpreter import Interpreter
from buildkit.process import quoted
from buildkit.verify.app import read_program, recording_command
from buildkit.verify.stages import Running

APP_TIMEOUT = 3600.0
"""Seconds for the program, where no other limit is given."""
_TAIL = 20


@dataclass(frozen=True)
class App:
    """What to run: the words after ``--``, where its output goes, and its limit in seconds."""

    words: tuple[str, ...]
    output: BinaryIO
    timeout: float = APP_TIMEOUT


KernelFilter = Callable[[Mapping[str, int]], Mapping[str, int]]
"""Of recorded kernels (name to launches) those that are the package's own."""


def app_stage(
    app: App,
    python: Interpreter,
    gpus: Sequence[Gpu],
    own: KernelFilter,
    context: Context,
    scratch: Path,
    stage: Running,
) -> None:
    """Run it and fill in the stage. VerificationFailed for a status that is not 0, TimedOut past its limit.

    Ctrl-C and SIGTERM end it with all its children, and come up as Interrupted and Terminated.
    """
    environment = _environment(python, context)
    program = read_program(app.words, find_program(app, python, context), python.executable)
    answer = scratch / "app.json"
    recorded = program is not None and bool(gpus)
    command = recording_command(python.executable, program, answer) if program and recorded else list(app.words)
    context.reporter.phase("app", quoted(app.words))
    ended, lines = _run(command, app, environment, context)
    stage.evidence = {
        "command": quoted(app.words),
        "exit": ended.returncode,
        "seconds": round(ended.seconds, 3),
        "peak_memory": ended.peak_memory,
        **(_read(answer, own) if recorded else _not_recorded(gpus)),
    }
    stage.detail = _detail(stage.evidence)
    _judge(ended, app, lines)


def find_program(app: App, python: Interpreter, context: Context) -> Path:
    """The file that the first word means in the environment; UsageError where there is none."""
    found = shutil.which(app.words[0], path=_environment(python, context)["PATH"])
    if found is None:
        raise UsageError(
            f"there is no program {app.words[0]!r} to run",
            evidence=f"neither in {python.prefix / 'bin'} nor on PATH",
            hint="cudabuild verify --installed NAME -- COMMAND",
        )
    return context.cwd / found


def _environment(python: Interpreter, context: Context) -> dict[str, str]:
    """The person's own, with the environment's programs first."""
    path = f"{python.prefix / 'bin'}:{context.environ.get('PATH', '')}"
    return {**context.environ, "PATH": path, "VIRTUAL_ENV": str(python.prefix)}


def _run(
    command: Sequence[str], app: App, environment: Mapping[str, str], context: Context
) -> tuple[Outcome, list[str]]:
    lines: list[str] = []

    def keep(line: str) -> None:
        lines.append(line)
        del lines[:-_TAIL]

    ended = run_guarded(
        command,
        cwd=context.cwd,
        env=environment,
        log=app.output,
        deadline=time.monotonic() + app.timeout,
        stall=None,
        writable=None,
        protected=(),
        scratch=None,
        on_line=keep,
        on_sample=lambda _sample: None,
    )
    return ended, lines


def _judge(ended: Outcome, app: App, lines: Sequence[str]) -> None:
    if ended.reason == "timeout":
        raise TimedOut(
            f"{quoted(app.words)} did not end within {app.timeout:g} s, and was ended with all that it started",
            evidence="\n".join(lines),
            hint="give it more time: --timeout 4h",
        )
    if ended.returncode != 0:
        said = f"exit status {ended.returncode}" if ended.returncode > 0 else f"signal {-ended.returncode}"
        raise VerificationFailed(
            f"{quoted(app.words)} ended with {said}",
            evidence="\n".join(lines),
            hint="its own output above says why; the findings of the package say what may be behind it",
        )


def _not_recorded(gpus: Sequence[Gpu]) -> dict[str, Any]:
    why = "no Python program of this environment" if gpus else "no GPU"
    return {"kernels": None, "recorder": f"not recorded: {why}"}


def _read(answer: Path, own: KernelFilter) -> dict[str, Any]:
    """What the recorder wrote: the package's kernels with their launches, and the number of all others."""
    try:
        value = json.loads(answer.read_text(encoding="utf-8"))
        recorded = {str(name): int(count) for name, count in value["kernels"].items()}
        state = str(value["recorder"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"kernels": None, "recorder": "not recorded: the program ended without letting Python finish"}
    if not state.startswith("works"):
        return {"kernels": None, "recorder": f"not recorded: {state}"}
    kernels = dict(own(recorded))
    others = sum(recorded.values()) - sum(kernels.values())
    return {"kernels": kernels, "other_launches": others, "recorder": state}


def _detail(evidence: Mapping[str, Any]) -> str:
    kernels = evidence["kernels"]
    if kernels is None:
        seen = f"kernels {evidence['recorder']}"
    else:
        launches = sum(kernels.values())
        seen = (
            f"{len(kernels)} of the package's kernels seen in {launches} launches"
            if kernels
            else ("none of the package's kernels seen")
        )
    return f"exit status {evidence['exit']} after {evidence['seconds']} s; {seen}"
