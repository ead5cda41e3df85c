"""Asking a server: one request, its answer as JSON, and every way in which there is none as a cause."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from buildkit import __version__
from buildkit.cli.credentials import Access
from buildkit.errors import CudabuildError, IndexDenied, NoSuchBuild
from buildkit.input_errors import ServerMismatch, ServerUnreachable
from buildkit.process import redact

if TYPE_CHECKING:
    import httpx2

SCHEMA = 1
API = "/api/v1"
TRIES = 4
_PAUSE = 0.5
_BUSY = frozenset({429, 502, 503, 504})
_LONGEST_PAUSE = 10.0
_SILENCE = 60.0
"""Seconds without a byte after which a connection counts as lost; a live log gives a sign every 15."""
_BREAKS = "check the address and the network; the same command again goes on"


class Server:
    """A server that builds. Use it as a context manager."""

    def __init__(self, access: Access) -> None:
        import httpx2

        self.url = access.address.url
        headers = {"User-Agent": f"cudabuild/{__version__}", "Accept": "application/json"}
        self._token = access.token
        timeout = httpx2.Timeout(_SILENCE, connect=15.0)
        # Redirects are told, not followed: where they lead the token must not go.
        self._client = httpx2.Client(headers=headers, timeout=timeout, follow_redirects=False)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, **params: str) -> dict[str, Any]:
        """An object of the API."""
        return self._object(self._asked("GET", path, params=params))

    def post(self, path: str, body: Mapping[str, Any] | None = None, *, idempotency: str = "") -> dict[str, Any]:
        """The same. With a key of idempotency a request that got no answer is made again."""
        headers = {"Idempotency-Key": idempotency} if idempotency else {}
        again = bool(idempotency)
        return self._object(self._asked("POST", path, again=again, json=dict(body or {}), headers=headers))

    @contextmanager
    def open(self, path: str, headers: Mapping[str, str] | None = None) -> Iterator[httpx2.Response]:
        """An answer that is read piece by piece. Raises :class:`Lost` where the connection breaks, and causes."""
        import httpx2

        url = self.absolute(path)
        try:
            with self._client.stream("GET", url, headers={**self._own(url), **(headers or {})}) as response:
                if response.status_code >= 300:
                    response.read()
                    raise cause_of_answer(response, self.url)
                yield response
        except (httpx2.HTTPError, httpx2.StreamError, ssl.SSLError, OSError) as error:
            raise Lost(self.url, error) from error

    def absolute(self, path: str) -> str:
        """A path of the API, a path from the server's root, or an address, as an address."""
        if path.startswith(("http://", "https://")):
            return path
        # A proxy may have given the server a path of its own; what the server says may hold it already.
        own = urlsplit(self.url).path
        return urljoin(self.url, path) if own and path.startswith(f"{own}/") else self.url + path

    def _own(self, url: str) -> dict[str, str]:
        """The token, for nobody but the server itself."""
        here, there = urlsplit(self.url), urlsplit(url)
        same = (here.scheme, here.netloc) == (there.scheme, there.netloc.lower())
        return {"Authorization": f"Bearer {self._token}"} if self._token and same else {}

    def _asked(self, method: str, path: str, *, again: bool = True, **options: Any) -> httpx2.Response:
        import httpx2

        url = self.absolute(path)
        options["headers"] = {**self._own(url), **options.get("headers", {})}
        for number in range(1, TRIES + 1):
            last = number == TRIES
            try:
                response = self._client.request(method, url, **options)
            except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError, OSError) as error:
                if last or not (again or isinstance(error, httpx2.ConnectError)) or _hopeless(error):
                    raise Lost(self.url, error) from error
                time.sleep(_PAUSE * number)
                continue
            if response.status_code < 300:
                return response
            if last or response.status_code not in _BUSY:
                raise cause_of_answer(response, self.url)
            time.sleep(_pause(response.headers.get("retry-after"), number))
        raise AssertionError("unreachable: the last try returns or raises")

    def _object(self, response: httpx2.Response) -> dict[str, Any]:
        try:
            value = response.json()
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise not_ours(self.url, response.text)
        check_schema(value, self.url)
        return value


class Lost(ServerUnreachable):
    """The connection could not be made, or broke."""

    def __init__(self, url: str, error: BaseException) -> None:
        evidence = redact(f"{type(error).__name__}: {error}")
        super().__init__(f"{url} did not answer", evidence=evidence, hint=_BREAKS)


def check_schema(value: Mapping[str, Any], url: str) -> None:
    """Raise ServerMismatch for an object of another format than the one that is read here."""
    schema = value.get("schema")
    if schema == SCHEMA:
        return
    if not isinstance(schema, int):
        raise not_ours(url, str(value))
    older, newer = ("this cudabuild", "the server's") if schema > SCHEMA else ("the server's cudabuild", "this one")
    raise ServerMismatch(
        f"{url} answers in format {schema}, and this cudabuild reads format {SCHEMA}",
        evidence=f"cudabuild {__version__} is here",
        hint=f"{older} is older than {newer}: update it (pip install -U cudabuild)",
    )


def not_ours(url: str, text: str) -> ServerMismatch:
    """What answers is something else."""
    evidence = " ".join(text.split())[:200]
    hint = "check the address: `cudabuild serve` prints it when it starts"
    return ServerMismatch(f"{url} does not answer as a server of cudabuild", evidence=evidence, hint=hint)


def cause_of_answer(response: httpx2.Response, url: str) -> CudabuildError:
    """The cause that a refusal tells (problem+json), or that goes with its status."""
    problem = _problem(response)
    status = response.status_code
    if status == 401:
        said = str(problem.get("detail") or "it needs a token") if problem else "it needs a token"
        return IndexDenied(f"{url} does not let you in: {said}", hint=f"cudabuild login {url}")
    if problem is not None:
        return cause_of_object({**problem, "message": problem.get("detail") or problem.get("title")}, url)
    evidence = f"HTTP {status}: {' '.join(response.text.split())[:200]}"
    if 300 <= status < 400:
        target = redact(response.headers.get("location", ""))
        return ServerMismatch(f"{url} sends its callers elsewhere", evidence=target, hint="use that address")
    return _of_status(status, url, evidence)


def _of_status(status: int, url: str, evidence: str) -> CudabuildError:
    """The cause of a refusal that says no more: a proxy's, or another server's."""
    if status == 403:
        return IndexDenied(f"{url} does not allow this", evidence=evidence, hint=f"cudabuild login {url}")
    if status == 429 or status >= 500:
        return ServerUnreachable(f"{url} cannot answer now", evidence=evidence, hint="the same command again, later")
    if status == 404:
        return NoSuchBuild(f"{url} has nothing there", evidence=evidence, hint="check the address and the build's id")
    return ServerMismatch(f"{url} did not understand this", evidence=evidence)


def cause_of_object(value: Mapping[str, Any], url: str) -> CudabuildError:
    """The cause of an ``error`` object or a problem: the same kind and exit code, known here or not."""
    kind, code = str(value.get("kind") or CudabuildError.kind), value.get("exit_code")
    known = known_causes().get(kind, CudabuildError)
    if not isinstance(code, int) or not 0 < code < 256:
        code = known.exit_code
    # By its fields, and not by calling the known class: some take other arguments.
    own: type[CudabuildError] = type("FromServer", (CudabuildError,), {"kind": kind, "exit_code": code})
    cause = own(
        str(value.get("message") or f"{url} says no more than {kind}"),
        evidence=str(value.get("evidence") or ""),
        hint=str(value.get("hint") or ""),
        log=value.get("log") if isinstance(value.get("log"), str) else None,
    )
    cause.rule = str(value.get("rule") or "")
    return cause


def known_causes() -> dict[str, type[CudabuildError]]:
    """Every cause by its kind."""
    from buildkit import errors, input_errors

    named = {**vars(input_errors), **vars(errors)}.values()
    return {each.kind: each for each in named if isinstance(each, type) and issubclass(each, CudabuildError)}


def _problem(response: httpx2.Response) -> dict[str, Any] | None:
    try:
        value = response.json()
    except ValueError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("kind"), str) else None


def _pause(retry_after: str | None, number: int) -> float:
    asked = float(retry_after) if retry_after and retry_after.isdecimal() else _PAUSE * number
    return min(_LONGEST_PAUSE, asked)


def _hopeless(error: BaseException) -> bool:
    import httpx2

    return isinstance(error, (httpx2.InvalidURL, httpx2.UnsupportedProtocol)) or "CERTIFICATE" in str(error)
