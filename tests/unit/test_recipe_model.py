"""What a recipe may say: the model's own checks, sizes, durations and the texts that explain refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from texts import CHARACTERS

from buildkit.recipe.model import Recipe
from buildkit.recipe.problems import from_validation
from buildkit.recipe.quantities import format_size, parse_duration, parse_size
from buildkit.recipe.suggest import did_you_mean, nearest

REV = "879926d0ef58e6ce0ac2630fdecb5e53af7ed3ff"
SHA256 = "2ada1c21b84f72fdcec6abc3c4e09200824a7cc9d5de9623a28052e8b1f22c95"


def raw(**changes: Any) -> dict[str, Any]:
    """A small valid recipe with some of its top-level keys replaced; None takes a key away."""
    recipe: dict[str, Any] = {
        "edition": 1,
        "name": "sample",
        "summary": "A sample",
        "license": {"spdx": "MIT", "redistributable": True},
        "version": [{"version": "1.0", "sdist": "sample", "sha256": SHA256}],
    }
    return {key: value for key, value in (recipe | changes).items() if value is not None}


def problems(document: dict[str, Any]) -> dict[str, str]:
    """Dotted location to text of everything that the model refuses."""
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate(document)
    return {".".join(map(str, problem.location)): problem.text for problem in from_validation(caught.value)}


def test_the_defaults_are_those_of_the_design() -> None:
    recipe = Recipe.model_validate(raw())
    assert recipe.status == "unconfirmed"
    assert (recipe.build.memory_per_unit, recipe.build.seconds_per_unit, recipe.build.timeout) == (2684354560, 40, 1800)
    assert recipe.verify.imports == ()
    assert recipe.versions[0].subdirectory == "."


def test_the_whole_example_of_the_format_is_read() -> None:
    recipe = Recipe.model_validate(
        raw(
            version=[{"version": "0.1.0", "git": "https://git.example/a/b", "rev": REV, "submodules": True}],
            patch=[
                {"file": "patches/lerp.patch", "when": "torch >= 2.12", "reason": "clash", "link": "https://x.example"}
            ],
            build={
                "requires": ["scikit-build-core>=1.0", "pybind11[global] >=2.10,<4", "tomli; python_version < '3.11'"],
                "config-settings": {"cmake.define.A": "1", "list": ["a", "b"], "flag": True},
                "memory-per-unit": "3 GiB",
                "timeout": "1h 30m",
                "env": {"A": "1"},
                "env-cuda": {"FORCE_CUDA": "1"},
                "env-cpu": {"FORCE_CUDA": "0", "A": "2"},
                "pass-env": ["MY_FLAG"],
            },
            system={"headers": ["Eigen/Dense"], "libraries": ["openblas"], "apt": ["libeigen3-dev", "g++"]},
            runtime={"requires": ["numpy"]},
            verify={"imports": ["a.b"], "cuda-proof": ["a._C:f.g"], "cuda-objects": ["a/*.so"], "probe": "probe.py"},
        )
    )
    assert recipe.build.memory_per_unit == 3 * 2**30
    assert recipe.build.timeout == 5400
    assert recipe.build.environment("cuda") == {"A": "1", "FORCE_CUDA": "1"}
    assert recipe.build.environment("cpu") == {"A": "2", "FORCE_CUDA": "0"}
    assert recipe.build.config_settings["flag"] is True


def test_a_recipe_is_frozen() -> None:
    recipe = Recipe.model_validate(raw())
    with pytest.raises(ValidationError):
        recipe.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ({"version": "1"}, "exactly one of git, sdist and folder; it has none"),
        ({"version": "1", "sdist": "x", "folder": "."}, "it has sdist and folder"),
        ({"version": "1", "sdist": "x"}, "sdist needs sha256"),
        ({"version": "1", "git": "https://g.example/x"}, "git needs rev"),
        ({"version": "1", "sdist": "x", "sha256": SHA256, "submodules": False}, "submodules cannot stand beside sdist"),
        (
            {"version": "1", "git": "https://g.example/x", "rev": REV, "sha256": SHA256},
            "sha256 cannot stand beside git",
        ),
        ({"version": "1", "folder": "..", "rev": REV}, "rev cannot stand beside folder"),
    ],
)
def test_a_version_has_one_whole_source(version: dict[str, Any], said: str) -> None:
    assert said in problems(raw(version=[version]))["version.0"]


@pytest.mark.parametrize("rev", ["main", "v1.0", "879926d", REV.upper(), REV[:-1], REV + "0", REV + "\n", "-" * 40])
def test_only_a_full_commit_id_pins(rev: str) -> None:
    found = problems(raw(version=[{"version": "1", "git": "https://g.example/x", "rev": rev}]))
    assert "full commit id" in found["version.0.rev"]


def test_a_sha256_commit_id_is_a_full_one() -> None:
    Recipe.model_validate(raw(version=[{"version": "1", "git": "https://g.example/x", "rev": SHA256}]))


@pytest.mark.parametrize(
    "url",
    [
        "http://g.example/x",
        "git://g.example/x",
        "file:///tmp/x",
        "/tmp/x",
        "ext::sh -c true",
        "--upload-pack=true",
        "https://me:secret@g.example/x",
        "https://g.example/x y",
        "ssh://-oProxyCommand=x/y",
        "git@g.example:-x",
    ],
)
def test_git_urls_are_https_or_ssh_without_secrets(url: str) -> None:
    found = problems(raw(version=[{"version": "1", "git": url, "rev": REV}]))
    assert "https:// or ssh://" in found["version.0.git"]


@pytest.mark.parametrize(
    "url",
    ["https://g.example:8443/a/b.git", "ssh://git@g.example/a/b", "ssh://git@g.example:22/a", "git@g.example:a/b.git"],
)
def test_the_usual_git_urls_are_taken(url: str) -> None:
    Recipe.model_validate(raw(version=[{"version": "1", "git": url, "rev": REV}]))


@pytest.mark.parametrize(
    ("changes", "where", "said"),
    [
        ({"name": "Sample"}, "name", "small letters"),
        ({"name": "-x"}, "name", "small letters"),
        ({"summary": None}, "summary", "is missing"),
        ({"summary": ""}, "summary", "must not be empty"),
        ({"summary": 3}, "summary", "a text in quotes"),
        ({"license": "MIT"}, "license", "must be a table"),
        ({"license": {"spdx": "MIT", "redistributable": "yes"}}, "license.redistributable", "true or false"),
        ({"status": "confirmd"}, "status", "did you mean 'confirmed'"),
        ({"version": []}, "version", "must not be empty"),
        ({"version": {"version": "1"}}, "version", "must be a list"),
        ({"build": {"memory-per-unit": 4}}, "build.memory-per-unit", "with its unit, in quotes"),
        ({"build": {"memory-per-unit": "lots"}}, "build.memory-per-unit", "is not a size"),
        ({"build": {"timeout": 30}}, "build.timeout", "with its unit, in quotes"),
        ({"build": {"seconds-per-unit": "40"}}, "build.seconds-per-unit", "whole number"),
        ({"build": {"requires": "ninja"}}, "build.requires", "must be a list"),
        ({"build": {"requires": ["a @ https://x.example/a.whl"]}}, "build.requires.0", "no URL"),
        ({"build": {"requires": ["--index-url=x"]}}, "build.requires.0", "a requirement such as"),
        ({"build": {"env": {"A": 1}}}, "build.env.A", "a text in quotes"),
        ({"build": {"env": {"A-B": "1"}}}, "build.env.A-B", "the name of an environment variable"),
        ({"build": {"config-settings": {"a": 1}}}, "build.config-settings.a", "a list of such texts"),
        ({"verify": {"imports": ["a-b"]}}, "verify.imports.0", "a module such as"),
        ({"verify": {"cuda-proof": ["a.b"]}}, "verify.cuda-proof.0", "module:attribute"),
        ({"system": {"headers": ["<a.h>"]}}, "system.headers.0", "without < >"),
        ({"system": {"apt": ["-y"]}}, "system.apt.0", "a package's name"),
    ],
)
def test_a_wrong_value_is_explained(changes: dict[str, Any], where: str, said: str) -> None:
    found = problems(raw(**changes))
    assert list(found) == [where]
    assert said in found[where]


@pytest.mark.parametrize(
    ("changes", "where", "said"),
    [
        ({"licence": {}}, "licence", "did you mean 'license'?"),
        ({"build": {"memory_per_unit": "1 GiB"}}, "build.memory_per_unit", "did you mean 'memory-per-unit'?"),
        ({"build": {"time-out": "1 h"}}, "build.time-out", "did you mean 'timeout'?"),
        ({"imports": ["a"]}, "imports", "it belongs under [verify]"),
        ({"verify": {"timeout": "1 h"}}, "verify.timeout", "it belongs under [build]"),
        ({"system": {"summary": "x"}}, "system.summary", "top of the file"),
        ({"runtime": {"zzz": 1}}, "runtime.zzz", "known here: requires"),
        ({"license": {"spdx": "MIT", "redistributable": True, "note": ""}}, "license.note", "known here: spdx"),
    ],
)
def test_an_unknown_key_is_refused_with_what_was_meant(changes: dict[str, Any], where: str, said: str) -> None:
    assert said in problems(raw(**changes))[where]


def test_an_unknown_key_of_a_version_is_refused() -> None:
    version = {"version": "1", "sdist": "x", "sha-256": SHA256, "sha256": SHA256}
    assert "did you mean 'sha256'?" in problems(raw(version=[version]))["version.0.sha-256"]


def test_a_licence_with_limits_says_so() -> None:
    free = Recipe.model_validate(raw()).license
    bound = Recipe.model_validate(raw(license={"spdx": "CC-BY-NC-4.0", "redistributable": False})).license
    other = Recipe.model_validate(raw(license={"spdx": "LicenseRef-X", "redistributable": False})).license
    assert free.notice == ""
    assert "non-commercial" in bound.notice
    assert "non-commercial" not in other.notice
    assert "LicenseRef-X" in other.notice


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2.5 GiB", 2684354560),
        ("8GiB", 8 * 2**30),
        ("8G", 8 * 2**30),
        ("8 gb", 8 * 10**9),
        ("512m", 512 * 2**20),
        (" 1 TiB ", 2**40),
        ("1 b", 1),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "8", "GiB", "-1 GiB", "1e3 GiB", "0 GiB", "8 Gibit", "8 GiB GiB", "8,5 GiB", "٣ GiB"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"size|amount"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90 s", 90), ("30 min", 1800), ("30m", 1800), ("1h30m", 5400), ("1.5 hours", 5400), ("1 d", 86400), ("0.2s", 1)],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "min", "-3 min", "3 fortnights", "0 s", "3 min or so", "1:30", "3 min 4"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|time"):
        parse_duration(text)


@pytest.mark.parametrize("parse", [parse_size, parse_duration])
@given(text=st.text(CHARACTERS, max_size=30))
def test_any_text_is_a_quantity_or_a_value_error(parse: Callable[[str], int], text: str) -> None:
    said = ""
    try:
        assert parse(text) > 0
    except ValueError as error:
        said = str(error)
    assert not said or "must be" in said or "write a number" in said


@given(st.integers(1, 10_000), st.sampled_from(["B", "KiB", "MiB", "GiB", "TiB"]))
def test_whole_sizes_keep_their_value_through_text(number: int, unit: str) -> None:
    size = parse_size(f"{number} {unit}")
    assert abs(parse_size(format_size(size)) - size) <= size * 0.06


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1023, "1023 B"), (2684354560, "2.5 GiB"), (2**31, "2 GiB")])
def test_sizes_are_shown_with_one_decimal(size: int, text: str) -> None:
    assert format_size(size) == text


def test_the_nearest_names_come_first_and_ignore_dashes() -> None:
    assert nearest("torch_scater", ["diso", "torch-cluster", "torch-scatter"])[0] == "torch-scatter"
    assert nearest("zzzz", ["diso"]) == ()
    assert did_you_mean("zzzz", ["diso"]) == ""
    assert did_you_mean("DISO", ["diso"]) == "; did you mean 'diso'?"
