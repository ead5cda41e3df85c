"""Where the kernel permits no namespaces, nothing keeps a build from writing where it should not: it is detected.

What the build could reach and must not change is recorded before and compared after. What is shared and was
changed is removed, so that the next build makes it again; what is the person's own is named. It takes about a
second, so it is done only where the guard cannot isolate.
"""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from buildkit.build.context import Context
from buildkit.build.prepare import Prepared
from buildkit.build.torches import manifest_of
from buildkit.errors import EnvironmentChanged
from buildkit.guard.supervise import run_guarded
from buildkit.machine.identity import hash_file
from buildkit.machine.interpreter import Interpreter
from buildkit.machine.manifest import check_manifest, shared_changes

_SETTINGS = (
    ".pydistutils.cfg", ".pypirc", ".netrc", ".condarc", ".gitconfig", ".profile", ".bashrc", ".bash_profile", ".zshrc",
    ".pip/pip.conf", ".config/pip/pip.conf", ".config/uv/uv.toml", ".config/git/config", ".ssh/config",
    ".ssh/authorized_keys",
)  # fmt: skip
"""What decides how this person's programs behave, and what programs do not write by themselves."""

_HINT = (
    "build this package where namespaces are permitted, so that it cannot write there "
    "(docker run --cap-add SYS_ADMIN; or as a user who may make user namespaces)"
)

State = tuple[int, int, int, int, int]
"""Mode, size, modification time, inode, and the change time of a file that has one name only."""


def isolates(writable: Sequence[Path], protected: Sequence[Path], hidden: Sequence[Path]) -> bool:
    """Whether the guard can give a command its own view of the file system here: asked by running one."""
    with Path(os.devnull).open("wb") as log:
        outcome = run_guarded(
            ["/bin/sh", "-c", ":"],
            cwd=Path("/"),
            env={},
            log=log,
            deadline=None,
            stall=None,
            writable=writable,
            protected=protected,
            scratch=None,
            on_line=lambda _line: None,
            on_sample=lambda _sample: None,
            hidden=hidden,
        )
    return outcome.isolation == "namespace"


@dataclass(frozen=True)
class Unguarded:
    """What was recorded before a build. ``managed`` folders have their manifest beside them."""

    managed: tuple[Path, ...]
    views: Mapping[Path, Mapping[str, State]]
    own: Mapping[Path, Mapping[str, State]]
    settings: Mapping[Path, str | None]
    uv_cache: Path

    def check(self) -> None:
        """Raise EnvironmentChanged naming the first change; everything shared that was changed is removed first."""
        problems = [*self._shared(), *self._own()]
        if problems:
            raise problems[0]

    def _shared(self) -> list[EnvironmentChanged]:
        found = [(folder, evidence) for folder in self.managed if (evidence := discard_changed(folder, self.uv_cache))]
        for folder, before in self.views.items():
            if evidence := _difference(before, _states(folder)):
                shutil.rmtree(folder, ignore_errors=True)
                found.append((folder, evidence))
        message = "the build wrote into {}, which other builds use; it was removed, and is made again when it is needed"
        return [EnvironmentChanged(message.format(each), evidence=what, hint=_HINT) for each, what in found]

    def _own(self) -> list[EnvironmentChanged]:
        problems = []
        for folder, before in self.own.items():
            if evidence := _difference(before, _states(folder)):
                problems.append(_yours(f"the build changed {folder}", evidence))
        for path, content in self.settings.items():
            if _content(path) != content:
                problems.append(_yours("the build changed your settings", f"a file was changed: {path}"))
        return problems


def record(prepared: Prepared, context: Context, environment: Path, view: Path | None) -> Unguarded:
    """Record everything for one build; ``environment`` and ``view`` are the build's own."""
    survey = prepared.survey
    toolkits = (survey.toolkit.toolkit, *survey.toolkit.fill) if survey.toolkit else ()
    managed = [environment, *managed_folders(survey.torch.location, context.places.torch)]
    own = {*_environment(survey.machine.python), survey.torch.location}
    for toolkit in toolkits:
        managed += managed_folders(toolkit.root, context.places.toolkits)
        if not toolkit.layout.shared:
            own.add(toolkit.root)
    ours = (context.places.cache, context.places.work)
    kept = [folder for folder in own if not any(folder.is_relative_to(place) for place in ours)]
    kept = [folder for folder in kept if not any(other in folder.parents for other in kept)]
    return Unguarded(
        managed=tuple(dict.fromkeys(managed)),
        views={view: _states(view)} if view is not None else {},
        own={folder: _states(folder) for folder in kept},
        settings={path: _content(path) for path in _settings()},
        uv_cache=context.places.uv_cache,
    )


def managed_folders(place: Path, parent: Path) -> list[Path]:
    """The folder directly below ``parent`` that holds ``place``, if it has a manifest."""
    return [each for each in (place, *place.parents) if each.parent == parent and manifest_of(each).is_file()]


def _environment(python: Interpreter) -> tuple[Path, ...]:
    """A virtual or conda environment as a whole; of a system's Python, what is installed into it."""
    closed = any((python.prefix / sign).exists() for sign in ("pyvenv.cfg", "conda-meta"))
    return (python.prefix,) if closed else python.site_packages


def _settings() -> Iterator[Path]:
    """In the home folder that the system knows, which HOME does not hide."""
    with suppress(KeyError):
        home = Path(pwd.getpwuid(os.getuid()).pw_dir)
        yield from (home / name for name in _SETTINGS)


def _content(path: Path) -> str | None:
    try:
        return hash_file(path)
    except OSError:
        return None


def discard_changed(folder: Path, uv_cache: Path) -> str:
    """Remove a managed folder that is no longer what was installed; returns what changed, or an empty text.

    Its files share their bytes with uv's cache: what was written into one was written into the other, so the
    cached package goes as well.
    """
    manifest = manifest_of(folder)
    try:
        check_manifest(folder, manifest)
    except EnvironmentChanged as error:
        _forget_packages(shared_changes(folder, manifest), uv_cache)
        manifest.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        return error.evidence
    return ""


def _forget_packages(inodes: set[tuple[int, int]], uv_cache: Path) -> None:
    """Remove the unpacked packages in uv's cache that hold one of these files."""
    for package in uv_cache.glob("archive-v*/*") if inodes else ():
        for top, _folders, files in os.walk(package):
            if any((found.st_dev, found.st_ino) in inodes for name in files for found in [os.lstat(f"{top}/{name}")]):
                shutil.rmtree(package, ignore_errors=True)
                break


def _states(folder: Path) -> dict[str, State]:
    """Every file and link below a folder."""
    found: dict[str, State] = {}
    for top, folders, files in os.walk(folder):
        for name in (*files, *(each for each in folders if os.path.islink(f"{top}/{each}"))):  # noqa: PTH114
            with suppress(OSError):
                status = os.lstat(f"{top}/{name}")
                # A further hard link changes the change time, and nothing of the file.
                changed = status.st_ctime_ns if status.st_nlink == 1 else 0
                numbers = (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ino, changed)
                found[f"{top}/{name}"] = numbers
    return found


def _difference(before: Mapping[str, State], after: Mapping[str, State]) -> str:
    """The first difference in words, or an empty text."""
    changes: Iterable[tuple[str, Iterable[str]]] = (
        ("added", (name for name in sorted(after) if name not in before)),
        ("removed", (name for name in sorted(before) if name not in after)),
        ("changed", (name for name in sorted(before) if name in after and _changed(before[name], after[name]))),
    )
    return next((f"a file was {how}: {name}" for how, names in changes for name in names), "")


def _changed(before: State, after: State) -> bool:
    return before[:4] != after[:4] or (before[4] != after[4] and 0 not in {before[4], after[4]})


def _yours(message: str, evidence: str) -> EnvironmentChanged:
    return EnvironmentChanged(message, evidence=evidence, hint=f"put it back as it was; then {_HINT}")
