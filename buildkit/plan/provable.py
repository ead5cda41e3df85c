"""Can what is required be shown on this machine at all? Asked before anything is fetched or compiled. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from buildkit.errors import BelowRequirement
from buildkit.machine.arch import Target, runs_on, torch_arch_list
from buildkit.machine.gpus import Gpu
from buildkit.machine.names import gpus_that_run
from buildkit.plan.request import BuiltFor, Requirement

_SHOWN = 3
_ACCEPT = "or accept what can be shown without: --require imported"


def refuse_unprovable(
    asked: Requirement | None,
    *,
    device: BuiltFor,
    targets: Sequence[Target],
    gpus: Sequence[Gpu],
    has_probe: bool,
    package: str,
) -> None:
    """Raise :class:`BelowRequirement` where ``executed`` was typed and nothing here can reach it."""
    if asked != "executed":
        return
    if device == "cpu":
        raise BelowRequirement(
            "--require executed means executed on a GPU, which a CPU build never is",
            hint=f"build for CUDA (--device cuda), {_ACCEPT}",
        )
    if not has_probe:
        raise BelowRequirement(
            f"--require executed needs a probe, and {package} has none",
            hint=f"write one (docs/how-to/write-a-recipe.md), {_ACCEPT}",
        )
    if any(runs_on(target, gpu.capability) for target in targets for gpu in gpus):
        return
    here = ", ".join(f"{gpu.name} ({gpu.capability[0]}.{gpu.capability[1]})" for gpu in gpus)
    raise BelowRequirement(
        f"--require executed needs a GPU that runs {torch_arch_list(targets)}, and "
        + (f"the GPUs here are others: {here}" if gpus else "no GPU is visible here"),
        evidence=here,
        hint=f"run it on a machine with {suitable(targets)}; {_ACCEPT}",
    )


def suitable(targets: Sequence[Target]) -> str:
    """Which GPUs run one of the targets: ``compute capability 12.0 (GeForce RTX 5050, ...) or 12.1 (GB10)``."""
    found = []
    for (major, minor), names in gpus_that_run(targets):
        shown = ", ".join([*names[:_SHOWN], *(["..."] if len(names) > _SHOWN else [])])
        found.append(f"{major}.{minor} ({shown})" if shown else f"{major}.{minor}")
    return f"a GPU of compute capability {' or '.join(found)}" if found else "a GPU that no table of ours names yet"
