"""Index paths: which one a release stands under, what a path asks for, and which ones are near it. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from buildkit.machine.target import Target, known_notation, read_notation, torch_arch_list
from buildkit.machine.variants import variant_labels, variant_targets
from buildkit.store.release import Release

_TORCH = re.compile(r"[0-9]+\.[0-9][a-z0-9.]*")
"""One way to read each text: what strangers ask for may be as long as a request."""
_CUDA = re.compile(r"cu(?P<major>[0-9]{2})(?P<minor>[0-9])")


def variant_of(release: Release) -> str:
    """The path that a release stands under: ``pt2.13-cu130``, ``pt2.13-cu130-sm120``, ``pt2.13-cpu``, ``cu130``.

    The declared variant's own path only for wheels that hold code for its whole target set, whatever their file
    names say; narrower ones stand under a path that names their targets.
    """
    labels = variant_labels(
        torch_version=release.torch,
        cuda=release.cuda or None,
        targets=tuple(known_notation(target) for target in release.targets),
        variant=variant_targets(release.cuda or None),
        device=release.device,
    )
    return "-".join(labels)


@dataclass(frozen=True)
class Wanted:
    """What a path asks for. ``torch`` is as far as the path names it (``2.13``); empty without torch."""

    torch: str
    cuda: str
    """CUDA release (``13.0``); empty for the CPU."""
    device: Literal["cuda", "cpu"]
    targets: tuple[Target, ...]
    """Empty: the declared set of the CUDA release."""


def read_variant(path: str) -> Wanted | None:
    """What a path asks for; None where it is no variant's."""
    labels = path.split("-")
    torch = labels.pop(0).removeprefix("pt") if labels[0].startswith("pt") else ""
    if torch and not _TORCH.fullmatch(torch):
        return None
    if not labels:
        return None
    device = labels.pop(0)
    if device == "cpu":
        return None if labels else Wanted(torch, "", "cpu", ())
    cuda = _CUDA.fullmatch(device)
    targets = [_target(label) for label in labels]
    named = tuple(target for target in targets if target is not None)
    if cuda is None or len(named) < len(targets):
        return None
    return Wanted(torch, f"{cuda['major']}.{cuda['minor']}", "cuda", named)


def _target(label: str) -> Target | None:
    text = label.removeprefix("sm")
    return read_notation(f"{text.removesuffix('ptx')}{'+PTX' if text.endswith('ptx') else ''}")


def nearest(path: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known paths that are most like a path: those that share its labels from the left, then its letters."""
    labels = path.split("-")

    def likeness(other: str) -> tuple[int, int, float, str]:
        same = [mine == theirs for mine, theirs in zip(labels, other.split("-"), strict=False)]
        leading = same.index(False) if False in same else len(same)
        return (-leading, -sum(same), -difflib.SequenceMatcher(None, path, other).ratio(), other)

    return sorted(set(known) - {path}, key=likeness)[:count]


def build_command(package: str, path: str, torches: Sequence[str] = ()) -> str:
    """The command that makes the wheel of a recipe for a path; empty where the path is no variant's.

    ``torches`` are torch versions that releases here were made for: one that fits gives the patch release.
    """
    wanted = read_variant(path)
    if wanted is None:
        return ""
    words = ["cudabuild", package]
    if wanted.torch:
        local = "cpu" if wanted.device == "cpu" else f"cu{wanted.cuda.replace('.', '')}"
        fitting = [t for t in torches if t.startswith(f"{wanted.torch}.") and t.endswith(f"+{local}")]
        full = wanted.torch if wanted.torch.count(".") > 1 else f"{wanted.torch}.0"
        words += ["--torch", max(fitting, default=f"{full}+{local}", key=_numbers)]
    if wanted.device == "cpu":
        return " ".join([*words, "--device", "cpu"])
    targets = wanted.targets or variant_targets(wanted.cuda)
    return " ".join([*words, *(["--target", f"'{torch_arch_list(targets)}'"] if targets else [])])


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version.partition("+")[0])]


def declared(path: str) -> str:
    """A path's targets as people type them: its own, or the declared set of its CUDA release; empty for the CPU."""
    wanted = read_variant(path)
    if wanted is None or wanted.device == "cpu":
        return ""
    return torch_arch_list(wanted.targets or variant_targets(wanted.cuda))
