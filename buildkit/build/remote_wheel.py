"""A package's newest wheel for this Python from one index, and from no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from buildkit.build.context import Context
from buildkit.errors import HashMismatch, NotOnIndex
from buildkit.process import redact
from buildkit.source.index_client import IndexClient, IndexFile


def fetch_wheel(name: str, url: str, context: Context, folder: Path, *, python: str, user: str, secret: str) -> Path:
    """Download the newest wheel of ``name`` that fits Python ``python`` (``3.11``) and this machine into ``folder``.

    ``url`` is a simple index. Raises NotOnIndex, IndexUnreachable, HashMismatch.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    if secret:
        parts = parts._replace(netloc=f"{quote(user, safe='')}:{quote(secret, safe='')}@{host}")
    settings = replace(
        context.index,
        index_url=urlunsplit(parts),
        extra_index_urls=(),
        find_links=(),
        no_index=False,
        # Named by the person, for this one command: plain HTTP as well.
        trusted_hosts=(*context.index.trusted_hosts, host),
    )
    with IndexClient(settings, python=python) as client:
        listing = client.listing(name)
        wheel = newest([file for file in listing.files if file.is_wheel and not file.yanked])
        if wheel is None:
            evidence = "; ".join(listing.unreachable) or f"asked: {', '.join(listing.asked)}"
            hint = "give the address of its variant: http://HOST/pt2.13-cu130/simple/"
            raise NotOnIndex(f"{redact(url)} has no wheel of {name} for Python {python}", evidence=evidence, hint=hint)
        context.reporter.phase("download", wheel.filename)
        path = folder / wheel.filename
        with path.open("w+b") as target:
            sha256 = client.download(wheel, target)
    if wheel.sha256 is not None and sha256 != wheel.sha256:
        evidence = f"sha256 {sha256} came, {wheel.sha256} was announced"
        raise HashMismatch(f"{wheel.filename} arrived damaged", evidence=evidence, hint="the same command again")
    return path


def newest(files: list[IndexFile]) -> IndexFile | None:
    """The file of the highest version, and of these the one with the highest build tag."""
    from packaging.utils import parse_wheel_filename

    def rank(file: IndexFile) -> tuple[object, ...]:
        _, version, build, _ = parse_wheel_filename(file.filename)
        return version, build, file.filename

    return max(files, key=rank, default=None)
