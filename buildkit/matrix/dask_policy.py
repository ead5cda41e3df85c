"""Who may talk to a Dask cluster: a scheduler runs whatever its clients send, so that beyond loopback TLS is needed."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

from buildkit.errors import UsageError

INSECURE = "CUDABUILD_INSECURE_DASK"
"""The variable that permits a scheduler without TLS on a network (``1``)."""


def checked_address(address: str, *, insecure: bool = False) -> str:
    """A scheduler's address, ``tcp://HOST:PORT`` or ``tls://HOST:PORT``. Raises UsageError."""
    text = address if "://" in address else f"tcp://{address}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.scheme not in {"tcp", "tls"}:
        hint = "--executor dask:tls://HOST:8786, or dask:tcp://127.0.0.1:8786 on one machine"
        raise UsageError(f"{address} is not the address of a Dask scheduler", hint=hint)
    if parts.scheme == "tcp" and not insecure and not _is_loopback(host):
        raise UsageError(
            f"{address}: without TLS everybody on that network could run programs here and on all workers",
            hint=f"use tls:// (Dask's settings comm.tls.*); or, on a network that is yours alone, {INSECURE}=1",
        )
    return text


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def security(address: str) -> Any:
    """Dask's own security settings, from its configuration (``distributed.comm.tls``). Raises UsageError."""
    from distributed import Security

    make: Any = Security
    found = make(require_encryption=address.startswith("tls://"))
    if address.startswith("tls://") and not found.tls_ca_file:
        raise UsageError(
            f"{address} needs certificates",
            hint="export DASK_DISTRIBUTED__COMM__TLS__CA_FILE, ...TLS__CLIENT__CERT and ...KEY, TLS__WORKER__CERT "
            "and ...KEY (or write them into Dask's configuration)",
        )
    return found
