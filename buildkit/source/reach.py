"""Whether the package index answers: one small question each, all at once, with little patience. Fetches nothing."""

from __future__ import annotations

import base64
import importlib.util
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

from buildkit.process import redact
from buildkit.source.index_settings import IndexSettings, without_credentials

if TYPE_CHECKING:
    import ssl
    import urllib.request

ReachOutcome = Literal["answers", "partly", "silent", "none"]
"""``partly``: some of several do. ``none``: no index is asked."""

Remember = Callable[[str, Path, Callable[[], str]], str]
"""``remember(kind, file, find)``: what was found before while the file was the same, else what ``find`` finds now."""

_NO_ENTRY = frozenset({401, 403, 407})


@dataclass(frozen=True)
class Reach:
    """How the indexes answered; ``detail`` says which did not and why, without credentials."""

    outcome: ReachOutcome
    detail: str = ""


def reach(settings: IndexSettings, patience: float, remember: Remember) -> Reach:
    """Ask every index for its head, and look whether local ones are there. Never raises.

    ``patience`` in seconds, for all of it but what is remembered.
    """
    places = [*([] if settings.no_index else _indexes(settings, remember)), *settings.find_links]
    if not places:
        return Reach("none", "pip is told to ask none (no-index)")
    problems = dict.fromkeys(places, f"no answer within {patience:g} s")

    def ask(place: str) -> None:
        problems[place] = _problem(place, settings, patience)

    # A name that is looked up cannot be given up: such a thread is left alone.
    threads = [threading.Thread(target=ask, args=(place,), daemon=True) for place in places]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + patience
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    told = [f"{redact(place)}: {problem}" for place, problem in problems.items() if problem]
    outcome: ReachOutcome = "answers" if not told else "partly" if len(told) < len(places) else "silent"
    return Reach(outcome, "; ".join(told))


def _indexes(settings: IndexSettings, remember: Remember) -> list[str]:
    return list(settings.indexes) if settings.index_url else [_default_index(remember), *settings.indexes]


def _problem(place: str, settings: IndexSettings, patience: float) -> str:
    """Why a place is of no use; empty where it is there."""
    parts = urlsplit(place)
    if parts.scheme not in {"http", "https"}:
        return "" if Path(unquote(parts.path)).exists() else "there is no such folder"
    try:
        return _asked(place, settings, patience)
    except (OSError, ValueError) as error:  # what urllib, ssl and a wrong URL raise
        reason = getattr(error, "reason", error)
        return redact(str(reason)) or type(error).__name__


def _asked(index: str, settings: IndexSettings, patience: float) -> str:
    import urllib.error
    import urllib.request

    request = urllib.request.Request(without_credentials(index), method="HEAD")  # noqa: S310 - http and https only
    login = urlsplit(index).netloc.rpartition("@")[0]
    if login:
        request.add_header("Authorization", f"Basic {base64.b64encode(unquote(login).encode()).decode()}")
    try:
        with _opener(settings, index).open(request, timeout=patience):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in _NO_ENTRY:
            return f"HTTP {error.code}, it wants a login"
        return f"HTTP {error.code}" if error.code >= 500 else ""


def _opener(settings: IndexSettings, index: str) -> urllib.request.OpenerDirector:
    import urllib.request

    handlers: list[urllib.request.BaseHandler] = []
    if urlsplit(index).scheme == "https":
        handlers.append(urllib.request.HTTPSHandler(context=_context(settings, index)))
    if settings.proxy:
        handlers.append(urllib.request.ProxyHandler(dict.fromkeys(("http", "https"), settings.proxy)))
    return urllib.request.build_opener(*handlers)


def _context(settings: IndexSettings, index: str) -> ssl.SSLContext:
    """pip's certificates; none are checked of a host that pip is told to trust."""
    import ssl

    parts = urlsplit(index)
    cert = settings.cert
    is_folder = cert is not None and Path(cert).is_dir()
    context = ssl.create_default_context(cafile=None if is_folder else cert, capath=cert if is_folder else None)
    if {parts.hostname, parts.netloc.rpartition("@")[2]} & set(settings.trusted_hosts):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.client_cert:
        context.load_cert_chain(settings.client_cert)
    return context


def _default_index(remember: Remember) -> str:
    """The index that is asked where none is configured: unearth names the one that is built into it.

    Remembered, since to ask it is to import it, which takes longer than all the rest.
    """

    def asked() -> str:
        from unearth import PackageFinder

        return str(PackageFinder().sources[0]["url"])

    found = importlib.util.find_spec("unearth")
    origin = found.origin if found is not None and found.origin else ""
    return remember("default-index", Path(origin).with_name("finder.py"), asked)
