"""``cudabuild token``: who may read, upload to, and prove on a served index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from buildkit.cli.options import Asked, examples, json_option
from buildkit.cli.output import SCHEMA, answer, print_json, say
from buildkit.cli.settings import tokens_file

_SCOPES = ("read", "build", "upload", "verify", "admin")
_file_option = click.option(
    "--file", "file", type=click.Path(path_type=Path), metavar="FILE", help="File of tokens, of which it keeps hashes."
)


@click.group(
    "token",
    epilog=examples("cudabuild token new ci --scope upload", "cudabuild token list", "cudabuild token revoke ci"),
)
def command() -> None:
    """Make, list and revoke the tokens of a service or index (`cudabuild serve`)."""


@command.command("new", epilog=examples("cudabuild token new ci --scope upload", "cudabuild token new gpu-box "
                                        "--scope verify --json"))  # fmt: skip
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(_SCOPES),
    multiple=True,
    required=True,
    help="build: builds. upload: wheels. verify: verdicts. read: nothing more. admin: all.",
)
@_file_option
@json_option
def new_command(name: str, scopes: tuple[Any, ...], file: Path | None, as_json: bool) -> int:
    """Make a token called NAME and print it: only its hash is kept, so it cannot be had again."""
    from buildkit.index.tokens import new_token

    place = _place(file)
    secret = new_token(place, name, scopes)
    if as_json:
        print_json({"schema": SCHEMA, "name": name, "scopes": list(scopes), "token": secret, "file": str(place)})
    else:
        answer(secret)
        say(f"{name} may {', '.join(scopes)}; its hash is in {place}. It is not shown again.")
        say(
            "use it:  export CUDABUILD_TOKEN=...  and  cudabuild publish WHEEL --index URL   (user __token__ elsewhere)"
        )
    return 0


@command.command("list", epilog=examples("cudabuild token list", "cudabuild token list --json"))
@_file_option
@json_option
def list_command(file: Path | None, as_json: bool) -> int:
    """List the tokens by name, with what they may do; never the tokens themselves."""
    from buildkit.index.tokens import read_tokens

    place = _place(file)
    tokens = read_tokens(place)
    if as_json:
        shown = [{"name": each.name, "scopes": list(each.scopes), "created": each.created} for each in tokens]
        print_json({"schema": SCHEMA, "file": str(place), "tokens": shown})
        return 0
    for each in tokens:
        answer(f"{each.name:24} {','.join(each.scopes):20} {each.created[:10]}")
    if not tokens:
        say(f"there are no tokens in {place}: cudabuild token new NAME --scope upload")
    return 0


@command.command("revoke", epilog=examples("cudabuild token revoke ci"))
@click.argument("name")
@_file_option
@json_option
def revoke_command(name: str, file: Path | None, as_json: bool) -> int:
    """Take the token called NAME out; a running index refuses it from the next request on."""
    from buildkit.index.tokens import revoke_token

    place = _place(file)
    token = revoke_token(place, name)
    if as_json:
        print_json({"schema": SCHEMA, "name": token.name, "scopes": list(token.scopes), "file": str(place)})
    else:
        say(f"{token.name} may do nothing any more")
    return 0


def _place(file: Path | None) -> Path:
    asked = Asked.read({})
    return file or tokens_file(asked.settings, asked.environ)
