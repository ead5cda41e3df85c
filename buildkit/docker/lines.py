"""What the parts of a Dockerfile are made of: instructions, comments, mounts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from buildkit.docker.model import HELPER

ENVIRONMENT = "/opt/venv"
"""The environment in the image: PEP 668 forbids to install into the Python of a distribution."""

SECRETS = (
    "--mount=type=secret,id=netrc,target=/root/.netrc",
    "--mount=type=secret,id=pipconf,target=/etc/pip.conf",
)
"""Where credentials for indexes come from; each is left out where the build is not given it."""
PIP_CACHE = "--mount=type=cache,target=/root/.cache/pip"
HELPER_MOUNT = f"--mount=type=bind,source={HELPER},target=/{HELPER}"

_BREAK = " \\\n    "
_APT_VERSIONS = """\
# A distribution's mirrors keep the newest build of a package only: a pinned one is gone after its next update.
# hadolint ignore=DL3008"""


def run(mounts: Iterable[str], *commands: str) -> str:
    """One RUN: its mounts, then its commands, each of which must succeed."""
    return "RUN " + _BREAK.join([*mounts, f"{_BREAK}&& ".join(commands)])


def told(text: str, instruction: str) -> str:
    """An instruction below its comment."""
    return f"{comment(text)}\n{instruction}"


def comment(text: str) -> str:
    """Lines of a comment; whatever any of the files' languages takes for the end of a line begins another."""
    return "\n".join(f"# {line}".rstrip() for line in text.splitlines())


def environment(values: Iterable[tuple[str, str]]) -> str:
    """One ENV, sorted."""
    return "ENV " + _BREAK.join(f"{name}={value}" for name, value in sorted(values))


def apt_install(names: Sequence[str], *, unless: str = "") -> str:
    """Install Debian packages (``unless`` a command succeeds), and leave nothing else behind."""
    steps = (
        "apt-get update",
        f"apt-get install --yes --no-install-recommends {' '.join(names)}",
        "rm -rf /var/lib/apt/lists/*",
    )
    if unless:
        steps = (f"{unless} || {{ {steps[0]}", steps[1], f"{steps[2]}; }}")
    return f"{_APT_VERSIONS}\n{run((), *steps)}"
