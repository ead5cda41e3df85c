"""Which server a command is for: ``--server URL`` anywhere in it, CUDABUILD_SERVER, the setting ``server``.

Nothing but the standard library is imported until there is a file of settings to read: every command asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

OPTION = "--server"
VARIABLE = "CUDABUILD_SERVER"
NONE = "none"
"""What is typed to have it done on this machine all the same."""
REMOTE = frozenset({"build", "install", "plan", "log", "cancel", "report", "recipes"})
"""Commands that a server can do."""
_LOCAL_RECIPES = frozenset({"check", "test", "new", "schema"})


class Wanted(NamedTuple):
    """The words without the option, and the server: None where none was named so far, empty for this machine."""

    words: tuple[str, ...]
    server: str | None
    typed: bool

    @property
    def remote(self) -> bool:
        """Whether a server is asked. Where its name was typed, it is asked for what it cannot do, too."""
        return bool(self.server) and (self.typed or can_be_remote(self.words))


def wanted(words: Sequence[str], environ: Mapping[str, str]) -> Wanted:
    """What was typed over what the variable says; a variable that is set and empty means this machine."""
    rest, typed = _taken_out(words)
    named = environ.get(VARIABLE) if typed is None else typed
    if named is not None and named.strip().lower() in {"", NONE}:
        named = ""
    return Wanted(rest, named.strip() if named is not None else None, typed is not None)


def with_setting(asked: Wanted, environ: Mapping[str, str]) -> Wanted:
    """The server that the configuration file names, where nothing else named one and the command can use it.

    What is wrong with the file the command itself tells.
    """
    if asked.server is not None or not can_be_remote(asked.words):
        return asked
    from buildkit.cli.settings import load_settings
    from buildkit.errors import CudabuildError

    with suppress(CudabuildError):
        return asked._replace(server=load_settings(environ).server)
    return asked


def can_be_remote(words: Sequence[str]) -> bool:
    """Whether a server can do what these words say; what is no command is a package to build."""
    from buildkit.cli.commands import COMMANDS

    if not words or words[0] in {"-h", "--help", "--version"}:
        return False
    if words[0] == "recipes":
        return not _LOCAL_RECIPES.intersection(words[1:2])
    return words[0] in REMOTE or words[0] not in COMMANDS


def _taken_out(words: Sequence[str]) -> tuple[tuple[str, ...], str | None]:
    """The last one counts. Without its value it stays, and click complains."""
    rest: list[str] = []
    found: str | None = None
    todo = list(words)
    while todo:
        word = todo.pop(0)
        if word == "--":
            return (*rest, word, *todo), found
        if word == OPTION and todo:
            found = todo.pop(0)
        elif word.startswith(f"{OPTION}="):
            found = word.partition("=")[2]
        else:
            rest.append(word)
    return tuple(rest), found
