"""The decisions of a plan that are arithmetic or rules, and nothing else. Pure: tested by tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from buildkit.errors import BadTarget, NoTarget, TargetsDisagree
from buildkit.machine.arch import Target, parse_targets, runs_on
from buildkit.plan.request import Requirement


@dataclass(frozen=True)
class TargetChoice:
    """The targets asked for, and where they come from; ``typed`` ones are refused, never reduced."""

    targets: tuple[Target, ...]
    origin: str
    typed: bool


def choose_targets(
    typed: Sequence[str],
    configured: Sequence[str],
    exported: str | None,
    visible: Sequence[tuple[int, int]],
    everything: Sequence[Target],
) -> TargetChoice:
    """Typed targets, else the configured ones, else the GPUs here, else TORCH_CUDA_ARCH_LIST.

    ``exported`` is TORCH_CUDA_ARCH_LIST as the environment has it. Where a GPU is visible and that list
    misses it, the person has to say which one is meant: guessing either way costs a build.
    """
    if typed:
        return TargetChoice(parse_targets(typed, native=visible, everything=everything), "--target", typed=True)
    if configured:
        with _named("the configured targets", ";".join(configured)):
            targets = parse_targets(configured, native=visible, everything=everything)
        return TargetChoice(targets, "the configuration", typed=True)
    listed: tuple[Target, ...] = ()
    if exported is not None and exported.strip():
        with _named("TORCH_CUDA_ARCH_LIST", exported):
            listed = parse_targets([exported], native=visible, everything=everything)
    if visible and listed:
        missed = [gpu for gpu in visible if not any(runs_on(target, gpu) for target in listed)]
        if missed:
            gpus = ";".join(f"{major}.{minor}" for major, minor in sorted(set(visible)))
            raise TargetsDisagree(
                f"TORCH_CUDA_ARCH_LIST says {';'.join(map(str, listed))}, and the GPUs here are {gpus}",
                evidence=f"TORCH_CUDA_ARCH_LIST={exported}",
                hint=f"say which one you mean: --target '{gpus}' or --target '{exported}'",
            )
    if listed:
        return TargetChoice(listed, "TORCH_CUDA_ARCH_LIST", typed=False)
    if visible:
        return TargetChoice(parse_targets(["native"], native=visible, everything=everything), "the GPUs here", True)
    raise NoTarget(
        "no GPU is visible here and no target was given",
        hint="say what to build for, such as --target 12.0 (RTX 50), --target 8.9 (RTX 40), --target 8.6 (RTX 30), "
        "--target 9.0 (H100, H200), or --target '8.6;12.0+PTX'",
    )


@contextmanager
def _named(where: str, value: str) -> Iterator[None]:
    """A target that nobody typed just now: say where it stands."""
    try:
        yield
    except BadTarget as error:
        error.evidence = error.evidence or f"{where}: {value}"
        raise


def required_grade(asked: Requirement | None, *, gpu_visible: bool, has_probe: bool, device: str) -> Requirement:
    """``executed`` where a GPU is visible and the recipe has a probe, else ``imported``."""
    if asked is not None:
        return asked
    return "executed" if gpu_visible and has_probe and device == "cuda" else "imported"


@dataclass(frozen=True)
class Deadline:
    """Seconds, and one sentence that says why."""

    seconds: float
    reason: str


def choose_deadline(asked: float | None, recipe_timeout: float, expected: float | None) -> Deadline:
    """A typed timeout is hard; else the larger of the recipe's and three times the expected time."""
    if asked is not None:
        return Deadline(asked, "as asked for")
    if expected is not None and 3 * expected > recipe_timeout:
        return Deadline(float(round(3 * expected)), f"three times the expected {expected:.0f} s")
    return Deadline(float(recipe_timeout), "the recipe's")


def expected_seconds(
    history: Sequence[tuple[int, float]], targets: int, *, units: int, seconds_per_unit: float, jobs: int
) -> float | None:
    """Seconds of the backend, from what was measured here, else from the recipe's estimate.

    ``history`` holds (number of targets, seconds) of earlier builds of this package, newest first. Device
    compilation grows about linearly with targets and host compilation does not: half and half is what was
    measured for one and four targets.
    """
    for count, seconds in history:
        return seconds * (1 + targets) / (1 + count)
    if units <= 0:
        return None
    return units * seconds_per_unit * (1 + targets) / 2 / max(1, jobs)
