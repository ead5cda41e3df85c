"""Which variant, which targets, which wheels of the store: decided, or refused with what there is. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from buildkit.errors import NoSuchBuild, NoTarget, UsageError
from buildkit.machine.facts import TorchRelease, torch_release
from buildkit.machine.target import Target, covers, read_notation, torch_arch_list

_VARIANT = re.compile(
    r"(?:pt(?P<torch>\d+\.\d+(?:\.\d+\w*)?)-)?(?:(?P<cpu>cpu)|cu(?P<cuda>\d{3}))(?P<targets>(?:-sm\d+[af]?(?:ptx)?)*)"
)
_TORCH = re.compile(r"\d+\.\d+(?:\.\d+\w*)?\+(?:cpu|cu\d{3})")

COMMON = (
    ("8.6;8.9", "RTX 30 and RTX 40"),
    ("12.0", "RTX 50"),
    ("8.0;9.0", "A100 and H100"),
    ("8.6;8.9;12.0+PTX", "RTX 30 to 50 and what comes after"),
)
"""Lists that people need most."""


@dataclass(frozen=True)
class Variant:
    """What an index path stands for. ``torch`` is ``2.13.0+cu130``, or empty; ``cuda`` "13.0", empty for the CPU.

    ``targets`` are those that its name tells; a plain name tells none, and stands for its declared set.
    """

    torch: str
    cuda: str
    targets: tuple[Target, ...] = ()

    @property
    def device(self) -> Literal["cuda", "cpu"]:
        """What it is for."""
        return "cuda" if self.cuda else "cpu"

    @property
    def build(self) -> str:
        """The local version of its torch: ``cu130``, ``cpu``."""
        return f"cu{self.cuda.replace('.', '')}" if self.cuda else "cpu"


@dataclass(frozen=True)
class Stored:
    """A wheel that the store can give. ``python`` is its tag (``cp311``), ``created`` a UTC text."""

    recipe: str
    version: str
    filename: str
    sha256: str
    torch: str
    device: Literal["cuda", "cpu"]
    targets: tuple[Target, ...]
    python: str
    created: str
    key: str

    @property
    def listed(self) -> str:
        """Its targets as people type them."""
        return torch_arch_list(self.targets) or "cpu"

    def fits_python(self, python: str) -> bool:
        """Whether a Python such as "3.11" (or any: empty) can load it."""
        return not python or not self.python.startswith("cp") or self.python == f"cp{python.replace('.', '')}"


def parse_variant(text: str) -> Variant:
    """``pt2.13-cu130``, ``pt2.13-cu130-sm86-sm89``, ``pt2.13-cpu``, ``cu130``, or torch's own ``2.13.0+cu130``."""
    if _TORCH.fullmatch(text):
        public, _, local = text.partition("+")
        text = f"pt{public}-{local}"
    found = _VARIANT.fullmatch(text)
    if found is None:
        raise UsageError(
            f"--variant {text}: not a variant",
            hint="write --variant pt2.13-cu130, --variant pt2.13-cpu or --variant 2.13.0+cu130",
        )
    cuda = f"{found['cuda'][:2]}.{found['cuda'][2]}" if found["cuda"] else ""
    torch = found["torch"] or ""
    if torch:
        torch += f"{'.0' * (2 - torch.count('.'))}+{'cpu' if found['cpu'] else 'cu' + found['cuda']}"
    return Variant(torch, cuda, tuple(sorted(map(_target, found["targets"].split("-")[1:]))))


def _target(label: str) -> Target:
    target = read_notation(label.removesuffix("ptx"))
    if target is None:
        raise UsageError(f"{label} names no target", hint="write for example pt2.13-cu130-sm86-sm89")
    return target.with_ptx if label.endswith("ptx") else target


def default_torch(releases: Iterable[str]) -> str:
    """The first of these with the CUDA of its default wheel: ``2.13.0+cu130``."""
    for version in releases:
        if known := torch_release(version):
            return f"{version}+cu{known.default_cuda.replace('.', '')}"
    raise UsageError("no torch is known for this Python", hint="name one: --variant pt2.13-cu130")


def on_default_index(torch: str, known: TorchRelease | None) -> bool:
    """Whether ``pip install torch==VERSION`` gives this very build."""
    return known is not None and torch.endswith(f"+cu{known.default_cuda.replace('.', '')}")


def no_target(stored: Sequence[Stored], declared: Sequence[Target], here: Sequence[Target], variant: str) -> NoTarget:
    """The failure where nothing says what the image is for, with the lists that can be typed."""
    lists = [(torch_arch_list(here), "the GPUs here")] if here else []
    lists += [(one.listed, f"{one.recipe} in the store") for one in stored if one.targets]
    lists += COMMON
    if declared:
        lists.append((torch_arch_list(declared), f"everything that torch's own wheel of {variant} runs on"))
    told: dict[str, str] = {}
    for text, what in lists:
        told.setdefault(text, what)
    return NoTarget(
        "no GPU is visible while an image is built, and no target was given",
        hint="say what it is for: " + ", ".join(f"--target '{text}' ({what})" for text, what in told.items()),
    )


def choose_wheels(
    recipes: Sequence[tuple[str, str]],
    stored: Sequence[Stored],
    variant: Variant | None,
    python: str,
    targets: Sequence[Target],
) -> tuple[Stored, ...]:
    """A wheel for each recipe (name, version), all for one torch and one Python, each holding all the targets.

    Of several the one with the fewest targets more, then the newest. ``targets`` empty: for the CPU. Raises
    NoSuchBuild with what the store has and the command that builds what it lacks.
    """  # fmt: skip
    fitting = [one for one in stored if _fits(one, variant, targets) and one.fits_python(python)]
    newest_first = sorted(fitting, key=lambda one: one.created, reverse=True)
    groups = dict.fromkeys((one.torch, one.python) for one in newest_first if one.torch)
    for torch, tag in [*groups, ("", "")]:
        chosen = [_best(name, version, torch, tag, fitting) for name, version in recipes]
        if all(chosen):
            return tuple(one for one in chosen if one is not None)
    raise _missing(recipes, stored, fitting, variant, targets)


def _fits(one: Stored, variant: Variant | None, targets: Sequence[Target]) -> bool:
    if targets and not (one.device == "cuda" and covers(one.targets, targets)):
        return False
    if not targets and one.device != "cpu":
        return False
    return variant is None or not one.torch or _is_of(one.torch, variant)


def _is_of(torch: str, variant: Variant) -> bool:
    """Whether what was built for a torch serves beside the variant's: the same series (if one is named), its CUDA."""
    public, _, build = torch.partition("+")
    wanted = variant.torch.partition("+")[0] or public
    return build == variant.build and public.split(".")[:2] == wanted.split(".")[:2]


def _best(name: str, version: str, torch: str, tag: str, fitting: Sequence[Stored]) -> Stored | None:
    own = [one for one in fitting if one.recipe == name and one.version.partition("+")[0] == version]
    own = [one for one in own if one.torch in {torch, ""} and (not tag or one.python in {tag, "py3"})]
    fewest = min((len(one.targets) for one in own), default=0)
    return max((one for one in own if len(one.targets) == fewest), key=lambda one: one.created, default=None)


def _missing(
    recipes: Sequence[tuple[str, str]], stored: Sequence[Stored], fitting: Sequence[Stored], variant: Variant | None,
    targets: Sequence[Target],
) -> NoSuchBuild:  # fmt: skip
    lacking = [name for name, _ in recipes if all(one.recipe != name for one in fitting)]
    names = lacking or [name for name, _ in recipes]
    words = f"--target '{torch_arch_list(targets)}'" if targets else "--device cpu"
    words += f" --torch {variant.torch}" if variant and variant.torch else ""
    wanted = f"for {torch_arch_list(targets)}" if targets else "for the CPU"
    what = "the store has no wheel of" if lacking else "the store has no wheels for one torch and one Python of"
    have = [f"{one.filename} ({one.listed})" for one in stored if one.recipe in names]
    return NoSuchBuild(
        f"{what} {', '.join(names)} {wanted}{f' and torch {variant.torch}' if variant and variant.torch else ''}",
        evidence="it has " + ", ".join(have[:5]) if have else "",
        hint=f"build first: cudabuild {' '.join(names)} {words}; or build in the image: --style build",
    )
