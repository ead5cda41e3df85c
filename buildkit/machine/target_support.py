"""Which targets a toolkit and a torch can make together. Pure: decided by the tables of ``facts``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from buildkit.errors import UnsupportedTarget
from buildkit.machine import facts
from buildkit.machine.facts import release_number, short_release
from buildkit.machine.target import Target, known_notation, merged, torch_arch_list


@dataclass(frozen=True)
class TargetDecision:
    """The targets that will be built, and a sentence for everything that was changed or assumed."""

    targets: tuple[Target, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Maker:
    """The toolkit, the torch and the kind of project that together make a target."""

    toolkit: str  # "13.0"
    torch: str | None  # "2.13.0+cu130"; None: a package without torch
    torch_cuda: str | None  # "13.0"; None where it cannot be told
    setuptools_path: bool

    def refusal(self, target: Target) -> str | None:
        """Why this target cannot be made, in one sentence; None where it can."""
        by_path = None if self.torch is None or not self.setuptools_path else path_refusal(target, self.torch)
        return toolkit_refusal(target, self.toolkit) or _by_torch(target, self) or by_path

    def instead(self, target: Target) -> Target | None:
        """What can be made in its place: the number the chip bears here, or the target without ``f``."""
        renamed = other_number(target, self.toolkit)
        numbers = [target, *([renamed] if renamed else [])]
        plain = [one.plain for one in numbers] if target.suffix == "f" else []
        candidates = [*numbers[1:], *plain]
        return next((one for one in candidates if self.refusal(one) is None), None)


def check_targets(
    targets: Sequence[Target],
    *,
    toolkit: str,
    torch: str | None,
    setuptools_path: bool = True,
    torch_cuda: str | None = None,
    reduce: bool = False,
) -> TargetDecision:
    """Decide whether this toolkit (``13.0``) and torch (``2.13.0+cu130``) can make every target.

    ``torch`` is None for a package without it: then the toolkit alone decides. ``setuptools_path``:
    torch.utils.cpp_extension reads the list; a CMake project takes more. ``torch_cuda`` is the CUDA that torch was
    built with, where its version does not say it.
    A list that a person typed is refused whole (UnsupportedTarget, a sentence for each target that does not fit);
    with ``reduce`` (a list from an exported variable) what does not fit is replaced or left out, with a note each,
    and only a list of which nothing is left is refused.
    """
    maker = _maker(toolkit, torch, torch_cuda, setuptools_path=setuptools_path)
    refused = {target: reason for target in targets if (reason := maker.refusal(target)) is not None}
    assumed = _assumptions(maker)
    if not refused:
        return TargetDecision(merged(targets), assumed)
    kept = [target for target in targets if target not in refused]
    if not reduce:
        raise _unsupported(maker, refused, kept)
    notes = []
    for target, reason in refused.items():
        other = maker.instead(target)
        kept += [other] if other else []
        notes.append(f"{target} {f'is built as {other}' if other else 'is left out'}: {reason}")
    if not kept:
        raise _unsupported(maker, refused, kept)
    return TargetDecision(merged(kept), (*notes, *assumed))


def makeable_targets(
    *, toolkit: str, torch: str | None, setuptools_path: bool = True, torch_cuda: str | None = None
) -> tuple[Target, ...]:
    """Every target that this toolkit and torch can make, suffixed ones included; what ``all`` is taken from."""
    maker = _maker(toolkit, torch, torch_cuda, setuptools_path=setuptools_path)
    return tuple(target for target in facts.toolkit_targets(toolkit) if maker.refusal(target) is None)


def _maker(toolkit: str, torch: str | None, torch_cuda: str | None, *, setuptools_path: bool) -> _Maker:
    told = cuda_of_torch(torch) if torch is not None else None
    return _Maker(short_release(toolkit), torch, torch_cuda or told, setuptools_path)


def cuda_of_torch(torch: str) -> str | None:
    """The CUDA that a torch version names (``+cu130``: 13.0), or its default wheel's; None for ``+cpu``, ``+rocm``."""
    _, _, local = torch.partition("+")
    tag = re.match(r"cu(\d+)(\d)(?:\D|$)", local)
    if tag:
        return f"{tag[1]}.{tag[2]}"
    known = facts.torch_release(torch)
    return known.default_cuda if known and not local else None


def other_number(target: Target, toolkit: str) -> Target | None:
    """The same chip by the number that this toolkit knows it by (10.1 and 11.0), where that is another one."""
    for renamed in facts.toolkit_table().renamed:
        old, new = known_notation(renamed.old), known_notation(renamed.new)
        newer = release_number(toolkit) >= release_number(renamed.since)
        here, other = (new, old) if newer else (old, new)
        if target.capability == other.capability:
            return Target(here.major, here.minor, target.suffix, target.ptx)
    return None


@cache
def toolkit_refusal(target: Target, toolkit: str) -> str | None:
    """Why nvcc of this release (``13.0``) does not make this target, in one sentence; None where it does."""
    made = facts.toolkit_targets(toolkit)
    if not made or target.without_ptx in made:
        return None
    renamed = other_number(target, toolkit)
    if renamed:
        return f"CUDA {toolkit} knows this chip as {renamed.plain.without_ptx}."
    if target.suffix and target.plain.without_ptx in made:
        return f"CUDA {toolkit} makes {target.plain.without_ptx}, but no '{target.suffix}' code for it."
    makers = [known.release for known in facts.known_toolkits() if target.without_ptx in known.targets]
    if target.capability < made[0].capability:
        last = f" (CUDA {makers[-1]} is the last that makes it)" if makers else ""
        return f"CUDA {toolkit} makes nothing below {made[0]}{last}."
    first = f"; it came with CUDA {makers[0]}" if makers else ", nor does any CUDA known to cudabuild"
    return f"CUDA {toolkit} does not know it{first}."


@cache
def path_refusal(target: Target, torch_version: str) -> str | None:
    """Why torch.utils.cpp_extension of this torch does not take this target; None where it does."""
    if target.without_ptx in facts.setuptools_targets(torch_version):
        return None
    torch = f"torch {short_release(torch_version)}"
    if target.suffix == "f":
        return f"the setuptools path of {torch} takes no 'f' targets (a CMake project would)."
    return f"the setuptools path of {torch} refuses it in TORCH_CUDA_ARCH_LIST."


def _by_torch(target: Target, maker: _Maker) -> str | None:
    """A kernel is of no use where torch itself has no code for the GPU."""
    for need in facts.torch_table().needs:
        if maker.torch is None or target.major not in need.majors:
            continue
        too_old = release_number(maker.torch) < release_number(need.torch)
        cuda = maker.torch_cuda
        if too_old or (cuda is not None and release_number(cuda) < release_number(need.cuda)):
            return f"torch {maker.torch} has no code for it: torch {need.torch} or newer with CUDA {need.cuda} has."
    return None


def _assumptions(maker: _Maker) -> tuple[str, ...]:
    notes = []
    known = facts.toolkit_release(maker.toolkit)
    if known is None:
        notes.append(f"CUDA {maker.toolkit} is not in cudabuild's tables: nvcc itself will tell what it can make.")
    elif known.release != maker.toolkit:
        notes.append(f"CUDA {maker.toolkit} is not in cudabuild's tables: taken to make what {known.release} makes.")
    if maker.torch is not None and facts.torch_release(maker.torch) is None:
        notes.append(f"torch {short_release(maker.torch)} is not in cudabuild's tables: the nearest release counts.")
    return tuple(notes)


def _unsupported(maker: _Maker, refused: dict[Target, str], kept: Sequence[Target]) -> UnsupportedTarget:
    sentences = [f"{target}: {reason}" for target, reason in refused.items()]
    possible = [*kept, *(other for target in refused if (other := maker.instead(target)) is not None)]
    plain = [
        target
        for target in makeable_targets(
            toolkit=maker.toolkit, torch=maker.torch, setuptools_path=maker.setuptools_path, torch_cuda=maker.torch_cuda
        )
        if not target.suffix
    ]
    hint = (
        f"type --target '{torch_arch_list(possible)}'"
        if possible
        else f"possible here: {torch_arch_list(plain) or 'nothing: install another torch or toolkit'}"
    )
    listed = ", ".join(str(target) for target in refused)
    beside = f" with torch {maker.torch}" if maker.torch is not None else ""
    return UnsupportedTarget(
        f"CUDA {maker.toolkit}{beside} cannot build for {listed}. {' '.join(sentences)}", hint=hint
    )
