"""Taking out of a text what says who and where: names, home folders, hosts, addresses, tokens. Pure.

What is taken out leaves a word in its place, so that the text can still be read. Better too much than too little.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import unquote, urlsplit

from buildkit.process import SECRET_NAME

_IMPERSONAL = frozenset({"root", "ubuntu", "debian", "user", "admin", "docker", "runner", "nobody", "jovyan", "app"})
"""Names of users that say nothing of anybody, and would be missed in a log."""
_LEAST_NAME = 3
_LEAST_SECRET = 6
"""Characters of a value that is taken for a secret wherever it stands: shorter ones stand everywhere."""

_HOMES = re.compile(
    r"/(?:home|Users|export/home)/[^/\s:'\"]+|/root(?=[/\s:'\"]|$)|(?<=:)\\{1,2}Users\\{1,2}[^\\\s:'\"]+", re.IGNORECASE
)
_SERVERS = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^/\s'\"<>]+", re.IGNORECASE)
_GIT = re.compile(r"\b[\w.-]+@[\w.-]+:(?=[\w./~-])")
_MAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b")
_IPV4 = re.compile(r"(?<![\w.+-])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\w)")
_HOST_WORDS = re.compile(
    r"(?P<before>(?:\bhost(?:name)?\s*[=:]|\bhostname\s|\bresolve host\s)\s*['\"]?)[\w-]+(?:\.[\w-]+)+", re.IGNORECASE
)
_TOKENS = re.compile(
    r"\b(?:gh[pousr]_\w{16,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_\w{16,}|pypi-[\w-]{16,}|sk-[\w-]{16,}|"
    r"xox[abprs]-[\w-]{10,}|AKIA[0-9A-Z]{12,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*)"
)
_NAMED_SECRETS = re.compile(
    r"(?P<name>\b[\w-]*(?:token|secret|passw(?:or)?d|api[_-]?key|credential|signature)[\w-]*['\"]?\s*[=:]\s*['\"]?|"
    r"\b(?:bearer|basic)\s+)(?P<value>[^\s'\"]{4,})",
    re.IGNORECASE,
)
_UUIDS = re.compile(r"\b(?:GPU|MIG)-[0-9a-f]{8}-[0-9a-f-]{10,}", re.IGNORECASE)


@dataclass(frozen=True)
class Redactor:
    """``users``, ``homes`` and ``hosts`` are this machine's; ``secrets`` are values to take out wherever they stand."""

    users: frozenset[str]
    homes: frozenset[str]
    hosts: frozenset[str]
    secrets: frozenset[str]

    def clean(self, text: str) -> str:
        """The text without them."""
        for pattern, put in self._steps:
            text = pattern.sub(put, text)
        return text

    @cached_property
    def _steps(self) -> list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]]:
        """The longest first: a host's name may hold a user's."""
        return [
            (_any_of(self.secrets, whole=False), "***"),
            (_TOKENS, "***"),
            (_NAMED_SECRETS, r"\g<name>***"),
            (_SERVERS, _server),
            (_GIT, "USER@HOST:"),
            (_MAIL, "MAIL"),
            (_any_of(self.homes, whole=True), "~"),
            (_HOMES, "~"),
            (_any_of(self.hosts, whole=True), "HOST"),
            (_HOST_WORDS, r"\g<before>HOST"),
            (_IPV4, "ADDRESS"),
            (_UUIDS, "GPU-UUID"),
            (_any_of(self.users - _IMPERSONAL, whole=True), "USER"),
        ]


def _server(found: re.Match[str]) -> str:
    return f"{found['scheme']}HOST" if found["scheme"].lower() != "file://" else found[0]


def _any_of(texts: Iterable[str], *, whole: bool) -> re.Pattern[str]:
    """Any of these texts; ``whole`` where no letter or digit stands beside. Matches nothing where there is none."""
    listed = "|".join(re.escape(text) for text in sorted(filter(None, texts), key=len, reverse=True))
    if not listed:
        return re.compile(r"(?!)")
    return re.compile(rf"(?<![A-Za-z0-9]){'(?:' + listed + ')'}(?![A-Za-z0-9])" if whole else listed)


def redactor_for(environ: Mapping[str, str], *, user: str, home: str, host: str, urls: Iterable[str] = ()) -> Redactor:
    """The redactor of a machine: what its environment and its index settings (``urls``) say besides what is given."""
    users = {user, *(environ.get(name, "") for name in ("USER", "LOGNAME", "SUDO_USER", "SLURM_JOB_USER"))}
    homes = {home, environ.get("HOME", "")} - {"", "/"}
    names = ("HOSTNAME", "HOST", "SLURM_SUBMIT_HOST", "SLURMD_NODENAME", "SLURM_JOB_NODELIST", "SLURM_CLUSTER_NAME")
    hosts = {host, *(environ.get(name, "") for name in names)}
    hosts |= {name.partition(".")[0] for name in hosts}
    secrets = {value for name, value in environ.items() if SECRET_NAME.search(name)}
    proxies = [value for name, value in environ.items() if name.lower().endswith("_proxy")]
    for url in (*urls, *proxies):
        parts = urlsplit(url)
        hosts.add(parts.hostname or "")
        login, password = unquote(parts.username or ""), unquote(parts.password or "")
        if password:
            users.add(login)
        secrets.add(password or login)  # a token may stand alone, in the user's place
    return Redactor(
        users=frozenset(name for name in users if len(name) >= _LEAST_NAME),
        homes=frozenset(home.rstrip("/") for home in homes),
        hosts=frozenset(hosts - {"", "localhost"}),
        secrets=frozenset(value for value in secrets if len(value) >= _LEAST_SECRET),
    )
