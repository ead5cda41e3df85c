"""Who may read and upload on a served index: from options and settings to what the index asks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import click

from buildkit.cli.options import Asked, SizeType
from buildkit.cli.output import say
from buildkit.cli.settings import signing_key, tokens_file
from buildkit.errors import UsageError

if TYPE_CHECKING:
    from buildkit.index.tokens import Tokens
    from buildkit.index.uploads_settings import UploadSettings

Command = TypeVar("Command", bound=Callable[..., Any])


class Access(TypedDict):
    """Fields of IndexSettings."""

    uploads: UploadSettings | None
    readers: Tokens | None
    share_store: bool
    signing_key: Path


def access_options(command: Command) -> Command:
    """What concerns tokens, uploads, and other machines' stores."""
    options = (
        click.option("--tokens", "tokens", type=click.Path(path_type=Path), metavar="FILE",
                     help="File of tokens (`cudabuild token`)."),
        click.option("--private", is_flag=True, help="Reading needs a token, too, wherever it listens."),
        click.option("--upload-name", "upload_names", multiple=True, metavar="NAME",
                     help="Take uploads of this name, too, which no recipe owns."),
        click.option("--share-store", is_flag=True,
                     help="Let other cudabuilds ask this store by key: their `--store URL`."),
        click.option("--upload-limit", type=SizeType(), metavar="SIZE", help="Largest wheel to take (2GiB)."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


class _Teller(logging.Handler):
    """Says each line of the index's log: who uploaded what, and what was refused."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        say(record.getMessage())


def tell_uploads() -> None:
    """Say on standard error what is uploaded and refused, as long as this process lives."""
    log = logging.getLogger("cudabuild.index")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(_Teller())


def access(asked: Asked, options: dict[str, Any], folders: Sequence[Path], *, shared: bool) -> Access:
    """Uploads need a token always; reading does beyond loopback (unless it is ``--public``) and with ``--private``.

    UsageError where nobody could read, and where anybody could have what a licence does not let everybody have.
    """
    if options["public"] and options["share_store"] and not options["allow_non_redistributable"]:
        raise UsageError(
            "--share-store hands out every stored wheel, and --public to anybody",
            hint="leave --public out, or say --allow-non-redistributable once you have checked the licences",
        )
    from packaging.utils import canonicalize_name

    from buildkit.index.tokens import Tokens, read_tokens
    from buildkit.index.uploads_settings import UPLOAD_LIMIT, UploadSettings
    from buildkit.recipe.owned import owned_licences

    file = options["tokens"] or tokens_file(asked.settings, asked.environ)
    known, tokens = read_tokens(file), Tokens(file)
    guarded = options["private"] or (shared and not options["public"])
    if guarded and not known:
        raise UsageError(
            f"reading needs a token here, and {file} holds none",
            hint="cudabuild token new NAME --scope read   (or let anybody read: --public)",
        )
    names = [*asked.settings.upload_names, *options["upload_names"]]
    owned = {str(canonicalize_name(name)): True for name in names} | owned_licences(folders)
    limit = options["upload_limit"] or UPLOAD_LIMIT
    uploads = UploadSettings(tokens, owned, limit=limit, linux_tags=not shared)
    return Access(
        uploads=uploads,
        readers=tokens if guarded else None,
        share_store=options["share_store"],
        signing_key=signing_key(asked.environ),
    )
