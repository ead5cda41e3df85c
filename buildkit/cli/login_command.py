"""``cudabuild login``: keeps the token for a server."""

from __future__ import annotations

import os
import sys

import click

from buildkit.cli.options import examples, json_option
from buildkit.cli.output import SCHEMA, print_json, say
from buildkit.errors import UsageError

_LONGEST = 4096


@click.command(
    "login",
    epilog=examples("cudabuild login https://build.example", "cudabuild login https://build.example < token.txt"),
)
@click.argument("url")
@click.option("--allow-http", is_flag=True, help="Send the token over plain HTTP, too: the network is trusted.")
@click.option("--no-check", is_flag=True, help="Keep it without asking the server whether it knows it.")
@json_option
def command(url: str, *, allow_http: bool, no_check: bool, as_json: bool) -> int:
    """Keep the token for the server at URL, in a file that only you can read.

    The token is CUDABUILD_TOKEN's, else it is asked for on the terminal, else it is the first line of standard input.
    `cudabuild token new` on the server makes one. `cudabuild logout` forgets it.
    """
    from buildkit.cli.credentials import Access, address_of, check_token, keep

    address = address_of(url)
    token = _token(address.url)
    check_token(token, address, allow_http=allow_http)
    if not no_check:
        from buildkit.cli.client_http import API, Server

        with Server(Access(address, token)) as server:
            server.get(f"{API}/builds", limit="1")
    file = keep(address, token, os.environ, allow_http=allow_http)
    if as_json:
        print_json({"schema": SCHEMA, "server": address.url, "file": str(file), "checked": not no_check})
        return 0
    say(f"the token for {address.url} is kept in {file}")
    say(f"use it: cudabuild --server {address.url} build RECIPE   (or export CUDABUILD_SERVER={address.url})")
    return 0


def _token(url: str) -> str:
    """Never from a word of the command: other users can read those."""
    from buildkit.cli.credentials import TOKEN_VARIABLE

    if token := os.environ.get(TOKEN_VARIABLE, "").strip():
        return token
    if sys.stdin.isatty():
        token = str(click.prompt(f"token for {url}", hide_input=True, err=True))
    else:
        token = sys.stdin.readline(_LONGEST)
    if not token.strip():
        raise UsageError("there is no token on standard input", hint=f"cudabuild login {url} < FILE")
    return token.strip()
