"""Rewriting: text replaced in a source's files wherever it stands, links and folders of version control left out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from buildkit.errors import PatchFailed
from buildkit.recipe.model import Rewrite

_NEVER = {".git", ".hg", ".svn"}


def rewrite(tree: Path, what: Rewrite) -> dict[str, int]:
    """Replace ``what.find`` in all files that its globs name; how often, by file (relative to ``tree``, sorted).

    Bytes that are no UTF-8 stay as they are, and so do line ends. Raises PatchFailed where a file cannot be read or
    written.
    """
    find = re.compile(what.find, re.MULTILINE)
    changed: dict[str, int] = {}
    for path in sorted(set(_files(tree, what.files))):
        name = str(path.relative_to(tree))
        try:
            text = path.read_bytes().decode("utf-8", "surrogateescape")
            dos = "\r\n" in text and text.count("\r\n") == text.count("\n")  # else `$` would find no end of a line
            text, count = find.subn(lambda _: what.replace, text.replace("\r\n", "\n") if dos else text)
            if count:
                text = text.replace("\n", "\r\n") if dos else text
                path.write_bytes(text.encode("utf-8", "surrogateescape"))
                changed[name] = count
        except OSError as error:
            raise PatchFailed(f"{name} cannot be rewritten: {error.strerror}", evidence=str(error)) from error
    return changed


def _files(tree: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    """Regular files that lie in the tree themselves: nothing is written through a link."""
    for folder, folders, names in os.walk(tree):
        folders[:] = [name for name in folders if name not in _NEVER]
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink() and _named(path.relative_to(tree), patterns):
                yield path


def _named(path: Path, patterns: tuple[str, ...]) -> bool:
    return any(_glob(pattern).fullmatch(path.as_posix()) for pattern in patterns)


def _glob(pattern: str) -> re.Pattern[str]:
    """``**/`` is any number of folders, ``*`` and ``?`` stay within a name (as ``PurePath.full_match`` of 3.13)."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    meaning = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(meaning.get(part) or re.escape(part) for part in parts))
