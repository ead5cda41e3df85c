"""Publishing: wheels through ``uv publish`` to any index that speaks twine's protocol, verdicts to one of ours.

Tokens travel in uv's environment and in headers, never on a command line and never in a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import ValidationError

from buildkit import process
from buildkit.errors import CudabuildError, IndexDenied, IndexRefused, IndexUnreachable, UsageError
from buildkit.index.uploads_words import VerdictAnswer
from buildkit.store.releases import NameTaken

_STATUS = re.compile(r"status code:? (?P<status>\d{3})")
_SAYS = re.compile(r"Server says: (?P<text>.*)", re.DOTALL)
_PATIENCE = 1800.0
"""Seconds for one wheel: 2 GiB at 10 Mbit/s."""
MOST_ANSWER = 1 << 20
"""Bytes of an index's answer that are read."""
_LOOPBACK = re.compile(r"localhost|127\.\d+\.\d+\.\d+|::1")


@dataclass(frozen=True)
class Remote:
    """An index to publish to. ``url`` holds no credentials; ``secret`` is a token or a password."""

    url: str
    user: str = "__token__"
    secret: str = field(default="", repr=False)
    check_url: str = ""
    """Simple index that says what is there already, for an index that refuses identical bytes, too."""

    @property
    def upload_url(self) -> str:
        """Where wheels go: beside a simple index of ours, else the address as it was given."""
        for ending in ("/simple", "/simple/"):
            if self.url.endswith(ending):
                return self.url.removesuffix(ending) + "/legacy/"
        return self.url

    @property
    def base(self) -> str:
        """The root of an index of ours, without a final slash."""
        parts = urlsplit(self.url)
        path = re.sub(r"(/[^/]+)?/(simple|legacy)/?$", "", parts.path)
        return urlunsplit((parts.scheme, parts.netloc, path.rstrip("/"), "", ""))

    @property
    def loopback(self) -> bool:
        """Whether it is on this machine."""
        return _LOOPBACK.fullmatch(urlsplit(self.url).hostname or "") is not None


def remote_of(url: str, *, user: str | None, secret: str) -> Remote:
    """The index of an address, whose own credentials count where no others are given. Raises UsageError."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        (host or "").encode("idna")
    except ValueError:  # UnicodeError is one: a label of the name that is empty, or too long
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise UsageError(f"{process.redact(url)} is not an index's address", hint="--index https://HOST/legacy/")
    bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path or "/", parts.query, ""))
    own_user, own_secret = unquote(parts.username or ""), unquote(parts.password or "")
    if not (secret or own_secret).isprintable():  # it would stand in the error of whoever makes a header of it
        raise UsageError("the token holds a line break or a control character", hint="export it anew, in one line")
    if secret or not own_secret:
        return Remote(bare, user or "__token__", secret)
    return Remote(bare, user or own_user or "__token__", own_secret)


def publish_command(uv: Path, remote: Remote, filename: str) -> list[str]:
    """What is run, in the wheel's folder."""
    check = ["--check-url", remote.check_url] if remote.check_url else []
    return [
        str(uv), "publish", "--no-config", "--no-progress", "--color", "never", "--trusted-publishing", "never",
        "--keyring-provider", "disabled", "--publish-url", remote.upload_url, *check, filename,
    ]  # fmt: skip


def publish_environment(remote: Remote, base: Mapping[str, str], cache: Path) -> dict[str, str]:
    """uv's environment: the person's, but for what would decide over index and credentials in our place."""
    kept = {name: value for name, value in base.items() if not name.startswith("UV_PUBLISH_")}
    given = {"UV_CACHE_DIR": str(cache), "UV_HTTP_RETRIES": base.get("UV_HTTP_RETRIES", "2")}
    if remote.secret:
        given |= {"UV_PUBLISH_USERNAME": remote.user, "UV_PUBLISH_PASSWORD": remote.secret}
    return {**kept, **given}


def publish(wheel: Path, remote: Remote, *, uv: Path, environ: Mapping[str, str], cache: Path) -> None:
    """Upload a wheel; one that is there already with the same bytes is no failure.

    Raises IndexUnreachable, IndexDenied, NameTaken or IndexRefused.
    """
    command = publish_command(uv, remote, wheel.name)
    environment = publish_environment(remote, environ, cache)
    done = process.run(command, env=environment, cwd=wheel.parent, timeout=_PATIENCE, check=False)
    if done.returncode:
        raise _cause(remote, wheel.name, done.stderr.replace(remote.secret or "\0", "***"))


def _cause(remote: Remote, subject: str, said: str) -> CudabuildError:
    status = _STATUS.search(said)
    text = _SAYS.search(said)
    if status is None:
        evidence = process.redact(process.last_line(said).removeprefix("cause: "))
        hint = "check the address and the network; the same command again goes on"
        return IndexUnreachable(f"{subject} could not be sent to {remote.upload_url}", evidence=evidence, hint=hint)
    return refusal(int(status["status"]), remote, subject, text["text"] if text else said)


def refusal(status: int, remote: Remote, subject: str, said: str) -> CudabuildError:
    """The cause behind an index's status; ``said`` is its own text."""
    evidence = process.redact(" ".join(said.split())[:500])
    where = f"{urlsplit(remote.url).netloc} answered {status}"
    if status in (401, 403):
        return IndexDenied(
            f"{subject} was not taken: {where}",
            evidence=evidence,
            hint="export CUDABUILD_TOKEN=... with a token of that index that may upload (cudabuild token new NAME "
            "--scope upload makes one there)",
        )
    if status == 409 or "already exists" in said:
        hint = (
            "a name means one content for ever: build it again with cudabuild, which gives it a build tag "
            "(an index that refuses the same bytes, too, wants --check-url URL)"
        )
        return NameTaken(f"{subject} is there already: {where}", evidence=evidence, hint=hint)
    if status >= 500:
        return IndexUnreachable(f"{subject} was not taken: {where}", evidence=evidence, hint="the same command again")
    hint = "mend what it says, or check that the address is one for uploads (http://HOST/legacy/)"
    return IndexRefused(f"{subject} was not taken: {where}", evidence=evidence, hint=hint)


def attach_verdict(remote: Remote, sha256: str, verdict: bytes) -> VerdictAnswer:
    """Send a verdict to an index of ours; what it answers. Raises as :func:`publish` does."""
    import httpx2

    url = f"{remote.base}/api/v1/verdicts/{sha256}"
    headers = {b"Content-Type": b"application/json"}
    if remote.secret:
        headers[b"Authorization"] = f"Bearer {remote.secret}".encode()
    try:
        with httpx2.stream("POST", url, content=verdict, headers=headers, timeout=60.0) as answer:
            said = _bounded(answer.iter_bytes())
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise IndexUnreachable(
            f"the verdict could not be sent to {remote.base}",
            evidence=process.redact(f"{type(error).__name__}: {error}"),
            hint="check the address and the network; the same command again goes on",
        ) from error
    if answer.status_code != 200:
        raise refusal(answer.status_code, remote, "the verdict", said.decode("utf-8", "replace"))
    try:
        return VerdictAnswer.model_validate_json(said)
    except ValidationError:
        hint = "verdicts go to an index that `cudabuild serve` runs"
        message = f"{remote.base} is not an index of cudabuild"
        raise IndexRefused(message, evidence=said[:200].decode("utf-8", "replace"), hint=hint) from None


def _bounded(pieces: Iterable[bytes]) -> bytes:
    """The beginning of an answer, which is all of any that this is asked for."""
    data = b""
    for piece in pieces:
        data += piece[: MOST_ANSWER - len(data)]
        if len(data) == MOST_ANSWER:
            break
    return data
