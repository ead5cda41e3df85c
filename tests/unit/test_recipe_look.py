"""A recipe against its source: patches, variables, pins; and what is only said where the source cannot be had."""

from __future__ import annotations

import difflib
import subprocess
from pathlib import Path

import pytest

from buildkit.progress import Silent
from buildkit.recipe.loader import load_recipe
from buildkit.source.index_settings import IndexSettings
from buildkit.source.recipe_look import Looked, Looker

HEAD = """edition = 1
name = "thing"
summary = "a thing"
license = { spdx = "MIT", redistributable = true }
[[version]]
version = "1.0"
"""
FOLDER = 'folder = "../source"\n'
SETUP = 'import os\nos.getenv("THING_FORCE_CUDA")\none\ntwo\nthree\n'
MISSING = "0" * 39 + "1"


def diff(before: str, after: str, source: str = SETUP) -> str:
    """A patch of setup.py; one that fails where the source has no such line."""
    old = source if before in source else source.replace("two", before)
    new = old.replace(f"{before}\n", f"{after}\n")
    return "".join(difflib.unified_diff(old.splitlines(True), new.splitlines(True), "a/setup.py", "b/setup.py", n=1))


def look(tmp_path: Path, more: str, *, online: bool = False, **patches: str) -> Looked:
    """Look at a recipe whose source is the folder beside it."""
    folder = tmp_path / "thing"
    folder.mkdir(exist_ok=True)
    (tmp_path / "source").mkdir(exist_ok=True)
    (tmp_path / "source" / "setup.py").write_text(SETUP)
    for name, text in patches.items():
        (folder / f"{name}.patch").write_text(text)
    (folder / "recipe.toml").write_text(HEAD + more)
    looker = Looker(tmp_path / "cache", IndexSettings(), Silent(), online=online)
    return looker.look(load_recipe(folder))


def patch(name: str, when: str = "") -> str:
    return f'[[patch]]\nfile = "{name}.patch"\nwhen = "{when}"\nreason = "a test"\n'


def told(looked: Looked) -> list[tuple[str, str]]:
    return [(".".join(map(str, one.location)), one.text) for one in looked.notes]


def test_patches_that_apply_one_after_the_other_or_instead_of_each_other(tmp_path: Path) -> None:
    more = FOLDER + patch("a", "torch < 2") + patch("b", "torch >= 2") + patch("c", "torch >= 2")
    looked = look(tmp_path, more, a=diff("one", "1"), b=diff("one", "uno"), c=diff("three", "tre"))
    assert (looked.problems, looked.notes) == ([], [])
    on_top = look(
        tmp_path, FOLDER + patch("a") + patch("b"), a=diff("one", "1"), b=diff("1", "2", SETUP.replace("one", "1"))
    )
    assert on_top.problems == []


def test_a_patch_that_does_not_apply_is_named_with_its_version(tmp_path: Path) -> None:
    looked = look(tmp_path, FOLDER + patch("a") + patch("b"), a=diff("one", "1"), b=diff("nothing", "x"))
    (problem,) = looked.problems
    assert problem.location == ("patch", 1, "file")
    assert "1.0: thing/b.patch does not apply: file setup.py, hunk 1" in problem.text


def test_a_patch_for_another_version_is_left_out(tmp_path: Path) -> None:
    more = FOLDER + patch("a", "version >= 2") + patch("b", "version < 2 or torch > 1")
    looked = look(tmp_path, more, a=diff("nothing", "x"), b=diff("one", "1"))
    assert looked.problems == []


def test_a_patch_that_the_source_has_already_is_said(tmp_path: Path) -> None:
    rewrite = '[[patch]]\nrewrite = { files = ["*.py"], find = "^nothing$", replace = "x" }\nreason = "a test"\n'
    looked = look(tmp_path, FOLDER + patch("a") + rewrite, a=diff("uno", "one", SETUP.replace("one", "uno")))
    assert looked.problems == []
    assert told(looked) == [
        ("patch.0.file", "1.0: needless: the source has no need of it"),
        ("patch.1.rewrite", "1.0: needless: the source has no need of it"),
    ]


def test_a_variable_that_the_source_does_not_mention_is_said(tmp_path: Path) -> None:
    env = '[build.env-cuda]\nTHING_FORCE_CUDA = "1"\nTHING_FORCE_CDUA = "1"\nCMAKE_ARGS = "-G"\nCXXFLAGS = "-O1"\n'
    env += '[[build.env-when]]\nwhen = "torch > 2"\nenv = { THING_ODD = "1" }\n'
    looked = look(tmp_path, FOLDER + env)
    assert looked.problems == []
    said = "nothing in the source mentions it: is it spelled right?"
    assert told(looked) == [
        ("build.env-cuda.THING_FORCE_CDUA", said),
        ("build.env-when.0.env.THING_ODD", said),
    ]


def test_what_is_not_in_the_cache_is_not_checked(tmp_path: Path) -> None:
    sdist = f'sdist = "thing"\nsha256 = "{"a" * 64}"\n'
    assert look(tmp_path, sdist).notes == [], "there is nothing to check"
    looked = look(tmp_path, sdist + '[build.env]\nTHING = "1"\n')
    assert looked.problems == []
    ((where, text),) = told(looked)
    assert where == "version.0.sdist"
    assert text.startswith("not checked here: the source is not in the cache")


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    looked = look(tmp_path, 'folder = "../nowhere"\n')
    assert looked.problems == []
    assert told(looked)[0][1].startswith("not checked here: there is no folder")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A repository at https://git.example/thing, by insteadOf; its commit."""
    origin = tmp_path / "origin"
    origin.mkdir()
    (origin / "setup.py").write_text(SETUP)
    config = tmp_path / "gitconfig"
    config.write_text(
        "[user]\n\tname = T\n\temail = t@example.invalid\n"
        f'[url "{origin.as_uri()}"]\n\tinsteadOf = https://git.example/thing\n'
        f'[url "{(tmp_path / "gone").as_uri()}"]\n\tinsteadOf = https://git.example/gone\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run(["git", "-C", str(origin), *words], check=True, capture_output=True)
    done = subprocess.run(["git", "-C", str(origin), "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def git(rev: str, name: str = "thing") -> str:
    return f'git = "https://git.example/{name}"\nrev = "{rev}"\n'


def test_a_pin_is_confirmed_online_only(tmp_path: Path, repository: str) -> None:
    assert look(tmp_path, git(repository)).notes == []
    looked = look(tmp_path, git(repository) + patch("a"), online=True, a=diff("one", "1"))
    assert looked.problems == []
    ((where, text),) = told(looked)
    assert (where, text.startswith("confirmed: HEAD, refs/heads/")) == ("version.0.rev", True)


def test_a_commit_that_the_repository_does_not_have(tmp_path: Path, repository: str) -> None:
    looked = look(tmp_path, git(MISSING), online=True)
    (problem,) = looked.problems
    assert problem.location == ("version", 0, "rev")
    assert MISSING in problem.text


def test_a_repository_that_does_not_answer_confirms_nothing_and_is_no_failure(tmp_path: Path, repository: str) -> None:
    looked = look(tmp_path, git(repository, "gone"), online=True)
    assert looked.problems == []
    assert [where for where, _ in told(looked)] == ["version.0.rev", "version.0.git"]
    assert told(looked)[0][1].startswith("not confirmed here: cannot fetch from https://git.example/gone")
