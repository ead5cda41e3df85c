"""The commands that mend an installed package, quoted for a shell. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from buildkit.machine.arch import Target


@dataclass(frozen=True)
class Origin:
    """Where a package can be had from again, as far as is known.

    ``recipe`` is the recipe's name, ``recipes`` the folder to name for it (empty: it is found without), ``wheel`` the
    file it was installed from (only while it is there), ``folder`` the project it was built from, ``git`` address and
    commit.
    """

    name: str
    version: str
    recipe: str = ""
    recipes: str = ""
    wheel: str = ""
    folder: str = ""
    git: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Mender:
    """Makes commands for one package in one environment.

    ``python`` is the environment's folder, ``uv`` the installer to name, ``targets`` what to build for by default.
    """

    origin: Origin
    python: str
    uv: str = "uv"
    targets: tuple[Target, ...] = field(default=())

    def rebuild(self, *, device: Literal["cuda", "cpu"] = "cuda", targets: Sequence[Target] = ()) -> str:
        """Build it for the torch that is here, and install it in place of what is there."""
        origin = self.origin
        words = ["--python", self.python]
        if origin.recipes and origin.recipe:
            words += ["--recipes", origin.recipes]
        wanted = ";".join(map(str, targets or self.targets))
        words += ["--device", "cpu"] if device == "cpu" else ["--target", wanted or "all"]
        address, commit = origin.git
        if not origin.recipe and not origin.folder and address:
            fetch = f"git clone {shlex.quote(address)} {shlex.quote(origin.name)}"
            checkout = f"git -C {shlex.quote(origin.name)} checkout {shlex.quote(commit)}" if commit else ""
            install = shlex.join(["cudabuild", "install", f"./{origin.name}", *words])
            return " && ".join(step for step in (fetch, checkout, install) if step)
        what = origin.recipe or origin.folder or f"pypi:{origin.name}=={origin.version.partition('+')[0]}"
        return shlex.join(["cudabuild", "install", what, *words])

    def reinstall(self) -> str:
        """Put the same files there again; where the wheel is gone, build it again."""
        if not self.origin.wheel:
            return self.rebuild()
        # uv links what it installs to its cache: whoever wrote into a file has written into the cache as well.
        options = ["--no-cache", "--no-deps", "--reinstall-package", self.origin.name]
        return shlex.join([*self._pip("install"), *options, self.origin.wheel])

    def uninstall(self) -> str:
        """Take it away by its own RECORD."""
        return shlex.join([*self._pip("uninstall"), self.origin.name])

    def require(self, requirement: str) -> str:
        """Install what a requirement asks for."""
        return shlex.join([*self._pip("install"), requirement])

    def _pip(self, verb: str) -> list[str]:
        return [self.uv, "pip", verb, "--python", self.python]


def remove(paths: Iterable[str]) -> str:
    """Delete leftovers that no installer knows any more."""
    return shlex.join(["rm", "-r", "--", *paths])
