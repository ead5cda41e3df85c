"""Verdicts from elsewhere: a machine with a GPU proves a wheel of this index and says so of its sha256.

A verdict's grade and rows follow from its stages, or it does not parse; what its stages say is believed of whoever
bears a token with the scope ``verify``. What is known already of the same wheel is never lowered.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from buildkit.errors import StoreError
from buildkit.index.refused import Refused
from buildkit.index.tokens import Tokens
from buildkit.index.uploads_request import answered, fed
from buildkit.index.uploads_words import VerdictAnswer
from buildkit.machine.variants import torch_label
from buildkit.store.model import first_line
from buildkit.store.release import Release
from buildkit.store.store import Store
from buildkit.verify.verdict import Verdict, raised, read_verdict

LOG = logging.getLogger("cudabuild.index")
VERDICT_LIMIT = 4 * 2**20
"""Bytes of a verdict; one with the units of a hundred objects has a quarter of that."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


def verdict_routes(store: Store, tokens: Tokens) -> list[Route]:
    """``POST /api/v1/verdicts/SHA256``."""

    async def attach(request: Request) -> Response:
        token = tokens.allowed(request.headers.get("authorization"), "verify")
        sha256 = request.path_params["sha256"]
        if _SHA256.fullmatch(sha256) is None:
            raise Refused(400, "a wheel is named by the 64 hexadecimal digits of its sha256")
        body = _Body()
        await fed(request, body)
        answer = await run_in_threadpool(_attach, store, sha256, parse_verdict(body.data), token.name)
        return JSONResponse(answer.model_dump())

    return [Route("/api/v1/verdicts/{sha256}", answered(attach), methods=["POST"], name="attach a verdict")]


def parse_verdict(data: bytes) -> Verdict:
    """The verdict in a request's body. Raises Refused, 400."""
    try:
        return Verdict.model_validate_json(data)
    except ValidationError as error:
        raise Refused(400, f"this is no verdict of a schema known here: {first_line(error)}") from None
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise Refused(400, f"the verdict does not hold together: {type(error).__name__}") from None


class _Body:
    """A body that is read as a whole."""

    def __init__(self) -> None:
        self.data = b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises Refused, 413."""
        if len(self.data) + len(data) > VERDICT_LIMIT:
            raise Refused(413, f"a verdict has at most {VERDICT_LIMIT} bytes")
        self.data += data


def _attach(store: Store, sha256: str, verdict: Verdict, by: str) -> VerdictAnswer:
    if verdict.wheel_sha256 != sha256:
        raise Refused(400, f"the verdict is about other bytes: sha256 {verdict.wheel_sha256}")
    releases = [release for release in store.releases() if release.sha256 == sha256]
    changes = [change for release in releases if (change := _amended(store, release, verdict))]
    if not changes:
        raise Refused(404, f"no wheel here has the sha256 {sha256}")
    first = changes[0][0]
    changed = any(changed for _, changed in changes)
    LOG.info("%s attached a verdict to %s: %s%s", by, first.filename, first.grade, "" if changed else " (as before)")
    names = tuple(release.filename for release, _ in changes)
    return VerdictAnswer(sha256=sha256, filenames=names, grade=first.grade, changed=changed)


def _amended(store: Store, release: Release, verdict: Verdict) -> tuple[Release, bool] | None:
    """The release as it is now, and whether this verdict changed it; None where it was cleared away meanwhile."""
    _check_subject(release, verdict)
    changed = False

    def raise_it(known: Release) -> Release:
        nonlocal changed
        better = raised(read_verdict(known.verdict), verdict)
        changed = better is not None
        return known if better is None else known.model_copy(update={"verdict": _dumped(better)})

    try:
        amended = store.amend_release(release, raise_it)
        return (amended, changed) if amended is not None else None
    except StoreError as error:
        raise Refused(503, f"the verdict on {release.filename} cannot be kept: {error.message}") from error


def _dumped(verdict: Verdict) -> dict[str, Any]:
    return verdict.model_dump(by_alias=True, mode="json")


def _check_subject(release: Release, verdict: Verdict) -> None:
    """A verdict for another device or torch than the wheel was made for says nothing about what it is served as."""
    if verdict.device != release.device:
        raise Refused(400, f"{release.filename} is for {release.device}, the verdict is for {verdict.device}")
    if bool(release.torch) != bool(verdict.torch) or (
        release.torch and _torch_label(release.torch) != _torch_label(verdict.torch)
    ):
        asked, given = release.torch or "no torch", verdict.torch or "no torch"
        raise Refused(400, f"{release.filename} was made for {asked}, the verdict was given with {given}")


def _torch_label(version: str) -> tuple[str, str]:
    """Release and CUDA of a torch: proofs with another patch release of it count."""
    from packaging.version import InvalidVersion

    try:
        return torch_label(version), version.partition("+")[2]
    except InvalidVersion:
        return version, ""
