"""Lines to copy: how pip, uv and a Dockerfile install from a variant's path. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Lines:
    """What people copy. ``uv_project`` are lines of a pyproject.toml."""

    pip: str
    uv: str
    uv_project: str
    docker: str


def lines_for(base: str, variant: str, package: str, *, upstream: bool) -> Lines:
    """The lines for an index at ``base`` (its URL, ending in a slash).

    One index, never an extra one beside another: the highest version would win, whoever has it. Without an
    ``upstream`` this index has no torch and no requirements, so they are to be there already (``--no-deps``).
    """
    url = f"{base}{variant}/simple/"
    alone = "" if upstream else "--no-deps "
    return Lines(
        pip=f"pip install {alone}{trusted(base)}--index-url {url} {package}",
        uv=f"uv pip install {alone}--default-index {url} {package}",
        uv_project=uv_index(url, variant, package),
        docker=docker_line(base, url, alone, package),
    )


def uv_index(url: str, variant: str, package: str) -> str:
    """A named explicit index: only the packages that name it come from it, and they from nowhere else."""
    name = f"cudabuild-{variant}"
    return (
        f'[[tool.uv.index]]\nname = "{name}"\nurl = "{url}"\nexplicit = true\n\n'
        f'[tool.uv.sources]\n{package} = {{ index = "{name}" }}'
    )


def docker_line(base: str, url: str, alone: str, package: str) -> str:
    """A line of a Dockerfile; loopback is another host in a build, unless the build has this machine's network."""
    network = "# docker build --network host ...\n" if is_loopback(_host(base)) else ""
    return f"{network}RUN pip install --no-cache-dir {alone}{trusted(base)}--index-url {url} {package}"


def trusted(base: str) -> str:
    """pip passes over indexes that speak plain HTTP from other machines unless it is told to trust them."""
    parts = urlsplit(base)
    if parts.scheme != "http" or is_loopback(parts.hostname or ""):
        return ""
    return f"--trusted-host {parts.netloc} "


def is_loopback(host: str) -> bool:
    """Whether a host is this machine for itself only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host(base: str) -> str:
    return urlsplit(base).hostname or ""
