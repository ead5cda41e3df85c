"""``cudabuild serve`` in full: builds over HTTP, with the index of what came of them."""

from __future__ import annotations

import logging
import os
import platform
import secrets
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from buildkit.cli.config_tables import table
from buildkit.cli.options import Asked, Warnings, make_context
from buildkit.cli.output import say
from buildkit.cli.settings import cache_folder, tokens_file
from buildkit.errors import Interrupted, StoreError, UsageError

if TYPE_CHECKING:
    from buildkit.build.context import Context
    from buildkit.index.serve import Place
    from buildkit.index.settings import IndexSettings
    from buildkit.service.access import Policy
    from buildkit.service.service import Service
    from buildkit.service.settings import ServiceSettings

Command = TypeVar("Command", bound=Callable[..., Any])
LOG = logging.getLogger("cudabuild.service")


def service_options(command: Command) -> Command:
    """What concerns builds."""
    options = (
        click.option("--database", metavar="URL", help="postgresql://USER@HOST/NAME, or sqlite:///FILE."),
        click.option("--slots", type=click.IntRange(0, 1000), metavar="N", help="Builds at once (2; 0: only answer)."),
        click.option("--on-stop", type=click.Choice(["keep", "requeue", "end"]),
                     help="What becomes of running builds when it is ended (keep: they go on by themselves)."),
        click.option("--host-name", "host_names", multiple=True, metavar="NAME",
                     help="A name by which it is reached: a proxy's, for example."),
        click.option("--log-format", type=click.Choice(["auto", "json", "text"]), default="auto", show_default=True,
                     help="Its own log; auto: text on a terminal, else one JSON object a line."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def check_database(url: str | None) -> None:
    """Raise UsageError for a URL with a password: everybody on this machine could read it in the list of processes."""
    from urllib.parse import urlsplit

    try:
        has_password = url is not None and urlsplit(url).password is not None
    except ValueError:
        has_password = False
    if has_password:
        hint = "set CUDABUILD_SERVICE_DATABASE, `database` in [service], or keep the password in ~/.pgpass"
        raise UsageError("--database takes no password: the list of processes would show it", hint=hint)


def serve(place: Place, options: dict[str, Any], index_settings: Callable[..., IndexSettings]) -> int:
    """Until a signal comes; running builds are kept, queued again or ended, as is set."""
    from buildkit.index.serve import base_url, check_certificate, is_shared, listen, run
    from buildkit.service.app import create_service_app
    from buildkit.service.logs import log_to
    from buildkit.service.pages import routes
    from buildkit.service.pages_desk import Desk

    check_database(options["database"])
    asked = Asked.read(options)
    settings = service_settings(asked, options)
    log_to(as_json=_json(options["log_format"]))
    check_certificate(place)
    with listen(place) as listener:
        shared = options["public"] or is_shared(listener) or has_others(options, settings)
        index = index_settings(asked, options, shared=shared)
        context = make_context(asked, Warnings())
        service = make_service(context, asked, settings, base_url(place, listener))
        service.upstream = bool(index.upstream)
        policy = _policy(asked, options, place, index, settings, shared=shared)
        desk = Desk(service, context.store, context.places.wheels, asked.environ)
        app = create_service_app(service, index, policy, pages=routes(desk))
        assert service.worker is not None  # noqa: S101 - made just now
        service.worker.start()
        try:
            run(app, place, listener, lambda: _greet(service, options), on_signal=service.closing.set)
        except Interrupted:
            say("ended")
        finally:
            service.closing.set()
            service.worker.stop(settings.on_stop)
            service.database.close()
    return 0


def has_others(options: Mapping[str, Any], settings: ServiceSettings) -> bool:
    """Whether a proxy brings others here, whatever the address: it has a name of its own, or its headers are believed.

    To the service all of them come from this machine, so nothing else tells them from its own people.
    """
    from buildkit.index.lines import is_loopback

    names = (*options["host_names"], *settings.hosts)
    return bool(options["trust_proxy"]) or not all(map(is_loopback, names))


def service_settings(asked: Asked, options: Mapping[str, Any]) -> ServiceSettings:
    """Options over variables over the file's [service]. Raises ConfigError."""
    from buildkit.service.settings import read_service_settings

    path, found = table("service", asked.environ, asked.cwd)
    typed = {name: options.get(name) for name in ("database", "slots", "on_stop")}
    return read_service_settings(found, asked.environ, typed, str(path))


def make_service(context: Context, asked: Asked, settings: ServiceSettings, base: str) -> Service:
    """The service over a cache, its database brought up to date; its worker is not started yet."""
    from buildkit.build.release import complete_releases
    from buildkit.index.catalogue import Catalogue
    from buildkit.index.settings import IndexSettings
    from buildkit.recipe.loader import search_path
    from buildkit.service.claims import Claims
    from buildkit.service.database import Database
    from buildkit.service.planning import Planner
    from buildkit.service.queue import Queue
    from buildkit.service.runs import Runs
    from buildkit.service.service import Service
    from buildkit.service.worker import Worker, identify
    from buildkit.store.builds import BuildRecords

    cache = cache_folder(asked.settings, asked.environ)
    with suppress(StoreError):  # a cache that is read-only is served as it is
        complete_releases(context.store)
    database = Database(settings.url(cache))
    database.migrate()
    folders = search_path(asked.options.get("recipes_folder") or asked.settings.recipes, asked.cwd, asked.environ)
    service = Service(
        settings=settings,
        database=database,
        queue=Queue(database, limit=settings.queue_limit),
        runs=Runs(context.places.logs, BuildRecords(context.places.store)),
        catalogue=Catalogue(context.store, IndexSettings(), Warnings()),
        recipes_in=folders,
        place=place_of(cache),
        base=base,
    )
    claims = Claims(database, identify(service.place, settings.slots), settings.lease)
    recipes = asked.options.get("recipes_folder")
    planner = Planner(cache, os.environ, settings.git_hosts, asked.cwd / recipes if recipes else None)
    service.worker = Worker(claims, service.runs, planner, settings, service.tell)
    return service


def place_of(cache: Path) -> str:
    """The id of a cache, by which servers that share a database know whose builds they can see."""
    from buildkit.store.disk import disk_causes, make_folder

    file = cache / "service" / "place"
    with disk_causes(file.parent):
        make_folder(file.parent)
        with suppress(FileExistsError):
            descriptor = os.open(draft := f"{file}.{os.getpid()}", os.O_WRONLY | os.O_CREAT, 0o644)
            with os.fdopen(descriptor, "w") as stream:
                stream.write(secrets.token_hex(16))
            try:
                os.link(draft, file)
            finally:
                Path(draft).unlink()
        return file.read_text(encoding="ascii").strip()


def _policy(
    asked: Asked, options: Mapping[str, Any], place: Place, index: IndexSettings, settings: ServiceSettings, *,
    shared: bool,
) -> Policy:  # fmt: skip
    from buildkit.index.lines import is_loopback
    from buildkit.index.tokens import Tokens
    from buildkit.service.access import Policy

    names = {place.host, *options["host_names"], *settings.hosts}
    names |= {"localhost", "127.0.0.1", "::1"} if is_loopback(place.host) or not shared else set()
    if shared:
        names |= {platform.node(), socket.gethostname(), socket.getfqdn(), "localhost"}
    tokens = index.readers or Tokens(options["tokens"] or tokens_file(asked.settings, asked.environ))
    return Policy(
        tokens=tokens,
        guarded=frozenset({"read", "build"} if index.readers is not None else {"build"} if shared else ()),
        hosts=frozenset(name.lower().rstrip(".") for name in names if name),
        any_address=shared,
        rate=settings.rate,
        body_limit=settings.body_limit,
    )


def _json(form: str) -> bool:
    return form == "json" or (form == "auto" and not sys.stderr.isatty())


def _greet(service: Service, options: Mapping[str, Any]) -> None:
    slots = service.settings.slots
    store = service.catalogue.store.root
    text = f"serving builds ({slots} at once) and the wheels of {store} on {service.base} (Ctrl-C ends it)"
    LOG.info(text, extra={"facts": {"url": service.base, "database": str(service.database)}})
    if not _json(options["log_format"]):
        say(f"ask for a build: cudabuild RECIPE --server {service.base}")
        say(f"look at builds:  {service.base}ui/")
    if service.base.startswith("http:") and "//127.0.0.1" not in service.base and "//localhost" not in service.base:
        LOG.warning(
            "plain HTTP: tokens can be read on the way; give --tls-cert and --tls-key, or a proxy that has them"
        )
