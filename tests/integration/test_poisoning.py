"""Two builds that differ in one field of the key: neither is served for the other, and the plan names the field.

The fields are the model's own, so that a new one without a pair fails here. For each the request goes the real way from
words to key, over a small machine of which one thing is changed (see ``tests/helpers/poisoning.py``), with the
neighbour's entry in the store; builds for the CPU are really made where the difference can be seen in what comes out.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from poisoning import PATCH, Heard, World, stock

from buildkit.build import prepare as preparing
from buildkit.build import repair as repairing
from buildkit.build import survey as surveying
from buildkit.build.forecast import forecast
from buildkit.build.lookup import stored
from buildkit.build.pipeline import BuildResult, build
from buildkit.build.prepare import Prepared
from buildkit.machine.arch import parse_targets
from buildkit.plan.key import FIELDS, KeyInputs, family_of, key_of
from buildkit.plan.request import Request
from buildkit.store.store import Store

pytestmark = pytest.mark.integration

Changed = Callable[[World], AbstractContextManager[Any]]


@contextlib.contextmanager
def as_it_is(_world: World) -> Iterator[None]:
    """Nothing is changed but the request."""
    yield


@dataclass(frozen=True)
class Pair:
    """How the second build of a pair comes about; ``stands_for`` says of what a stand-in is one."""

    changed: Changed = as_it_is
    request: dict[str, Any] = field(default_factory=dict)
    with_it: frozenset[str] = frozenset()
    """Fields that cannot but change with this one."""
    stands_for: str = ""


def other_file(name: str, text: str | None = None, **parts: str) -> Changed:
    """A file with another content."""
    return lambda world: world.changed(name.format(name=world.name, site=world.site), text, **parts)


@contextlib.contextmanager
def other_answer(world: World, name: str, value: str) -> Iterator[None]:
    """The Python says something else of itself."""
    world.answers[name] = value
    yield
    del world.answers[name]


@contextlib.contextmanager
def patched(place: object, name: str, value: object) -> Iterator[None]:
    """Another answer of the system, or another cudabuild."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, name, value)
        yield


@contextlib.contextmanager
def other_closure(world: World) -> Iterator[None]:
    """Something that torch requires is there in another version."""
    old, new = (world.here / world.site / f"sympy-{version}.dist-info" for version in ("1.13.0", "1.14.0"))
    old.rename(new)
    with world.changed(f"{world.site}/{new.name}/METADATA", old="1.13.0", new="1.14.0"):
        yield
    new.rename(old)


@contextlib.contextmanager
def other_lock(world: World) -> Iterator[None]:
    """The build requirements were resolved on another day."""
    lock = world.prepare().lock.path.relative_to(world.here)
    with world.changed(str(lock), old="setuptools==", new="setuptools==1"):
        yield


PAIRS: dict[str, Pair] = {
    "recipe": Pair(request={"package": "other"}),
    "version": Pair(request={"version": "1.1"}, with_it=frozenset({"recipe_build"})),
    "source": Pair(other_file("source/{name}/module.c", old="42", new="43")),
    "subdirectory": Pair(
        other_file("recipes/{name}/recipe.toml", old='version = "1.0"', new='version = "1.0"\nsubdirectory = "inside"'),
        with_it=frozenset({"recipe_build"}),
    ),
    "patches": Pair(
        other_file("recipes/{name}/a.patch", old="/* patched */", new="#define ANSWER 44"),
        with_it=frozenset({"recipe_build"}),
    ),
    "recipe_build": Pair(
        other_file("recipes/{name}/recipe.toml", old="[build]", new='[build]\nconfig-settings = { "--quiet" = "1" }')
    ),
    "targets": Pair(request={"targets": ("12.0",)}, with_it=frozenset({"environment"})),
    "device": Pair(
        request={"device": "cpu", "targets": (), "cuda_home": None},
        with_it=frozenset({"environment", "targets", "toolkit", "variant"}),
    ),
    "torch": Pair(
        other_file("{site}/torch/version.py", old="aaaa", new="bbbb"),
        stands_for="another build of the same release; a torch of which only what is read of it is there",
    ),
    "torch_closure": Pair(other_closure, stands_for="metadata alone, as the loan is planned from that"),
    "toolkit": Pair(
        other_file("cuda/bin/ptxas", "#!/bin/sh\n# newer\n"), stands_for="a toolkit's program, replaced in place"
    ),
    "python": Pair(
        lambda world: other_answer(world, "version", "3.99.1"), stands_for="the answer of another release of Python"
    ),
    "interpreter": Pair(
        lambda world: world.changed(f"{next((world.here / 'python').iterdir()).relative_to(world.here)}/vendor.h", "1"),
        stands_for="the headers of another build of the same Python",
    ),
    "platform": Pair(
        lambda world: other_answer(world, "platform", "linux_riscv64"), stands_for="the answer of another platform"
    ),
    "machine": Pair(
        lambda world: other_answer(world, "machine", "riscv64"), stands_for="the answer of another processor's kernel"
    ),
    "compiler": Pair(
        other_file("compiler/cc1plus", "updated\n"), stands_for="the compiler proper, which an update replaced in place"
    ),
    "glibc": Pair(
        lambda _world: patched(surveying, "glibc_version", lambda: "2.99"), stands_for="another C library's answer"
    ),
    "programs": Pair(other_file("compiler/swig", "#!/bin/sh\n# another\n"), stands_for="a tool that was updated"),
    "headers": Pair(other_file("include/new.h", "#define NEW\n"), stands_for="a -dev package that was installed"),
    "libraries": Pair(other_file("lib/libnew.a", "!<arch>\n"), stands_for="a static library that was installed"),
    "environment": Pair(request={"passed_environment": {"CFLAGS": "-DANSWER=45"}}),
    "requirements": Pair(other_lock, stands_for="a day on which the index has a newer setuptools"),
    "repair": Pair(
        lambda _world: patched(repairing, "RULES", 99), stands_for="a later cudabuild, which repairs by other rules"
    ),
    "system": Pair(
        other_file("usr/include/named.h", "/* two */\n"), stands_for="a header below /usr that the recipe names"
    ),
    "variant": Pair(
        lambda _world: patched(preparing, "variant_targets", lambda _cuda: parse_targets(["7.5"])),
        stands_for="a later cudabuild, which declares other targets for this variant",
    ),
    "build_edition": Pair(
        lambda _world: patched(KeyInputs.__init__, "__defaults__", (99,)),
        stands_for="a later cudabuild, which makes other wheels from the same",
    ),
}


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, cache: Path, patch: pytest.MonkeyPatch) -> World:
    """A package beside torch, for CUDA."""
    made = World(tmp_path_factory.mktemp("world"), cache, patch)
    made.recipe("other")
    return made


@pytest.fixture(scope="module")
def first(world: World) -> Prepared:
    """The build that all pairs have in common."""
    return world.prepare()


def test_every_field_of_the_key_has_its_pair() -> None:
    assert tuple(sorted(PAIRS)) == tuple(sorted(FIELDS))


@pytest.mark.parametrize("name", FIELDS)
def test_neither_is_served_for_the_other(world: World, first: Prepared, tmp_path: Path, name: str) -> None:
    pair = PAIRS[name]
    ours, theirs = Store(tmp_path / "ours"), Store(tmp_path / "theirs")
    own = stock(first, ours, tmp_path)
    with pair.changed(world):
        second = world.prepare(**pair.request)
        foreseen = forecast(world.request(**pair.request), (), world.context(ours.root)).prediction
        other = stock(second, theirs, tmp_path)
        assert served(second, world, ours) is None
        assert served(second, world, theirs) == other.key, "it is the field that refuses, and nothing else"
    changed = {field for field in FIELDS if getattr(second.inputs, field) != getattr(first.inputs, field)}
    assert changed == {name, *pair.with_it}
    assert foreseen.outcome == "miss"
    assert {text.partition(":")[0].partition(".")[0] for text in foreseen.differs} == (
        set() if name == "recipe" else changed  # another package has no nearest entry
    )
    back = forecast(world.request(), (), world.context(theirs.root)).prediction
    assert back.outcome == "miss"
    assert served(first, world, theirs) is None
    assert served(first, world, ours) == own.key


def served(prepared: Prepared, world: World, store: Store) -> str | None:
    """The key of the entry that this store serves; it never has to warn of one here."""
    context = world.context(store.root)
    entry = stored(prepared, context)
    assert isinstance(context.reporter, Heard)
    assert context.reporter.warnings == []
    return entry.key if entry else None


@pytest.mark.parametrize("name", FIELDS)
def test_the_field_alone_is_enough(world: World, first: Prepared, tmp_path: Path, name: str) -> None:
    """As if everything else could stay the same: the very inputs of a real plan, but for the one field."""
    value = getattr(first.inputs, name)
    others: dict[type, Any] = {dict: {"x": "y"}, list: ["9.0"], int: 99, str: f"{value}x"}
    inputs = replace(first.inputs, **{name: others[type(value)]})
    survey = replace(first.survey, targets=parse_targets(inputs.targets))
    neighbour = replace(first, survey=survey, inputs=inputs, key=key_of(inputs), family=family_of(inputs))
    store = Store(tmp_path / "store")
    stock(first, store, tmp_path)
    assert served(neighbour, world, store) is None


def answer_of(result: BuildResult, folder: Path) -> int:
    """What the built module says."""
    assert result.error is None, result.error
    assert result.wheel is not None
    with zipfile.ZipFile(result.wheel) as archive:
        (module,) = [name for name in archive.namelist() if name.endswith(".so")]
        path = archive.extract(module, folder / str(result.key))
    loader = importlib.machinery.ExtensionFileLoader("_c", path)
    spec = importlib.util.spec_from_loader("_c", loader)
    assert spec is not None
    loaded = importlib.util.module_from_spec(spec)
    return int(loaded.answer())


def test_what_is_built_is_what_was_asked_for(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real builds whose module tells them apart: each is made, and each is served again for itself alone. One whose
    entry was edited is refused, and made anew."""
    name = f"pair{os.getpid()}"
    world = World(tmp_path / "world", cache, monkeypatch, name=name, torch=False)
    kinds: list[tuple[int, Changed, dict[str, Any]]] = [
        (42, as_it_is, {}),
        (44, other_file("recipes/{name}/a.patch", PATCH.format(name=name, line="#define ANSWER 44")), {}),
        (45, as_it_is, {"passed_environment": {"CFLAGS": "-DANSWER=45"}}),
    ]

    def built(changed: Changed, request: Request) -> BuildResult:
        with changed(world):
            return build(request, (), world.context())

    for expected in ("miss", "hit"):
        results = [(built(changed, world.request(**words)), value) for value, changed, words in kinds]
        for result, value in results:
            assert answer_of(result, tmp_path / expected) == value
            assert result.cache == expected
        assert len({result.key for result, _ in results}) == len(kinds)

    refused = results[0][0].entry
    assert refused is not None
    world.context().store.amend(refused.model_copy(update={"verdict": {**refused.verdict, "grade": "executed"}}))
    again = build(world.request(), (), context := world.context())
    assert (again.cache, answer_of(again, tmp_path / "again")) == ("miss", 42)
    assert isinstance(context.reporter, Heard)
    assert "does not hold together" in context.reporter.warnings[0]
    assert build(world.request(), (), world.context()).cache == "hit"
