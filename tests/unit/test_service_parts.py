"""Small parts of the service: settings, the words of a build, its own log, git hosts, the description of the API."""

from __future__ import annotations

import io
import json
import logging
import subprocess
from pathlib import Path
from typing import Any

import pytest

from buildkit.cli.serve_service import check_database, has_others, place_of
from buildkit.cli.service_reference import openapi_text, settings_text
from buildkit.errors import ConfigError, SourceError, UsageError
from buildkit.service import logs
from buildkit.service.answers import BuildRequest
from buildkit.service.logs import BuildLog, log_to, text_of, whole_characters, without_secrets
from buildkit.service.settings import ServiceSettings, read_service_settings
from buildkit.service.words import build_words, child_environment, plan_words
from buildkit.source.git_hosts import guarded, is_public

ROOT = Path(__file__).resolve().parents[2]


def test_settings_from_the_file_variables_and_options() -> None:
    table = {"slots": 4, "on-stop": "requeue", "lease": "1 min", "hosts": ["Builds.example"], "body-limit": "2 MiB"}
    environ = {"CUDABUILD_SERVICE_SLOTS": "5", "CUDABUILD_SERVICE_GIT_HOSTS": "git.example, other.example"}
    found = read_service_settings(table, environ, {"on_stop": "end", "database": None}, "file")
    assert (found.slots, found.on_stop, found.lease, found.body_limit) == (5, "end", 60.0, 2 << 20)
    assert found.git_hosts == ("git.example", "other.example")
    assert ServiceSettings().url(Path("/c")) == "sqlite:////c/service/service.db"
    postgres = read_service_settings({"database": "postgresql://me:pw@db/x"}, {}, {}, "file")
    assert postgres.url(Path("/c")) == "postgresql+psycopg://me:pw@db/x"


@pytest.mark.parametrize(
    ("table", "environ", "said"),
    [
        ({"slot": 1}, {}, "slots"),
        ({"slots": -1}, {}, "file: [service] slots"),
        ({}, {"CUDABUILD_SERVICE_ON_STOP": "never"}, "CUDABUILD_SERVICE_ON_STOP"),
        ({"database": "mysql://me:hidden@db/x"}, {}, "SQLite or PostgreSQL"),
        ({"database": "hidden"}, {}, "postgresql://"),
        ({"database": "sqlite:///"}, {}, "no file"),
        ({"database": "sqlite:///:memory:"}, {}, "no file"),
        ({"database": "sqlite://host/hidden"}, {}, "no file"),
        ({"database": "postgresql://me:hidden@db:port/x"}, {}, "postgresql://"),
        ({"lease": "soon"}, {}, "lease"),
    ],
)
def test_settings_that_are_none_are_located(table: dict[str, Any], environ: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_service_settings(table, environ, {}, "file")
    assert said in caught.value.message
    assert "hidden" not in caught.value.message


@pytest.mark.parametrize(
    ("names", "hosts", "proxy", "others"),
    [
        ((), (), "", False),
        (("localhost", "127.0.0.2"), ("::1",), "", False),
        (("builds.example",), (), "", True),
        ((), ("localhost", "builds.example"), "", True),
        ((), (), "127.0.0.1", True),
    ],
)
def test_behind_a_proxy_nobody_is_of_this_machine(
    names: tuple[str, ...], hosts: tuple[str, ...], proxy: str, others: bool
) -> None:
    options = {"host_names": names, "trust_proxy": proxy}
    assert has_others(options, ServiceSettings(hosts=hosts)) is others


def test_a_password_is_not_taken_from_the_command_line() -> None:
    check_database("postgresql://me@db/x")
    with pytest.raises(UsageError, match="list of processes") as caught:
        check_database("postgresql://me:hidden@db/x")
    assert "hidden" not in str(vars(caught.value))


def test_a_cache_has_one_id(tmp_path: Path) -> None:
    assert place_of(tmp_path / "a") == place_of(tmp_path / "a") != place_of(tmp_path / "b")
    assert [path.name for path in (tmp_path / "a" / "service").iterdir()] == ["place"]


def test_the_words_of_a_build_hold_nothing_that_could_be_an_option(tmp_path: Path) -> None:
    request = BuildRequest(recipe="x", version="1.0", targets=["12.0", "8.6"], torch="2.13.0", require="imported",
                           refresh=True)  # fmt: skip
    words = build_words(request, "b1", jobs=1, recipes=tmp_path)
    assert words[1:] == ["-m", "buildkit.cli.as_build", "b1", "--target=12.0", "--target=8.6", "--torch=2.13.0",
                         "--device=cuda", "--require=imported", f"--recipes={tmp_path}", "--refresh", "--jobs=1", "--",
                         "x==1.0"]  # fmt: skip
    assert plan_words(BuildRequest(recipe="x"), recipes=None)[1:] == [
        "-m", "buildkit", "plan", "--device=cuda", "--json", "--", "x"]  # fmt: skip
    environ = {"PATH": "/bin", "CUDABUILD_SERVICE_DATABASE": "s", "CUDABUILD_TOKEN": "s", "PGPASSWORD": "s"}
    own = {"PATH": "/bin", "CUDABUILD_CACHE": str(tmp_path), "CUDABUILD_SERVER": ""}
    assert child_environment(environ, tmp_path, None) == own
    assert child_environment(environ, tmp_path, ["a", "b"])["CUDABUILD_GIT_HOSTS"] == "a b"
    assert child_environment(environ, tmp_path, [])["CUDABUILD_GIT_HOSTS"] == "none"


SECRETS = ["https://me:{}@host/x", "Authorization: Bearer {}", "token cudabuild_{}", "password={}", "API_KEY: {}"]


@pytest.mark.parametrize("text", SECRETS)
def test_no_secret_gets_into_the_log(text: str) -> None:
    assert "s3cretS3cretS3cret" not in without_secrets(text.format("s3cretS3cretS3cret"))


def test_a_line_of_the_log_is_one_object_whatever_is_in_it() -> None:
    stream = io.StringIO()
    loggers = [logging.getLogger(name) for name in ("cudabuild", "uvicorn.error")]
    before = [(log.handlers[:], log.propagate, log.level) for log in loggers]
    try:
        log_to(stream, as_json=True)
        logging.getLogger("cudabuild.service").info("a\nb %s", "x\r", extra={"facts": {"path": "/\n{", "status": 7}})
        log_to(stream, as_json=False)
        logging.getLogger("cudabuild.service").info("c\nd\x1b[1m")
        failed = ValueError("https://me:hidden@db")
        logging.getLogger("cudabuild.service").error("broke", exc_info=failed)
    finally:
        for log, (handlers, propagate, level) in zip(loggers, before, strict=True):
            log.handlers[:], log.propagate = handlers, propagate
            log.setLevel(level)
    first, second, third, trace, nothing = stream.getvalue().split("\n")
    assert (third, trace) == ("broke", "ValueError: https://***@db")
    said = json.loads(first)
    assert (said["message"], said["path"], said["status"], said["level"]) == ("a\nb x\r", "/\n{", 7, "info")
    assert (second, nothing) == ("c\\x0ad\\x1b[1m", "")


def test_half_characters_wait() -> None:
    data = "aé€😀".encode() + b"\xff\x80\xe2\x28"
    for cut in range(len(data) + 1):
        whole = whole_characters(data[:cut])
        assert data.startswith(whole)
        assert cut - len(whole) < 4
        if cut <= len("aé€😀".encode()):
            assert whole.decode() == "aé€😀"[: len(whole.decode())], "no half ones"
    assert whole_characters(data) == data, "what can never be a character does not wait"
    assert text_of(data).encode("utf-8", "surrogateescape") == data


def test_a_log_of_several_attempts_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / name for name in ("a", "absent", "b")]
    files[0].write_bytes(b"abc")
    files[2].write_bytes(b"defg")
    log = BuildLog(files)
    assert log.size() == 7
    read = b""
    while piece := log.read(len(read), 2):
        read += piece
    assert read == b"abcdefg"
    files[0].unlink()  # as a clean-up does between two looks
    monkeypatch.setattr(logs, "_size", lambda _file: 3)
    assert log.read(0, 9) == b""


PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "192.168.0.1",
    "172.16.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104 - compared, not listened on
    "::1",
    "::",
    "fe80::1",
    "fd00::1",
    "::ffff:10.0.0.1",
    "2002:0a00:0001::1",
    "224.0.0.1",
    "nonsense",
    "fe80::1%eth0",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_everybodys(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(SourceError, match="not a public address"):
        guarded(
            "https://git.example/x", {"CUDABUILD_GIT_HOSTS": "git.example"}, lambda _h, _p: ["93.184.216.34", address]
        )


def test_git_is_pinned_to_what_was_looked_at() -> None:
    environ = {"CUDABUILD_GIT_HOSTS": "git.example"}
    found = guarded("https://GIT.example:8443/x", environ, lambda _h, _p: ["93.184.216.34", "2606:2800::1"])
    assert found is not None
    assert found["http.curloptResolve"] == "git.example:8443:93.184.216.34,[2606:2800::1]"
    assert found["http.followRedirects"] == "false"
    assert guarded("file:///x", {}) is None
    for url in ("http://git.example/x", "ssh://git.example/x", "file:///x", "https://a:b@git.example/x", "https://[/x",
                "https://git.example.evil.example/x", "ext::sh -c x", "/x"):  # fmt: skip
        with pytest.raises(SourceError) as caught:
            guarded(url, environ, lambda _h, _p: ["93.184.216.34"])
        assert "a:b" not in caught.value.message


def test_git_fetches_from_no_other_host_when_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a real repository, as a submodule's URL would name it, and a person's insteadOf that leads to it."""
    from buildkit.source.git_command import git_for

    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "inner.git")], check=True)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{tmp_path}/.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://git.example/")
    assert "file" in git_for(None, "https://git.example/inner.git", local=False).protocols
    monkeypatch.setenv("CUDABUILD_GIT_HOSTS", "git.example")
    with pytest.raises(SourceError, match="not a plain https address"):
        git_for(None, "https://git.example/inner.git", local=False)
    monkeypatch.setenv("CUDABUILD_GIT_HOSTS", "localhost")
    with pytest.raises(SourceError, match="not a public address"):
        git_for(None, "https://localhost/inner.git", local=False)


def test_the_reference_is_as_it_is_made() -> None:
    refresh = "make it anew: python -m buildkit.cli.reference"
    folder = ROOT / "docs" / "reference"
    made = openapi_text()
    assert (folder / "openapi.json").read_text("utf-8") == made, refresh
    assert settings_text() in (folder / "service.md").read_text("utf-8"), refresh
    paths = json.loads(made)["paths"]
    page = (folder / "service.md").read_text("utf-8")
    for path in paths:
        assert f"`{path}`" in page, f"docs/reference/service.md says nothing of {path}"
