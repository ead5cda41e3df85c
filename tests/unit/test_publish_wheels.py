"""The commands around uploads: tokens, which wheels are meant by a word, and who may read what is served."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from upload_wheels import WheelMaker, fake_cuobjdump

from buildkit.build.context import Context
from buildkit.cli.index_options import warn_of_plain_http
from buildkit.cli.main import main
from buildkit.cli.options import Asked, Warnings, make_context
from buildkit.cli.publish_wheels import check_outgoing, every
from buildkit.cli.serve_access import access
from buildkit.errors import CudabuildError, NoSuchBuild, NotRedistributable, UsageError, VerificationFailed
from buildkit.index.checks import check_wheel, release_of
from buildkit.index.publishing import Remote
from buildkit.index.tokens import Tokens, new_token
from buildkit.progress import Silent
from buildkit.store.release import Release

LOCAL, AWAY = Remote("http://127.0.0.1:1/legacy/"), Remote("https://index.example/legacy/")


@pytest.fixture
def context(empty_machine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    tool = fake_cuobjdump(tmp_path)
    monkeypatch.setattr("buildkit.index.checks.find_cuobjdump", lambda: tool)
    return make_context(Asked.read({}), Silent())


def stored(context: Context, folder: Path, *, redistributable: bool = True, **changes: str) -> Release:
    wheel = WheelMaker(**changes).write(folder)  # type: ignore[arg-type]
    (folder / "objects").mkdir(exist_ok=True)
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    checked = check_wheel(wheel, folder / "objects")
    release = release_of(checked, sha256=sha256, size=wheel.stat().st_size, by="", redistributable=redistributable,
                         origin="import")  # fmt: skip
    context.store.publish(wheel, release)
    wheel.unlink()
    return release


def named(context: Context, folder: Path, *words: str) -> list[str]:
    place = folder / "out"
    place.mkdir()
    return [wheel.path.name for wheel in every(words, context, place)]


def test_a_recipe_means_its_releases_that_are_not_yanked(context: Context, tmp_path: Path) -> None:
    first = stored(context, tmp_path)
    second = stored(context, tmp_path, version="2.0+pt2.13.cu130.sm120")
    gone = stored(context, tmp_path, version="3.0+pt2.13.cu130.sm120")
    context.store.amend_release(gone, lambda known: known.model_copy(update={"yanked": "wrong"}))
    stored(context, tmp_path, name="other")
    assert named(context, tmp_path, "Fast_Voxels") == [first.filename, second.filename]


def test_a_file_name_and_a_file_mean_one_wheel_each_once(context: Context, tmp_path: Path) -> None:
    release = stored(context, tmp_path)
    assert named(context, tmp_path, release.filename, "fast-voxels") == [release.filename]


@pytest.mark.parametrize(
    ("word", "cause"),
    [("nothing", NoSuchBuild), ("dist/none.whl", UsageError), ("none-1-py3-none-any.whl", NoSuchBuild)],
)
def test_what_means_nothing(context: Context, tmp_path: Path, word: str, cause: type[CudabuildError]) -> None:
    with pytest.raises(cause):
        named(context, tmp_path, word)


def test_what_was_meant_by_a_name_that_is_not_stored(context: Context, tmp_path: Path) -> None:
    stored(context, tmp_path)
    for word, hint in (("fast-voxel", "did you mean fast-voxels?"), ("diso", "build it first: cudabuild diso")):
        with pytest.raises(NoSuchBuild) as caught:
            list(every((word,), context, _empty(tmp_path / word)))
        assert hint in caught.value.hint


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_licence_that_forbids_it_and_who_says_that_they_may(context: Context, tmp_path: Path) -> None:
    stored(context, tmp_path, redistributable=False)
    place = tmp_path / "out"
    place.mkdir()
    (wheel,) = every(("fast-voxels",), context, place)
    with pytest.raises(NotRedistributable, match="does not let everybody have it") as caught:
        check_outgoing(wheel, LOCAL, context, any_licence=False)
    assert caught.value.exit_code == 3
    check_outgoing(wheel, LOCAL, context, any_licence=True)


def test_the_recipes_licence_counts_for_a_file(context: Context, tmp_path: Path) -> None:
    recipe = tmp_path / "recipes" / "fast-voxels"
    recipe.mkdir(parents=True)
    (recipe / "recipe.toml").write_text(
        'edition = 1\nname = "fast-voxels"\nsummary = "A test"\nstatus = "unconfirmed"\n'
        'license = { spdx = "CC-BY-NC-4.0", redistributable = false }\n'
        f'[[version]]\nversion = "1.0"\ngit = "https://git.example/x"\nrev = "{"a" * 40}"\n'
        '[verify]\nimports = ["fast_voxels"]\n'
    )
    place = tmp_path / "out"
    place.mkdir()
    (wheel,) = every((WheelMaker().write(tmp_path).name,), context, place)
    with pytest.raises(NotRedistributable):
        check_outgoing(wheel, LOCAL, context, any_licence=False)


def test_the_plain_linux_tag_stays_on_this_machine(context: Context, tmp_path: Path) -> None:
    place = tmp_path / "out"
    place.mkdir()
    (wheel,) = every((WheelMaker(tags="cp311-cp311-linux_x86_64").write(tmp_path).name,), context, place)
    check_outgoing(wheel, LOCAL, context, any_licence=False)
    with pytest.raises(VerificationFailed, match="says nothing about the C library"):
        check_outgoing(wheel, AWAY, context, any_licence=False)


def test_a_token_over_plain_http_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    for url, warned in (("http://index.example/", True), ("https://index.example/", False), ("http://[::1]:1/", False)):
        warn_of_plain_http(Remote(url, secret="hidden"), Warnings())  # noqa: S106 - none
        assert ("plain HTTP" in capsys.readouterr().err) is warned
    warn_of_plain_http(Remote("http://index.example/"), Warnings())
    assert capsys.readouterr().err == ""


def test_the_token_command(empty_machine: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "new", "ci", "--scope", "upload"]) == 0
    out, err = capsys.readouterr()
    secret = out.strip()
    assert Tokens(tmp_path / "config" / "cudabuild" / "tokens.json").allowed(f"Bearer {secret}", "upload").name == "ci"
    assert secret not in err
    assert main(["token", "list", "--json"]) == 0
    listed = capsys.readouterr().out
    assert [each["name"] for each in json.loads(listed)["tokens"]] == ["ci"]
    assert "sha256" not in listed
    assert main(["token", "new", "ci", "--scope", "read", "--json"]) == 2
    assert main(["token", "revoke", "ci"]) == 0
    assert main(["token", "revoke", "ci"]) == 2
    assert main(["token", "new", "x", "--scope", "all"]) == 2


def options(**changes: object) -> dict[str, object]:
    unchanged = {
        "tokens": None,
        "private": False,
        "public": False,
        "upload_names": (),
        "upload_limit": None,
        "share_store": False,
        "allow_non_redistributable": False,
    }
    return {**unchanged, **changes}


def test_reading_is_open_here_or_where_it_is_said(empty_machine: None, tmp_path: Path) -> None:
    asked = Asked.read({})
    assert access(asked, options(), [], shared=False)["readers"] is None
    assert access(asked, options(public=True), [], shared=True)["readers"] is None
    for given, shared in ((options(), True), (options(private=True), False)):
        with pytest.raises(UsageError, match="reading needs a token here") as caught:
            access(asked, given, [], shared=shared)
        assert "--public" in caught.value.hint
    new_token(tmp_path / "t", "team", ["read"])
    assert access(asked, options(tokens=tmp_path / "t"), [], shared=True)["readers"] is not None


def test_a_store_is_not_shared_with_everybody_by_the_way(empty_machine: None) -> None:
    asked = Asked.read({})
    with pytest.raises(UsageError, match="every stored wheel") as caught:
        access(asked, options(public=True, share_store=True), [], shared=True)
    assert "--allow-non-redistributable" in caught.value.hint
    checked = options(public=True, share_store=True, allow_non_redistributable=True)
    assert access(asked, checked, [], shared=True)["share_store"]


def test_names_and_tags_that_uploads_may_have(empty_machine: None) -> None:
    uploads = access(Asked.read({}), options(upload_names=("Odd_Name",), upload_limit=5), [], shared=False)["uploads"]
    assert uploads is not None
    assert (dict(uploads.owned), uploads.limit, uploads.linux_tags) == ({"odd-name": True}, 5, True)
    shared = access(Asked.read({}), options(public=True), [], shared=True)["uploads"]
    assert shared is not None
    assert not shared.linux_tags
