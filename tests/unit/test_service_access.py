"""Who gets into the service: hosts, origins, tokens by scope, sizes, rates; and what every answer bears."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from services import change, client_of, gate_of, new_service
from starlette.testclient import TestClient

from buildkit.index.tokens import SCOPES, new_token, revoke_token
from buildkit.service.access import Buckets, is_upload, needed, route_path
from buildkit.service.answers import BuildRequest
from buildkit.service.service import Service

ASKED = {"recipe": "some-kernels", "device": "cpu"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = new_service(tmp_path)
    yield made
    made.database.close()


@pytest.fixture
def client(service: Service, tmp_path: Path) -> Iterator[TestClient]:
    with client_of(gate_of(service, tmp_path / "tokens.json")) as made:
        yield made


HOSTS = [
    "evil.example",
    "127.0.0.1.evil.example",
    "evil.example:8080",
    "127.0.0.1@evil.example",
    "[::1",
    "",
    "127.0.0.1:x",
    "10.0.0.1",
    "127.0.0.1, evil.example",
    "localhost\t.evil",
]


def test_a_name_that_is_not_this_servers_gets_nothing(client: TestClient) -> None:
    for host in HOSTS:
        for path in ("/api/v1/builds", "/", "/healthz", "/openapi.json", "/pt2.13-cu130/simple/"):
            assert 400 <= client.get(path, headers={"Host": host}).status_code < 500, (host, path)


def test_its_own_names_do(client: TestClient) -> None:
    for host in ("127.0.0.1:8080", "localhost", "LOCALHOST:1", "localhost."):
        assert client.get("/api/v1/builds", headers={"Host": host}).status_code == 200, host


@pytest.mark.parametrize("header", ["Forwarded", "Via", "X-Forwarded-For", "X-Real-IP"])
def test_who_comes_through_a_proxy_is_nobody_of_this_machine(client: TestClient, tmp_path: Path, header: str) -> None:
    """nginx asks with `Host: 127.0.0.1:PORT` unless it is told otherwise."""
    through = {"Host": "127.0.0.1:8080", header: "203.0.113.7"}
    assert client.get("/healthz", headers=through).status_code == 200
    for path in ("/api/v1/builds", "/openapi.json", "/pt2.13-cu130/simple/"):
        answer = client.get(path, headers=through)
        assert (answer.status_code, "--host-name" in answer.text) == (403, True), path
    assert client.post("/api/v1/builds", json=ASKED, headers=through).status_code == 403
    token = new_token(tmp_path / "tokens.json", "ann", ["read"])
    assert client.get("/api/v1/builds", headers={**through, "Authorization": f"Bearer {token}"}).status_code == 200


ORIGINS = [
    "http://evil.example",
    "null",
    "http://127.0.0.1:8081",
    "http://127.0.0.1",
    "https://localhost:8080",
    "http://127.0.0.1:8080.evil.example",
    "file://",
    "http://[",
    "",
]


def test_a_page_of_another_site_gets_nothing(client: TestClient, service: Service) -> None:
    for origin in ORIGINS:
        assert client.post("/api/v1/builds", json=ASKED, headers={"Origin": origin}).status_code == 403, origin
        assert client.get("/api/v1/builds", headers={"Origin": origin}).status_code == 403, origin
    assert service.queue.newest_first() == []


def test_a_browser_that_says_where_it_comes_from(client: TestClient) -> None:
    own = {"Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/api/v1/builds", json=ASKED, headers=own).status_code == 201
    assert client.post("/api/v1/builds", json=ASKED, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.get("/api/v1/builds", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200, "a link"


MATRIX = {
    ("GET", "/api/v1/builds"): "read",
    ("GET", "/api/v1/builds/last/log"): "read",
    ("GET", "/api/v1/builds/last/events"): "read",
    ("GET", "/api/v1/recipes"): "read",
    ("GET", "/openapi.json"): "read",
    ("GET", "/"): "read",
    ("POST", "/api/v1/builds"): "build",
    ("POST", "/api/v1/builds/last/cancel"): "build",
    ("POST", "/api/v1/builds/last/retry"): "build",
    ("POST", "/legacy/"): "upload",
    ("POST", "/api/v1/verdicts/" + "a" * 64): "verify",
    ("GET", "/healthz"): None,
    ("GET", "/readyz"): None,
}
"""Each path with the scope that it needs; ``upload`` and ``verify`` are the index's own business."""


def test_the_matrix_of_scopes(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    bearers = {scope: new_token(file, scope, [scope]) for scope in SCOPES} | {"nobody": "", "unknown": "unknown"}
    row, _ = service.queue.submit(BuildRequest(recipe="some-kernels"), "f", who="x")
    with client_of(gate_of(service, file, guarded=("read", "build"))) as client:
        for bearer, token in bearers.items():
            for (method, path), scope in MATRIX.items():
                change(service.database, row["id"], status="succeeded")  # so that live logs end
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                status = client.request(
                    method, path, json=[] if method == "POST" else None, headers=headers
                ).status_code
                allowed = scope is None or (bearer in SCOPES and (scope == "read" or bearer in (scope, "admin")))
                wanted = f"{method} {path} by {bearer}: {status}"
                assert (status not in {401, 403}) is allowed, wanted
                if not allowed:
                    assert status == (401 if bearer not in SCOPES else 403), wanted


def test_without_guard_people_of_this_machine_need_no_token_but_a_wrong_one_is_wrong(
    client: TestClient, tmp_path: Path
) -> None:
    assert client.get("/api/v1/builds").status_code == 200
    assert client.get("/api/v1/builds", headers={"Authorization": "Bearer wrong"}).status_code == 401
    read = new_token(tmp_path / "tokens.json", "reader", ["read"])
    bearer = {"Authorization": f"Bearer {read}"}
    assert client.get("/api/v1/builds", headers=bearer).status_code == 200
    assert client.post("/api/v1/builds", json=ASKED, headers=bearer).status_code == 403
    revoke_token(tmp_path / "tokens.json", "reader")
    assert client.get("/api/v1/builds", headers=bearer).status_code == 401


def test_a_prefix_that_a_proxy_takes_off_changes_nothing(service: Service, tmp_path: Path) -> None:
    gate = gate_of(service, tmp_path / "tokens.json", guarded=("read", "build"))
    with TestClient(gate, base_url="http://127.0.0.1:8080", root_path="/wheels") as client:
        for path, status in (("/healthz", 200), ("/api/v1/builds", 401), ("/wheels", 401)):
            assert client.get(f"/wheels{path}").status_code == status, path
        answer = client.get("/wheels/api/v1/builds")
        assert answer.headers["content-type"] == "application/problem+json"
    assert route_path({"path": "/wheelsmith/x", "root_path": "/wheels"}) == "/wheelsmith/x"


def test_only_an_admin_sends_what_is_run(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    asked = {**ASKED, "recipe_toml": "edition = 1"}
    for scope, said in (("build", "only an admin"), ("admin", "edition")):
        token = new_token(file, scope, [scope])  # type: ignore[list-item]
        with client_of(gate_of(service, file), token) as client:
            answer = client.post("/api/v1/builds", json=asked)
            assert answer.status_code == 422
            assert (said in answer.json()["detail"]) or scope == "admin"
            assert ("only an admin" in answer.json()["detail"]) is (scope == "build")


def test_large_bodies_are_not_read(service: Service, tmp_path: Path) -> None:
    with client_of(gate_of(service, tmp_path / "tokens.json", body_limit=2000)) as client:
        assert client.post("/api/v1/builds", content=b"x" * 2001).status_code == 413
        assert client.post("/api/v1/builds", content=iter([b"x" * 1500, b"x" * 1500])).status_code == 413
        headers = {"Content-Length": "x", "Content-Type": "application/json"}
        assert client.post("/api/v1/builds", content=b"{}", headers=headers).status_code == 413


def test_rates(service: Service, tmp_path: Path) -> None:
    with client_of(gate_of(service, tmp_path / "tokens.json", rate=1)) as client:
        statuses = [client.get("/api/v1/nothing").status_code for _ in range(14)]
        assert statuses[:10] == [404] * 10
        assert statuses[-1] == 429
        assert client.get("/healthz").status_code == 200
        wrong = {"Authorization": "Bearer wrong"}
        assert [client.get("/", headers=wrong).status_code for _ in range(25)].count(429) >= 4


def test_buckets_fill_again_and_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("buildkit.service.access.time.monotonic", lambda: now[0])
    buckets = Buckets(rate=2.0, burst=2.0)
    assert [buckets.take("a") for _ in range(3)] == [True, True, False]
    assert buckets.take("b")
    now[0] = 0.5
    assert [buckets.take("a"), buckets.take("a")] == [True, False]


def test_every_answer_has_its_headers(client: TestClient) -> None:
    for path in ("/api/v1/builds", "/api/v1/none", "/", "/healthz", "/openapi.json"):
        answer = client.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff", path
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "access-control-allow-origin" not in answer.headers


def test_what_is_refused_is_logged_without_secrets(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "cudabuild.service"):
        client.get(
            "/api/v1/builds?token=cudabuild_" + "s" * 40, headers={"Authorization": "Bearer cudabuild_" + "t" * 40}
        )
    assert "s" * 20 not in caplog.text
    assert "t" * 20 not in caplog.text
    assert [record.facts["status"] for record in caplog.records] == [401]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/x/legacy/", "read"),
        ("POST", "/x/legacy/", None),
        ("POST", "/x/legacy", "build"),
        ("DELETE", "/", "build"),
        ("POST", "/healthz", None),
        ("POST", "/healthz/", "build"),
        ("HEAD", "/", "read"),
    ],
)
def test_which_scope_is_needed(method: str, path: str, scope: str | None) -> None:
    assert needed(method, path) == scope
    assert is_upload("/api/v1/verdicts/x")
