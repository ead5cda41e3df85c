"""Both forms of a patch on a source: changed, or told that there was no need."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.errors import PatchFailed
from buildkit.recipe.model import Patch
from buildkit.source.patching import Patched, apply_patch

DIFF = "--- a/k.cu\n+++ b/k.cu\n@@ -1,2 +1,3 @@\n #include <a>\n+#include <b>\n int x;\n"
LERP = {
    "reason": "clashes with std::lerp",
    "rewrite": {"files": ["**/*.cu", "src/*.h"], "find": r"(?<![\w:.>])lerp(?=\s*\()", "replace": "our_lerp"},
}


def applied(tree: Path, folder: Path, **values: object) -> Patched:
    return apply_patch(tree, Patch.model_validate({"reason": "it fails without", **values}), folder)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "src" / "deep").mkdir(parents=True)
    (root / ".git").mkdir()
    for name in ("k.cu", "src/a.h", "src/deep/b.h", "src/deep/c.cu", ".git/d.cu"):
        (root / name).write_bytes(b"float lerp (float a);\r\nstd::lerp(1); x.lerp(2); lerp(3); \xff slerp(4);\n")
    return root


def test_a_rewriting_changes_what_its_globs_name_and_nothing_else(tree: Path, tmp_path: Path) -> None:
    before = (tree / "src/a.h").read_bytes()
    outside = tmp_path / "outside.cu"
    outside.write_bytes(before)
    (tree / "link.cu").symlink_to(outside)
    patched = applied(tree, tmp_path, **LERP)
    changed = b"float our_lerp (float a);\r\nstd::lerp(1); x.lerp(2); our_lerp(3); \xff slerp(4);\n"
    assert [(tree / name).read_bytes() == changed for name in ("k.cu", "src/a.h", "src/deep/c.cu")] == [True] * 3
    assert [path.read_bytes() == before for path in (tree / "src/deep/b.h", tree / ".git/d.cu", outside)] == [True] * 3
    assert patched.done
    assert patched.sentence() == "patched: rewrite of **/*.cu, src/*.h: k.cu (2), src/a.h (2), src/deep/c.cu (2)"


def test_what_a_source_has_no_need_of_is_told(tree: Path, tmp_path: Path) -> None:
    assert applied(tree, tmp_path, **LERP).done
    again = applied(tree, tmp_path, **LERP)
    assert not again.done
    assert again.sentence() == (
        "the patch rewrite of **/*.cu, src/*.h is needless here: found nothing to replace (clashes with std::lerp)"
    )
    (tmp_path / "b.patch").write_text(DIFF)
    (tree / "k.cu").write_text("#include <a>\nint x;\n")
    assert applied(tree, tmp_path, file="b.patch").sentence() == "patched: b.patch"
    assert (tree / "k.cu").read_text() == "#include <a>\n#include <b>\nint x;\n"
    assert not applied(tree, tmp_path, file="b.patch").done


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_end_of_a_line_is_found_and_kept(tree: Path, tmp_path: Path, end: str) -> None:
    (tree / "setup.py").write_bytes(f"import os{end}import re{end}".encode())
    rewrite = {"files": ["setup.py"], "find": "^import os$", "replace": "import sys\nimport json"}
    assert applied(tree, tmp_path, rewrite=rewrite).done
    assert (tree / "setup.py").read_bytes() == f"import sys{end}import json{end}import re{end}".encode()


def test_a_diff_that_is_in_the_source_only_in_part_fails(tree: Path, tmp_path: Path) -> None:
    other = DIFF.replace("k.cu", "l.cu")
    (tmp_path / "b.patch").write_text(DIFF + other)
    (tree / "k.cu").write_text("#include <a>\n#include <b>\nint x;\n")
    (tree / "l.cu").write_text("#include <a>\nint x;\n")
    with pytest.raises(PatchFailed, match=r"k\.cu, hunk 1"):
        applied(tree, tmp_path, file="b.patch")


def test_only_some_files_are_named_where_many_changed(tree: Path, tmp_path: Path) -> None:
    for number in range(9):
        (tree / f"n{number}.cu").write_text("lerp(1)")
    assert applied(tree, tmp_path, **LERP).sentence().endswith("n3.cu (1) and 7 more")
