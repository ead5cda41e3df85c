"""Tokens of an index: what is kept of them, who may do what, and that a revoked one ends at once."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from texts import CHARACTERS

from buildkit.errors import ConfigError, StoreError, UsageError
from buildkit.index.refused import Refused
from buildkit.index.tokens import Tokens, new_token, read_tokens, revoke_token, secret_of


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


def refused(tokens: Tokens, authorization: str | None, scope: str) -> Refused:
    with pytest.raises(Refused) as caught:
        tokens.allowed(authorization, scope)  # type: ignore[arg-type]
    return caught.value


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def test_only_a_hash_is_kept_and_nobody_else_may_read_the_file(file: Path) -> None:
    secret = new_token(file, "ci", ["upload", "upload"])
    assert secret not in file.read_text()
    assert json.loads(file.read_text())["tokens"][0]["scopes"] == ["upload"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(secret) > 40
    assert new_token(file, "other", ["read"]) != secret


def test_a_token_comes_as_bearer_or_as_anybodys_password(file: Path) -> None:
    secret, tokens = new_token(file, "ci", ["upload"]), Tokens(file)
    for authorization in (f"Bearer {secret}", f"bearer  {secret}", basic(f"__token__:{secret}"), basic(f"me:{secret}")):
        assert tokens.allowed(authorization, "upload").name == "ci"


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Basic", "Basic ===", "Basic bm9jb2xvbg==", "Digest x", "Basic /w=="],
)
def test_without_a_token_the_answer_asks_for_one(file: Path, authorization: str | None) -> None:
    new_token(file, "ci", ["upload"])
    error = refused(Tokens(file), authorization, "upload")
    assert error.status == 401
    assert error.headers["WWW-Authenticate"].startswith("Basic realm=")


def test_an_unknown_token_is_401_and_a_missing_scope_403(file: Path) -> None:
    secret, tokens = new_token(file, "ci", ["upload"]), Tokens(file)
    wrong = refused(tokens, f"Bearer {secret}x", "upload")
    assert (wrong.status, secret in wrong.text) == (401, False)
    missing = refused(tokens, f"Bearer {secret}", "verify")
    assert (missing.status, missing.text) == (403, "the token ci has no scope verify (it has upload)")
    assert missing.headers == {}


def test_every_token_may_read_and_admin_may_do_all(file: Path) -> None:
    verify, admin = new_token(file, "gpu", ["verify"]), new_token(file, "root", ["admin"])
    tokens = Tokens(file)
    assert tokens.allowed(f"Bearer {verify}", "read").name == "gpu"
    assert {tokens.allowed(f"Bearer {admin}", scope).name for scope in ("read", "upload", "verify", "admin")} == {
        "root"
    }


def test_a_running_index_sees_new_and_revoked_tokens(file: Path) -> None:
    tokens = Tokens(file)
    assert refused(tokens, "Bearer x", "read").status == 401
    secret = new_token(file, "ci", ["upload"])
    assert tokens.allowed(f"Bearer {secret}", "upload").name == "ci"
    assert revoke_token(file, "ci").name == "ci"
    assert refused(tokens, f"Bearer {secret}", "upload").status == 401


def test_names_are_unique_and_sound(file: Path) -> None:
    new_token(file, "ci", ["upload"])
    with pytest.raises(UsageError, match="there is a token ci already"):
        new_token(file, "ci", ["read"])
    for name in ("", "a b", "../x", "-x", "x" * 65):
        with pytest.raises(UsageError, match="cannot be a token's name"):
            new_token(file, name, ["read"])
    with pytest.raises(UsageError, match="there is no token cd") as caught:
        revoke_token(file, "cd")
    assert "ci" in caught.value.evidence


@pytest.mark.parametrize("path", [".", "/", "folder"])
def test_a_folder_is_no_file_of_tokens(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="tokens are kept in a file") as caught:
        new_token(Path(path), "ci", ["upload"])
    assert "--file" in caught.value.hint
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


def test_a_folder_that_cannot_be_made_is_told_with_the_option_that_helps(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StoreError) as caught:
        new_token(tmp_path / "taken" / "tokens.json", "ci", ["upload"])
    assert "--file" in caught.value.hint


def test_a_file_that_others_may_write_or_that_does_not_parse_is_refused(file: Path) -> None:
    new_token(file, "ci", ["upload"])
    file.chmod(0o620)
    with pytest.raises(ConfigError, match="others may write it"):
        read_tokens(file)
    file.chmod(0o600)
    for text in ("", "[]", '{"schema": 2, "tokens": []}', '{"schema": 1, "tokens": [{"name": "cudabuild_secret"}]}'):
        file.write_text(text)
        with pytest.raises(ConfigError, match="is not a file of tokens") as caught:
            read_tokens(file)
        assert "cudabuild_secret" not in caught.value.message


def test_without_a_file_there_are_no_tokens(tmp_path: Path) -> None:
    assert read_tokens(tmp_path / "none.json") == ()
    assert refused(Tokens(None), "Bearer x", "read").status == 401


@given(
    st.text(CHARACTERS, max_size=60)
    | st.binary(max_size=40).map(lambda data: "Basic " + base64.b64encode(data).decode())
)
def test_no_header_makes_it_stumble(authorization: str) -> None:
    secret = secret_of(authorization)
    assert secret is None or secret
