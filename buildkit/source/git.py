"""git sources: one commit by its full id, shallow where the server allows it, submodules under the same rules.

Kept as a tree without ``.git`` in ``CACHE/sources/git/REV[+submodules]-URLHASH/tree``; its content hash is
computed again each time it is used. Two things follow. A project that takes its version from git history
(setuptools-scm) needs SETUPTOOLS_SCM_PRETEND_VERSION in its recipe's ``[build.env]``. Files that git-lfs
would download stay the small pointer files that are committed; the note of the fetched source says so.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from buildkit import process
from buildkit.errors import CommitMissing, NotCached, SourceError, UsageError
from buildkit.process import redact
from buildkit.progress import Reporter
from buildkit.source import metadata
from buildkit.source.cached import SourceRecord, discard, publish, read_record, staging, write_record
from buildkit.source.fetched import FetchedSource, from_record
from buildkit.source.git_command import FETCH_SECONDS, Git, git_for, unreachable
from buildkit.source.index_settings import without_credentials
from buildkit.source.spec import FULL_COMMIT, GitSpec, checked_url
from buildkit.source.tree import refuse_links_out, tree_sha256, walk

_DEEPEST = 8
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def fetch_git(spec: GitSpec, *, cache: Path, offline: bool, reporter: Reporter) -> FetchedSource:
    """From the cache (rehashed), else from the repository.

    Raises :class:`NotCached`, :class:`CommitMissing`, :class:`IndexUnreachable` (the host did not answer, or
    refused), :class:`SourceError` for a URL that is not allowed or a submodule that cannot be had.
    """
    if not FULL_COMMIT.match(spec.rev):
        raise SourceError(f"{spec.rev!r} is not a full commit id", hint=f"git ls-remote {redact(spec.url)}")
    place = cache / "sources" / "git" / place_name(spec)
    found = _cached(place, spec, reporter)
    if found is not None:
        return found
    if offline:
        raise NotCached(
            f"commit {spec.rev[:12]} of {redact(spec.url)} is not in the cache, and --offline forbids to fetch it",
            hint="run `cudabuild fetch` with the same names where there is a network",
        )
    reporter.note(f"fetching {spec.rev[:12]} of {redact(spec.url)}")
    with staging(place.parent) as folder:
        tree = folder / "tree"
        check_out(Checkout(spec.url, spec.rev, spec.submodules, spec.local), tree, folder / "repositories")
        shutil.rmtree(folder / "repositories")
        refuse_links_out(tree)
        project = tree / spec.subdirectory
        said = metadata.of_folder(project, where=f"{redact(spec.url)} at {spec.rev[:12]}")
        record = SourceRecord(
            kind="git",
            name=said.name,
            version=said.version,
            sha256=tree_sha256(tree),
            origin=f"{redact(spec.url)}@{spec.rev}",
            build_requires=said.build_requires,
            build_backend=said.build_backend,
            notes=_pointer_notes(tree),
        )
        write_record(folder, record)
        publish(folder, place)
    return from_record(record, place, spec.subdirectory)


def place_name(spec: GitSpec) -> str:
    """The cache folder's name: commit, submodules, and the URL and subdirectory (credentials do not matter)."""
    where = f"{without_credentials(spec.url)}#{spec.subdirectory}"
    return f"{spec.rev}{'+submodules' if spec.submodules else ''}-{hashlib.sha256(where.encode()).hexdigest()[:16]}"


def _cached(place: Path, spec: GitSpec, reporter: Reporter) -> FetchedSource | None:
    record = read_record(place)
    if record is not None and (place / "tree").is_dir() and tree_sha256(place / "tree") == record.sha256:
        return from_record(record, place, spec.subdirectory)
    if place.exists():
        reporter.warn(f"the cached tree of {spec.rev[:12]} is damaged; it is fetched again")
        discard(place)
    return None


@dataclass(frozen=True)
class Checkout:
    """One repository at one commit. ``local``: the person named a local path, so file URLs are allowed."""

    url: str
    rev: str
    submodules: bool
    local: bool
    depth: int = 0


def check_out(checkout: Checkout, tree: Path, repositories: Path) -> None:
    """Fetch the commit into a repository below ``repositories`` and write its files to ``tree``, without ``.git``."""
    git = fetch_commit(checkout, repositories)
    tree.mkdir(parents=True, exist_ok=True)
    git.run(f"--work-tree={tree}", "checkout", "--quiet", "--force", "--detach", checkout.rev, timeout=FETCH_SECONDS)
    if checkout.submodules:
        for path, module in _submodules(git, checkout):
            check_out(module, tree / path, repositories)


def fetch_commit(checkout: Checkout, repositories: Path) -> Git:
    """A new repository below ``repositories`` that holds the commit; CommitMissing where the remote one has none."""
    git = _repository(checkout, repositories)
    _fetch(git, checkout)
    return git


def _repository(checkout: Checkout, repositories: Path) -> Git:
    repositories.mkdir(parents=True, exist_ok=True)
    folder = repositories / f"{sum(1 for _ in repositories.iterdir())}.git"
    kind = ["--object-format=sha256"] if len(checkout.rev) == 64 else []
    Git().run("init", "--quiet", "--bare", "--template=", *kind, "--", str(folder))
    return git_for(folder, checkout.url, local=checkout.local)


def _fetch(git: Git, checkout: Checkout) -> None:
    """The one commit; all branches and tags where the server does not give out single commits."""
    words = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"]
    shallow = git.run(*words, "--depth=1", "--", checkout.url, checkout.rev, check=False, timeout=FETCH_SECONDS)
    if shallow.returncode != 0:
        everything = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
        full = git.run(*words, "--", checkout.url, *everything, check=False, timeout=FETCH_SECONDS)
        if full.returncode != 0:
            raise unreachable(checkout.url, full)
    kind = git.run("cat-file", "-t", checkout.rev, check=False)
    if kind.stdout.strip() != "commit":
        raise CommitMissing(
            f"{redact(checkout.url)} has no commit {checkout.rev}",
            evidence=process.last_line(redact(shallow.stderr)) or kind.stdout.strip() or "not found after fetching all",
            hint=f"correct `rev`: git ls-remote {redact(checkout.url)}",
        )


def _submodules(git: Git, checkout: Checkout) -> list[tuple[str, Checkout]]:
    """Paths and pinned commits of the tree's submodules. What .gitmodules does not know is left empty, as git does."""
    links = _gitlinks(git, checkout.rev)
    if not links:
        return []
    if checkout.depth >= _DEEPEST:
        raise SourceError(f"{redact(checkout.url)}: submodules are nested more than {_DEEPEST} deep")
    urls = _module_urls(git, checkout.rev)
    return [
        (path, Checkout(_module_url(checkout, path, urls[path]), rev, True, checkout.local, checkout.depth + 1))
        for path, rev in links.items()
        if path in urls
    ]


def _gitlinks(git: Git, rev: str) -> dict[str, str]:
    entries = git.run("ls-tree", "-r", "-z", "--full-tree", rev).stdout.split("\0")
    parsed = (entry.partition("\t") for entry in entries if entry.startswith("160000 "))
    return {path: meta.split()[2] for meta, _, path in parsed}


def _module_urls(git: Git, rev: str) -> dict[str, str]:
    listing = git.run("config", "--blob", f"{rev}:.gitmodules", "-z", "--list", check=False).stdout
    values: dict[tuple[str, str], str] = {}
    for item in listing.split("\0"):
        key, _, value = item.partition("\n")
        if match := re.fullmatch(r"submodule\.(.+)\.(path|url)", key, re.DOTALL):
            values[match[1], match[2]] = value
    return {
        path: values[name, "url"] for (name, what), path in values.items() if what == "path" and (name, "url") in values
    }


def _module_url(parent: Checkout, path: str, url: str) -> str:
    """A submodule's URL: relative ones against the parent's; then the same protocols as everywhere."""
    if url.startswith(("./", "../")):
        url = resolve_relative(parent.url, url)
    elif parent.local and url.startswith("/"):
        url = Path(url).as_uri()
    try:
        return checked_url(url, UsageError, file_allowed=parent.local)
    except UsageError as error:
        raise SourceError(
            f"the submodule {path} of {redact(parent.url)}: {error.message}",
            hint="set `submodules = false` in the recipe, or rewrite the URL: git config --global url.X.insteadOf Y",
        ) from error


def resolve_relative(parent: str, url: str) -> str:
    """``../other`` beside a parent's URL, as git resolves it; never above the host."""
    parts = urlsplit(parent)
    folders = parts.path.rstrip("/").split("/")
    for step in url.split("/"):
        if step == "..":
            if len(folders) <= 1:
                raise SourceError(f"the submodule URL {url!r} leaves {redact(parent)}")
            folders.pop()
        elif step not in {"", "."}:
            folders.append(step)
    return urlunsplit(parts._replace(path="/".join(folders)))


def _pointer_notes(tree: Path) -> tuple[str, ...]:
    pointers = []
    for name in walk(tree):
        path = tree / name
        if not path.is_symlink() and path.stat().st_size < 1024:
            with path.open("rb") as file:
                if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
                    pointers.append(name)
    if not pointers:
        return ()
    return (f"{len(pointers)} files are git-lfs pointers and were not downloaded, for example {min(pointers)}",)
