"""Uploads by twine and ``uv publish``: the "legacy" upload protocol of package indexes.

A wheel is streamed into a folder of its own inside of the store's, checked there (see :mod:`buildkit.index.checks`),
and published in one step that lasts. What a killed server leaves behind is a folder that nobody holds a lock on; the
next start removes it.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from anyio import CapacityLimiter, to_thread
from packaging.utils import canonicalize_name
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from buildkit.errors import VerificationFailed
from buildkit.index.checks import Checked, check_wheel, release_of
from buildkit.index.refused import Refused
from buildkit.index.uploads_form import FIELDS_LIMIT, FormReader, Received
from buildkit.index.uploads_place import changing_releases, sweep_places, upload_place
from buildkit.index.uploads_request import answered, fed
from buildkit.index.uploads_settings import UploadSettings
from buildkit.index.uploads_verdicts import verdict_routes
from buildkit.index.uploads_words import linux_tag_refused, told
from buildkit.index.variants import variant_of
from buildkit.store.model import WheelName, first_line
from buildkit.store.rebuilds import yank_older
from buildkit.store.release import Release
from buildkit.store.releases import NameTaken
from buildkit.store.store import Store

LOG = logging.getLogger("cudabuild.index")

CHECKS = 2
"""Wheels that are checked at a time; others wait on the disk."""

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{32,64}$")]
_LONGEST_NAME = 200
_WHEEL_NAME: TypeAdapter[str] = TypeAdapter(WheelName)


class UploadForm(BaseModel):
    """The fields of an upload that are looked at; clients send dozens of others, which the wheel itself says."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    action: Literal["file_upload"] = Field(alias=":action")
    protocol_version: Literal["1"] = "1"
    filetype: str = "bdist_wheel"
    name: str = Field(min_length=1, max_length=256)
    version: str = Field(min_length=1, max_length=256)
    sha256_digest: Digest | None = None
    blake2_256_digest: Digest | None = None
    md5_digest: Digest | None = None


def routes(store: Store, settings: UploadSettings) -> list[Route]:
    """The routes of uploads and of verdicts; leftovers of a server that was killed are removed."""
    sweep_places(store.root)
    uploads = _Uploads(store, settings)
    paths = ("/legacy/", "/{variant}/legacy/")
    return [
        *(Route(path, answered(uploads.upload), methods=["POST"], name=f"upload {path}") for path in paths),
        *verdict_routes(store, settings.tokens),
    ]


class _Uploads:
    def __init__(self, store: Store, settings: UploadSettings) -> None:
        self._store, self._settings = store, settings
        self._checks = CapacityLimiter(CHECKS)

    async def upload(self, request: Request) -> Response:
        """Take a wheel: 200, and the same for one that is there already with the same bytes."""
        token = self._settings.tokens.allowed(request.headers.get("authorization"), "upload")
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > self._settings.limit + FIELDS_LIMIT:
            raise Refused(413, f"this index takes wheels of at most {self._settings.limit} bytes")
        variant = request.path_params.get("variant", "")
        with ExitStack() as stack:
            place = await run_in_threadpool(lambda: stack.enter_context(upload_place(self._store.root)))
            reader = FormReader(request.headers.get("content-type"), place / "received", limit=self._settings.limit)
            stack.callback(reader.close)
            await fed(request, reader)
            take = partial(self._take, reader.finish(), place, variant, token.name)
            text = await to_thread.run_sync(take, limiter=self._checks)
        return PlainTextResponse(text + "\n")

    def _take(self, received: Received, place: Path, variant: str, by: str) -> str:
        """Check what came and publish it; what to answer."""
        filename = self._named(received)
        if self._store.release(filename) is not None:
            return self._known(received, filename)
        wheel = received.path.rename(place / filename)
        checked = self._checked(wheel, place)
        release = release_of(
            checked,
            sha256=received.digests["sha256"],
            size=received.size,
            by=by,
            redistributable=self._settings.owned[checked.wheel.name],
            origin="upload",
        )
        path = variant_of(release)
        if variant not in ("", path):
            raise Refused(400, f"{filename} is of the variant {path}: upload it to /{path}/legacy/ or /legacy/")
        try:
            with changing_releases(self._store):  # of two under one name, one is second
                self._refuse_twin(release)
                self._store.publish(wheel, release)
                yank_older(release, self._store)
        except NameTaken as error:
            raise Refused(409, f"{error.message} ({error.evidence})") from error
        LOG.info("%s uploaded %s (sha256 %s)", by, filename, release.sha256)
        return f"{filename} is there: /{path}/simple/{release.project}/"

    def _named(self, received: Received) -> str:
        """The file name, if it is a wheel's that may be uploaded here and whose bytes are those announced."""
        form = _form(received)
        filename = received.filename or ""
        if form.filetype != "bdist_wheel" or not filename.endswith(".whl"):
            raise Refused(400, f"only wheels are taken here, and {filename or form.filetype} is none")
        project = _project(filename)
        if project != canonicalize_name(form.name):
            raise Refused(400, f"the form is for {form.name}, and {filename} is a wheel of {project}")
        if project not in self._settings.owned:
            raise Refused(
                403, f"{project} is nobody's here: no recipe has this name, nor does the setting upload-names"
            )
        for name, digest in received.digests.items():
            announced = getattr(form, f"{name}_digest")
            if announced is not None and announced.lower() != digest:
                raise Refused(400, f"{filename} arrived with {name} {digest}; announced was {announced.lower()}")
        return filename

    def _refuse_twin(self, release: Release) -> None:
        """Another spelling of a file name that is there would be a second content for what installers take as one."""
        mine = _meaning(release.filename)
        for other in self._store.releases(retired=True):
            if (
                other.project == release.project
                and other.filename != release.filename
                and _meaning(other.filename) == mine
            ):
                raise Refused(
                    409, f"{release.filename} is there as {other.filename}: one name means one content for ever"
                )

    def _known(self, received: Received, filename: str) -> str:
        sha256, holder = received.digests["sha256"], self._store.bearer(filename)
        if holder != sha256:
            raise Refused(
                409,
                f"{filename} is there with other bytes (sha256 {holder}, yours are {sha256}): a file name "
                "means one content for ever; build it again, which gives it a build tag",
            )
        with changing_releases(self._store):
            known = self._store.release(filename)
            if known is None:
                raise Refused(503, f"{filename} was just cleared away: send it again")
            self._store.publish(received.path, known)  # puts right what was damaged since
        return f"{filename} was there already, with the same bytes"

    def _checked(self, wheel: Path, place: Path) -> Checked:
        objects = place / "objects"
        objects.mkdir()
        try:
            checked = check_wheel(wheel, objects, cuobjdump=self._settings.cuobjdump)
        except VerificationFailed as error:
            raise Refused(400, told(error)) from error
        if checked.linux_tag and not self._settings.linux_tags:
            raise Refused(400, linux_tag_refused(wheel.name, checked.linux_tag))
        return checked


def _form(received: Received) -> UploadForm:
    looked_at = {field.alias or name for name, field in UploadForm.model_fields.items()}
    twice = sorted(looked_at & received.repeated)
    if twice:
        raise Refused(400, f"the form has the field {twice[0]} more than once")
    # An empty text is what a client sends for a hash that it does not know.
    given = {name: value for name, value in received.fields.items() if name in looked_at and value}
    try:
        return UploadForm.model_validate(given)
    except ValidationError as error:
        raise Refused(400, f"the form does not hold what an upload needs: {first_line(error)}") from None


def _project(filename: str) -> str:
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    if len(filename) > _LONGEST_NAME:
        raise Refused(400, f"a file name of {len(filename)} characters is longer than the {_LONGEST_NAME} taken here")
    try:
        return str(parse_wheel_filename(_WHEEL_NAME.validate_python(filename))[0])
    except (InvalidWheelFilename, ValidationError) as error:
        reason = first_line(error) if isinstance(error, ValidationError) else str(error)
        raise Refused(400, f"{filename!r} is not the name of a wheel: {reason}") from None


def _meaning(filename: str) -> object:
    """What installers compare of a file name: version, build tag and tags."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        return parse_wheel_filename(filename)[1:]
    except InvalidWheelFilename:
        return filename
