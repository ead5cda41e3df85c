"""Patches apply whole or not at all, and say where they fail."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from buildkit.errors import PatchFailed
from buildkit.source.patches import apply_diff, parse_hunks
from buildkit.source.tree import tree_sha256

PATCH = """\
Add what the header needs.
--- a/src/k.cu
+++ b/src/k.cu
@@ -1,3 +1,4 @@
 one
+one and a half
 two
 three
@@ -8,3 +9,3 @@ int main
 eight
-nine
+NINE
 ten
"""
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "a tree ä"
    (root / "src").mkdir(parents=True)
    (root / "src/k.cu").write_text("\n".join(WORDS) + "\n")
    (root / "dos.h").write_bytes(b"a\r\nb\r\n")
    return root


def patch(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "patches" / "x.patch"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(text.encode())
    return file


def test_applies(tree: Path, tmp_path: Path) -> None:
    apply_diff(tree, patch(tmp_path, PATCH))
    text = (tree / "src/k.cu").read_text()
    assert "one and a half" in text
    assert "NINE" in text


def test_applies_inside_another_repository(tree: Path, tmp_path: Path) -> None:
    """A cache below somebody's work tree: git must not take that repository for the tree's."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    apply_diff(tree, patch(tmp_path, PATCH))
    assert "NINE" in (tree / "src/k.cu").read_text()


def test_a_repository_in_the_tree_runs_nothing(tree: Path, tmp_path: Path) -> None:
    """Its settings name a program that git would run on each file it reads."""
    ran = tmp_path / "ran"
    subprocess.run(["git", "init", "-q", str(tree)], check=True)
    with (tree / ".git/config").open("a") as config:
        config.write(f"[filter \"x\"]\n\tclean = touch '{ran}'; cat\n\tsmudge = touch '{ran}'; cat\n")
    (tree / ".gitattributes").write_text("*.cu filter=x\n")
    apply_diff(tree, patch(tmp_path, PATCH))
    assert "NINE" in (tree / "src/k.cu").read_text()
    assert not ran.exists()


def test_git_variables_of_a_hook_do_not_matter(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path / "other")], check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other/.git/index"))
    apply_diff(tree, patch(tmp_path, PATCH))
    assert "NINE" in (tree / "src/k.cu").read_text()


def test_new_deleted_and_crlf_files(tree: Path, tmp_path: Path) -> None:
    text = (
        "--- /dev/null\n+++ b/new/deep.txt\n@@ -0,0 +1 @@\n+hello\n"
        "--- a/dos.h\n+++ b/dos.h\n@@ -1,2 +1,2 @@\n a\r\n-b\r\n+c\r\n"
        "--- a/src/k.cu\n+++ /dev/null\n@@ -1,10 +0,0 @@\n" + "".join(f"-{word}\n" for word in WORDS)
    )
    apply_diff(tree, patch(tmp_path, text))
    assert (tree / "new/deep.txt").read_text() == "hello\n"
    assert (tree / "dos.h").read_bytes() == b"a\r\nc\r\n"
    assert not (tree / "src/k.cu").exists()


def test_a_hunk_that_fails_is_named_and_nothing_changes(tree: Path, tmp_path: Path) -> None:
    (tree / "src/k.cu").write_text("\n".join(["changed" if w == "nine" else w for w in WORDS]) + "\n")
    before = tree_sha256(tree)
    with pytest.raises(PatchFailed) as caught:
        apply_diff(tree, patch(tmp_path, PATCH))
    error = caught.value
    assert error.message == "patches/x.patch does not apply: file src/k.cu, hunk 2 (@@ -8,3 +9,3 @@ int main)"
    assert error.evidence == "patches/x.patch:9: @@ -8,3 +9,3 @@ int main"
    assert error.exit_code == 4
    assert error.hint
    assert tree_sha256(tree) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PATCH.replace("src/k.cu", "src/absent.cu"), r"src/absent\.cu: No such file"),
        ("no patch at all\n", "No valid patches"),
        (PATCH[: PATCH.rindex(" ten")], "corrupt patch"),
        ("--- /dev/null\n+++ b/dos.h\n@@ -0,0 +1 @@\n+x\n", "already exists"),
        (PATCH.replace("src/k.cu", "../k.cu"), "outside the source"),
        (PATCH.replace("src/k.cu", "out/k.cu"), "outside the source"),
        (
            "diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/etc\n",
            "makes or changes a link",
        ),
    ],
)
def test_refused(tree: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "k.cu").write_text("\n".join(WORDS) + "\n")
    (tree / "out").symlink_to(tmp_path)
    before = (tmp_path / "k.cu").read_text()
    with pytest.raises(PatchFailed, match=message):
        apply_diff(tree, patch(tmp_path, text))
    assert (tmp_path / "k.cu").read_text() == before


def test_the_persons_git_settings_do_not_matter(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "gitconfig"
    config.write_text("[apply]\n\twhitespace = error\n[core]\n\tautocrlf = true\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    apply_diff(tree, patch(tmp_path, PATCH.replace("+NINE", "+NINE  ")))
    assert b"NINE  \n" in (tree / "src/k.cu").read_bytes()


def test_hunks_are_counted_per_file() -> None:
    text = PATCH + PATCH.replace("src/k.cu", "b.cu").replace("-nine\n+NINE", "--- a/not-a-header\n+++ b/neither")
    assert [(hunk.file, hunk.number, hunk.start) for hunk in parse_hunks(text)] == [
        ("src/k.cu", 1, 1),
        ("src/k.cu", 2, 8),
        ("b.cu", 1, 1),
        ("b.cu", 2, 8),
    ]


def test_a_patch_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PatchFailed, match=r"absent\.patch cannot be read"):
        apply_diff(tmp_path, tmp_path / "absent.patch")
