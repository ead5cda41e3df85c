"""A store that holds what it should not: each is refused by name, on the hit or by `cache verify`; and a build does not
see the store, or is said to be trusted."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from poisoning import Heard, World, packed, share, stock, unpacked, verdict_for, wheel_for

from buildkit.build.admit_entry import check_entry, require_sound, verify_entries
from buildkit.build.final import FACTS_FILE
from buildkit.build.lookup import stored
from buildkit.build.prepare import Prepared
from buildkit.errors import StoreError
from buildkit.store.model import Entry
from buildkit.store.store import Store
from tests.integration.conftest import Cudabuild
from tests.integration.test_isolation import NO_NAMESPACES

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Stage:
    """A world with a plan for CUDA 8.6, one for another torch, and one for the CPU; and a store."""

    world: World
    plan: Prepared
    other_torch: Prepared
    cpu: Prepared
    store: Store
    folder: Path

    def warned(self) -> str:
        """What is said when the plan's entry is looked up; it is not served."""
        context = self.world.context(self.store.root)
        assert stored(self.plan, context) is None
        assert isinstance(context.reporter, Heard)
        (warning,) = context.reporter.warnings
        return warning

    def entry_file(self, key: str) -> Path:
        return self.store.root / "entries" / f"{key}.json"

    def rewrite(self, entry: Entry, **changes: Any) -> Entry:
        """The entry with other words in its file."""
        changed = entry.model_copy(update=changes)
        self.entry_file(entry.key).write_bytes(changed.as_bytes())
        return changed


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Any:
    """The world and its three plans."""
    with pytest.MonkeyPatch.context() as patch:
        world = World(tmp_path_factory.mktemp("world"), cache, patch)
        plan, cpu = world.prepare(), world.prepare(device="cpu", targets=(), cuda_home=None)
        with world.changed(f"{world.site}/torch/version.py", old="2.13.0+cu130", new="2.12.0+cu130"):
            other = world.prepare()
        yield world, plan, other, cpu


@pytest.fixture
def stage(plans: Any, tmp_path: Path) -> Stage:
    world, plan, other, cpu = plans
    return Stage(world, plan, other, cpu, Store(tmp_path / "store"), tmp_path)


def forged(stage: Stage, made_for: Prepared) -> Path:
    """A wheel made for one plan that says of itself that it was made for the stage's."""
    said = json.loads(next(data for name, data in unpacked(wheel_for(stage.plan, stage.folder)).items()
                           if name.endswith(FACTS_FILE)))  # fmt: skip
    return wheel_for(made_for, stage.folder, said)


def test_what_is_sound_is_served(stage: Stage) -> None:
    """Else the refusals below would say nothing; and what is asked for is the file that final wheels hold."""
    entry = stock(stage.plan, stage.store, stage.folder)
    context = stage.world.context(stage.store.root)
    assert stored(stage.plan, context) == entry
    require_sound(entry, stage.store)
    cpu = stock(stage.cpu, stage.store, stage.folder)
    assert check_entry(cpu, stage.store.wheel(cpu)) == []


def test_a_cpu_only_wheel_under_a_cuda_key(stage: Stage) -> None:
    entry = stock(stage.plan, stage.store, stage.folder, wheel=wheel_for(stage.cpu, stage.folder))
    assert "the wheel says that it was made for the CPU" in stage.warned()
    with pytest.raises(StoreError, match="is refused"):
        require_sound(entry, stage.store)


def test_a_cpu_only_wheel_that_lies_about_itself(stage: Stage) -> None:
    """Its name and its own words fit; that there is no device code in it is what an inspection finds."""
    entry = stock(stage.plan, stage.store, stage.folder)
    (flaw,) = check_entry(entry, stage.store.wheel(entry))
    assert flaw.startswith("CPU-only wheel: CUDA was asked for")
    (problem,) = verify_entries(stage.store)
    assert (problem.key, problem.text) == (stage.plan.key, f"{entry.filename}: {flaw}")


def test_a_truncated_wheel(stage: Stage) -> None:
    whole = wheel_for(stage.plan, stage.folder)
    short = stage.folder / "short" / whole.name
    short.parent.mkdir()
    short.write_bytes(whole.read_bytes()[:-40])
    entry = stock(stage.plan, stage.store, stage.folder, wheel=short)
    assert "the wheel cannot be read: File is not a zip file" in stage.warned()
    assert any("or is no zip file" in flaw for flaw in check_entry(entry, short))


def test_a_wheel_that_was_truncated_in_the_store(stage: Stage) -> None:
    blob = stage.store.wheel(stock(stage.plan, stage.store, stage.folder))
    blob.chmod(0o644)
    os.truncate(blob, blob.stat().st_size - 40)
    assert "is damaged: it has" in stage.warned()


def test_flipped_bits(stage: Stage) -> None:
    blob = stage.store.wheel(stock(stage.plan, stage.store, stage.folder))
    blob.chmod(0o644)
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 8
    blob.write_bytes(data)
    assert "its bytes are not the ones that were stored" in stage.warned()


def test_a_wheel_whose_record_lies(stage: Stage) -> None:
    """The entry's hash is that of these bytes: only who opens the wheel can see it."""
    whole = wheel_for(stage.cpu, stage.folder)
    members = unpacked(whole)
    lying = packed(stage.folder / "lying" / whole.name, {**members, "pair/__init__.py": b"import os\n"})
    stock(stage.cpu, stage.store, stage.folder, wheel=lying)
    (problem,) = verify_entries(stage.store)
    assert problem.text == f"{whole.name}: member 'pair/__init__.py' is not what RECORD says"


def test_a_wheel_for_another_torch(stage: Stage) -> None:
    stock(stage.plan, stage.store, stage.folder, wheel=wheel_for(stage.other_torch, stage.folder))
    assert "the wheel says that it was made for cuda 8.6 beside torch 2.12.0+cu130" in stage.warned()


def test_a_wheel_for_another_torch_that_lies_about_itself(stage: Stage) -> None:
    entry = stock(stage.plan, stage.store, stage.folder, wheel=forged(stage, stage.other_torch))
    flaws = check_entry(entry, stage.store.wheel(entry))
    assert [flaw.partition(":")[0] for flaw in flaws[:2]] == ["it is a wheel for another torch"] * 2
    assert "does not say pt2.13" in flaws[0]
    assert "it requires torch==2.12.*, not torch==2.13.*" in flaws[1]


def test_an_entry_whose_file_was_renamed_to_a_foreign_key(stage: Stage) -> None:
    entry = stock(stage.other_torch, stage.store, stage.folder)
    shutil.copy(stage.entry_file(entry.key), stage.entry_file(stage.plan.key))
    assert f"is another key's: {entry.key[:12]}" in stage.warned()


def test_an_entry_claimed_under_a_foreign_key(stage: Stage) -> None:
    stock(stage.other_torch, stage.store, stage.folder, key=stage.plan.key)
    said = stage.warned()
    assert f"it is claimed under a foreign key: its inputs are those of {stage.other_torch.key[:12]}" in said


def test_a_foreign_entry_whose_inputs_were_rewritten_too(stage: Stage) -> None:
    entry = stock(stage.other_torch, stage.store, stage.folder)
    mine = {"key": stage.plan.key, "family": stage.plan.family, "inputs": stage.plan.inputs.as_dict()}
    stage.entry_file(stage.plan.key).write_bytes(entry.model_copy(update=mine).as_bytes())
    said = stage.warned()
    assert "its verdict is for another torch: 2.12.0+cu130, where its key has 2.13.0+cu130" in said
    assert f"under the key {entry.key[:12]}" in said


def test_one_that_only_says_that_it_has_more_targets(stage: Stage) -> None:
    """By way of its family it would be served for fewer targets."""
    entry = stock(stage.plan, stage.store, stage.folder)
    inputs = {**entry.inputs, "targets": ["8.6", "12.0"]}
    key = "0" * 64
    marker = stage.store.root / "entries" / "by-family" / entry.family / key
    marker.touch()
    stage.entry_file(key).write_bytes(entry.model_copy(update={"key": key, "inputs": inputs}).as_bytes())
    stage.entry_file(entry.key).unlink()
    assert "it is claimed under a foreign key" in stage.warned()


def test_a_verdict_that_was_edited(stage: Stage) -> None:
    entry = stock(stage.plan, stage.store, stage.folder)
    stage.rewrite(entry, verdict={**entry.verdict, "grade": "executed"})
    said = stage.warned()
    assert "its verdict does not hold together: the grade 'executed' does not follow from it" in said


def test_inputs_that_are_none(stage: Stage) -> None:
    entry = stock(stage.plan, stage.store, stage.folder)
    nonsense = stage.rewrite(entry, inputs={"targets": 7, "environment": []})
    assert "its inputs are not those of a key" in stage.warned()
    assert check_entry(nonsense, stage.store.wheel(entry))


def test_a_verdict_about_another_wheel(stage: Stage) -> None:
    stock(stage.plan, stage.store, stage.folder, verdict=verdict_for(stage.plan, "ab" * 32))
    assert "its verdict is about another wheel (sha256 abababababab)" in stage.warned()


def test_a_verdict_of_a_cpu_build(stage: Stage) -> None:
    wheel = wheel_for(stage.plan, stage.folder)
    digest = stock(stage.plan, Store(stage.folder / "elsewhere"), stage.folder).sha256
    told = verdict_for(stage.plan, digest, device="cpu", targets=())
    stock(stage.plan, stage.store, stage.folder, wheel=wheel, verdict=told)
    assert "its verdict is for another device: cpu, where its key has cuda" in stage.warned()


def test_another_file_name(stage: Stage) -> None:
    name = stock(stage.plan, stage.store, stage.folder).filename.replace("sm86", "sm120")
    stock(stage.plan, stage.store, stage.folder, filename=name)
    assert "and its file name says 1.0+pt2.13.cu130.sm120" in stage.warned()


# What a build's own code can do.

SPY = """import os, pathlib
from setuptools import setup
store = pathlib.Path({store!r})
names = sorted(path.name for path in store.rglob("*")) if store.is_dir() else ["gone"]
print("seen:", names or "nothing")
try:
    (store / "poison").write_text("x")
    print("written")
except OSError as error:
    print("refused:", error.strerror)
setup(name="spy", version="1.0", py_modules=["spy"])
"""
RECIPE = """edition = 1
name = "spy"
summary = "looks at the store"
license = { spdx = "MIT", redistributable = true }
[[version]]
version = "1.0"
folder = "../../spy"
[build]
torch = false
[verify]
imports = ["spy"]
"""


@pytest.fixture
def spied(cudabuild: Cudabuild, cache: Path, tmp_path: Path) -> Callable[..., tuple[dict[str, Any], str, Path]]:
    """Build a package that looks for the store; its answer, its log, its cache."""
    own = tmp_path / "cache"
    (own / "store" / "blobs").mkdir(parents=True)
    (own / "store" / "blobs" / "kept").write_text("a wheel of somebody else\n", encoding="utf-8")
    share(cache, own)
    (cache / "locks").mkdir(exist_ok=True)
    (own / "locks").symlink_to(cache / "locks")
    for name, text in {
        "spy/setup.py": SPY.format(store=str(own / "store")),
        "spy/spy.py": "",
        "recipes/spy/recipe.toml": RECIPE,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")

    def run(*words: str, **options: Any) -> tuple[dict[str, Any], str, Path]:
        places = ("--recipes", str(tmp_path / "recipes"), "--device", "cpu", "--json")
        done = cudabuild("build", "spy", *places, *words, env={"CUDABUILD_CACHE": str(own)}, **options)
        assert done.code == 0, done.err
        log = (own / "logs" / f"{done.json['build']}.log").read_text(encoding="utf-8")
        return done.json, log, own

    return run


def test_a_build_does_not_see_the_store(spied: Callable[..., tuple[dict[str, Any], str, Path]]) -> None:
    answer, log, cache = spied()
    assert answer["guard"]["isolation"] == "namespace"
    assert "seen: nothing" in log
    assert "refused: Read-only file system" in log
    assert "written" not in log
    assert not (cache / "store" / "poison").exists()
    assert answer["verdict"]["stages"][0]["evidence"]["sources"] == "isolated"


def test_where_it_does_verdict_and_doctor_say_so(
    spied: Callable[..., tuple[dict[str, Any], str, Path]], cudabuild: Cudabuild
) -> None:
    answer, log, cache = spied(prefix=NO_NAMESPACES)
    assert answer["guard"]["isolation"] == "none"
    assert "'kept'" in log
    assert "written" in log, "else it would not have to be trusted"
    assert answer["verdict"]["stages"][0]["evidence"]["sources"] == "trusted"
    shown = cudabuild("cache", "show", "last", env={"CUDABUILD_CACHE": str(cache)}).out
    assert "sources trusted" in shown
    doctor = cudabuild("doctor", env={"CUDABUILD_CACHE": str(cache)}, prefix=NO_NAMESPACES)
    assert "sources trusted" in " ".join(doctor.out.split())
