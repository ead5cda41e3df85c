"""Looking at a machine, everything at once: each part in a thread of its own, those that may be silent with a deadline.

Whatever ``root`` is, the same code looks: at ``/``, or at a tree that a test made.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from buildkit.build.context import Context
from buildkit.build.doctor.seen import Seen, SeenCache, SeenIndex, SeenPython
from buildkit.build.toolkits import damaged_toolkits, with_archives
from buildkit.errors import CudabuildError, MachineError, NoTorch, StoreError
from buildkit.guard.tier import Tier, permitted_tier
from buildkit.machine.compiler import glibc_version, look_at_compiler
from buildkit.machine.gpus import Gpus, visible_gpus
from buildkit.machine.identity import Memo, identity_or_none
from buildkit.machine.interpreter import active_interpreter
from buildkit.machine.limits import read_limits
from buildkit.machine.place import read_surroundings, without_windows_drives
from buildkit.machine.toolkit import look_at_toolkits
from buildkit.machine.torch_identity import identify_torch
from buildkit.machine.windows import Windows, read_windows
from buildkit.source.index_settings import IndexSettings
from buildkit.source.reach import Reach, Remember, no_answer, reach
from buildkit.store.disk import free_bytes
from buildkit.store.model import Entry
from buildkit.store.store import Store

PATIENCE = 0.5
"""Seconds for the index, for Windows and for the guard's supervisor: more would make people wait."""
LONGEST = 10.0
"""Seconds for this machine's own programs (nvidia-smi, nvcc, the compiler, Python), which a cold disk makes slow."""
_GRACE = 0.1
"""Seconds more, in which what took too long is ended and told."""

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Outside:
    """What no root holds: the network, what this system permits, the space on its disks."""

    reach: Callable[[IndexSettings, float, Remember], Reach] = reach
    tier: Callable[[Mapping[str, str], float], Tier] = permitted_tier
    free: Callable[[Path], int] = free_bytes


class _Later(Generic[_Value]):
    """A value that a thread of its own finds out; one that is still at it does not keep the program from ending."""

    def __init__(self, find: Callable[[], _Value]) -> None:
        self._find = find
        self._found: list[_Value] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._found.append(self._find())
        except BaseException as error:  # noqa: BLE001 - raised again where the value is asked for
            self._error = error

    def value(self) -> _Value:
        """What was found; raises what was raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._found[0]

    def value_until(self, deadline: float, otherwise: _Value | CudabuildError) -> _Value:
        """The same by that time of ``time.monotonic``, else ``otherwise``, which is raised if it is an error."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if not self._thread.is_alive():
            return self.value()
        if isinstance(otherwise, CudabuildError):
            raise otherwise
        return otherwise


class Looking:
    """A look that has begun, at everything that bears on building here. ``seen`` waits for it.

    ``root`` is ``/``, or a tree made by a test; ``outside`` is what no root holds.
    """

    def __init__(
        self, context: Context, python: Path | None, *, root: Path = Path("/"), outside: Outside | None = None
    ) -> None:
        outside = outside or Outside()
        self._context, self._root = context, root
        self._surroundings = read_surroundings(context.environ, root=root)
        self._environ, self._skipped = dict(context.environ), 0
        if self._surroundings.wsl2:
            self._environ["PATH"], self._skipped = without_windows_drives(self._environ.get("PATH", ""))
        environ, memo = self._environ, context.memo
        here = replace(context, environ=environ)
        self._deadline = time.monotonic() + PATIENCE + _GRACE
        self._last = time.monotonic() + LONGEST + 10 * _GRACE  # so that nvidia-smi is ended before
        self._index = _Later(lambda: outside.reach(context.index, PATIENCE, partial(_remembered, memo)))
        self._tier = _Later(lambda: outside.tier(environ, PATIENCE))
        self._windows = (
            _Later(lambda: read_windows(environ, memo, root=root, patience=PATIENCE))
            if self._surroundings.wsl2
            else None
        )
        self._notes: list[str] = []
        self._gpus = _Later(lambda: visible_gpus(environ, root=root, patience=LONGEST))
        self._toolkits = _Later(
            lambda: with_archives(look_at_toolkits(environ, memo, root=root, notes=self._notes), here)
        )
        self._damaged = _Later(lambda: damaged_toolkits(here))
        self._compiler = _Later(lambda: look_at_compiler(environ, memo))
        self._python = _Later(lambda: _python(here, python))
        self._cache = _Later(lambda: _cache(context, outside.free))

    def seen(self) -> Seen:
        """What was found. Never raises for what is missing: ``troubles`` holds it."""
        troubles: dict[str, CudabuildError] = {}
        late = Reach("silent", no_answer(LONGEST), slow=True)
        unknown = Tier(None, None, f"not found out within {PATIENCE:g} s")
        windows, deadline = self._windows, self._deadline
        toolkits = self._part("toolkits", self._toolkits, troubles)
        return Seen(
            root=self._root,
            surroundings=self._surroundings,
            skipped=self._skipped,
            limits=read_limits(self._environ, root=self._root),
            glibc=_or_none("glibc", lambda: glibc_version(self._root), troubles),
            gpus=self._gpus.value_until(self._last, _silent_driver()),
            python=self._part("python", self._python, troubles),
            toolkits=tuple(toolkits or ()),
            toolkit_notes=tuple(self._notes),
            damaged_toolkits=self._damaged.value_until(self._last, {}),
            compiler=self._part("compiler", self._compiler, troubles),
            cache=self._cache.value(),
            index=SeenIndex(self._context.index.described(), self._index.value_until(self._last, late)),
            tier=self._tier.value_until(deadline, unknown),
            windows=windows.value_until(deadline, Windows(None, None)) if windows else None,
            exported=self._environ.get("TORCH_CUDA_ARCH_LIST"),
            troubles=troubles,
        )

    def _part(self, name: str, part: _Later[_Value], troubles: dict[str, CudabuildError]) -> _Value | None:
        """A part by the last moment; None where it is missing or silent, which ``troubles`` then says."""
        return _or_none(name, lambda: part.value_until(self._last, _silent(name)), troubles)


_ASKED = {"python": "The Python here", "toolkits": "An nvcc here", "compiler": "The C++ compiler here"}


def _silent(name: str) -> MachineError:
    return MachineError(
        f"{_ASKED[name]} did not answer within {LONGEST:g} s.",
        hint="cudabuild doctor   # once more, if a disk was slow; else see whether it answers --version",
    )


def _silent_driver() -> Gpus:
    text = f"NVIDIA's driver did not answer within {LONGEST:g} s."
    return Gpus((), None, "none", (text,), silent=text)


def _or_none(name: str, find: Callable[[], _Value], troubles: dict[str, CudabuildError]) -> _Value | None:
    try:
        return find()
    except CudabuildError as error:
        troubles[name] = error
        return None


def _remembered(memo: Memo, kind: str, file: Path, find: Callable[[], str]) -> str:
    identity = identity_or_none(file)
    known = memo.get(kind, str(file), identity)
    if isinstance(known, str):
        return known
    found = find()
    memo.put(kind, str(file), identity, found)
    return found


def _python(context: Context, python: Path | None) -> SeenPython:
    found = active_interpreter(python, context.environ, context.cwd, context.memo)
    setuptools = _setuptools(found.site_packages)
    try:
        return SeenPython(found, identify_torch(found.site_packages), setuptools)
    except NoTorch as error:
        return SeenPython(found, None, setuptools, error)


def _setuptools(folders: tuple[Path, ...]) -> str | None:
    """The version of the setuptools that is installed, by the name of its metadata's folder."""
    for folder in folders:
        for place in folder.glob("setuptools-*-info"):
            if found := re.match(r"setuptools-(\d[\w.]*?)(-py[\d.]+)?\.(dist|egg)-info$", place.name):
                return found[1]
    return None


def _cache(context: Context, free: Callable[[Path], int]) -> SeenCache:
    folder = context.places.cache
    # os.path's, which takes a folder that may not be looked into for one that is not there.
    existing = next(place for place in (folder, *folder.parents) if os.path.exists(place))  # noqa: PTH110
    is_folder = existing.is_dir()
    writable = is_folder and os.access(existing, os.W_OK | os.X_OK)
    try:
        entries = list(context.store.entries())
    except StoreError as error:
        return SeenCache(folder, free(folder), is_folder, writable, 0, (), error)
    return SeenCache(folder, free(folder), is_folder, writable, len(entries), tuple(_damaged(context.store, entries)))


def _damaged(store: Store, entries: list[Entry]) -> Iterator[str]:
    """Wheels that are not there or have another size; none is read."""
    yield from (entry.filename for entry in entries if _size(store.wheel(entry)) != entry.size)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
