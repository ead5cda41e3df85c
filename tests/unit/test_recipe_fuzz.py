"""Whatever a recipe.toml holds, reading it ends in a recipe or in an error that says where."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buildkit.errors import RecipeError
from buildkit.recipe.loader import load_recipe
from buildkit.recipe.review import review

VALID = """\
edition = 1
name = "sample"
summary = "A sample"
license = { spdx = "MIT", redistributable = true }
status = "unconfirmed"

[[version]]
version = "1.1"
sdist = "sample"
sha256 = "2ada1c21b84f72fdcec6abc3c4e09200824a7cc9d5de9623a28052e8b1f22c95"

[[version]]
version = "1.0"
git = "https://git.example/a/b"
rev = "879926d0ef58e6ce0ac2630fdecb5e53af7ed3ff"
submodules = true
subdirectory = "bindings/torch"

[[patch]]
file = "a.patch"
when = "torch >= 2.12 and device == cuda"
reason = "it fails"

[[patch]]
rewrite = { files = ["**/*.cu"], find = "lerp", replace = "mix" }
reason = "it clashes"

[build]
torch = true
requires = ["numpy>=2", "cmake"]
config-settings = { "cmake.define.A" = "1", list = ["a", "b"], flag = true }
memory-per-unit = "2 GiB"
seconds-per-unit = 40
timeout = "20 min"
pass-env = ["HTTPS_PROXY"]

[build.env-cuda]
FORCE_CUDA = "1"

[[build.env-when]]
when = "cuda >= 13"
env = { NVCC_FLAGS = "-O3" }

[system]
headers = ["Eigen/Dense"]

[runtime]
requires = ["numpy"]

[verify]
imports = ["sample", "sample._C"]
cuda-proof = ["sample._C:cuda"]
cuda-objects = ["sample/*.so"]
probe = "probe.py"
"""
LINES = VALID.splitlines()
VALUES = [
    '""', '"\\u0000"', '"x"', '"../.."', '"/"', '"a\\nb"', '"1.0"', "'''\nx\n'''", "0", "-1", "10000000000000000000000",
    "1.5", "nan", "-inf", "true", "[]", "[1]", '["a", 2]', "[[]]", '["torch"]', "{}", "{ a = 1 }", "{ a.b.c = [] }",
    '{ files = [], find = "(", replace = "" }', '{ files = ["../*"], find = "a|", replace = "a", more = 1 }',
    "1979-05-27T07:32:00Z", "07:32:00", "1979-05-27", '"https://user:secret@git.example/a"', '"-x"', '"torch >="',
    '"((((torch > 1"', '"9999999999999999 TiB"', '"1e400 min"', '"é"', '"\\ud800"', "", "=", '"' + "x" * 500 + '"',
]  # fmt: skip
KEYS = ["edition", "name", "version", "git", "file", "env", "build", '"a b"', "a.b", "''", "é", "rewrite", "env-when"]
HEADERS = ["[build]", "[[build]]", "[version]", "[[patch]]", "[build.env]", "[x]", "[a.b.c]", "[[version.x]]", "["]
NOISE = "ab=.[]{}'\"\\#\n\r\t -1\x00\x7fé\u2028\ufeff"
EXAMPLES = int(os.environ.get("CUDABUILD_FUZZ", "60"))
"""More of them for somebody who has time."""
SETTINGS = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

Read = Callable[[bytes], None]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Load and review a recipe of these bytes; an error must say where."""
    folder = tmp_path / "sample"
    folder.mkdir()
    (folder / "a.patch").write_text("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n")
    (folder / "probe.py").write_text("def checks(device, tools):\n    yield {}\n")

    def run(content: bytes) -> None:
        (folder / "recipe.toml").write_bytes(content)
        refused = None
        try:
            review(load_recipe(folder))
        except RecipeError as error:
            refused = error
        if refused is not None:
            first, *rest = re.split(r"\n(?=\S*recipe\.toml:)", refused.message)
            for part in rest or [first]:
                assert re.match(r"\S*recipe\.toml(:\d+){0,2}: \S", part), refused.message

    return run


def test_the_recipe_that_is_changed_here_is_sound(read: Read, tmp_path: Path) -> None:
    read(VALID.encode())
    assert load_recipe(tmp_path / "sample").recipe.name == "sample"


@st.composite
def changed(draw: st.DrawFn) -> str:
    """The valid recipe after one to three changes: of a value, a key, a line, a header."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(lines) - 1))
        key, equals, value = lines[place].partition(" = ")
        how = draw(st.sampled_from(["value", "key", "drop", "twice", "move", "header", "cut"]))
        if how == "value" and equals:
            lines[place] = f"{key} = {draw(st.sampled_from(VALUES))}"
        elif how == "key" and equals:
            lines[place] = f"{draw(st.sampled_from(KEYS))} = {value}"
        elif how == "drop":
            lines[place] = ""
        elif how == "twice":
            lines.insert(place, lines[place])
        elif how == "move":
            lines.insert(draw(st.integers(0, len(lines) - 1)), lines[place])
        elif how == "header":
            lines.insert(place, draw(st.sampled_from(HEADERS)))
        else:
            lines[place] = lines[place][: draw(st.integers(0, 20))]
    return "\n".join(lines)


@SETTINGS
@given(text=changed())
def test_a_changed_recipe(read: Read, text: str) -> None:
    read(text.encode())


ASSIGNED = [line for line in LINES if " = " in line]


@pytest.mark.parametrize("number", range(len(ASSIGNED)))
def test_every_key_with_many_kinds_of_value(read: Read, number: int) -> None:
    """Each value stands at some keys, and each key gets every fourth value."""
    key = ASSIGNED[number].partition(" = ")[0]
    for value in VALUES[number % 4 :: 4]:
        read(VALID.replace(ASSIGNED[number], f"{key} = {value}", 1).encode())


@SETTINGS
@given(text=st.text(NOISE, max_size=60), start=st.integers(0, len(VALID)))
def test_noise_in_a_recipe(read: Read, text: str, start: int) -> None:
    read((VALID[:start] + text + VALID[start:]).encode())
    read(text.encode())


@SETTINGS
@given(content=st.binary(max_size=80))
def test_bytes(read: Read, content: bytes) -> None:
    read(content)


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a" + ".a" * 1000 + " = 1", "[" + "a." * 1000 + "a]"])
def test_what_is_nested_without_end(read: Read, text: str) -> None:
    read(text.encode())
