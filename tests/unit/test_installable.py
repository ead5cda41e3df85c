"""Which CUDA toolkits can be had without root, and what a typed version means."""

from __future__ import annotations

import pytest

from buildkit.errors import UsageError
from buildkit.machine.installable import Installable, asked_version, find_installable, installable, nearest_release


def test_every_release_from_11_8_on_comes_from_somewhere() -> None:
    origins = {each.release: each.origin for each in installable()}
    assert list(origins)[-1] == "11.8"
    assert "11.7" not in origins
    assert {release for release, origin in origins.items() if origin == "wheels"} >= {"13.0", "13.2", "13.4"}
    assert all(origin == "archives" for release, origin in origins.items() if release.startswith(("11.", "12.")))
    assert find_installable("12.8") == Installable("12.8", "archives", ("12.8.2", "12.8.1", "12.8.0"))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("12.8", Installable("12.8", "archives", ("12.8.2", "12.8.1", "12.8.0"))),
        (" 12.4.0 ", Installable("12.4", "archives", ("12.4.0",))),
        ("012.08.01", Installable("12.8", "archives", ("12.8.1",))),
        ("12.9.7", Installable("12.9", "archives", ("12.9.7",))),
        ("13.0", Installable("13.0", "wheels")),
        ("13.99", Installable("13.99", "wheels")),
    ],
)
def test_what_is_meant(typed: str, meant: Installable) -> None:
    assert asked_version(typed) == meant


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [
        ("12.7", "install 12.8 or 12.6"),
        ("11.7", "install 11.8 or "),
        ("12", "install 12.0 or 12.1"),
        ("cu128", "install 12.8 or "),
        ("128", "install 12.8 or "),
        ("14.0", "or 13."),
        ("newest", "cudabuild toolkit list"),
        ("", "cudabuild toolkit list"),
        ("12.8; rm -r /", "install 12.8 or "),
        ("\u0967\u0968.\u096e", "cudabuild toolkit list"),  # 12.8 in Devanagari
    ],
)
def test_the_nearest_one_is_named(typed: str, nearest: str) -> None:
    with pytest.raises(UsageError) as caught:
        asked_version(typed)
    assert nearest in caught.value.hint


def test_wheels_are_asked_for_by_release() -> None:
    with pytest.raises(UsageError, match="by release") as caught:
        asked_version("13.0.1")
    assert caught.value.hint == "cudabuild toolkit install 13.0"


def test_the_nearest_of_the_same_series() -> None:
    assert (nearest_release("12.7"), nearest_release("11.3"), nearest_release("10.2")) == ("12.8", "11.8", None)
