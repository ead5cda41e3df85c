"""What a repository's branches and tags point to, and whether it has a commit; nothing is checked out."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path

from buildkit.errors import CommitMissing, UsageError
from buildkit.process import redact
from buildkit.source.git import Checkout, fetch_commit
from buildkit.source.git_command import git_for, unreachable
from buildkit.source.spec import FULL_COMMIT, GitSpec, checked_subdirectory, checked_url

_ANSWER_SECONDS = 120.0
_TYPED = re.compile(r"(?:git\+)?(?P<url>[a-z]+://[^/\s]+/[^@#\s]*|[^/@\s]+@[^/:\s]+:[^@#\s]+)(?:@(?P<ref>[^#\s]+))?"
                    r"(?:#(?:subdirectory=)?(?P<inside>\S+))?\Z")  # fmt: skip


def is_git_url(text: str) -> bool:
    """Whether a text is written as a repository's URL, with a commit, tag or branch behind it or without."""
    return _TYPED.match(text) is not None


def pinned(text: str) -> tuple[GitSpec, str]:
    """``URL[@COMMIT|TAG|BRANCH][#subdirectory=DIR]`` with a full commit id, and the ref that it was found by.

    Without a ref it is HEAD's commit. Raises UsageError for a URL that is not fetched from, CommitMissing where
    there is no such ref, IndexUnreachable.
    """
    spec, ref = parsed(text)
    if spec.rev:
        return spec, ""
    url, refs = spec.url, list_refs(spec.url)
    for name in (ref, f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}", f"refs/heads/{ref}"):
        if name in refs:
            return replace(spec, rev=refs[name]), name.removesuffix("^{}")
    raise CommitMissing(
        f"{redact(url)} has no branch or tag {ref!r}",
        evidence=f"its tags: {', '.join(_tags(refs)[-8:]) or 'none'}",
        hint=f"git ls-remote {redact(url)}; a commit needs all of its 40 digits",
    )


def parsed(text: str) -> tuple[GitSpec, str]:
    """The same without asking the repository: no ``rev`` unless it was written in full, and the ref that was typed."""
    match = _TYPED.match(text)
    if match is None:
        raise UsageError(f"{redact(text)!r} is no repository's URL", hint="write https://HOST/PATH@COMMIT")
    url = checked_url(match["url"], UsageError)
    subdirectory = checked_subdirectory(match["inside"] or ".", UsageError)
    ref = match["ref"] or "HEAD"
    rev = ref.lower() if FULL_COMMIT.match(ref.lower()) else ""
    return GitSpec(url, rev, True, subdirectory), ref


def list_refs(url: str, *, local: bool = False) -> dict[str, str]:
    """Commit by ref, with HEAD; of an annotated tag the commit is under ``refs/tags/NAME^{}``."""
    git = git_for(None, url, local=local)
    answer = git.run("ls-remote", "--", url, check=False, timeout=_ANSWER_SECONDS)
    if answer.returncode != 0:
        raise unreachable(url, answer)
    pairs = (line.split("\t", 1) for line in answer.stdout.splitlines() if "\t" in line)
    return {name: commit for commit, name in pairs}


def confirmed(url: str, rev: str, *, local: bool = False) -> tuple[str, ...]:
    """The refs that point to a commit; none where it is there, and no ref points to it any more (it was fetched).

    Raises CommitMissing where the repository does not have it, IndexUnreachable where it does not answer.
    """
    names = tuple(name.removesuffix("^{}") for name, commit in list_refs(url, local=local).items() if commit == rev)
    if not names:
        with tempfile.TemporaryDirectory(prefix="cudabuild-") as scratch:
            fetch_commit(Checkout(url, rev, False, local), Path(scratch))
    return names


def _tags(refs: dict[str, str]) -> list[str]:
    return [name.removeprefix("refs/tags/") for name in refs if name.startswith("refs/tags/") and "^" not in name]
