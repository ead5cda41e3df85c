"""The service's API in this process: what it answers, what it refuses and by which kind, and its live logs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from index_wheels import publish
from services import BASE, change, claims_of, client_of, gate_of, new_service, run_to_end
from starlette.testclient import TestClient

from buildkit.index.tokens import new_token
from buildkit.service.answers import BuildAnswer, BuildList, Problem, ResolveAnswer
from buildkit.service.service import Service
from buildkit.store.traces import Traces

ASKED = {"recipe": "some-kernels", "device": "cpu"}
ANSWER = {
    "schema": 1,
    "build": "b",
    "recipe": "some-kernels",
    "device": "cpu",
    "version": "1.0+cpu",
    "cache": "miss",
    "wheel": None,
    "verdict": {"grade": "imported", "stages": []},
}
FAILURE = {**ANSWER, "verdict": None, "error": {"kind": "build-failed", "exit_code": 6, "message": "no", "log": "/x"}}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = new_service(tmp_path)
    yield made
    made.database.close()


@pytest.fixture
def client(service: Service, tmp_path: Path) -> Iterator[TestClient]:
    with client_of(gate_of(service, tmp_path / "tokens.json")) as made:
        yield made


def submitted(client: TestClient, **more: Any) -> str:
    answer = client.post("/api/v1/builds", json={**ASKED, **more})
    assert answer.status_code in {200, 201}, answer.text
    return str(answer.json()["id"])


def problem(answer: Any, status: int) -> Problem:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = Problem.model_validate(answer.json())
    assert found.status == status
    return found


def test_a_build_is_asked_for_shared_and_listed(client: TestClient) -> None:
    first = client.post("/api/v1/builds", json=ASKED, headers={"Idempotency-Key": "k"})
    assert first.status_code == 201
    answer = BuildAnswer.model_validate(first.json())
    assert (answer.status, answer.position, answer.by, answer.attempt) == ("queued", 1, "local", 1)
    assert first.headers["location"] == answer.links.self == f"/api/v1/builds/{answer.id}"
    second = client.post("/api/v1/builds", json={**ASKED, "priority": 3})
    assert (second.status_code, second.json()["id"], second.json()["priority"]) == (200, answer.id, 3)
    assert client.post("/api/v1/builds", json={**ASKED, "version": "1.0"}).json()["id"] == answer.id, "the default's"
    other = submitted(client, version="0.9")
    assert other != answer.id
    assert problem(
        client.post("/api/v1/builds", json={**ASKED, "version": "0.9"}, headers={"Idempotency-Key": "k"}), 409
    )
    listed = BuildList.model_validate(client.get("/api/v1/builds?limit=1").json())
    assert [build.id for build in listed.builds] == [other]
    rest = client.get(f"/api/v1/builds?after={listed.next}&recipe=some-kernels&status=queued").json()
    assert ([build["id"] for build in rest["builds"]], rest["next"]) == ([answer.id], None)
    for text in (answer.id, "last", "some-kernels"):
        assert client.get(f"/api/v1/builds/{text}").status_code == 200


BAD = [
    "../x",
    "%2e%2e",
    "a\nb",
    "-x",
    "::set-output name=x::y",
    "/etc/passwd",
    ".",
    "..",
    "",
    "a b",
    "x" * 65,
    "é",
    "a/b",
    "pypi:x",
    "https://host/x",
    "--help",
    "a\0b",
    "a-",
    "$(x)",
    "a;b",
]


def test_names_that_are_none_are_refused_everywhere(client: TestClient, service: Service) -> None:
    for name in BAD:
        for field in ("recipe", "version", "torch"):
            if (field, name) == ("version", "a-"):
                continue  # which could be a version, and is not one of the recipe's
            asked = {**ASKED, field: name or "-"}
            assert client.post("/api/v1/builds", json=asked).status_code in {404, 422}, asked
        quoted = quote(name, safe="")
        for path in (f"/api/v1/builds/{quoted}/log", f"/api/v1/resolve?recipe={quoted}"):
            assert 400 <= client.get(path).status_code < 500, path
    assert service.queue.newest_first() == []


@pytest.mark.parametrize(
    ("asked", "status", "kind", "said"),
    [
        ({"recipe": "some-kernel"}, 404, "unknown-recipe", "some-kernels"),
        ({**ASKED, "version": "7"}, 422, "recipe", "no version '7'"),
        ({**ASKED, "targets": ["12.0", "-x"]}, 422, "usage", "targets"),
        ({**ASKED, "device": "gpu"}, 422, "usage", "device"),
        ({**ASKED, "colour": "red"}, 422, "usage", "colour"),
        ({**ASKED, "priority": 1000}, 422, "usage", "priority"),
        ({**ASKED, "source": "https://github.com/a/b@" + "a" * 40}, 422, "usage", "only an admin"),
        ({**ASKED, "recipe_toml": "edition = 1"}, 422, "usage", "only an admin"),
        ([1], 422, "usage", "body"),
    ],
)
def test_what_is_asked_for_wrongly_has_the_commands_own_kind(
    asked: Any, status: int, kind: str, said: str, client: TestClient
) -> None:
    found = problem(client.post("/api/v1/builds", json=asked), status)
    assert found.kind == kind
    assert said in found.detail
    assert found.exit_code in {2, 3}


def test_what_is_not_here_is_a_problem_too(client: TestClient) -> None:
    assert problem(client.get("/api/v1/builds/none"), 404).kind == "no-such-build"
    assert problem(client.get("/api/v1/no/such/thing"), 404).hint == "see /openapi.json"
    assert problem(client.put("/api/v1/builds"), 405)
    assert problem(client.post("/api/v1/builds", content=b"{", headers={"Content-Type": "application/json"}), 422)
    assert problem(client.post("/api/v1/builds", data={"recipe": "some-kernels"}), 422), "a form is no request"
    assert problem(client.get("/api/v1/builds?after=x"), 422)
    name = submitted(client)
    for part in ("plan", "verdict", "trace"):
        assert "yet" in problem(client.get(f"/api/v1/builds/{name}/{part}"), 404).detail or part == "trace"


def test_the_parts_of_a_build_that_succeeded(client: TestClient, service: Service) -> None:
    name = submitted(client)
    build = run_to_end(service, name, ANSWER, b"one\ntwo\n")
    Traces(service.catalogue.store.root).write(build, b'{"trace": 1}')
    answer = client.get(f"/api/v1/builds/{name}").json()
    assert (answer["status"], answer["grade"], answer["version"], answer["cache"]) == (
        "succeeded", "imported", "1.0+cpu", "miss")  # fmt: skip
    assert client.get(answer["links"]["plan"]).json()["device"] == "cpu"
    assert client.get(answer["links"]["verdict"]).json()["verdict"]["grade"] == "imported"
    assert client.get(answer["links"]["trace"]).json() == {"trace": 1}
    assert client.get(f"/api/v1/builds/{name}/answer").json() == ANSWER
    log = client.get(answer["links"]["log"])
    assert (log.text, log.headers["content-type"]) == ("one\ntwo\n", "text/plain; charset=utf-8")
    part = client.get(answer["links"]["log"], headers={"Range": "bytes=4-"})
    assert (part.status_code, part.text, part.headers["content-range"]) == (206, "two\n", "bytes 4-7/8")
    beyond = client.get(answer["links"]["log"], headers={"Range": "bytes=9-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */8")
    assert client.get(answer["links"]["log"], headers={"Range": "bytes=0-0,2-3"}).text == "one\ntwo\n"
    assert problem(client.post(f"/api/v1/builds/{name}/cancel"), 409).kind == "cannot-cancel"
    assert problem(client.post(f"/api/v1/builds/{name}/retry"), 409)


def test_a_failed_build_says_why_and_is_tried_again_with_one_log(client: TestClient, service: Service) -> None:
    name = submitted(client)
    run_to_end(service, name, FAILURE, b"first\n")
    answer = client.get(f"/api/v1/builds/{name}").json()
    assert answer["error"]["kind"] == "build-failed"
    assert "log" not in answer["error"], "a path of the server's"
    assert client.post(f"/api/v1/builds/{name}/retry").json()["attempt"] == 2
    run_to_end(service, name, ANSWER, b"second\n")
    assert client.get(f"/api/v1/builds/{name}/log").text == "first\nsecond\n"


def test_cancel_at_once_or_soon(client: TestClient, service: Service) -> None:
    waits = submitted(client)
    assert client.post(f"/api/v1/builds/{waits}/cancel").json()["status"] == "cancelled"
    runs = submitted(client)
    claims = claims_of(service.database)
    row = claims.take()
    assert row is not None
    claims.begin(row, "b1", key=None, plan={})
    answer = client.post(f"/api/v1/builds/{runs}/cancel")
    assert (answer.status_code, answer.json()["status"], answer.json()["cancelling"]) == (202, "running", True)


def events_of(text: str) -> list[tuple[str, str, str]]:
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if fields:
            found.append((fields.get("event", ""), fields.get("id", ""), fields["data"]))
    return found


FORGERY = (
    b"plain\nevent: end\ndata: {}\n\nid: 0\r\rdata: x\r\n\x1b[31mred\x1b[0m\xff\xfe \xe2\x82\xac \xf0\x9f\x98\x80\x00"
    + "\u2028".encode()
)


def test_a_live_log_is_the_very_bytes_and_goes_on_at_a_byte(client: TestClient, service: Service) -> None:
    name = submitted(client)
    log = FORGERY * 2000
    run_to_end(service, name, ANSWER, log)
    answer = client.get(f"/api/v1/builds/{name}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_of(answer.text)
    assert [event for event, _, _ in events[-2:]] == ["status", "end"]
    assert {event for event, _, _ in events} == {"log", "status", "end"}
    pieces = [
        (int(at), json.loads(data).encode("utf-8", "surrogateescape")) for event, at, data in events if event == "log"
    ]
    assert b"".join(data for _, data in pieces) == log
    assert len(pieces) > 3
    for at, _ in (*pieces[:2], (0, b""), (7, b"")):
        rest = events_of(client.get(f"/api/v1/builds/{name}/events", headers={"Last-Event-ID": str(at)}).text)
        sent = b"".join(
            json.loads(data).encode("utf-8", "surrogateescape") for event, _, data in rest if event == "log"
        )
        assert sent == log[at:]
    for odd in ("-1", "x", "9" * 30, "1.5"):
        assert client.get(f"/api/v1/builds/{name}/events", headers={"Last-Event-ID": odd}).status_code == 200


def test_which_wheel_for_a_machine(client: TestClient, service: Service, tmp_path: Path) -> None:
    store = service.catalogue.store
    old = publish(store, tmp_path, "some-kernels", "0.9+pt2.13.cu130")
    new = publish(store, tmp_path, "some-kernels", "1.0+pt2.13.cu130")
    publish(store, tmp_path, "some-kernels", "1.1+pt2.13.cpu", torch="2.13.0+cpu", cuda="", device="cpu", targets=())
    found = ResolveAnswer.model_validate(
        client.get("/api/v1/resolve?recipe=some-kernels&torch=2.13.0%2Bcu130&python=3.11&target=12.0").json()
    )
    assert found.wheel is not None
    assert (found.found, found.wheel.filename, found.variant) == (True, new.filename, "pt2.13-cu130")
    assert found.command == f"pip install --no-deps --index-url {BASE}/pt2.13-cu130/simple/ some-kernels=={new.version}"
    assert client.get(found.wheel.url or "").content == store.blobs.path(new.sha256).read_bytes()
    for query, why in (("torch=2.12.0%2Bcu130", "torch"), ("target=3.5", "target"), ("platform=aarch64&torch=2.1", "")):
        missing = ResolveAnswer.model_validate(client.get(f"/api/v1/resolve?recipe=some-kernels&{query}").json())
        assert (missing.found, missing.wheel) == (False, None), why
        assert missing.command.startswith("cudabuild some-kernels")
    assert (
        "--torch 2.12.0+cu130"
        in client.get("/api/v1/resolve?recipe=some-kernels&torch=2.12.0%2Bcu130").json()["command"]
    )
    for query in ("torch=x", "python=2", "target=sm_x"):
        assert problem(client.get(f"/api/v1/resolve?recipe=some-kernels&{query}"), 422).kind == "usage"
    assert problem(client.get("/api/v1/resolve?recipe=nothing"), 404).kind == "unknown-recipe"
    row = next(row for row in client.get("/api/v1/matrix").json()["rows"] if row["recipe"] == "some-kernels")
    cells = {cell["variant"]: cell for cell in row["cells"]}
    assert cells["pt2.13-cu130"]["filename"] == new.filename != old.filename
    assert cells["pt2.13-cpu"]["grade"] == "imported"
    assert client.get("/api/v1/recipes").json()["recipes"][0]["grade"] == "imported"


def test_the_matrix_shows_what_failed_and_where(client: TestClient, service: Service) -> None:
    name = submitted(client, torch="2.13.0+cpu")
    change(service.database, name, status="failed", error={"kind": "build-failed", "exit_code": 6})
    (row,) = client.get("/api/v1/matrix").json()["rows"]
    (cell,) = row["cells"]
    assert (cell["variant"], cell["build"], cell["status"], cell["error"], cell["step"], cell["grade"]) == (
        "pt2.13-cpu", name, "failed", "build-failed", "build", None)  # fmt: skip


def test_workers_and_health(client: TestClient, service: Service) -> None:
    claims_of(service.database, "one")
    submitted(client)
    workers = client.get("/api/v1/workers").json()
    assert (workers["queued"], workers["running"]) == (1, 0)
    assert [(each["id"], each["alive"], each["running"]) for each in workers["workers"]] == [("one", True, [])]
    assert client.get("/healthz").json()["status"] == "ok"
    assert [client.head(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]
    assert client.get("/readyz").json()["checks"] == {"database": "ok", "worker": "ok", "store": "ok"}


def test_a_body_that_is_not_said_to_be_json_is_told_the_header(client: TestClient) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    found = problem(client.post("/api/v1/builds", content=json.dumps(ASKED), headers=form), 422)
    assert "Content-Type: application/json" in found.hint


def test_a_database_that_is_gone_is_503_and_says_nothing_of_where_it_was(
    client: TestClient, service: Service, tmp_path: Path
) -> None:
    with service.database.write() as connection:
        connection.exec_driver_sql("DROP TABLE builds")
    found = problem(client.get("/api/v1/builds"), 503)
    assert str(tmp_path) not in found.model_dump_json()


def test_the_index_is_part_of_it(client: TestClient, service: Service, tmp_path: Path) -> None:
    release = publish(service.catalogue.store, tmp_path, "some-kernels", "1.0+pt2.13.cu130")
    assert release.filename in client.get("/pt2.13-cu130/simple/some-kernels/").text
    assert client.get("/").status_code == 200


def test_an_admin_may_send_a_recipe_or_a_source_from_allowed_hosts(service: Service, tmp_path: Path) -> None:
    admin = new_token(tmp_path / "tokens.json", "boss", ["admin"])
    known = (tmp_path / "recipes" / "some-kernels" / "recipe.toml").read_text()
    commit = "a" * 40
    inline = known.replace('folder = "src"', f'git = "https://github.com/a/b"\nrev = "{commit}"')
    with client_of(gate_of(service, tmp_path / "tokens.json"), admin) as client:
        assert client.post("/api/v1/builds", json={**ASKED, "recipe_toml": inline}).status_code == 201
        good = {**ASKED, "source": f"https://github.com/a/b@{commit}#subdirectory=x"}
        assert client.post("/api/v1/builds", json=good).json()["by"] == "boss"
        for source in (
            "http://github.com/a/b",
            "https://me:pw@github.com/a",
            "https://127.0.0.1/a",
            "ssh://github.com/a",
            "https://github.com.evil.example/a",
            "https://169.254.169.254/a",
            "file:///etc",
            "/etc",
            "https://github.com/a\0b",
            "https://github.com/\u00e4",
        ):
            found = problem(client.post("/api/v1/builds", json={**ASKED, "source": f"{source}@{commit}"}), 422)
            assert "pw" not in found.model_dump_json()
            recipe = inline.replace("https://github.com/a/b", source)
            assert client.post("/api/v1/builds", json={**ASKED, "recipe_toml": recipe}).status_code == 422, source
        for wrong in (known, inline.replace("some-kernels", "another"), "not toml ["):
            assert client.post("/api/v1/builds", json={**ASKED, "recipe_toml": wrong}).status_code == 422
