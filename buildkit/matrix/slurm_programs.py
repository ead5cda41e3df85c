"""Slurm's programs: to submit, to ask, to cancel. All that is known of them is in the pure modules beside this."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from buildkit import process
from buildkit.errors import CudabuildError, MachineError
from buildkit.matrix.executor import Job, cell_environment
from buildkit.matrix.slurm_request import sbatch_words, script
from buildkit.matrix.slurm_state import SACCT, SQUEUE, State, parse_states, parse_submitted, state_command

_SECONDS = 60.0
"""For one of its programs: a busy controller lets people wait."""


class FetchFailed(CudabuildError):
    """What a cell needs of the network could not be had on the login node."""

    kind = "fetch-failed"
    exit_code = 4


class Slurm:
    """This cluster, as its programs know it. ``environ`` is the person's: SBATCH_* and SLURM_CONF count."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def submit(self, job: Job, folder: Path, *, grace: float) -> str:
        """Submit a job whose folder is ready; its number. Raises MachineError where Slurm does not take it."""
        file = folder / "job.sh"
        file.write_text(script(sys.executable, folder), encoding="utf-8")
        done = self._run([*sbatch_words(job, folder, grace=grace), str(file)])
        number = parse_submitted(done.stdout)
        if done.returncode or not number:
            raise MachineError(
                f"Slurm does not take a job for {job.cell}",
                evidence=process.last_line(done.stderr or done.stdout),
                hint="export SBATCH_PARTITION, SBATCH_ACCOUNT ... as this cluster wants them; `sinfo` says what it has",
            )
        return number

    def states(self, numbers: Sequence[str]) -> dict[str, State] | None:
        """The states of jobs that Slurm knows; None where it does not answer, which says nothing of the jobs."""
        done = self._run(state_command(SQUEUE, numbers), check=False)
        if done.returncode and "Invalid job id" not in done.stderr:
            return None
        found = parse_states(done.stdout)
        missing = [number for number in numbers if number not in found]
        if missing:
            kept = self._run(state_command(SACCT, missing), check=False)
            found |= parse_states(kept.stdout) if kept.returncode == 0 else {}
        return found

    def cancel(self, numbers: Sequence[str]) -> None:
        """End jobs, those in the queue too; what is over already is none of its business."""
        if numbers:
            self._run(["scancel", *numbers], check=False)

    def _run(self, words: Sequence[str], *, check: bool = True) -> process.Completed:
        try:
            return process.run(words, env=self._environ, timeout=_SECONDS, check=False)
        except process.ProgramMissing as error:
            if not check and words[0] == "sacct":  # a cluster without accounting
                return process.Completed(1, "", str(error), 0.0)
            hint = "`--executor slurm` is for a machine that submits jobs (a login node): load its Slurm there"
            raise MachineError("there is no Slurm here", evidence=error.message, hint=hint) from error
        except process.ProgramTimedOut as error:
            if check:
                raise
            return process.Completed(1, "", error.message, _SECONDS)


def fetch_command(words: Sequence[str]) -> list[str]:
    """What brings all that a cell needs into the cache, where there is a network. ``words``: a job's."""
    return [sys.executable, "-m", "buildkit", "fetch", *words[1:]]


def fetch(words: Sequence[str], environ: Mapping[str, str], cwd: Path, *, cell: str) -> None:
    """Run it. Raises FetchFailed."""
    done = process.run(fetch_command(words), env=cell_environment(environ), cwd=cwd, timeout=4 * 3600.0, check=False)
    if done.returncode:
        raise FetchFailed(
            f"what {cell} needs could not be fetched here",
            evidence=process.last_line(done.stderr),
            hint=f"try it: cudabuild {process.quoted(fetch_command(words)[3:])}",
        )
