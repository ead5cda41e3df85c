"""Which hosts git may fetch from, where somebody else says what to fetch (builds of the service).

With CUDABUILD_GIT_HOSTS set, every repository and every submodule is fetched by https from one of the named hosts, at
public addresses, without redirects, and at the very addresses that were looked at: what a name means a moment later
does not count.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from buildkit.errors import SourceError
from buildkit.process import redact

VARIABLE = "CUDABUILD_GIT_HOSTS"
_HINT = "the server's operator names hosts: git-hosts in [service]"


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return sorted({str(address[0]) for _, _, _, _, address in found})


def guarded(
    url: str, environ: Mapping[str, str], lookup: Callable[[str, int], list[str]] = resolve
) -> dict[str, str] | None:
    """Settings with which git may fetch a URL (its effective one); None where nobody has limited the hosts.

    Raises SourceError for what may not be fetched from here.
    """
    allowed = environ.get(VARIABLE)
    if allowed is None:
        return None
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower().rstrip("."), parts.port or 443
    except ValueError:
        raise _refused(url, "is no URL") from None
    if parts.scheme != "https" or parts.username or parts.password:
        raise _refused(url, "is not a plain https address")
    if host not in allowed.lower().split():
        raise _refused(url, f"lies on {host}, which is not among the hosts that are allowed")
    try:
        addresses = lookup(host, port)
    except OSError as error:
        raise _refused(url, f"lies on {host}, which has no address ({error})") from error
    if inner := [address for address in addresses if not is_public(address)]:
        raise _refused(url, f"lies at {inner[0]}, which is not a public address")
    pinned = ",".join(f"[{address}]" if ":" in address else address for address in addresses)
    return {
        "http.followRedirects": "false",
        "http.curloptResolve": f"{host}:{port}:{pinned}",
        "http.proxy": "",
        "protocol.allow": "never",
        "protocol.https.allow": "always",
    }


def is_public(address: str) -> bool:
    """Whether everybody may be sent there: no private, link-local, loopback, shared or reserved address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None) or getattr(found, "sixtofour", None)
    if mapped is not None:
        return is_public(str(mapped))
    return found.is_global and not found.is_multicast


def _refused(url: str, why: str) -> SourceError:
    return SourceError(f"{redact(url)} {why}", hint=_HINT)
