"""Publishing: where a wheel goes and how, that no secret is shown, and what each answer means."""

from __future__ import annotations

import http.server
import threading
from pathlib import Path

import pytest

from buildkit.cli.index_options import remote_index
from buildkit.errors import CudabuildError, IndexDenied, IndexRefused, IndexUnreachable, UsageError
from buildkit.index.publishing import (
    MOST_ANSWER,
    Remote,
    attach_verdict,
    publish,
    publish_command,
    publish_environment,
    refusal,
    remote_of,
)
from buildkit.store.releases import NameTaken

ANSWER = b'{"sha256": "%s", "filenames": [], "grade": "executed", "changed": true}' % (b"a" * 64)
HIDDEN = "cudabuild_very-well-hidden"
OTHER = "cudabuild_another"


@pytest.mark.parametrize(
    ("url", "upload", "base"),
    [
        ("http://h:1/pt2.13-cu130/simple/", "http://h:1/pt2.13-cu130/legacy/", "http://h:1"),
        ("http://h:1/pt2.13-cu130/simple", "http://h:1/pt2.13-cu130/legacy/", "http://h:1"),
        ("https://h/wheels/pt2.13-cu130/legacy/", "https://h/wheels/pt2.13-cu130/legacy/", "https://h/wheels"),
        ("http://h:1/legacy/", "http://h:1/legacy/", "http://h:1"),
        ("https://index.example/root/dev/", "https://index.example/root/dev/", "https://index.example/root/dev"),
        ("http://h", "http://h/", "http://h"),
    ],
)
def test_where_wheels_and_verdicts_go(url: str, upload: str, base: str) -> None:
    remote = remote_of(url, user=None, secret="")
    assert (remote.upload_url, remote.base) == (upload, base)


@pytest.mark.parametrize("url", ["", "h/simple", "ftp://h/", "http://", "http://[/", "file:///x", "http://a..b/"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(UsageError, match="is not an index's address"):
        remote_of(url, user=None, secret="")


@pytest.mark.parametrize("url", ["https://h/legacy/", f"https://me:x%0A{HIDDEN}@h/legacy/"])
def test_a_token_of_two_lines_is_refused_and_not_shown(url: str) -> None:
    secret = "" if "%0A" in url else f"x\n{HIDDEN}"
    with pytest.raises(UsageError, match="line break") as caught:
        remote_of(url, user=None, secret=secret)
    assert HIDDEN not in f"{caught.value.message} {caught.value.evidence} {caught.value.hint}"


def test_credentials_of_an_address_leave_it() -> None:
    remote = remote_of(f"https://me:{HIDDEN}@h/legacy/", user=None, secret="")
    assert (remote.url, remote.user, remote.secret) == ("https://h/legacy/", "me", HIDDEN)
    assert remote_of(f"https://me:{HIDDEN}@h/", user=None, secret=OTHER).secret is OTHER
    assert HIDDEN not in repr(remote)


def test_the_secret_is_in_the_environment_only() -> None:
    remote = Remote("https://h/legacy/", "me", HIDDEN)
    base = {"UV_PUBLISH_TOKEN": "x", "UV_PUBLISH_URL": "http://evil/", "PATH": "/bin"}
    environ = publish_environment(remote, base, Path("/cache"))
    assert HIDDEN not in " ".join(publish_command(Path("uv"), remote, "a.whl"))
    assert (environ["UV_PUBLISH_USERNAME"], environ["UV_PUBLISH_PASSWORD"]) == ("me", HIDDEN)
    assert environ.keys() & base.keys() == {"PATH"}
    assert "UV_PUBLISH_PASSWORD" not in publish_environment(Remote("https://h/"), base, Path("/cache"))


def test_which_variable_holds_the_token() -> None:
    def remote(environ: dict[str, str], token_env: str | None = None) -> tuple[str, str]:
        found = remote_index("https://h/", token_env, None, environ)
        return found.user, found.secret

    assert remote({"CUDABUILD_TOKEN": "a", "UV_PUBLISH_TOKEN": "b"}) == ("__token__", "a")
    assert remote({"TWINE_USERNAME": "me", "TWINE_PASSWORD": "c"}) == ("me", "c")
    assert remote({"MINE": "d", "TWINE_USERNAME": "me", "CUDABUILD_TOKEN": "a"}, "MINE") == ("__token__", "d")
    assert remote({}) == ("__token__", "")
    with pytest.raises(UsageError, match="the variable MINE is not set"):
        remote({}, "MINE")


@pytest.mark.parametrize(
    ("status", "said", "cause", "exit_code"),
    [
        (401, "who are you", IndexDenied, 10),
        (403, "not yours", IndexDenied, 10),
        (409, "other bytes", NameTaken, 10),
        (400, "File already exists", NameTaken, 10),
        (413, "too large", IndexRefused, 10),
        (400, "unsafe-wheel: ...", IndexRefused, 10),
        (404, "nothing here", IndexRefused, 10),
        (503, "later", IndexUnreachable, 4),
    ],
)
def test_what_an_answer_means(status: int, said: str, cause: type[CudabuildError], exit_code: int) -> None:
    error = refusal(status, Remote("https://h/legacy/"), "a.whl", said)
    assert (type(error), error.exit_code, error.evidence) == (cause, exit_code, said)
    assert f"h answered {status}" in error.message
    assert error.hint


def test_what_uv_says_becomes_the_cause(tmp_path: Path) -> None:
    uv = tmp_path / "uv"
    uv.write_text(f"""#!/bin/sh
echo 'error: Failed to publish' >&2
echo '  cause: Server returned status code 403 Forbidden. Server says: no scope for {HIDDEN}' >&2
exit 2
""")
    uv.chmod(0o755)
    with pytest.raises(IndexDenied) as caught:
        publish(tmp_path / "a.whl", Remote("https://h/", secret=HIDDEN), uv=uv, environ={}, cache=tmp_path)
    assert caught.value.evidence == "no scope for ***"
    uv.write_text("#!/bin/sh\necho '  cause: Connection refused (os error 111)' >&2\nexit 2\n")
    with pytest.raises(IndexUnreachable, match="could not be sent") as unreachable:
        publish(tmp_path / "a.whl", Remote("https://h/"), uv=uv, environ={}, cache=tmp_path)
    assert unreachable.value.evidence == "Connection refused (os error 111)"


class Answering(http.server.BaseHTTPRequestHandler):
    """Says the same to whatever is posted."""

    status, said = 200, b""

    def do_POST(self) -> None:
        """Answer."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.said)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("status", "said", "cause"),
    [
        (200, b"<html>welcome</html>", IndexRefused),
        (200, b'{"grade": "executed"}', IndexRefused),
        (403, b"no scope", IndexDenied),
        (404, b"no wheel here", IndexRefused),
        (500, b"oh", IndexUnreachable),
        (200, b" " * (MOST_ANSWER + 1) + ANSWER, IndexRefused),
    ],
)
def test_what_another_server_says_of_a_verdict(status: int, said: bytes, cause: type[CudabuildError]) -> None:
    handler = type("Handler", (Answering,), {"status": status, "said": said})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        remote = Remote(f"http://127.0.0.1:{server.server_port}/legacy/", secret=f"{HIDDEN}é")
        with pytest.raises(cause) as caught:
            attach_verdict(remote, "a" * 64, b"{}")
        thread.join()
    assert HIDDEN not in f"{caught.value.message}{caught.value.evidence}"
