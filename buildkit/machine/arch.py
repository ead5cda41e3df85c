"""What people type after ``--target``, to targets.

A list is separated by commas, semicolons, bars or blanks. Its parts are numbers (``8.6``, ``sm_86``, ``86``,
``8.6+PTX``, ``9.0a``, ``12.0f``), GPU names (``rtx4090``, ``RTX 4090``, ``rtx_a6000``), families (``blackwell``),
``native`` (the GPUs here) and ``all``. ``+PTX`` after a name goes to its highest capability.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from buildkit.errors import BadTarget, NoTarget
from buildkit.machine import names
from buildkit.machine.target import (
    Capability,
    Suffix,
    Target,
    cmake_architectures,
    covers,
    merged,
    read_notation,
    runs_on,
    torch_arch_list,
)

__all__ = [
    "Capability",
    "Suffix",
    "Target",
    "cmake_architectures",
    "covers",
    "merged",
    "parse_targets",
    "read_notation",
    "runs_on",
    "torch_arch_list",
]

_KEYWORDS = ("native", "all")
_BRANDS = ("nvidia", "geforce", "quadro", "tesla", "jetson", "rtx", "gtx", "gt")  # never a target by themselves
_PTX = re.compile(r"\s*\+\s*ptx(?![a-z0-9])", re.IGNORECASE)


def parse_targets(
    texts: Iterable[str], *, native: Sequence[Capability] = (), everything: Sequence[Target] = ()
) -> tuple[Target, ...]:
    """The targets that the texts name: sorted by number, each once (8.6 and 8.6+PTX merge to 8.6+PTX).

    ``native`` are the capabilities of the GPUs visible here, ``everything`` what ``all`` stands for (see
    ``compat.makeable_targets``; only its targets without suffix are taken). Raises BadTarget for a text that does
    not parse, that several GPUs bear as a name, or that nvcc refuses as a list, and NoTarget for ``native``
    without a GPU and ``all`` without a toolkit.
    """
    given = (texts,) if isinstance(texts, str) else tuple(texts)
    found: list[Target] = []
    for word in (word for text in given for word in _parts(text)):
        found += _read(word, native, everything)
    if given and not found:
        raise BadTarget(
            f"no target in {', '.join(repr(text) for text in given)}", hint="type for example: --target 8.6"
        )
    targets = merged(found)
    _refuse_family_beside_plain(targets)
    return targets


def _parts(text: str) -> Iterator[str]:
    """The parts of a list; blanks separate too, except inside a GPU's name (``RTX 4090``)."""
    for piece in re.split(r"[,;|]", _PTX.sub("+PTX", text)):
        words = piece.split()
        while words:
            least = 2 if words[0].lower() in _BRANDS and len(words) > 1 else 1
            count = next((size for size in range(len(words), 1, -1) if _is_name(" ".join(words[:size]))), least)
            yield " ".join(words[:count])
            words = words[count:]


def _is_name(text: str) -> bool:
    bare = text.removesuffix("+PTX")
    return "+PTX" not in bare and bool(names.meanings(bare) or names.family(bare))


def _read(word: str, native: Sequence[Capability], everything: Sequence[Target]) -> tuple[Target, ...]:
    number = read_notation(word)
    if number is not None:
        return (number,)
    bare = word.removesuffix("+PTX")
    found = merged(_read_word(bare, native, everything))
    return (*found[:-1], found[-1].with_ptx) if bare != word else found


def _read_word(word: str, native: Sequence[Capability], everything: Sequence[Target]) -> tuple[Target, ...]:
    if word.lower() == "native":
        return _native(native)
    if word.lower() == "all":
        return _everything(everything)
    of_family = names.family(word)
    if of_family:
        return of_family
    meanings = names.meanings(word)
    if not meanings:
        raise _unknown(word)
    if len({meaning.target for meaning in meanings}) > 1:
        raise _ambiguous(word, meanings)
    return (meanings[0].target,)


def _native(native: Sequence[Capability]) -> tuple[Target, ...]:
    if not native:
        raise NoTarget(
            "`native` means the GPUs visible here, and there is none",
            hint="name the target, for example --target 8.6 or --target rtx4090",
        )
    return tuple(Target(major, minor) for major, minor in native)


def _everything(everything: Sequence[Target]) -> tuple[Target, ...]:
    plain = tuple(target.without_ptx for target in everything if not target.suffix)
    if not plain:
        raise NoTarget(
            "`all` means everything that the CUDA toolkit can make, and no toolkit is known here",
            hint="name the targets, for example --target '8.6;12.0'",
        )
    return plain


def _ambiguous(word: str, meanings: Sequence[names.Meaning]) -> BadTarget:
    listed = ", ".join(f"{meaning.name} ({meaning.target})" for meaning in meanings)
    numbers = " or ".join(str(target) for target in merged(meaning.target for meaning in meanings))
    return BadTarget(
        f"target {word!r} is the name of several GPUs: {listed}",
        hint=f"type the one you mean: --target {numbers}, or its full name (--target '{meanings[0].name}')",
    )


def _unknown(word: str) -> BadTarget:
    suggestions = _suggestions(word)
    return BadTarget(
        f"target {word!r} is neither a compute capability nor the name of a GPU or family",
        hint=f"did you mean {', '.join(suggestions)}?"
        if suggestions
        else "type for example: --target 8.6, --target sm_86, --target rtx4090 or --target blackwell",
    )


def _suggestions(word: str) -> list[str]:
    """Near names; for something that begins as a number (``12``, ``8.60``) the capabilities of that series."""
    table = names.name_table()
    leading = re.match(r"\d+", word)
    if leading:
        known = merged(meaning.target for meanings in table.gpus.values() for meaning in meanings)
        series = [str(target) for target in known if str(target.major) == leading[0]]
        return series or difflib.get_close_matches(word, [str(target) for target in known], n=3)
    squashed = re.sub(r"[^a-z0-9]", "", word.lower())
    return difflib.get_close_matches(squashed, (*_KEYWORDS, *table.typable()), n=3, cutoff=0.7)


def _refuse_family_beside_plain(targets: Sequence[Target]) -> None:
    """nvcc: "The same GPU code generated for non family-specific and family-specific GPU arch"."""
    plain = {target.capability for target in targets if not target.suffix}
    for target in targets:
        if target.suffix == "f" and target.capability in plain:
            one, other = replace(target, suffix="", ptx=False), target.without_ptx
            raise BadTarget(
                f"targets {one} and {other} cannot be built together: nvcc refuses both in one command",
                hint=f"keep {one}, or keep {other} (it runs on the same GPUs)",
            )
