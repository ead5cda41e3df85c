"""Where things lie: the cache's folders, and the work folder for what a build sees the path of.

Some paths break builds: torch drops every ``-gencode`` when a flag contains the letters ``arch`` (an
include path too), and many makefiles split at blanks and colons. Where the cache has such a path, builds,
environments and toolkits lie in ``/var/tmp`` instead.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from buildkit.errors import StoreError
from buildkit.store.disk import disk_causes

_PLAIN = re.compile(r"/[A-Za-z0-9/._+@-]*")
_MADE = frozenset({
    "CACHEDIR.TAG", "borrowed", "builds", "downloads", "environments", "home", "in-use", "locks", "logs", "matrix",
    "memo", "native", "profiles", "pycache", "receipts", "service", "shims", "sources", "store", "toolkits", "torch",
    "uv", "views", "wheels",
})  # fmt: skip
"""All that cudabuild makes in a cache's folder, but for folders of the moment."""
_SCRATCH = re.compile(r"\.|(?:fetch|import|inspect|install|proof|prove|shared|verify)-[a-z0-9_]{8}$")
_OTHER = (
    "set CUDABUILD_CACHE to a folder with a plain path (letters, digits and . _ - only, without the letters `arch`)"
)


@dataclass(frozen=True)
class Places:
    """The folders of one cache. Nothing is made here but the work folder outside of the cache."""

    cache: Path
    elsewhere: Path = field(default=Path("/var/tmp"))  # noqa: S108
    """Where the work folder goes if the cache's own path would break builds."""

    @property
    def store(self) -> Path:
        """Wheels, their entries and the records of builds."""
        return self.cache / "store"

    def foreign(self) -> list[str]:
        """Names in the cache's folder that cudabuild does not make: it is somebody's folder for other things, too."""
        found = (path.name for path in self.cache.iterdir()) if self.cache.is_dir() else ()
        return sorted(
            name for name in found if name.removesuffix(".manifest.json") not in _MADE and not _SCRATCH.match(name)
        )

    @property
    def hidden(self) -> tuple[Path, ...]:
        """What no build may even see: a wheel made from other builds' wheels would not be what its key says."""
        return (self.store, self.wheels)

    @property
    def sources(self) -> Path:
        """Fetched sources, as they came."""
        return self.cache / "sources"

    @property
    def memo(self) -> Path:
        """Answers remembered by file identity."""
        return self.cache / "memo"

    @property
    def pycache(self) -> Path:
        """Byte code of everything that is not ours (PYTHONPYCACHEPREFIX)."""
        return self.cache / "pycache"

    @property
    def wheels(self) -> Path:
        """Wheels that were handed out without ``--out``, under their own names."""
        return self.cache / "wheels"

    @property
    def logs(self) -> Path:
        """Logs of builds."""
        return self.cache / "logs"

    @property
    def matrix(self) -> Path:
        """Runs of matrices: what became of each cell, and what its builds said."""
        return self.cache / "matrix"

    @property
    def in_use(self) -> Path:
        """A lock for each thing that a command may use: see :mod:`buildkit.store.in_use`."""
        return self.cache / "in-use"

    @property
    def downloads(self) -> Path:
        """What has come of large files, until all of it is used."""
        return self.cache / "downloads"

    @property
    def locks(self) -> Path:
        """Build requirements as they were resolved."""
        return self.cache / "locks"

    @property
    def uv_cache(self) -> Path:
        """uv's own cache."""
        return self.cache / "uv"

    @cached_property
    def work(self) -> Path:
        """The folder for what a build sees the path of; the cache itself where its path is harmless.

        Otherwise it is made, for this user alone. Raises StoreError if it is another user's or open to others.
        """
        real = Path(os.path.realpath(self.cache))
        if is_harmless(real):
            return real
        own = self.elsewhere / f"cudabuild-{os.getuid()}"
        _make_private(own)
        work = own / hashlib.sha256(os.fsencode(real)).hexdigest()[:16]
        _make_private(work)
        return work

    @property
    def builds(self) -> Path:
        """One folder a key, where its package is built."""
        return self.work / "builds"

    @property
    def environments(self) -> Path:
        """Environments of build requirements."""
        return self.work / "environments"

    @property
    def toolkits(self) -> Path:
        """Toolkits made from wheels and from archives."""
        return self.work / "toolkits"

    @property
    def views(self) -> Path:
        """Toolkits as builds see them."""
        return self.work / "views"

    @property
    def shims(self) -> Path:
        """Folders of shims in front of compilers, one for each set of compilers."""
        return self.work / "shims"

    @property
    def profiles(self) -> Path:
        """What units needed before, by package."""
        return self.cache / "profiles"

    @property
    def borrowed(self) -> Path:
        """Links to the torch of active environments and what it requires."""
        return self.work / "borrowed"

    @property
    def torch(self) -> Path:
        """Installed torches."""
        return self.work / "torch"


def is_harmless(path: Path) -> bool:
    """Whether compilers, makefiles and torch can live with this absolute path."""
    return _PLAIN.fullmatch(str(path)) is not None and "arch" not in str(path).lower()


def _make_private(folder: Path) -> None:
    """Make a folder that only this user can enter, or find that it is one."""
    with disk_causes(folder.parent, hint=_OTHER):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            _check_private(folder)


def _check_private(folder: Path) -> None:
    # /var/tmp is open to all: somebody could have been there first, with a link or a folder of theirs.
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise StoreError(
            f"{folder} is not a folder of yours",
            evidence=f"it belongs to user {status.st_uid} ({stat.filemode(status.st_mode)})",
            hint=_OTHER,
        )
    if status.st_mode & 0o077:
        folder.chmod(0o700)
