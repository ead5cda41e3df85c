"""``cudabuild logout``: forgets the token for a server."""

from __future__ import annotations

import os

import click

from buildkit.cli.options import examples, json_option
from buildkit.cli.output import SCHEMA, print_json, say


@click.command("logout", epilog=examples("cudabuild logout https://build.example"))
@click.argument("url")
@json_option
def command(url: str, *, as_json: bool) -> int:
    """Forget the token for the server at URL. The server knows it still: `cudabuild token revoke` there ends it."""
    from buildkit.cli.credentials import address_of, forget

    address = address_of(url)
    file = forget(address, os.environ)
    if as_json:
        print_json({"schema": SCHEMA, "server": address.url, "file": str(file) if file else None})
    elif file is None:
        say(f"no token is kept for {address.url}")
    else:
        say(f"the token for {address.url} is forgotten; `cudabuild token revoke` on the server ends it for everybody")
    return 0
