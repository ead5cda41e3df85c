"""Which package index, find-links and certificates the person has configured: pip's settings, and uv's beside them.

Nothing configured stays nothing: unearth and uv then use the default index that is built into them. Only the
standard library is imported here, because a store hit asks for the fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from buildkit.errors import ConfigError
from buildkit.process import redact
from buildkit.source.pip_config import read_pip_options

PIP_TIMEOUT = 15.0
"""pip's own default for one network operation, in seconds."""


@dataclass(frozen=True)
class IndexSettings:
    """Where packages come from. URLs may hold credentials: never print one without :func:`redact`."""

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    cert: str | None = None
    client_cert: str | None = None
    no_index: bool = False
    proxy: str | None = None
    timeout: float = PIP_TIMEOUT
    retries: int = 5

    @property
    def indexes(self) -> tuple[str, ...]:
        """The index URLs to ask, without the built-in default one; empty with ``no_index``."""
        if self.no_index:
            return ()
        return tuple(dict.fromkeys([*([self.index_url] if self.index_url else []), *self.extra_index_urls]))

    def fingerprint(self) -> str:
        """sha256 over what decides which files are found; credentials, certificates and proxies do not."""
        where = {
            "index": without_credentials(self.index_url) if self.index_url and not self.no_index else None,
            "extra": [without_credentials(url) for url in self.extra_index_urls] if not self.no_index else [],
            "links": [without_credentials(link) for link in self.find_links],
            "no_index": self.no_index,
        }
        return hashlib.sha256(json.dumps(where, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def described(self) -> str:
        """One line for people, credentials redacted."""
        parts = ["no index"] if self.no_index else [] if self.index_url else ["the default index"]
        parts += [f"index {url}" for url in self.indexes]
        return redact(", ".join([*parts, *(f"find-links {link}" for link in self.find_links)]))


def read_index_settings(
    environ: Mapping[str, str],
    *,
    extra_find_links: Sequence[str | Path] = (),
    python_prefix: Path | None = None,
    root: Path = Path("/"),
) -> IndexSettings:
    """The settings that pip would use in the environment at ``python_prefix`` (default: this Python's).

    uv's variables add to them: UV_DEFAULT_INDEX (or UV_INDEX_URL) where pip names no index, UV_INDEX,
    UV_EXTRA_INDEX_URL, UV_FIND_LINKS, UV_INSECURE_HOST. Folders that do not exist are left out (pip only
    warns, uv would stop), and relative ones are made absolute. ``root`` is for tests.
    """
    pip = read_pip_options(environ, prefix=python_prefix or Path(sys.prefix), root=root)
    uv_default = environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL")
    index = pip.get("index-url") or pip.get("pypi-url") or (_unnamed(uv_default) if uv_default else None)
    uv_more = [*environ.get("UV_INDEX", "").split(), *environ.get("UV_EXTRA_INDEX_URL", "").split()]
    extra = [*pip.get("extra-index-url", "").split(), *map(_unnamed, uv_more)]
    links = [*map(str, extra_find_links), *pip.get("find-links", "").split()]
    links += [link for link in environ.get("UV_FIND_LINKS", "").split(",") if link.strip()]
    hosts = [*pip.get("trusted-host", "").split(), *environ.get("UV_INSECURE_HOST", "").split()]
    return IndexSettings(
        index_url=_present(index) if index else None,
        extra_index_urls=tuple(dict.fromkeys(url for item in extra if (url := _present(item)))),
        find_links=tuple(dict.fromkeys(url for item in links if (url := _present(item.strip())))),
        trusted_hosts=tuple(dict.fromkeys(hosts)),
        cert=_expanded(pip.get("cert") or environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE")),
        client_cert=_expanded(pip.get("client-cert")),
        no_index=_truth(pip.get("no-index", "no"), "no-index"),
        proxy=pip.get("proxy"),
        timeout=_number(pip.get("default-timeout") or pip.get("timeout"), PIP_TIMEOUT, "timeout"),
        retries=int(_number(pip.get("retries"), 5, "retries")),
    )


def uv_arguments(settings: IndexSettings) -> list[str]:
    """The same settings as options of ``uv pip``. Holds no credentials: :func:`uv_environment` carries those."""
    arguments: list[str] = []
    if settings.no_index:
        arguments.append("--no-index")
    elif settings.indexes:
        named = [_named(number, url) for number, url in enumerate(settings.indexes)]
        if settings.index_url:
            arguments += ["--default-index", named.pop(0)]
        for url in named:
            arguments += ["--index", url]
        # pip takes the best version of all indexes; uv's own default stops at the first that knows the name.
        arguments += ["--index-strategy", "unsafe-best-match"]
    if not any(_credentials(link) for link in settings.find_links):
        for link in settings.find_links:
            arguments += ["--find-links", link]
    for host in settings.trusted_hosts:
        arguments += ["--allow-insecure-host", host]
    return arguments


def uv_environment(settings: IndexSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """Variables to set over ``environ`` for uv: certificates, proxy, timeout, credentials.

    The person's own choice of certificates or timeout for uv wins where pip has none. uv's own index
    variables are emptied: :func:`uv_arguments` already holds what they say.
    """
    from_person = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
    added = {name: "" for name in from_person if environ.get(name)}
    for number, url in enumerate(settings.indexes):
        if login := _credentials(url):
            added[f"UV_INDEX_CUDABUILD_{number}_USERNAME"] = login[0]
            added[f"UV_INDEX_CUDABUILD_{number}_PASSWORD"] = login[1]
    if any(_credentials(link) for link in settings.find_links):
        added["UV_FIND_LINKS"] = ",".join(link.replace(",", "%2C") for link in settings.find_links)
    if settings.cert:
        added["SSL_CERT_DIR" if Path(settings.cert).is_dir() else "SSL_CERT_FILE"] = settings.cert
    elif not any(environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS")):
        added |= _system_certificates()
    if settings.client_cert:
        added["SSL_CLIENT_CERT"] = settings.client_cert
    if settings.proxy:
        added |= dict.fromkeys(("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"), _proxy_url(settings.proxy))
    if settings.timeout != PIP_TIMEOUT and not environ.get("UV_HTTP_TIMEOUT"):
        added["UV_HTTP_TIMEOUT"] = str(max(1, round(settings.timeout)))
    return added


def without_credentials(url: str) -> str:
    """The URL without its user part."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _credentials(url: str) -> tuple[str, str] | None:
    user, at, _host = urlsplit(url).netloc.rpartition("@")
    if not at:
        return None
    name, _, password = user.partition(":")
    return unquote(name), unquote(password)


def _named(number: int, url: str) -> str:
    """An index that needs a login gets a name, so that the login can travel in variables, not in words ps shows."""
    return f"cudabuild-{number}={without_credentials(url)}" if _credentials(url) else url


def _unnamed(index: str) -> str:
    """uv writes ``name=url`` for a named index."""
    name, equals, url = index.partition("=")
    return url if equals and "://" not in name and "/" not in name else index


def _present(place: str) -> str | None:
    """The place as an absolute path or URL; None for a local folder that is not there."""
    local = Path(unquote(urlsplit(place).path)) if place.lower().startswith("file:") else None
    if local is None and "://" in place:
        return place
    path = local or Path(place).expanduser()
    if not path.exists():
        return None
    return place if local else str(path.absolute())


def _expanded(path: str | None) -> str | None:
    return os.path.expanduser(path) if path else None  # noqa: PTH111  # may be relative, and stays as it was written


def _proxy_url(proxy: str) -> str:
    return proxy if "://" in proxy else f"http://{quote(proxy, safe=':@[]%')}"


def _system_certificates() -> dict[str, str]:
    """pip (24.2 and later) trusts the system's certificates; uv only when told to."""
    import ssl

    paths = ssl.get_default_verify_paths()
    return {"UV_NATIVE_TLS": "1", "UV_SYSTEM_CERTS": "1"} if paths.cafile or paths.capath else {}


def _truth(text: str, option: str) -> bool:
    lowered = text.lower()
    if lowered in {"y", "yes", "t", "true", "on", "1"}:
        return True
    if lowered in {"n", "no", "f", "false", "off", "0"}:
        return False
    raise ConfigError(f"pip's option {option} is neither yes nor no: {text!r}", hint="pip config list")


def _number(text: str | None, default: float, option: str) -> float:
    try:
        return float(text) if text else default
    except ValueError:
        raise ConfigError(f"pip's option {option} is not a number: {text!r}", hint="pip config list") from None
