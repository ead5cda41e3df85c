"""The key: one canonical form, every input in it, and nothing that only changes how a wheel is made."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from texts import CHARACTERS

from buildkit.plan.key import FIELDS, KeyInputs, canonical, differing, family_of, key_of
from buildkit.plan.request import Request

INPUTS = KeyInputs(
    recipe="diso",
    version="0.1.4",
    source="aa",
    subdirectory=".",
    patches=["p1", "p2"],
    recipe_build="bb",
    targets=["8.6", "12.0"],
    device="cuda",
    torch="2.13.0+cu130 abc def",
    torch_closure="cc",
    toolkit="13.0.88 dd",
    python="cpython 3.11.2 cp311",
    interpreter="ee",
    platform="linux_x86_64",
    machine="x86_64",
    compiler="gcc 12.2.0 x86_64-linux-gnu ff",
    glibc="2.36",
    programs={"gcc": "a1", "ld": "a2"},
    headers="gg",
    libraries="hh",
    environment={"PATH": "{env}/bin", "TORCH_CUDA_ARCH_LIST": "8.6;12.0", "CUDAARCHS": "86;120"},
    requirements="ii",
    system={"jpeglib.h": "jj"},
    variant=["8.6"],
    repair="1 auditwheel 6.8.2",
)
CHANGES: dict[str, Any] = {
    "patches": ["p2", "p1"],
    "targets": ["8.6"],
    "programs": {"gcc": "a1", "ld": "other"},
    "environment": {"PATH": "{env}/bin", "TORCH_CUDA_ARCH_LIST": "8.6;12.0", "CUDAARCHS": "86;120", "CFLAGS": "-O1"},
    "system": {"jpeglib.h": "other"},
    "variant": [],
    "build_edition": INPUTS.build_edition + 1,
}


@pytest.mark.parametrize("name", FIELDS)
def test_each_input_changes_the_key(name: str) -> None:
    other = replace(INPUTS, **{name: CHANGES.get(name, "other")})
    assert key_of(other) != key_of(INPUTS)
    assert differing(other.as_dict(), INPUTS.as_dict())[0].partition(":")[0].partition(".")[0] == name


def test_key_is_the_same_in_every_run() -> None:
    """A new field changes this number, and makes every stored wheel a miss: that is what it is for."""
    assert key_of(INPUTS) == key_of(replace(INPUTS))
    assert key_of(INPUTS) == "f684d3d887272a26cd786910babf21fd4c2e27930aebde0ee6203c631d67008f"


@pytest.mark.parametrize("name", [field.name for field in fields(Request)])
def test_what_changes_only_how_a_wheel_is_made_is_no_field(name: str) -> None:
    left_out = {"jobs", "memory", "timeout", "stall_timeout", "require", "refresh", "offline", "find_links"}
    if name in left_out:
        assert name not in FIELDS
    assert not {"probe", "verify", "memory_per_unit", "seconds_per_unit", "timeout"} & set(FIELDS)


def test_canonical_form() -> None:
    assert canonical({"b": ["é", 1], "a": {"d": None, "c": "x y"}}) == rb'{"a":{"c":"x y","d":null},"b":["\u00e9",1]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"a": float("nan")})


TEXTS = st.sampled_from(["", "a", "b", "ab", "a b", '"', "\\", "é", "\u2028", "\U0001f600"]) | st.text(
    CHARACTERS, max_size=3
)
VALUES = st.dictionaries(
    TEXTS, st.one_of(TEXTS, st.lists(TEXTS, max_size=3), st.dictionaries(TEXTS, TEXTS, max_size=3)), max_size=4
)


@given(VALUES, VALUES)
def test_different_values_have_different_forms(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (canonical(one) == canonical(other)) == (one == other)
    assert canonical(dict(reversed(one.items()))) == canonical(one)


def test_parts_do_not_run_into_each_other() -> None:
    assert key_of(replace(INPUTS, recipe="dis", version="o0.1.4")) != key_of(INPUTS)
    assert key_of(replace(INPUTS, patches=["p1p2"])) != key_of(INPUTS)
    assert key_of(replace(INPUTS, environment={"A": "1\nB=2"})) != key_of(
        replace(INPUTS, environment={"A": "1", "B": "2"})
    )


def test_a_family_differs_by_targets_only() -> None:
    narrower = {"PATH": "{env}/bin", "TORCH_CUDA_ARCH_LIST": "12.0", "CUDAARCHS": "120"}
    assert family_of(replace(INPUTS, targets=["12.0"], environment=narrower)) == family_of(INPUTS)
    assert family_of(INPUTS) != key_of(INPUTS)
    for name in set(FIELDS) - {"targets"}:
        assert family_of(replace(INPUTS, **{name: CHANGES.get(name, "other")})) != family_of(INPUTS), name


def test_differences_are_named_with_both_sides() -> None:
    other = replace(INPUTS, torch="2.12.0", environment={**INPUTS.environment, "CFLAGS": "-O1"}, programs={"gcc": "a1"})
    assert differing(other.as_dict(), INPUTS.as_dict()) == [
        "torch: 2.13.0+cu130 abc def -> 2.12.0",
        "programs.ld: a2 -> (unset)",
        "environment.CFLAGS: (unset) -> -O1",
    ]
    older = {name: value for name, value in INPUTS.as_dict().items() if name != "headers"}
    assert differing(INPUTS.as_dict(), older) == ["headers: (unset) -> gg"]
    assert differing(replace(INPUTS, source="s" * 80).as_dict(), INPUTS.as_dict()) == [
        f"source: aa -> {'s' * 24}…{'s' * 12}"
    ]
