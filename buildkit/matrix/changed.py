"""Which packages of a matrix have changes since a revision, by git."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from buildkit.errors import UsageError
from buildkit.matrix.packages import Wanted
from buildkit.process import ProgramFailed, ProgramMissing, run

_ENGLISH = {"LC_ALL": "C.UTF-8", "LANGUAGE": ""}


def changed_since(revision: str, packages: list[Wanted]) -> set[tuple[str, str]]:
    """Recipe and version of those whose files are other ones than at the revision, uncommitted and new files included.

    What lies in no git checkout (recipes that came with cudabuild, index names) has no changes. Raises UsageError for
    a revision that a checkout does not know, and for a checkout that git does not read.
    """
    answers: dict[Path, bool] = {}
    found = set()
    for one in packages:
        if one.folder is None:
            continue
        if one.folder not in answers:
            answers[one.folder] = _has_changes(one.folder, revision)
        if answers[one.folder]:
            found.add((one.recipe, one.version))
    return found


def _has_changes(folder: Path, revision: str) -> bool:
    if not _is_tracked(folder):
        return False
    return bool(
        _git(folder, "diff", "--name-only", "--end-of-options", f"{revision}^{{commit}}", "--", ".")
        or _git(folder, "ls-files", "--others", "--exclude-standard", "--", ".")
    )


def _is_tracked(folder: Path) -> bool:
    try:
        words = ["git", "-C", str(folder), "rev-parse", "--is-inside-work-tree"]
        answer = run(words, env={**os.environ, **_ENGLISH}, check=False)
    except ProgramMissing as error:
        hint = "sudo apt-get install git (dnf install git, conda install git)"
        raise UsageError("--changed-since asks git, which is not here", evidence=error.evidence, hint=hint) from error
    if answer.returncode and "not a git repository (or any" not in answer.stderr:
        # Such as a checkout of another user, which git refuses to read: to call it unchanged would build nothing.
        hint = f"git -C {shlex.quote(str(folder))} status"
        raise UsageError(f"--changed-since: git cannot read {folder}", evidence=answer.stderr.strip(), hint=hint)
    return answer.returncode == 0 and answer.stdout.strip() == "true"


def _git(folder: Path, *words: str) -> str:
    try:
        return run(["git", "-C", str(folder), *words], env={**os.environ, **_ENGLISH}).stdout.strip()
    except ProgramFailed as error:
        revision = next((word for word in words if word.endswith("^{commit}")), "").removesuffix("^{commit}")
        raise UsageError(
            f"--changed-since {revision}: git does not know it in {folder}",
            evidence=error.evidence,
            hint="name a commit, a branch or a tag; a shallow clone in CI needs its history (fetch-depth: 0)",
        ) from error
