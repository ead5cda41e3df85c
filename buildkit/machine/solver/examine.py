"""What does not fit on a machine, in the order in which a build meets it."""

from __future__ import annotations

from functools import lru_cache

from buildkit.machine.solver.answer import Problem, in_order
from buildkit.machine.solver.host import Host
from buildkit.machine.solver.run_checks import check_run
from buildkit.machine.solver.toolkit_checks import check_toolkit
from buildkit.machine.solver.torch_checks import check_torch


@lru_cache(maxsize=4096)
def examine(host: Host) -> tuple[Problem, ...]:
    """Every problem of this machine; empty where everything fits.

    Remembered, since a search comes by the same machine on many ways.
    """
    return in_order([*check_torch(host), *check_toolkit(host), *check_run(host)])
