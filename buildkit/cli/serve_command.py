"""``cudabuild serve``: builds over HTTP, and the stored wheels as a package index; or the latter alone."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import click

from buildkit.cli.options import Asked, Warnings, examples, make_context
from buildkit.cli.output import say
from buildkit.cli.serve_access import access, access_options, tell_uploads
from buildkit.cli.serve_service import serve, service_options
from buildkit.errors import Interrupted, MissingExtra, StoreError, UsageError
from buildkit.process import redact

if TYPE_CHECKING:
    from buildkit.index.serve import Place
    from buildkit.index.settings import Grade, IndexSettings
    from buildkit.store.store import Store

_FILE = click.Path(path_type=Path)
INDEX_PACKAGES = ("uvicorn", "starlette", "jinja2")
SERVICE_PACKAGES = (*INDEX_PACKAGES, "fastapi", "sqlalchemy", "alembic")
MOST_SHOWN = 8
"""Variants whose lines are printed at the start; the page / has them all."""


@click.command(
    "serve",
    epilog=examples(
        "cudabuild serve",
        "cudabuild serve --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem --database postgresql://builder@db/builds",
        "cudabuild serve --index-only",
        "cudabuild serve --index-only --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem",
        "cudabuild serve --index-only --min-grade executed --upstream https://index.example/simple/",
    ),
)
@click.option("--index-only", is_flag=True, help="Serve the package index alone: no builds.")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, metavar="N", help="0: any that is free."
)
@click.option("--public", is_flag=True, help="Anybody may read, and others do: also behind a proxy.")
@click.option(
    "--min-grade",
    type=click.Choice(["built", "audited", "imported", "executed"]),
    help="Serve only wheels whose proof reached this.",
)
@click.option(
    "--upstream",
    metavar="URL",
    default="",
    help="Simple index to which names are sent that no recipe and no wheel here owns.",
)
@click.option("--tls-cert", type=_FILE, metavar="FILE", help="Certificate (PEM), with its chain.")
@click.option("--tls-key", type=_FILE, metavar="FILE", help="Its private key (PEM).")
@click.option("--root-path", metavar="PREFIX", default="", help="Prefix that a proxy in front takes off: /wheels.")
@click.option(
    "--trust-proxy", metavar="ADDRESS", default="", help="Believe the X-Forwarded-* headers of these addresses."
)
@click.option(
    "--allow-non-redistributable", is_flag=True, help="Serve to others what a licence does not let everybody have."
)
@click.option("--recipes", "recipes_folder", type=_FILE, metavar="DIR", help="Recipes' folder, beside the others.")
@access_options
@service_options
def command(*, index_only: bool, **options: Any) -> int:
    """Take builds over HTTP, and serve the stored wheels as a package index for pip and uv; until Ctrl-C.

    Builds are queued and run as in the background: they go on when the server ends, and are found again.

    Each torch and CUDA release has a path of its own (/pt2.13-cu130/simple/). The page / lists them, with lines to
    copy. Beyond this machine it serves manylinux wheels only, and none whose licence forbids that.
    """  # fmt: skip
    check_extra(INDEX_PACKAGES if index_only else SERVICE_PACKAGES)
    place = _place(options)
    return _serve(place, options) if index_only else serve(place, options, _settings)


def check_extra(packages: Sequence[str]) -> None:
    """Raise MissingExtra where the packages that a server needs are not installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        message = f"`cudabuild serve` needs packages that are not installed: {', '.join(missing)}"
        raise MissingExtra(message, hint="pip install 'cudabuild[service]'")


def _place(options: dict[str, Any]) -> Place:
    from buildkit.index.serve import Place

    if options["tls_key"] is not None and options["tls_cert"] is None:
        raise UsageError("--tls-key without --tls-cert", hint="give the certificate as well: --tls-cert FILE")
    prefix = options["root_path"]
    if prefix and not prefix.startswith("/"):
        raise UsageError(f"--root-path {prefix} does not begin with a slash", hint=f"--root-path /{prefix}")
    if not re.fullmatch(r"[A-Za-z0-9/._~-]*", prefix) or "//" in prefix:
        raise UsageError(f"--root-path {prefix!r} is no prefix of an address", hint="--root-path /wheels")
    _check_proxies(options["trust_proxy"])
    _check_upstream(options["upstream"])
    return Place(
        host=options["host"],
        port=options["port"],
        certificate=options["tls_cert"],
        private_key=options["tls_key"],
        root_path=prefix,
        proxies=options["trust_proxy"],
    )


def _check_proxies(addresses: str) -> None:
    """Raise UsageError for what is no address or network: it would silently trust nobody."""
    try:
        _ = [ip_network(each) for each in map(str.strip, addresses.split(",")) if each not in {"", "*"}]
    except ValueError as error:
        hint = "give the proxy's own, or its network: --trust-proxy 10.0.0.7,10.1.0.0/16"
        raise UsageError(f"--trust-proxy {addresses} is no address", evidence=str(error), hint=hint) from None


def _check_upstream(url: str) -> None:
    """Raise UsageError for what is no index's URL, and for one with credentials: readers are sent there."""
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        is_url = False
    if url and not is_url:
        raise UsageError(f"--upstream {redact(url)} is not the URL of an index", hint="give http(s)://HOST/simple/")
    if "@" in urlsplit(url).netloc:
        raise UsageError(
            "--upstream takes no credentials: everybody who reads here would be told them",
            hint=f"leave them out, and let readers have their own in a netrc file: --upstream {redact(url)}".replace(
                "***@", ""
            ),
        )


def _serve(place: Place, options: dict[str, Any]) -> int:
    from buildkit.build.release import complete_releases
    from buildkit.index.app import create_app
    from buildkit.index.serve import base_url, check_certificate, is_shared, listen, run

    asked = Asked.read(options)
    store = make_context(asked, Warnings()).store
    with suppress(StoreError):  # a cache that is read-only is served as it is
        complete_releases(store)
    check_certificate(place)
    with listen(place) as listener:
        settings = _settings(asked, options, shared=options["public"] or is_shared(listener))
        app = create_app(store, settings, Warnings())
        tell_uploads()
        try:
            run(app, place, listener, lambda: _greet(store, settings, base_url(place, listener)))
        except Interrupted:  # Ctrl-C is how it is meant to be ended
            say("ended")
    return 0


def _settings(asked: Asked, options: dict[str, Any], *, shared: bool) -> IndexSettings:
    from buildkit.index.settings import IndexSettings
    from buildkit.recipe.loader import search_path
    from buildkit.recipe.owned import owned_names

    folders = search_path(options["recipes_folder"] or asked.settings.recipes, asked.cwd, asked.environ)
    return IndexSettings(
        owned=owned_names(folders),
        upstream=options["upstream"],
        min_grade=cast("Grade", options["min_grade"] or "none"),
        shared=shared,
        allow_non_redistributable=options["allow_non_redistributable"],
        **access(asked, options, folders, shared=shared),
    )


def _greet(store: Store, settings: IndexSettings, base: str) -> None:
    """Say what is served, where, and what to type."""
    from buildkit.index.catalogue import Catalogue
    from buildkit.index.people import sections

    shelf = Catalogue(store, settings).read()
    found = sections(shelf, base, upstream=bool(settings.upstream))
    files = sum(project.files for section in found for project in section.projects)
    say(f"serving {files} wheels in {len(found)} variants of {store.root} on {base} (Ctrl-C ends it)")
    if settings.readers is not None:
        say("reading needs a token: in the URL as https://__token__:TOKEN@..., or in a netrc file")
    for section in found[:MOST_SHOWN]:
        say(f"{section.path}: {', '.join(project.name for project in section.projects)}")
        say(f"  {section.lines.pip}\n  {section.lines.uv}")
    if found:
        say(f"for a project of uv, in its pyproject.toml:\n{found[0].lines.uv_project}")
    if len(found) > MOST_SHOWN:
        say(f"{len(found) - MOST_SHOWN} more variants: {base}")
    if not found:
        say("no wheel is served yet: cudabuild RECIPE builds one, and it appears without a restart")
    if shelf.withheld:
        (_, filename), reason = min(shelf.withheld.items())
        say(f"{len(shelf.withheld)} wheels are not served, such as {filename}: {reason}")
    if settings.shared and base.startswith("http:"):
        say("warning: anybody on the way can change what plain HTTP carries: give --tls-cert and --tls-key")
