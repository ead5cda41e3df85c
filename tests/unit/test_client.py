"""``cudabuild --server URL``: the same output and exit codes, whatever becomes of the connection meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from stub_service import FILENAME, WHEEL, Stub, problem, served

from buildkit.cli import client_http, client_stream
from buildkit.cli.client_words import wanted
from buildkit.cli.schema import ANSWER, CancelObject, DetachedObject
from buildkit.cli.start import main
from buildkit.input_errors import ServerUnreachable

ROOT = Path(__file__).resolve().parents[2]
BUILD = ("build", "some-kernels", "--target", "12.0")
FAILURE = {"kind": "out-of-memory", "exit_code": 7, "message": "memory ran out", "evidence": "Killed", "hint": "less"}

pytestmark = pytest.mark.usefixtures("empty_machine")


@pytest.fixture(scope="module")
def running() -> Iterator[Stub]:
    with served(Stub()) as stub:
        yield stub


@pytest.fixture
def stub(running: Stub, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """The one server of this file, as new."""
    vars(running).update({**vars(Stub()), "url": running.url})
    monkeypatch.setattr(client_http, "_PAUSE", 0.001)
    monkeypatch.setattr(client_stream, "_PAUSES", (0.001,))
    return running


def run(stub: Stub, *words: str) -> int:
    return main(["--server", stub.url, *words])


def one(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


@pytest.mark.parametrize(
    ("words", "environ", "server", "remote", "rest"),
    [
        (["build", "x"], {}, None, False, ["build", "x"]),
        (["--server", "U", "build", "x"], {}, "U", True, ["build", "x"]),
        (["x", "--server=U"], {}, "U", True, ["x"]),
        (["x"], {"CUDABUILD_SERVER": " U "}, "U", True, ["x"]),
        (["x"], {"CUDABUILD_SERVER": ""}, "", False, ["x"]),
        (["--server", "none", "x"], {"CUDABUILD_SERVER": "U"}, "", False, ["x"]),
        (["doctor"], {"CUDABUILD_SERVER": "U"}, "U", False, ["doctor"]),
        (["recipes", "new", "x"], {"CUDABUILD_SERVER": "U"}, "U", False, ["recipes", "new", "x"]),
        (["recipes", "list"], {"CUDABUILD_SERVER": "U"}, "U", True, ["recipes", "list"]),
        (["--server", "U", "doctor"], {}, "U", True, ["doctor"]),
        (["verify", "x", "--", "p", "--server", "U"], {}, None, False, ["verify", "x", "--", "p", "--server", "U"]),
        (["build", "--server"], {}, None, False, ["build", "--server"]),
        ([], {"CUDABUILD_SERVER": "U"}, "U", False, []),
    ],
)
def test_which_server(
    words: list[str], environ: dict[str, str], server: str | None, remote: bool, rest: list[str]
) -> None:
    found = wanted(words, environ)
    assert (found.server, found.remote, list(found.words)) == (server, remote, rest)


def test_a_build_from_the_beginning_to_the_wheel(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    stub.end()
    assert run(stub, *BUILD, "--torch", "2.13.0+cu130", "--json") == 0
    shown = capsys.readouterr()
    value = json.loads(shown.out)
    assert Path(value["wheel"].pop("path")).read_bytes() == WHEEL
    assert value["wheel"] == {"filename": FILENAME, "sha256": value["wheel"]["sha256"], "size": len(WHEEL)}
    assert (value["build"], value["cache"], value["verdict"]["grade"]) == ("b1", "miss", "imported")
    assert value["server"] == {"url": stub.url, "id": "b1", "build": "20261122-abcd", "worker": "w1"}
    assert "error" not in value
    assert stub.bodies() == [{"recipe": "some-kernels", "device": "cuda", "targets": ["12.0"], "torch": "2.13.0+cu130"}]
    assert "build        2 at a time" in shown.err
    assert "[1/2] cc" not in shown.err


def test_for_people_it_says_what_the_local_command_says(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    stub.end()
    assert run(stub, "some-kernels==1.0", "--out", "here", "-v") == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    place = Path.cwd() / "here" / FILENAME
    assert f"wheel: {place}\ninstall it: pip install {place}\n" in shown.err
    assert "some-kernels 1.0: built in" in shown.err
    assert "  target 12.0          code in every unit" in shown.err
    assert "[1/2] cc" in shown.err
    assert stub.bodies()[0]["version"] == "1.0"


@pytest.mark.parametrize("as_json", [True, False])
def test_a_failure_has_its_kind_and_exit_code(stub: Stub, capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    stub.end("failed", FAILURE)
    assert run(stub, *BUILD, *["--json"] * as_json) == 7
    shown = capsys.readouterr()
    if as_json:
        ANSWER.validate_python({**json.loads(shown.out), "verdict": None, "plan": None, "guard": None})
        error = json.loads(shown.out)["error"]
        assert error == {**FAILURE, "log": f"{stub.url}/api/v1/builds/b1/log", "rule": None}
    else:
        assert "error: memory ran out\n  | Killed\nnext: less\nlog: " in shown.err


def test_a_kind_that_is_not_known_here_keeps_its_exit_code(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    stub.end("failed", {**FAILURE, "kind": "from-the-future", "exit_code": 42})
    assert run(stub, *BUILD, "--json") == 42
    assert one(capsys)["error"]["kind"] == "from-the-future"


def test_several_packages_and_the_first_failure(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    stub.end()
    assert run(stub, "build", "some-kernels", "./folder", "--json") == 2
    good, bad = one(capsys)["results"]
    assert "error" not in good
    assert bad["error"]["kind"] == "usage"


@pytest.mark.parametrize("cut", [1, 700, 40000])
def test_a_connection_that_is_cut_again_and_again_loses_no_byte(
    stub: Stub, capfdbinary: pytest.CaptureFixture[bytes], cut: int
) -> None:
    stub.text = b"a\rb\xff\xe2\x80\xa8 event: end\n\n" * 9000
    stub.end()
    connections: list[int] = []

    def further() -> None:
        connections.append(1)
        stub.cut_after = 0 if len(connections) > 8 else cut + 20000 * len(connections)

    stub.on_events = further
    assert run(stub, "log", "b1", "--follow") == 0
    assert capfdbinary.readouterr().out == stub.text
    assert len(connections) > 1


def test_a_log_that_is_not_followed(stub: Stub, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run(stub, "log", "some-kernels") == 0
    assert capfdbinary.readouterr().out == stub.text
    assert "/api/v1/builds/some-kernels" in stub.paths()


def test_following_ends_as_the_build_does(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    stub.end("failed", FAILURE)
    assert run(stub, "log", "last", "-f") == 7
    assert "build b1 of some-kernels: failed (out-of-memory)" in capsys.readouterr().err


def test_cancelling(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(stub, "cancel", "b1", "--json") == 0
    value = one(capsys)
    CancelObject.model_validate(value)
    assert (value["status"], stub.paths("POST")) == ("cancelled", ["/api/v1/builds/b1/cancel"])
    stub.end("cancelled", {"kind": "cancelled", "exit_code": 143, "message": "cancelled"})
    assert run(stub, *BUILD, "--json") == 143


def test_detached(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(stub, *BUILD, "--detach", "--json") == 0
    value = one(capsys)
    DetachedObject.model_validate(value)
    assert (value["build"], value["status"], value["server"]["url"]) == ("b1", "running", stub.url)
    assert stub.paths() == []


def test_ctrl_c_leaves_the_build_and_says_how_to_go_on(
    stub: Stub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("buildkit.cli.client_build.follow", interrupted)
    assert run(stub, *BUILD) == 130
    said = capsys.readouterr().err
    assert f"build b1 goes on on {stub.url}" in said
    assert f"cudabuild --server {stub.url} log b1 --follow" in said
    assert "cancel b1" in said


def test_a_request_without_an_answer_is_made_again_as_the_same(stub: Stub) -> None:
    stub.end()
    stub.refusals = [PlainTextResponse("later", 503), problem(429, "server-unreachable", 4)]
    assert run(stub, *BUILD, "--json") == 0
    keys = {headers["idempotency-key"] for verb, _, headers, _ in stub.asked if verb == "POST"}
    assert (len(stub.bodies()), len(keys)) == (3, 1)


@pytest.mark.parametrize(
    ("refusal", "code", "kind", "words"),
    [
        (problem(401, "index-denied", 10), 10, "index-denied", "cudabuild login"),
        (PlainTextResponse("who?", 401), 10, "index-denied", "cudabuild login"),
        (problem(403, "index-denied", 10), 10, "index-denied", "do this"),
        (PlainTextResponse("no", 403), 10, "index-denied", "cudabuild login"),
        (problem(404, "unknown-recipe", 3), 3, "unknown-recipe", "do this"),
        (PlainTextResponse("nothing", 404), 10, "no-such-build", "address"),
        (problem(409, "from-the-future", 42), 42, "from-the-future", "do this"),
        (PlainTextResponse("odd", 418), 4, "server-mismatch", "version"),
        (RedirectResponse("https://u:p@elsewhere.example/"), 4, "server-mismatch", "address"),
        (PlainTextResponse("<html>a page</html>"), 4, "server-mismatch", "cudabuild serve"),
    ],
)
def test_refusals(
    stub: Stub, capsys: pytest.CaptureFixture[str], refusal: Response, code: int, kind: str, words: str
) -> None:
    stub.refusals = [refusal]
    assert run(stub, *BUILD, "--json") == code
    error = one(capsys)["error"]
    assert error["kind"] == kind
    assert words in error["hint"]
    assert "u:p" not in str(error)


def test_a_server_that_is_always_busy(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    stub.refusals = [PlainTextResponse("later", 503) for _ in range(client_http.TRIES)]
    assert run(stub, *BUILD, "--json") == 4
    assert one(capsys)["error"]["kind"] == "server-unreachable"


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("log", "last"), {"builds": [1]}),
        (("log", "b1", "--follow"), {}),
        (("cancel", "b1"), {}),
        (("recipes", "list"), {"recipes": [{"name": 3}]}),
        (("recipes", "show", "x"), {"recipes": [{"name": 3}]}),
    ],
)
def test_an_answer_of_another_shape_is_no_traceback(
    stub: Stub, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], answer: dict[str, Any]
) -> None:
    stub.refusals = [JSONResponse({"schema": 1, **answer})] * 2
    assert run(stub, *words) == 4
    assert "does not answer as a server of cudabuild" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("plan", "some-kernels"), ("some-kernels", "--plan")])
@pytest.mark.parametrize("as_json", [True, False])
def test_a_plan_that_fails_there_fails_here(
    stub: Stub, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], as_json: bool
) -> None:
    stub.refusals = [JSONResponse({"schema": 1, "build": None, "recipe": "some-kernels", "error": FAILURE})]
    assert run(stub, *words, *(["--json"] if as_json else [])) == 7
    said = capsys.readouterr()
    assert json.loads(said.out)["error"]["kind"] == "out-of-memory" if as_json else "memory ran out" in said.err


@pytest.mark.parametrize("text", [".", "..", "?limit=1", "a#b", "a b", "%2e", "-x", "::set-output", "x" * 129])
def test_what_is_no_builds_name_is_not_asked_for(stub: Stub, capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert run(stub, "log", "--", text) == 10
    assert "no build" in capsys.readouterr().err
    assert stub.asked == []


class Waiting:
    """A server whose build waits: each connection says so every 15 seconds, and breaks when its seconds are over."""

    url = "http://server"

    def __init__(self, *lasting: float) -> None:
        self.now, self.lasting, self.connections = 0.0, list(lasting), 0
        self.headers = {"content-type": "text/event-stream"}

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @contextlib.contextmanager
    def open(self, _path: str, _headers: dict[str, str]) -> Iterator[Waiting]:
        self.connections += 1
        yield self

    def iter_bytes(self) -> Iterator[bytes]:
        for _ in range(int(self.lasting.pop(0) // 15) if self.lasting else 0):
            self.now += 15
            yield b": still here\n\n"
        if not self.lasting:
            yield b'event: end\ndata: {"schema": 1, "status": "succeeded"}\n\n'


@pytest.mark.parametrize(
    ("lasting", "ends"), [((3600, 3600, 3600, 0), True), ((15, 15) * 30, False), ((3600, *(0,) * 90), False)]
)
def test_a_connection_that_breaks_after_a_long_wait_is_made_again(
    monkeypatch: pytest.MonkeyPatch, lasting: tuple[float, ...], ends: bool
) -> None:
    server = Waiting(*lasting)
    monkeypatch.setattr(client_stream, "time", server)
    if ends:
        assert client_stream.follow(server, "b1", client_stream.Following())["status"] == "succeeded"  # type: ignore[arg-type]
        return
    with pytest.raises(ServerUnreachable):
        client_stream.follow(server, "b1", client_stream.Following())  # type: ignore[arg-type]
    assert server.now - lasting[0] < client_stream.PATIENCE + 40


def test_nobody_there(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--server", "http://127.0.0.1:9", *BUILD, "--json"]) == 4
    error = one(capsys)["error"]
    assert (error["kind"], "127.0.0.1:9 did not answer" in error["message"]) == ("server-unreachable", True)


@pytest.mark.parametrize(("schema", "words"), [(2, "this cudabuild is older"), (0, "the server's cudabuild is older")])
def test_another_format(stub: Stub, capsys: pytest.CaptureFixture[str], schema: int, words: str) -> None:
    stub.schema = schema
    assert run(stub, *BUILD, "--json") == 4
    error = one(capsys)["error"]
    assert error["kind"] == "server-mismatch"
    assert words in error["hint"]


def test_a_wheel_with_other_bytes_is_not_kept(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    stub.end()
    stub.wheel_bytes = b"something else"
    assert run(stub, *BUILD, "--out", "here", "--json") == 4
    assert one(capsys)["error"]["kind"] == "hash-mismatch"
    assert list(Path("here").iterdir()) == []


def test_a_wheel_that_is_there_is_not_fetched_again(stub: Stub) -> None:
    stub.end()
    for _ in range(2):
        assert run(stub, *BUILD, "--out", "here", "--json") == 0
    assert stub.paths().count("/files/wheel") == 1


def test_a_wheel_that_the_server_keeps(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    stub.end()
    stub.wheel_url = None
    assert run(stub, *BUILD, "--json") == 10
    assert one(capsys)["error"]["kind"] == "index-refused"


def test_the_token_goes_to_the_server_alone(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.end()
    stub.token = "cudabuild_secret"  # noqa: S105
    monkeypatch.setenv("CUDABUILD_TOKEN", "cudabuild_secret")
    with served(Stub()) as other:
        stub.wheel_url = f"{other.url}/files/wheel"
        assert run(stub, *BUILD, "--json") == 0
        assert "authorization" not in other.asked[0][2]
    assert all(headers["authorization"] == "Bearer cudabuild_secret" for _, _, headers, _ in stub.asked)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["build", "x", "--jobs", "2"], "--jobs"),
        (["x", "--cuda-home", "/usr"], "--cuda-home"),
        (["x", "--offline"], "--offline"),
        (["./x"], "a folder of this machine"),
        (["pypi:x"], "what has no recipe"),
        (["-x"], "No such option"),
        (["x y"], "no recipe's name"),
        (["x", "--target", "native"], "server's GPU"),
        (["x", "--source", "./here"], "does not see"),
        (["doctor"], "about this machine"),
        (["recipes", "new", "x"], "about this machine"),
        (["log", "last", "--path"], "on the server"),
    ],
)
def test_what_no_server_can_be_asked(
    stub: Stub, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert run(stub, *words) == 2
    assert said in capsys.readouterr().err
    assert stub.asked == []


@pytest.mark.parametrize("url", ["build.example", "ftp://x", "https://", "https://u:p@build.example", "http://x/?a=b"])
def test_what_is_no_address(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--server", url, *BUILD]) == 2
    assert "u:p" not in capsys.readouterr().err


def test_recipes(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(stub, "recipes", "list") == 0
    assert capsys.readouterr().out.split()[:2] == ["some-kernels", "1.0"]
    assert run(stub, "recipes", "show", "some-kernels", "--json") == 0
    assert one(capsys)["recipe"]["license"] == "MIT"
    assert run(stub, "recipes", "show", "some-kernel", "--json") == 3
    assert "some-kernels" in one(capsys)["error"]["message"]


def test_a_report_without_a_trace(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(stub, "report", "b1") == 0
    assert capsys.readouterr().out.startswith("some-kernels, build b1 of 2026-11-22 00:00 UTC: is running")


def test_the_setting_names_the_server(stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stub.end()
    (tmp_path / "config" / "cudabuild").mkdir(parents=True)
    (tmp_path / "config" / "cudabuild" / "config.toml").write_text(f'server = "{stub.url}/"\ntargets = ["9.0"]\n')
    assert main(["some-kernels", "--json"]) == 0
    assert stub.bodies()[0]["targets"] == ["9.0"]
    monkeypatch.setenv("CUDABUILD_SERVER", "")
    assert main(["plan", "no-such-recipe"]) == 3
    assert len(stub.bodies()) == 1


def test_login_keeps_a_token_that_the_server_knows(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.end()
    stub.token = "cudabuild_right"  # noqa: S105
    read, write = os.pipe()
    with os.fdopen(write, "w") as end:
        end.write("cudabuild_wrong\ncudabuild_right\n")
    with os.fdopen(read) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert main(["login", stub.url, "--json"]) == 10
        assert not (tmp_path / "config").exists()
        assert main(["login", stub.url, "--json"]) == 0
    shown = capsys.readouterr().out
    file = Path(json.loads(shown.splitlines()[-1])["file"])
    assert "cudabuild_right" not in shown
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert run(stub, *BUILD, "--json") == 0
    file.chmod(0o640)
    assert run(stub, *BUILD, "--json") == 3
    assert main(["logout", stub.url]) == 0
    assert not file.exists()
    assert run(stub, *BUILD, "--json") == 10


def test_a_token_does_not_travel_in_the_clear(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDABUILD_TOKEN", "cudabuild_secret")
    assert main(["--server", "http://build.invalid", *BUILD]) == 2
    assert "plain HTTP" in capsys.readouterr().err
    assert main(["login", "http://build.invalid", "--no-check"]) == 2
    assert main(["login", "http://build.invalid", "--no-check", "--allow-http"]) == 0
    monkeypatch.setattr(client_http, "TRIES", 1)
    assert main(["--server", "http://build.invalid", *BUILD]) == 4  # said otherwise: it is tried
    assert "cudabuild_secret" not in capsys.readouterr().err


PORTABLE = """
import os, sys
for name in ("eventfd", "sched_getaffinity", "memfd_create", "copy_file_range", "pidfd_open", "RWF_NOWAIT"):
    if hasattr(os, name):
        delattr(os, name)  # only Linux has them
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "psutil", "pynvml", "elftools", "numpy", "uvicorn", "fastapi", "sqlalchemy"}:
            raise ImportError(f"{name} is not on a machine that builds nothing")
sys.meta_path.insert(0, Refuse())
from buildkit.cli.start import main
code = main(sys.argv[1:])
loaded = [name for name in sys.modules if name.startswith(("buildkit.guard", "buildkit.build", "buildkit.service"))]
assert not loaded, loaded
sys.exit(code)
"""


def test_it_runs_where_nothing_can_be_built(stub: Stub, tmp_path: Path) -> None:
    stub.end()
    command = [sys.executable, "-c", PORTABLE, "--server", stub.url, *BUILD, "--json", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["wheel"]["path"] == str(tmp_path / FILENAME)
