"""Commits from repositories made here: by full id, without hooks, with submodules, and from the cache."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from buildkit.errors import CommitMissing, IndexUnreachable, NotCached, SourceError, UnsafeArchive
from buildkit.progress import Silent
from buildkit.source.fetch import fetch_source, unpack
from buildkit.source.fetched import FetchedSource
from buildkit.source.git import place_name, resolve_relative
from buildkit.source.git_command import Git, environment
from buildkit.source.index_settings import IndexSettings
from buildkit.source.spec import GitSpec
from buildkit.source.tree import tree_sha256

PYPROJECT = '[build-system]\nrequires = ["setuptools>=64"]\nbuild-backend = "setuptools.build_meta"\n'


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git configuration of its own for each test."""
    config = tmp_path / "gitconfig"
    config.write_text("[user]\n\tname = T\n\temail = t@example.invalid\n[init]\n\tdefaultBranch = main\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return config


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "protocol.file.allow=always", "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def repository(folder: Path, files: dict[str, str]) -> str:
    """Make it, commit the files, return the commit."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "one")
    return git(folder, "rev-parse", "HEAD")


def fetch(spec: GitSpec, cache: Path, *, offline: bool = False) -> FetchedSource:
    return fetch_source(spec, cache=cache, index=IndexSettings(), offline=offline, reporter=Silent())


def local(folder: Path, rev: str, *, submodules: bool = False, subdirectory: str = ".") -> GitSpec:
    return GitSpec(folder.as_uri(), rev, submodules, subdirectory, local=True)


def test_one_commit_and_then_the_cache(tmp_path: Path) -> None:
    origin = tmp_path / "ein Ort ä"
    rev = repository(origin, {"pyproject.toml": PYPROJECT, "src/k.cu": "one\n"})
    (origin / "src/k.cu").write_text("two\n")
    git(origin, "commit", "-qam", "two")
    fetched = fetch(local(origin, rev), tmp_path / "cache")
    assert fetched.tree is not None
    assert (fetched.tree / "src/k.cu").read_text() == "one\n"
    assert not (fetched.tree / ".git").exists()
    assert sorted(path.name for path in fetched.tree.parent.iterdir()) == ["source.json", "tree"]
    assert fetched.build_requires == ("setuptools>=64",)
    assert fetched.origin.endswith(f"@{rev}")
    origin.rename(tmp_path / "gone")
    assert fetch(local(origin, rev), tmp_path / "cache", offline=True) == fetched
    assert (unpack(fetched, tmp_path / "build") / "src/k.cu").read_text() == "one\n"


def test_a_damaged_tree_is_fetched_again(tmp_path: Path) -> None:
    rev = repository(tmp_path / "r", {"setup.py": "x\n"})
    first = fetch(local(tmp_path / "r", rev), tmp_path / "cache")
    assert first.tree is not None
    (first.tree / "setup.py").write_text("y\n")
    again = fetch(local(tmp_path / "r", rev), tmp_path / "cache")
    assert again == first
    assert tree_sha256(first.tree) == first.sha256
    (first.tree / "more.py").write_text("y\n")
    with pytest.raises(NotCached):
        fetch(local(tmp_path / "r", rev), tmp_path / "cache", offline=True)


def test_a_server_that_gives_out_no_single_commits(tmp_path: Path, home: Path) -> None:
    rev = repository(tmp_path / "r", {"setup.py": "x\n"})
    (tmp_path / "r/setup.py").write_text("y\n")
    git(tmp_path / "r", "commit", "-qam", "two")
    home.write_text(home.read_text() + "[protocol]\n\tversion = 0\n")
    assert fetch(local(tmp_path / "r", rev), tmp_path / "cache").tree is not None


def test_missing_commit(tmp_path: Path) -> None:
    repository(tmp_path / "r", {"setup.py": "x\n"})
    with pytest.raises(CommitMissing, match="has no commit 0123") as caught:
        fetch(local(tmp_path / "r", "0123456789" * 4), tmp_path / "cache")
    assert caught.value.exit_code == 4
    assert "git ls-remote" in caught.value.hint
    tree = git(tmp_path / "r", "rev-parse", "HEAD^{tree}")
    with pytest.raises(CommitMissing):
        fetch(local(tmp_path / "r", tree), tmp_path / "cache")
    assert not list((tmp_path / "cache/sources/git").iterdir())


def test_unreachable_and_refused(tmp_path: Path) -> None:
    with pytest.raises(IndexUnreachable, match="cannot fetch from file:") as caught:
        fetch(local(tmp_path / "absent", "a" * 40), tmp_path / "cache")
    assert caught.value.evidence
    with pytest.raises(IndexUnreachable) as caught:
        fetch(GitSpec("https://me:secret@127.0.0.1:9/x", "a" * 40), tmp_path / "cache")
    assert "secret" not in f"{caught.value.message}{caught.value.evidence}{caught.value.hint}"
    with pytest.raises(SourceError, match="not a full commit id"):
        fetch(GitSpec("https://git.example/x", "--upload-pack=id"), tmp_path / "cache")


def test_a_file_url_in_a_recipe_does_not_pass(tmp_path: Path) -> None:
    rev = repository(tmp_path / "r", {"setup.py": "x\n"})
    with pytest.raises(IndexUnreachable, match="cannot fetch from") as caught:
        fetch(GitSpec((tmp_path / "r").as_uri(), rev), tmp_path / "cache")
    assert "not allowed" in caught.value.evidence


def test_instead_of_is_the_persons_word(tmp_path: Path, home: Path) -> None:
    rev = repository(tmp_path / "mirror/a/b", {"setup.py": "x\n"})
    home.write_text(
        home.read_text() + f'[url "{(tmp_path / "mirror").as_uri()}/"]\n\tinsteadOf = https://git.example/\n'
    )
    fetched = fetch(GitSpec("https://git.example/a/b", rev), tmp_path / "cache")
    assert fetched.origin == f"https://git.example/a/b@{rev}"


def test_hooks_filters_and_line_ends_of_the_person_do_not_count(tmp_path: Path, home: Path) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch '{tmp_path}/sprung'\n")
        (hooks / name).chmod(0o755)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    rev = repository(tmp_path / "r", {"setup.py": "a\nb\n", "big.bin": pointer, ".gitattributes": "*.bin filter=lfs\n"})
    home.write_text(
        home.read_text()
        + f"[core]\n\thooksPath = {hooks}\n\tautocrlf = true\n"
        + '[filter "lfs"]\n\tsmudge = false\n\tprocess = false\n\trequired = true\n'
    )
    fetched = fetch(local(tmp_path / "r", rev), tmp_path / "cache")
    assert fetched.tree is not None
    assert (fetched.tree / "setup.py").read_bytes() == b"a\nb\n"
    assert (fetched.tree / "big.bin").read_text() == pointer
    assert fetched.notes == ("1 files are git-lfs pointers and were not downloaded, for example big.bin",)
    assert not (tmp_path / "sprung").exists()


def test_variables_of_a_surrounding_hook_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rev = repository(tmp_path / "r", {"setup.py": "x\n"})
    repository(tmp_path / "other", {"other.py": "x\n"})
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    fetched = fetch(local(tmp_path / "r", rev), tmp_path / "cache")
    assert fetched.tree is not None
    assert [path.name for path in fetched.tree.iterdir()] == ["setup.py"]


def test_submodules_of_submodules(tmp_path: Path) -> None:
    repository(tmp_path / "leaf", {"leaf.h": "leaf\n"})
    repository(tmp_path / "middle", {"middle.h": "middle\n"})
    git(tmp_path / "middle", "submodule", "add", "-q", "../leaf", "third party/leaf")
    git(tmp_path / "middle", "commit", "-qm", "sub")
    repository(tmp_path / "top", {"setup.py": "x\n"})
    git(tmp_path / "top", "submodule", "add", "-q", "../middle", "middle")
    git(tmp_path / "top", "commit", "-qm", "sub")
    rev = git(tmp_path / "top", "rev-parse", "HEAD")
    whole = fetch(local(tmp_path / "top", rev, submodules=True), tmp_path / "cache")
    assert whole.tree is not None
    assert (whole.tree / "middle/third party/leaf/leaf.h").read_text() == "leaf\n"
    assert not list(whole.tree.rglob(".git"))
    bare = fetch(local(tmp_path / "top", rev), tmp_path / "cache")
    assert bare.tree is not None
    assert not any((bare.tree / "middle").iterdir())
    assert bare.sha256 != whole.sha256


def test_a_submodule_with_a_forbidden_protocol(tmp_path: Path) -> None:
    repository(tmp_path / "leaf", {"leaf.h": "leaf\n"})
    repository(tmp_path / "top", {"setup.py": "x\n"})
    git(tmp_path / "top", "submodule", "add", "-q", "../leaf", "leaf")
    for url in ("http://git.example/leaf", "ext::sh -c id", "-oProxy=x", "git://git.example/leaf"):
        git(tmp_path / "top", "config", "-f", ".gitmodules", "submodule.leaf.url", url)
        git(tmp_path / "top", "commit", "-qam", url)
        spec = local(tmp_path / "top", git(tmp_path / "top", "rev-parse", "HEAD"), submodules=True)
        with pytest.raises(SourceError, match=r"the submodule leaf of .* cannot fetch from"):
            fetch(spec, tmp_path / "cache")


def test_a_link_out_of_the_tree(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r/passwd").symlink_to("/etc/passwd")
    git(tmp_path / "r", "init", "-q")
    git(tmp_path / "r", "add", "-A")
    git(tmp_path / "r", "commit", "-qm", "x")
    with pytest.raises(UnsafeArchive, match="the link passwd leads out"):
        fetch(local(tmp_path / "r", git(tmp_path / "r", "rev-parse", "HEAD")), tmp_path / "cache")


def test_subdirectory(tmp_path: Path) -> None:
    rev = repository(tmp_path / "r", {"bindings/torch/pyproject.toml": PYPROJECT})
    fetched = fetch(local(tmp_path / "r", rev, subdirectory="bindings/torch"), tmp_path / "cache")
    assert fetched.build_requires == ("setuptools>=64",)
    assert unpack(fetched, tmp_path / "b") == tmp_path / "b/source/bindings/torch"
    with pytest.raises(SourceError, match="no folder"):
        fetch(local(tmp_path / "r", rev, subdirectory="absent"), tmp_path / "cache")


def test_sha256_repositories(tmp_path: Path) -> None:
    origin = tmp_path / "r"
    origin.mkdir()
    git(origin, "init", "-q", "--object-format=sha256")
    (origin / "setup.py").write_text("x\n")
    git(origin, "add", "-A")
    git(origin, "commit", "-qm", "x")
    rev = git(origin, "rev-parse", "HEAD")
    assert len(rev) == 64
    assert fetch(local(origin, rev), tmp_path / "cache").tree is not None


def test_names_and_words() -> None:
    spec = GitSpec("https://me:secret@git.example/a", "a" * 40, True)
    assert place_name(spec) == place_name(GitSpec("https://git.example/a", "a" * 40, True))
    assert place_name(spec).startswith(f"{'a' * 40}+submodules-")
    words = Git(Path("/r.git")).command(["fetch"])
    assert "core.hooksPath=/dev/null" in words
    assert words[-2:] == ["--git-dir=/r.git", "fetch"]
    env = environment({"GIT_DIR": "/x", "HTTPS_PROXY": "p", "GIT_SSH_COMMAND": "ssh -i k"}, "https:ssh")
    assert (env["HTTPS_PROXY"], env["GIT_SSH_COMMAND"], env["GIT_ALLOW_PROTOCOL"]) == ("p", "ssh -i k", "https:ssh")
    assert "GIT_DIR" not in env
    assert env["GIT_TERMINAL_PROMPT"] == "0"


def test_relative_urls() -> None:
    assert resolve_relative("https://git.example/a/b.git", "../c.git") == "https://git.example/a/c.git"
    assert resolve_relative("https://git.example/a/b/", "./c") == "https://git.example/a/b/c"
    with pytest.raises(SourceError, match="leaves"):
        resolve_relative("https://git.example/a", "../../c")


def test_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "PATH", str(tmp_path))
    with pytest.raises(SourceError, match="git is not on this machine") as caught:
        fetch(GitSpec("https://git.example/a", "a" * 40), tmp_path / "cache")
    assert "apt-get install git" in caught.value.hint
