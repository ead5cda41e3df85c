"""What was typed for ``cudabuild docker``, read and checked: recipes, requirements, targets, the store's wheels."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import SplitResult, urlsplit

from packaging.utils import canonicalize_name, parse_wheel_filename

from buildkit.build.foreign import is_unproven
from buildkit.docker.choice import Stored, Variant, no_target, parse_variant
from buildkit.docker.model import Origin
from buildkit.docker.requirements import Required, read_requirements
from buildkit.errors import NoTarget, UnknownRecipe, UsageError
from buildkit.machine.arch import Target, parse_targets
from buildkit.machine.facts import toolkit_targets
from buildkit.machine.gpus import visible_gpus
from buildkit.machine.target import known_notation
from buildkit.machine.variants import variant_targets
from buildkit.plan.decide import choose_targets
from buildkit.recipe.loader import LoadedRecipe, find_recipe, search_path
from buildkit.recipe.model import Version
from buildkit.recipe.selection import choose_version

if TYPE_CHECKING:
    from buildkit.cli.options import Asked
    from buildkit.store.model import Entry
    from buildkit.store.store import Store

LISTED = 3
"""Lists of the store's wheels that are shown where no target was given."""


@dataclass(frozen=True)
class Wanted:
    """One recipe that was named, and its version."""

    loaded: LoadedRecipe
    version: Version

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self.loaded.recipe.name


@dataclass(frozen=True)
class Inputs:
    """``index`` is empty without one; ``targets`` are empty for the CPU; ``python`` where none was typed."""

    typed: str
    origin: Origin
    compose: bool
    index: str
    base: str
    wanted: tuple[Wanted, ...]
    required: Required
    variant: Variant | None
    targets: tuple[Target, ...]
    python: str
    stored: tuple[Stored, ...]
    entries: Mapping[str, Entry]
    """By file name."""
    uploaded: tuple[str, ...]
    """Wheels of these recipes that came to the store without a build: no key says what they were made of."""
    folder: Path
    """The image's context."""


def read_inputs(recipes: Sequence[str], options: Mapping[str, Any], asked: Asked, store: Store, folder: Path) -> Inputs:
    """Read and check everything; nothing is decided yet but the targets. Raises what the parts raise."""
    wanted = _each_once(_wanted(text, asked) for text in recipes)
    index, style = _checked_index(options["index"], options["style"]), options["style"]
    variant = parse_variant(options["variant"]) if options["variant"] else None
    python = _checked_python(options["python"])
    required = _required(options["requirements"], folder)
    names = {each.name for each in wanted}
    entries = {
        entry.filename: entry
        for entry in reversed(list(store.entries()))  # oldest first: of one name the newest counts
        if entry.recipe in names and not is_unproven(entry)
    }
    stored = tuple(one for entry in entries.values() if (one := stored_wheel(entry)))
    return Inputs(
        typed=_typed(recipes, options),
        origin="build" if style == "build" else "index" if index else "wheelhouse",
        compose=style == "compose",
        index=index,
        base=_checked_base(options["base"]),
        wanted=wanted,
        required=required,
        variant=variant,
        targets=_targets(asked, variant, stored),
        python=python,
        stored=stored,
        entries=entries,
        uploaded=tuple(_uploaded(store, names, entries)),
        folder=folder,
    )


def _uploaded(store: Store, names: Collection[str], entries: Collection[str]) -> Iterator[str]:
    projects = {canonicalize_name(name) for name in names}
    for release in store.releases():
        served = release.origin == "upload" and not release.yanked
        if served and release.project in projects and release.filename not in entries:
            yield release.filename


def _each_once(wanted: Iterable[Wanted]) -> tuple[Wanted, ...]:
    found: dict[str, Wanted] = {}
    for each in wanted:
        known = found.setdefault(each.name, each)
        if known.version.version != each.version.version:
            versions = f"{known.version.version} and {each.version.version}"
            raise UsageError(f"an image has one {each.name}, not {versions}", hint=f"name one: {each.name}==VERSION")
    return tuple(found.values())


def _wanted(text: str, asked: Asked) -> Wanted:
    """A recipe by name: what has none has no imports to check and no libraries to install."""
    name, _, version = text.partition("==")
    folder = asked.options.get("recipes_folder") or asked.settings.recipes
    try:
        loaded = find_recipe(name, search_path(folder, asked.cwd, asked.environ))
    except UnknownRecipe as error:
        if "/" in text or text.startswith("pypi:"):
            error.hint = "images are made from recipes; write one: cudabuild recipes new NAME|URL|PATH"
        raise
    return Wanted(loaded, choose_version(loaded.recipe, version or None))


def _checked_index(index: str | None, style: str) -> str:
    if style == "index" and not index:
        raise UsageError(
            "--style index needs --index URL",
            hint="cudabuild docker RECIPE --style index --index https://index.example",
        )
    if index and style not in {"index", "compose"}:
        raise UsageError(f"--index does not go with --style {style}", hint="--style index, or --style compose")
    if not index:
        return ""
    parts = _address(index)
    if "@" in parts.netloc:
        raise UsageError(
            "--index holds a password or token, which the Dockerfile and the image's history would show to everybody",
            hint="write it into a netrc file, and give that to the build: --secret id=netrc,src=$HOME/.netrc",
        )
    return index


def _address(index: str) -> SplitResult:
    """The parts of an address; its characters mean themselves in a Dockerfile."""
    try:
        parts = urlsplit(index)
        sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound or not re.fullmatch(r"[A-Za-z0-9._~%+@:,=/\[\]-]+", index):
        raise UsageError(f"--index {index!r} is no address", hint="write for example --index https://index.example")
    return parts


def _checked_base(base: str | None) -> str:
    if base and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*", base):
        raise UsageError(f"--base {base!r} is no name of an image", hint="write for example --base debian:12")
    return base or ""


def _checked_python(python: str | None) -> str:
    if python and not re.fullmatch(r"3\.[0-9]{1,2}", python):
        raise UsageError(f"--python {python}: name the image's Python as X.Y", hint="--python 3.11")
    return python or ""


def _required(file: Path | None, folder: Path) -> Required:
    if file is None:
        return Required()
    return read_requirements(os.path.relpath(file.resolve(), folder.resolve()), lambda name: _read(folder / name))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read", evidence=str(error), hint="check the path") from None


def stored_wheel(entry: Entry) -> Stored | None:
    """What of an entry decides whether it serves; None where it does not say so (it was made by something else)."""
    try:
        inputs = entry.inputs
        device: Literal["cuda", "cpu"] = "cuda" if inputs["device"] == "cuda" else "cpu"
        tags = parse_wheel_filename(entry.filename)[3]
        return Stored(
            recipe=entry.recipe,
            version=entry.version,
            filename=entry.filename,
            sha256=entry.sha256,
            torch=entry.torch,
            device=device,
            targets=tuple(known_notation(text) for text in entry.targets),
            python=next((tag.interpreter for tag in tags if tag.abi not in {"abi3", "none"}), "py3"),
            created=entry.created,
            key=entry.key,
        )
    except (KeyError, ValueError):
        return None


def _targets(asked: Asked, variant: Variant | None, stored: Sequence[Stored]) -> tuple[Target, ...]:
    """What was typed, else what the variant's name says, else what is configured or exported; empty for the CPU."""
    typed = tuple(asked.options.get("targets") or ())
    if variant is not None and variant.device == "cpu":
        if typed:
            raise UsageError("--target does not go with a variant for the CPU", hint="leave one of the two out")
        return ()
    declared = variant_targets(variant.cuda) if variant else ()
    if variant is not None and not typed:
        return variant.targets or declared
    native = tuple(gpu.capability for gpu in visible_gpus(asked.environ).gpus)
    everything = toolkit_targets(variant.cuda) if variant else ()
    exported = asked.environ.get("TORCH_CUDA_ARCH_LIST")
    if "native" in typed:
        return parse_targets(typed, native=native, everything=everything)
    try:
        # The GPUs here are no default: the image may be for another machine, and is built without any.
        return choose_targets(
            typed, asked.settings.targets, visible=(), exported=exported, everything=everything
        ).targets
    except NoTarget:
        if typed:
            raise
        here = parse_targets(["native"], native=native) if native else ()
        raise no_target(stored[:LISTED], variant_targets("13.0"), here, "CUDA 13.0") from None


def _typed(recipes: Sequence[str], options: Mapping[str, Any]) -> str:
    """The command again, without what only says where its answer goes."""
    words = ["cudabuild", "docker", *recipes]
    for name in ("style", "variant", "python", "base", "index", "requirements"):
        if options[name] and not (name == "style" and options[name] == "wheelhouse"):
            words += [f"--{name}", str(options[name])]
    for target in options["targets"]:
        words += ["--target", target]
    return shlex.join(words)
