"""From what is typed after ``--executor`` to the executor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from buildkit.errors import MissingExtra, UsageError
from buildkit.matrix.executor import Executor
from buildkit.recipe.suggest import did_you_mean

KINDS = ("local", "slurm", "dask")
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
    cache: Path
    share: str = ""
    """The store that builds are told to ask (`--store`), where it is a folder: workers may put their wheels there."""


def make_executor(spec: str, context: ExecutorContext) -> Executor:
    """``local``, ``slurm[:online]``, ``dask[:ADDRESS]``. Raises UsageError, MissingExtra."""
    kind, _colon, rest = spec.partition(":")
    if kind not in KINDS:
        hint = f"the executors are {', '.join(KINDS)}"
        raise UsageError(f"there is no executor {kind!r}{did_you_mean(kind, KINDS)}", hint=hint)
    if kind == "slurm":
        return _slurm(rest, context)
    if kind == "dask":
        return _dask(rest, context)
    if rest:
        raise UsageError(f"--executor {spec}: {kind} takes nothing after the colon", hint=f"--executor {kind}")
    from buildkit.matrix.local import LocalExecutor, usual_slots

    return LocalExecutor(context.slots or usual_slots(context.cpus), context.folder, context.environ, context.cwd)


def is_local(spec: str) -> bool:
    """Whether cells run on this machine."""
    return spec.partition(":")[0] == "local"


def one_platform(spec: str) -> bool:
    """Whether only cells of this machine's platform can run there: it starts them by paths of its own."""
    return spec.partition(":")[0] in {"local", "slurm"}


def _slurm(rest: str, context: ExecutorContext) -> Executor:
    from buildkit.matrix.slurm import SlurmExecutor

    if rest not in {"", "online"}:
        raise UsageError(f"--executor slurm:{rest}: there is no such kind", hint="--executor slurm, or slurm:online")
    most = {"slots": context.slots} if context.slots else {}
    return SlurmExecutor(context.folder, context.cache, context.environ, context.cwd, online=rest == "online", **most)


def _dask(address: str, context: ExecutorContext) -> Executor:
    try:
        import dask
        import distributed  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            "the executor dask needs dask.distributed", evidence=str(error), hint="pip install 'cudabuild[cluster]'"
        ) from error
    from buildkit.build.places import Places
    from buildkit.matrix.dask import DaskExecutor
    from buildkit.matrix.dask_policy import INSECURE
    from buildkit.store.store import Store

    found = address or dask.config.get("scheduler-address", None)
    if not found:
        hint = "--executor dask:tls://HOST:8786, or export DASK_SCHEDULER_ADDRESS"
        raise UsageError("--executor dask: there is no address of a scheduler", hint=hint)
    return DaskExecutor(
        str(found),
        context.folder,
        context.cwd,
        insecure=context.environ.get(INSECURE) == "1",
        share=Path(context.share) if context.share and "://" not in context.share else None,
        store=Store(Places(context.cache).store),
        most=context.slots,
    )
