"""The conditions of patches: what holds, what is absent, and what cannot be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from texts import CHARACTERS

from buildkit.errors import RecipeError
from buildkit.recipe.conditions import VARIABLES, AllOf, applies, may_apply, parse_condition

HERE = {
    "torch": "2.13.0+cu130",
    "cuda": "13.0",
    "python": "3.11",
    "gcc": "12.2.0",
    "version": "0.1.4",
    "device": "cuda",
}


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ("", True),
        ("   ", True),
        ("torch >= 2.12", True),
        ("torch>=2.14", False),
        ("torch == 2.13.0", True),
        ("torch == 2.13", True),
        ("torch == 2.13.*", True),
        ("torch != 2.13.*", False),
        ("torch ~= 2.12", True),
        ("torch ~= 2.12.0", False),
        ("torch > 2.13.0", False),
        ("torch <= 2.13", True),
        ('torch >= "2.12"', True),
        ("torch >= '2.9'", True),
        ("python < 3.9", False),
        ("python == 3.11", True),
        ("gcc >= 12 and gcc < 13", True),
        ("gcc == 12.*", True),
        ("cuda >= 13", True),
        ("version == 0.1.4", True),
        ("device == cuda", True),
        ('device == "cpu"', False),
        ("device != cpu", True),
        ("torch < 2 or cuda >= 13", True),
        ("torch < 2 or cuda >= 13 and device == cpu", False),
        ("(torch < 2 or cuda >= 13) and device == cuda", True),
        ("torch < 2 and cuda >= 13 or device == cuda", True),
        ("((torch>=2))", True),
    ],
)
def test_what_holds_here(when: str, holds: bool) -> None:
    assert applies(when, HERE) is holds


def test_and_binds_closer_than_or() -> None:
    assert applies("device == cuda or device == cuda and device == cpu", HERE)


@pytest.mark.parametrize("comparison", ["cuda >= 1", "cuda < 99", "cuda == 13.0", "cuda ~= 13.0"])
def test_what_is_absent_satisfies_nothing_but_unequal(comparison: str) -> None:
    for without in ({}, {"cuda": ""}):
        assert not applies(comparison, without)
        assert applies("cuda != 13.0", without)


@pytest.mark.parametrize("torch", ["2.14.0.dev20260901+cu130", "2.14.0rc1", "2.14.0", "2.13.1", "2.14.0.post1"])
def test_less_and_not_less_share_out_every_version(torch: str) -> None:
    assert applies("torch < 2.14", {"torch": torch}) != applies("torch >= 2.14", {"torch": torch})
    assert applies("torch <= 2.14", {"torch": torch}) != applies("torch > 2.14", {"torch": torch})


def test_a_nightly_counts_as_before_its_release() -> None:
    assert applies("torch >= 2.14.dev0", {"torch": "2.14.0.dev20260901"})
    assert not applies("torch >= 2.14", {"torch": "2.14.0.dev20260901"})


def test_an_empty_condition_is_no_condition() -> None:
    assert parse_condition("") == AllOf(())


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("torhc >= 2", "did you mean 'torch'?"),
        ("python_version >= '3'", "or 'python'?"),
        ("2.12 <= torch", "stand on the left"),
        ("torch", "it ends where a comparison was expected"),
        ("torch >=", "it ends where a value was expected"),
        ("torch = 2", "'=' is no comparison"),
        ("torch === 2", "'===' is no comparison"),
        ("torch in '2.12'", "'in' is no comparison"),
        ("torch >= new", "'new' is no version"),
        ("torch >= 2.*", "goes with == and != only"),
        ("torch ~= 2", "two parts or more"),
        ("torch >= 1a1b1", "is no version"),
        ("torch >= 2 cuda >= 13", "join comparisons with 'and' or 'or'"),
        ("torch >= 2 and", "it ends where a variable was expected"),
        ("(torch >= 2", "a parenthesis is not closed"),
        ("torch >= 2)", "')' was not expected"),
        ("torch >= (", "stands where a value was expected"),
        ("torch >= '2", "cannot be read"),
        ("device >= cuda", "device can only be"),
        ("device == rocm", "device can only be"),
        ("(" * 60 + "torch >= 2" + ")" * 60, "nested too deeply"),
    ],
)
def test_what_cannot_be_read_says_why(when: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        applies(when, HERE)
    assert said in caught.value.message
    assert caught.value.evidence == when
    assert caught.value.exit_code == 3


def test_a_value_that_is_no_version_is_named() -> None:
    with pytest.raises(RecipeError, match="gcc is 'unknown' here"):
        applies("gcc >= 12", {"gcc": "unknown"})


_PIECES = st.sampled_from(
    [*VARIABLES, ">=", "==", "!=", "<", "~=", "2.12", "3.*", "cuda", "and", "or", "(", ")", "'", '"']
)


@given(st.lists(_PIECES, max_size=12).map(" ".join) | st.text(CHARACTERS, max_size=40))
def test_every_text_is_a_condition_or_a_recipe_error(when: str) -> None:
    hint = "none needed"
    try:
        assert applies(when, HERE) in {True, False}
    except RecipeError as error:
        hint = error.hint
    assert hint


MAY_APPLY = {
    "": True,
    "torch >= 2.12": True,
    "version >= 2": False,
    "version < 2": True,
    "version >= 2 or torch > 1": True,
    "version >= 2 and torch > 1": False,
    "version >= 2 or version == 1.0": True,
    "(version >= 2 or device == cpu) and python > 3": True,
}


@pytest.mark.parametrize("when", MAY_APPLY)
def test_what_can_still_hold_where_only_the_version_is_known(when: str) -> None:
    assert may_apply(when, {"version": "1.0"}) == MAY_APPLY[when]
