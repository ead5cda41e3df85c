"""Patches: applied by ``git apply`` outside of any repository, whole or not at all, never beyond the tree."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from buildkit import process
from buildkit.errors import PatchFailed, SourceError
from buildkit.source.git_command import environment

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_REFUSED_AT = re.compile(r"^error: patch failed: (?P<file>.+):(?P<line>\d+)$", re.MULTILINE)
_LINK_MODE = re.compile(r"^(?:new|old|new file|deleted file) (?:mode )?1[26]0000|^index \S+ 1[26]0000$", re.MULTILINE)


@dataclass(frozen=True)
class Hunk:
    """One hunk of a unified diff: its file, its number in that file (from 1), its ``@@`` line."""

    file: str
    number: int
    header: str
    start: int
    line: int
    """The number of its ``@@`` line in the patch file."""


def apply_diff(tree: Path, patch_file: Path) -> bool:
    """Apply a unified diff (``-p1``), whole or not at all; False where all of it is in the source already.

    Raises :class:`PatchFailed` naming file and hunk.
    """
    try:
        text = patch_file.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise PatchFailed(f"the patch {_shown(patch_file)} cannot be read", evidence=str(error)) from error
    hunks = parse_hunks(text)
    _refuse_outside(tree, patch_file, text, hunks)
    whole = str(patch_file.resolve())
    for words in (["--check"], []):
        done = _git_apply(tree, [*words, "--", whole])
        if done.returncode != 0:
            if hunks and _git_apply(tree, ["--check", "--reverse", "--", whole]).returncode == 0:
                return False
            raise _failure(patch_file, hunks, done.stderr)
    return True


def parse_hunks(text: str) -> list[Hunk]:
    """The hunks of a patch, in order."""
    hunks: list[Hunk] = []
    old = file = ""
    count = left_old = left_new = 0
    for number, line in enumerate(text.splitlines(), start=1):
        if left_old > 0 or left_new > 0:
            left_old -= line.startswith((" ", "-")) or line == ""
            left_new -= line.startswith((" ", "+")) or line == ""
        elif line.startswith("--- "):
            old = _file_name(line)
        elif line.startswith("+++ "):
            new = _file_name(line)
            file, count = (old if new == "/dev/null" else new), 0
        elif match := _HUNK.match(line):
            count += 1
            left_old, left_new = (int(size) if size is not None else 1 for size in (match[2], match[4]))
            hunks.append(Hunk(file, count, line, int(match[1]), number))
    return hunks


def _file_name(line: str) -> str:
    name = line[4:].split("\t", maxsplit=1)[0].strip()
    return name if name == "/dev/null" else name.partition("/")[2] or name


def _git_apply(tree: Path, words: list[str]) -> process.Completed:
    real = Path(os.path.realpath(tree))
    # No repository, neither above the tree nor in it, whose settings could name programs to run on its files;
    # and nobody's settings for whitespace.
    env = {
        **environment(os.environ, ""),
        "GIT_DIR": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_COUNT": "0",
    }
    command = ["git", "apply", "-p1", "--whitespace=nowarn", *words]
    try:
        return process.run(command, cwd=real, env=env, check=False)
    except process.ProgramMissing as error:
        raise SourceError("git is not on this machine, and patches need it", hint="sudo apt-get install git") from error


def _refuse_outside(tree: Path, patch_file: Path, text: str, hunks: list[Hunk]) -> None:
    """git refuses ``..`` and paths behind links; said here with our words, and links in patches besides."""
    if _LINK_MODE.search(text):
        raise PatchFailed(f"{_shown(patch_file)} makes or changes a link", hint="a patch may only change files")
    for hunk in hunks:
        path = PurePosixPath(hunk.file)
        parents = [tree / parent for parent in path.parents if str(parent) != "."]
        if path.is_absolute() or ".." in path.parts or any(p.is_symlink() for p in (tree / path, *parents)):
            raise PatchFailed(
                f"{_shown(patch_file)} would write outside the source",
                evidence=f"+++ {hunk.file}, through a link or ..",
            )


def _failure(patch_file: Path, hunks: list[Hunk], stderr: str) -> PatchFailed:
    match = _REFUSED_AT.search(stderr)
    name = _shown(patch_file)
    hint = "the source has changed since the patch was made: renew it, or narrow its `when`"
    if match is None:
        lines = [line.removeprefix("error: ") for line in stderr.splitlines() if line.startswith(("error:", "fatal:"))]
        return PatchFailed(
            f"{name} does not apply: {lines[0] if lines else 'git apply failed'}", evidence=stderr, hint=hint
        )
    file, line = match["file"], int(match["line"])
    hunk = next((h for h in hunks if h.file == file and h.start == line), None)
    where = f"hunk {hunk.number} ({hunk.header})" if hunk else f"the hunk at line {line}"
    evidence = f"{name}:{hunk.line}: {hunk.header}" if hunk else match[0]
    return PatchFailed(f"{name} does not apply: file {file}, {where}", evidence=evidence, hint=hint)


def _shown(patch_file: Path) -> str:
    return f"{patch_file.parent.name}/{patch_file.name}"
