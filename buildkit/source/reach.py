"""Whether the package index answers: one small question each, all at once, with little patience. Fetches nothing."""

from __future__ import annotations

import base64
import importlib.util
import os
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
    """How the indexes answered; ``detail`` says which did not and why, without credentials.

    ``slow``: some of those that did not may only be slow, since they were not waited for.
    """

    outcome: ReachOutcome
    detail: str = ""
    slow: bool = False


def reach(settings: IndexSettings, patience: float, remember: Remember) -> Reach:
    """Look whether local indexes are there, and ask every other one for its head. Never raises.

    ``patience`` in seconds, for what is asked; to find the default index, and to look at folders, has no limit.
    """
    places = [*([] if settings.no_index else _indexes(settings, remember)), *settings.find_links]
    if not places:
        return Reach("none", "pip is told to ask none (no-index)")
    late = no_answer(patience)
    problems = {place: late if _is_remote(place) else _folder_problem(place) for place in places}

    def ask(place: str) -> None:
        problems[place] = _problem(place, settings, patience)

    # A name that is looked up cannot be given up: such a thread is left alone.
    threads = [threading.Thread(target=ask, args=(place,), daemon=True) for place in places if _is_remote(place)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + patience
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    told = {place: problem for place, problem in problems.items() if problem}
    outcome: ReachOutcome = "answers" if not told else "partly" if len(told) < len(places) else "silent"
    detail = "; ".join(f"{redact(place)}: {problem}" for place, problem in told.items())
    return Reach(outcome, detail, late in told.values())


def no_answer(patience: float) -> str:
    """What is said of who was not waited for any longer."""
    return f"no answer within {patience:g} s"


def _indexes(settings: IndexSettings, remember: Remember) -> list[str]:
    return list(settings.indexes) if settings.index_url else [_default_index(remember), *settings.indexes]


def _is_remote(place: str) -> bool:
    return place.lower().startswith(("http://", "https://"))


def _folder_problem(place: str) -> str:
    """Why a folder is of no use; empty where it is there."""
    try:
        path = unquote(urlsplit(place).path)
    except ValueError as error:
        return str(error)
    return "" if os.path.exists(path) else "there is no such folder"  # noqa: PTH110 - Path's raises for some folders


def _problem(place: str, settings: IndexSettings, patience: float) -> str:
    """Why an index is of no use; empty where it answers."""
    try:
        return _asked(place, settings, patience)
    except (OSError, ValueError) as error:  # what urllib, ssl and a wrong URL raise
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            return no_answer(patience)
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
