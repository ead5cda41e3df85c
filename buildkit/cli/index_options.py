"""Options of commands that send something to an index: which one, and with what token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from buildkit.errors import UsageError

if TYPE_CHECKING:
    from buildkit.index.publishing import Remote
    from buildkit.progress import Reporter

TOKEN_VARIABLE = "CUDABUILD_TOKEN"  # noqa: S105 - a variable's name
_OTHERS = ("UV_PUBLISH_TOKEN", "UV_PUBLISH_PASSWORD", "TWINE_PASSWORD")

token_option = click.option(
    "--token-env", metavar="VAR", help=f"Variable that holds the token ({TOKEN_VARIABLE}, else uv's and twine's)."
)
user_option = click.option("--username", metavar="NAME", help="User of an index that has users (__token__).")


def warn_of_plain_http(remote: Remote, reporter: Reporter) -> None:
    """Say that a token is about to travel where others can read it."""
    if remote.secret and remote.url.startswith("http:") and not remote.loopback:
        reporter.warn("the token travels over plain HTTP, where others on the way can read it: use https")


def remote_index(url: str, token_env: str | None, username: str | None, environ: Mapping[str, str]) -> Remote:
    """The index with its token. UsageError for a variable that was named and is not there."""
    from buildkit.index.publishing import remote_of

    if token_env is not None and not environ.get(token_env):
        raise UsageError(
            f"the variable {token_env} is not set", hint=f"export {token_env}=...   (a token of that index)"
        )
    names = (token_env,) if token_env is not None else (TOKEN_VARIABLE, *_OTHERS)
    secret = next((value for name in names if (value := environ.get(name, "").strip())), "")
    if username is None and token_env is None:
        username = environ.get("UV_PUBLISH_USERNAME") or environ.get("TWINE_USERNAME")
    return remote_of(url, user=username, secret=secret)
