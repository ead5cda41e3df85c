"""What every step of a build needs beside the request: folders, settings of the index, memory of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from buildkit.build.installer import Installer, find_uv
from buildkit.build.places import Places
from buildkit.machine.identity import Memo
from buildkit.progress import Reporter
from buildkit.source.index_settings import IndexSettings
from buildkit.store import in_use
from buildkit.store.store import Store

if TYPE_CHECKING:
    from buildkit.build.second_level import SharedStores


class WouldInstall(Exception):
    """A plan cannot go on without installing something, and was told not to."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


@dataclass(frozen=True)
class Context:
    """Made once per command by the command line."""

    places: Places
    memo: Memo
    store: Store
    index: IndexSettings
    reporter: Reporter
    environ: Mapping[str, str]
    cwd: Path
    offline: bool = False
    may_install: bool = True
    """False for ``--plan``: say what would be installed instead of installing it."""
    shared: SharedStores | None = None
    """A store that is asked for what this one does not have."""
    archives: str | None = None
    """Where archives of CUDA toolkits are; None: where NVIDIA has them."""

    def hold(self, thing: Path) -> None:
        """Keep a part of the cache, there or still to be made, from being cleared until this process ends."""
        in_use.hold(self.places.in_use, thing)

    def installer(self, log: IO[str] | None = None) -> Installer:
        """uv with this command's settings."""
        self.hold(self.places.uv_cache)
        return Installer(find_uv(), self.index, self.places.uv_cache, base=self.environ, offline=self.offline, log=log)
