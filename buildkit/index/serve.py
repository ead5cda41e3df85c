"""The index as a server: a socket of its own, certificates that were tried, and uvicorn."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildkit.errors import CannotServe
from buildkit.index.lines import is_loopback

if TYPE_CHECKING:
    import uvicorn

GRACE_SECONDS = 3
"""How long a server that is being ended waits for answers that are on their way."""


@dataclass(frozen=True)
class Place:
    """Where a server listens, and as what. Paths are of PEM files."""

    host: str
    port: int
    certificate: Path | None = None
    private_key: Path | None = None
    root_path: str = ""
    """The prefix that a proxy in front takes off (``/wheels``)."""
    proxies: str = ""
    """Addresses whose ``X-Forwarded-*`` headers are believed; empty: nobody's."""


def listen(place: Place) -> socket.socket:
    """A listening socket, on a free port for port 0. Raises CannotServe."""
    try:
        family, _, _, _, address = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)[0]
        dual = family == socket.AF_INET6 and place.host == "::"
        return socket.create_server(address[:2], family=family, backlog=2048, dualstack_ipv6=dual)
    except (OSError, UnicodeError) as error:  # the latter for what cannot be a host's name: labels too long, or empty
        raise _why(place, error) from error


def _why(place: Place, error: OSError | UnicodeError) -> CannotServe:
    where = f"{place.host} port {place.port}"
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        hint = f"give another with --port, or find who has it: ss -ltnp 'sport = :{place.port}'"
        return CannotServe(f"another program listens on {where}", evidence=str(error), hint=hint)
    if number == errno.EACCES:
        hint = "give a port of 1024 or more with --port, and put a proxy in front"
        return CannotServe(f"this user may not listen on {where}", evidence=str(error), hint=hint)
    hint = "give an address of this machine with --host: 127.0.0.1 for this machine alone, 0.0.0.0 for all networks"
    return CannotServe(f"{place.host} is no address that can be listened on", evidence=str(error), hint=hint)


def check_certificate(place: Place) -> None:
    """Load the certificate and its key as the server will. Raises CannotServe."""
    if place.certificate is None:
        return
    for path in (place.certificate, place.private_key):
        if path is not None and not path.is_file():
            raise CannotServe(f"there is no file {path}", hint="give the PEM files with --tls-cert and --tls-key")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(place.certificate, place.private_key, password=_none)
    except (OSError, ValueError) as error:  # SSLError is an OSError; a key with a password gives ValueError
        key = place.private_key or place.certificate
        message = f"the certificate {place.certificate} cannot be used with the key {key}"
        hint = f"compare them: openssl x509 -noout -pubkey -in {place.certificate}; openssl pkey -pubout -in {key}"
        raise CannotServe(message, evidence=str(error), hint=hint) from error


def _none() -> str:
    """Nobody is asked for a password; an encrypted key is told as an error instead."""
    return ""


def is_shared(listener: socket.socket) -> bool:
    """Whether other machines can reach what listens here."""
    return not is_loopback(str(listener.getsockname()[0]))


def base_url(place: Place, listener: socket.socket) -> str:
    """The URL by which people reach it, ending in a slash: this machine's name where it listens on all addresses."""
    host, port = listener.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not listened on
        host = socket.gethostname()
    elif is_loopback(place.host) or not place.host.replace(".", "").isdigit():
        host = place.host
    shown = f"[{host}]" if ":" in host else host
    scheme = "https" if place.certificate is not None else "http"
    return f"{scheme}://{shown}:{port}{place.root_path.rstrip('/')}/"


def make_server(app: Any, place: Place, on_signal: Callable[[], None] | None = None) -> uvicorn.Server:
    """The server of an application, with files sent by the kernel. ``on_signal`` as for :func:`run`."""
    import uvicorn

    from buildkit.index.zero_copy import FileProtocol

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:
            if on_signal is not None:
                on_signal()
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        app,
        http=FileProtocol,
        loop="asyncio",  # others have no sendfile
        log_level="warning",
        log_config=uvicorn.config.LOGGING_CONFIG if on_signal is None else None,
        access_log=False,
        server_header=False,
        lifespan="off",
        root_path=place.root_path.rstrip("/"),
        proxy_headers=bool(place.proxies),
        forwarded_allow_ips=place.proxies or None,
        ssl_certfile=place.certificate,
        ssl_keyfile=place.private_key,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return Server(config)


def run(
    app: Any,
    place: Place,
    listener: socket.socket,
    on_start: Callable[[], None],
    on_signal: Callable[[], None] | None = None,
) -> None:
    """Serve until a signal comes, and answer what is on its way; the signal's own exception is raised afterwards.

    ``on_signal`` is called when it comes, so that answers without an end are ended; with it, the caller's own handlers
    get what uvicorn logs.
    """
    server = make_server(app, place, on_signal)
    on_start()
    server.run(sockets=[listener])
