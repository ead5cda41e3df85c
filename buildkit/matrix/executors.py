"""From what is typed after ``--executor`` to the executor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from buildkit.errors import UsageError
from buildkit.matrix.executor import Executor
from buildkit.recipe.suggest import did_you_mean

KINDS = ("local",)
"""What can be typed, before a colon."""


@dataclass(frozen=True)
class ExecutorContext:
    """What executors are made of."""

    folder: Path
    """Of this run, for answers and logs; made when it is needed."""
    cwd: Path
    """The matrix file's: what relative paths of jobs are relative to."""
    environ: Mapping[str, str]
    slots: int | None
    """Cells at a time, where somebody said how many."""
    cpus: int
    """Processors of this machine that may be used."""


def make_executor(spec: str, context: ExecutorContext) -> Executor:
    """``local``. Raises UsageError, MissingExtra."""
    kind, _colon, rest = spec.partition(":")
    if kind not in KINDS:
        hint = f"the executors are {', '.join(KINDS)}"
        raise UsageError(f"there is no executor {kind!r}{did_you_mean(kind, KINDS)}", hint=hint)
    if rest:
        raise UsageError(f"--executor {spec}: {kind} takes nothing after the colon", hint=f"--executor {kind}")
    from buildkit.matrix.local import LocalExecutor, usual_slots

    return LocalExecutor(context.slots or usual_slots(context.cpus), context.folder, context.environ, context.cwd)


def is_local(spec: str) -> bool:
    """Whether cells run on this machine, so that only those of its platform can."""
    return spec.partition(":")[0] == "local"
