"""``cudabuild cache export``, ``import`` and ``key``: wheels from one machine's store to another's."""

from __future__ import annotations

import os
from pathlib import Path

import click

from buildkit.cli.options import Asked, examples, json_option, make_context
from buildkit.cli.output import answer, print_json, say
from buildkit.cli.settings import signing_key
from buildkit.progress import Silent

_PATH = click.Path(path_type=Path)


@click.command(
    "export",
    epilog=examples(
        "cudabuild cache export --out wheelhouse          pip install --find-links wheelhouse NAME",
        "cudabuild cache export diso last --out wheels.tar",
    ),
)
@click.argument("asked", nargs=-1, metavar="[ENTRY|RECIPE...]")
@click.option("--out", type=_PATH, required=True, metavar="DIR|FILE.tar[.gz]", help="Where to write it.")
@json_option
def export_command(asked: tuple[str, ...], out: Path, as_json: bool) -> int:
    """Write wheels with what is known of them to a folder or an archive; all of them where none is named.

    A folder is a wheelhouse: the wheels under their names and one manifest, for `pip --find-links` and for images.
    Where there is a key (`cudabuild cache key new`), the manifest is signed.
    """
    from buildkit.build.exchange import export
    from buildkit.cli.cache_schema import export_object

    context = make_context(Asked.read({}), Silent())
    found = export_object(export(context.store, asked, out, key=signing_key(context.environ)))
    for line in found.left:
        say(f"note: {line}")
    if as_json:
        print_json(found.model_dump(mode="json", by_alias=True))
        return 0
    for name in found.wheels:
        answer(name)
    signed = "signed" if found.signed else "not signed: what is imported elsewhere is proven again there"
    say(f"{len(found.wheels)} wheels in {found.path}, {signed}")
    return 0


@click.command(
    "import", epilog=examples("cudabuild cache import wheelhouse", "cudabuild cache import wheels.tar --json")
)
@click.argument("path", type=_PATH, metavar="DIR|FILE")
@json_option
def import_command(path: Path, as_json: bool) -> int:
    """Take in what `cache export` wrote: every byte is compared, every wheel is looked at as a stranger's.

    Its proofs are believed where a key of `trusted-keys` has signed them; else they are made again here, when a wheel
    is asked for. Exit code 10 if anything was refused.
    """
    from buildkit.build.exchange import import_bundle
    from buildkit.cli.cache_schema import import_object
    from buildkit.recipe.loader import search_path
    from buildkit.recipe.owned import owned_licences

    asked = Asked.read({})
    context = make_context(asked, Silent())
    licences = owned_licences(search_path(asked.settings.recipes, asked.cwd, asked.environ))
    trusted = asked.settings.trusted_keys
    found = import_object(import_bundle(path, context.store, context.places, trusted, licences))
    if as_json:
        print_json(found.model_dump(mode="json", by_alias=True))
    else:
        for wheel in found.wheels:
            answer(f"{wheel.outcome:9} {wheel.filename}{f': {wheel.why}' if wheel.why else ''}")
        unsigned = "no trusted key has signed it: each wheel is proven again when it is asked for"
        say(f"signed by {found.signer}" if found.signer else unsigned)
    return 10 if any(wheel.outcome == "refused" for wheel in found.wheels) else 0


@click.group("key", epilog=examples("cudabuild cache key new", "cudabuild cache key show"))
def key_group() -> None:
    """The key that exports and served stores are signed with.

    Whoever has its public part among `trusted-keys` believes the proofs that come with your wheels.
    """


@key_group.command("new", epilog=examples("cudabuild cache key new"))
@json_option
def new_command(as_json: bool) -> int:
    """Make a key of your own, beside the configuration file; print its public part."""
    from buildkit.store.signing import new_key

    path = signing_key(os.environ)
    _print(new_key(path), path, as_json=as_json)
    return 0


@key_group.command("show", epilog=examples("cudabuild cache key show"))
@json_option
def show_command(as_json: bool) -> int:
    """Print the public part of your key."""
    from buildkit.store.signing import public_key

    path = signing_key(os.environ)
    _print(public_key(path), path, as_json=as_json)
    return 0


def _print(public: str, path: Path, *, as_json: bool) -> None:
    from buildkit.cli.cache_schema import KeyObject

    if as_json:
        print_json(KeyObject(key=public, path=str(path)).model_dump(mode="json", by_alias=True))
        return
    answer(public)
    say(f'the private part is {path}; others trust it by: trusted-keys = ["{public}"]')
