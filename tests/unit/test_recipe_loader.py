"""Reading recipes from disk: located messages, files that belong to them, hashes, look-up, new ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from buildkit.errors import RecipeError, UnknownRecipe, UsageError
from buildkit.recipe.loader import (
    LoadedRecipe,
    bundled_recipes,
    find_recipe,
    list_recipes,
    load_recipe,
    recipe_names,
    search_path,
)
from buildkit.recipe.review import review
from buildkit.recipe.selection import build_section_sha256, choose_version, environment_of, patches_that_apply
from buildkit.recipe.skeleton import new_recipe_text

TEXT = """\
edition = 1
name = "sample"
summary = "A sample"
license = { spdx = "MIT", redistributable = true }

[[version]]
version = "1.1"
sdist = "sample"
sha256 = "2ada1c21b84f72fdcec6abc3c4e09200824a7cc9d5de9623a28052e8b1f22c95"

[[version]]
version = "1.0"
git = "https://git.example/a/b"
rev = "879926d0ef58e6ce0ac2630fdecb5e53af7ed3ff"

[[patch]]
file = "patches/old.patch"
when = "torch < 2.12"
reason = "old"

[[patch]]
file = "patches/new.patch"
when = "torch >= 2.12"
reason = "new"

[build]
memory-per-unit = "2 GiB"
timeout = "20 min"

[build.env]
A = "1"

[build.env-cpu]
B = "1"

[verify]
imports = ["sample"]
probe = "probe.py"
"""

OLD = 'file = "patches/old.patch"'
REWRITE = "rewrite = { files = ['*.cu'], find = 'a', replace = 'b' }"
ENV_WHEN = """\
[[build.env-when]]
when = "cuda >= 13 and device == cuda"
env = { NVCC_FLAGS = "-x" }

"""

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Writes a recipe's folder below ./recipes and returns it; the folder's parent's parent is the cwd."""
    monkeypatch.chdir(tmp_path)

    def write(text: str = TEXT, name: str = "sample", below: str = "recipes") -> Path:
        folder = tmp_path / below / name
        (folder / "patches").mkdir(parents=True, exist_ok=True)
        for file in ("patches/old.patch", "patches/new.patch", "probe.py"):
            (folder / file).write_text(f"{file}\n")
        (folder / "recipe.toml").write_bytes(text.encode())
        return folder

    return write


def refused(folder: Path) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        load_recipe(folder)
    assert caught.value.exit_code == 3
    return caught.value


def test_a_recipe_is_read_by_folder_and_by_file(make: Make) -> None:
    folder = make()
    by_folder = load_recipe(folder)
    assert load_recipe(folder / "recipe.toml") == by_folder
    assert by_folder.folder == folder
    assert by_folder.recipe.name == "sample"
    assert sorted(by_folder.files) == ["patches/new.patch", "patches/old.patch", "probe.py"]


def test_a_recipe_is_read_from_inside_its_folder(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make())
    assert load_recipe(Path()).recipe.name == "sample"
    assert load_recipe(Path("recipe.toml")).recipe.name == "sample"


def test_a_path_with_blanks_and_other_letters_and_a_byte_order_mark(make: Make) -> None:
    folder = make("\ufeff" + TEXT, below="mes recettes é ü")
    assert load_recipe(folder).recipe.name == "sample"


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ('"2 GiB"', "2", 27, "build.memory-per-unit: write a size with its unit"),
        (
            "memory-per-unit",
            "memory-per-unti",
            27,
            "build.memory-per-unti: unknown key; did you mean 'memory-per-unit'?",
        ),
        ("[build.env]", "[build.envs]", 30, "build.envs: unknown key; did you mean 'env'"),
        ('rev = "8', 'rev = "X', 14, "version[1].rev: "),
        ("spdx = ", "spdxx = ", 4, "license.spdx"),
        ('"torch < 2.12"', '"torch < new"', 18, "patch[0].when: the condition 'torch < new' cannot be read"),
        ('name = "sample"', 'name = "other"', 2, "must be the name of the recipe's folder, which is 'sample'"),
        ('version = "1.0"', 'version = "1.1"', 12, "'1.1' is there twice"),
        ('A = "1"', 'MAX_JOBS = "9"', 31, "is set by cudabuild"),
        ('timeout = "20 min"', 'pass-env = ["GITHUB_TOKEN"]', 28, "looks like a secret"),
        ('timeout = "20 min"', 'requires = ["torch>=2"]', 28, "torch is chosen by --torch"),
        ('"A sample"', '"A \\u001b[31msample"', 3, "control characters"),
        ('rev = "879', 'subdirectory = "../x"\nrev = "879', 14, "leads out of its folder"),
        ('file = "patches/old.patch"\n', "", 16, "a patch needs exactly one of file and rewrite; it has none"),
        ('reason = "old"', f"reason = 'old'\n{REWRITE}", 16, "exactly one of file and rewrite; it has both"),
        (OLD, REWRITE.replace("find = 'a'", "find = '('"), 17, "patch[0].rewrite.find: '(' is no regular expression"),
        (OLD, REWRITE.replace("find = 'a'", "find = 'a*'"), 17, "'a*' matches where nothing stands"),
        (OLD, REWRITE.replace("'b'", "'ba'"), 17, "patch[0].rewrite.replace: 'ba' is found by `find` again"),
        (OLD, REWRITE.replace("*.cu", "../*.cu"), 17, "leads out of its folder"),
        ("[verify]", f"{ENV_WHEN}[verify]".replace("cuda", "cud"), 37, "did you mean 'cuda'"),
        ("[verify]", f"{ENV_WHEN}[verify]".replace("NVCC_FLAGS", "MAX_JOBS"), 38, "is set by cudabuild"),
    ],
)
def test_a_problem_names_file_line_and_key(make: Make, old: str, new: str, line: int, said: str) -> None:
    error = refused(make(TEXT.replace(old, new, 1)))
    assert f"recipes/sample/recipe.toml:{line}: " in error.message
    assert said in error.message
    assert error.evidence
    assert error.hint.endswith("cudabuild recipes check sample")


def test_several_problems_are_all_listed(make: Make) -> None:
    error = refused(make(TEXT.replace('"2 GiB"', "2").replace('"20 min"', '"soon"').replace("summary", "sumary")))
    assert error.message.startswith("recipes/sample/recipe.toml: 4 problems\n")
    for said in ("build.memory-per-unit:", "build.timeout:", "sumary: unknown key", "summary: is missing"):
        assert said in error.message


def test_problems_of_files_and_names_are_listed_together(make: Make) -> None:
    folder = make(TEXT.replace('name = "sample"', 'name = "other"'))
    (folder / "probe.py").unlink()
    (folder / "patches" / "old.patch").unlink()
    assert "3 problems" in refused(folder).message


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../sample/probe.py", "leads out of its folder"),
        ("/etc/hostname", "leads out of its folder"),
        ("patches/../../x", "leads out of its folder"),
        ("absent.py", "cannot be read in the recipe's folder: No such file"),
        ("patches", "is no file"),
        ("link-out", "is a link that leads out"),
        ("link-round", "cannot be read"),
        ("a\\\\b", "written with '/'"),
        ("a\\u0000b", "written with '/'"),
    ],
)
def test_files_lie_inside_the_recipe(make: Make, name: str, said: str) -> None:
    folder = make(TEXT.replace('probe = "probe.py"', f'probe = "{name}"'))
    outside = folder.parent.parent / "outside.py"
    outside.write_text("")
    (folder / "link-out").symlink_to(outside)
    (folder / "link-round").symlink_to("link-round")
    error = refused(folder)
    assert "verify.probe: " in error.message
    assert said in error.message


def test_a_link_within_the_recipe_is_fine(make: Make) -> None:
    folder = make()
    (folder / "probe.py").rename(folder / "real.py")
    (folder / "probe.py").symlink_to("real.py")
    assert load_recipe(folder).files["probe.py"]


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("edition = 1\nname =\n", ":2:", "is not TOML"),
        ('edition = 1\nname = "a\n', ":2:", "is not TOML"),
        ("edition = 1\nedition = 1\n", ":2:", "is not TOML"),
        ("a = " + "[" * 100_000, "", "nested too deeply"),
        ("", "", "edition: is missing: the first line must be: edition = 1"),
        ("edition = '1'", ":1:", "'1' is no edition"),
        ("edition = true", ":1:", "True is no edition"),
        ("edition = 0", ":1:", "0 is no edition"),
    ],
)
def test_a_text_that_is_no_recipe(make: Make, text: str, place: str, said: str) -> None:
    error = refused(make(text))
    assert f"recipes/sample/recipe.toml{place}" in error.message
    assert said in error.message


def test_a_newer_edition_asks_for_a_newer_cudabuild(make: Make) -> None:
    error = refused(make("edition = 2\nnew-key = 1\n"))
    assert "written in edition 2" in error.message
    assert "new-key" not in error.message
    assert "upgrade" in error.hint


def test_bytes_that_are_no_text(make: Make) -> None:
    folder = make()
    (folder / "recipe.toml").write_bytes(b"edition = 1\nname = '\xff'\n")
    assert "recipe.toml:2: is not UTF-8" in refused(folder).message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refused(tmp_path / "none").message


def test_the_hash_covers_every_file_of_the_recipe(make: Make) -> None:
    folder = make()
    before = load_recipe(folder).sha256
    assert load_recipe(folder).sha256 == before
    for name in ("recipe.toml", "patches/old.patch", "patches/new.patch", "probe.py"):
        file = folder / name
        content = file.read_bytes()
        file.write_bytes(content + b"\n# more\n")
        assert load_recipe(folder).sha256 != before, name
        file.write_bytes(content)
    (folder / "notes.txt").write_text("no part of it")
    assert load_recipe(folder).sha256 == before


NEW = {"torch": "2.13.0", "device": "cuda"}


def section(folder: Path, values: dict[str, str] | None = None, version: str | None = None) -> str:
    loaded = load_recipe(folder)
    return build_section_sha256(loaded, version=choose_version(loaded.recipe, version), values=values)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('memory-per-unit = "2 GiB"', 'memory-per-unit = "4 GiB"'),
        ('timeout = "20 min"', "seconds-per-unit = 90"),
        ('summary = "A sample"', 'summary = "Another"'),
        ('reason = "new"', 'reason = "better"'),
        ('imports = ["sample"]', 'imports = ["sample", "os"]'),
        ('probe = "probe.py"', ""),
        ('B = "1"', 'B = "2"'),
        ("edition = 1", 'edition = 1\nstatus = "confirmed"'),
    ],
)
def test_what_does_not_make_the_wheel_is_not_in_the_section_hash(make: Make, old: str, new: str) -> None:
    before = section(make(), NEW)
    assert section(make(TEXT.replace(old, new, 1)), NEW) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('A = "1"', 'A = "2"'),
        ("[verify]", '[runtime]\nrequires = ["numpy"]\n\n[verify]'),
        ("[verify]", '[system]\napt = ["x"]\n\n[verify]'),
        ("[verify]", '[build.config-settings]\na = "b"\n\n[verify]'),
        ('timeout = "20 min"', 'requires = ["numpy"]'),
        ('timeout = "20 min"', 'pass-env = ["X"]'),
        ('when = "torch < 2.12"', ""),
    ],
)
def test_what_makes_the_wheel_is_in_the_section_hash(make: Make, old: str, new: str) -> None:
    before = section(make(), NEW)
    assert section(make(TEXT.replace(old, new, 1)), NEW) != before


def test_the_section_hash_follows_version_device_and_patch_bytes(make: Make) -> None:
    folder = make()
    before = section(folder, NEW)
    assert section(folder, NEW, "1.0") != before
    assert section(folder, {**NEW, "device": "cpu"}) != before
    assert section(folder, {**NEW, "torch": "2.11"}) != before
    assert section(folder) != before
    (folder / "patches" / "old.patch").write_text("other")
    assert section(folder, NEW) == before
    (folder / "patches" / "new.patch").write_text("other")
    assert section(folder, NEW) != before


def test_the_section_hash_follows_rewritings_and_conditional_variables(make: Make) -> None:
    text = TEXT.replace('file = "patches/new.patch"', REWRITE).replace("[verify]", f"{ENV_WHEN}[verify]")
    values = {**NEW, "cuda": "13.0"}
    before = section(make(text), values)
    for old, new in (("'a'", "'c'"), ("'b'", "'c'"), ("*.cu", "*.h"), ('"-x"', '"-y"')):
        assert section(make(text.replace(old, new)), values) != before
    older = section(make(text), {**NEW, "cuda": "12.8"})
    assert older != before
    assert section(make(text.replace('"-x"', '"-y"')), {**NEW, "cuda": "12.8"}) == older


def test_variables_with_a_condition_are_set_where_it_holds(make: Make) -> None:
    recipe = load_recipe(make(TEXT.replace("[verify]", f"{ENV_WHEN}{ENV_WHEN.replace('-x', '-y')}[verify]"))).recipe
    assert environment_of(recipe, {"cuda": "13.0", "device": "cuda"}) == {"A": "1", "NVCC_FLAGS": "-y"}
    assert environment_of(recipe, {"cuda": "12.8", "device": "cuda"}) == {"A": "1"}
    assert environment_of(recipe, {"cuda": "13.0", "device": "cpu"}) == {"A": "1", "B": "1"}


def test_versions_and_patches_are_chosen(make: Make) -> None:
    recipe = load_recipe(make()).recipe
    assert choose_version(recipe).version == "1.1"
    assert choose_version(recipe, "1.0").git is not None
    with pytest.raises(RecipeError, match=r"no version '1\.2'") as caught:
        choose_version(recipe, "1.2")
    assert caught.value.evidence == "its versions are 1.1, 1.0"
    assert [patch.reason for patch in patches_that_apply(recipe, {"torch": "2.11"})] == ["old"]
    assert [patch.reason for patch in patches_that_apply(recipe, {"torch": "2.13"})] == ["new"]


def test_recipes_are_looked_up_in_order(make: Make, tmp_path: Path) -> None:
    given = make(TEXT.replace("A sample", "given"), below="given").parent
    make(TEXT.replace("A sample", "here"))
    make(TEXT.replace("A sample", "user"), below="config/cudabuild/recipes")
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "HOME": "/nowhere"}

    def summary(folders: tuple[Path, ...]) -> str:
        return find_recipe("sample", folders).recipe.summary

    assert search_path(Path("given"), tmp_path, environ)[-1] == bundled_recipes()
    assert summary(search_path(given, tmp_path, environ)) == "given"
    assert summary(search_path(None, tmp_path, environ)) == "here"
    assert summary(search_path(None, tmp_path / "given", environ)) == "user"


def test_the_users_folder_is_found_without_xdg_and_relative_xdg_is_ignored(tmp_path: Path) -> None:
    wanted = tmp_path / ".config" / "cudabuild" / "recipes"
    for environ in ({"HOME": str(tmp_path)}, {"HOME": str(tmp_path), "XDG_CONFIG_HOME": "relative"}):
        assert wanted in search_path(None, tmp_path, environ)
    assert search_path(None, tmp_path, {}) == (tmp_path / "recipes", bundled_recipes())


def test_a_recipes_folder_that_was_typed_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder") as caught:
        search_path(Path("typo"), tmp_path, {})
    assert caught.value.exit_code == 2


def test_the_same_folder_is_looked_in_once(tmp_path: Path) -> None:
    here = tmp_path / "recipes"
    here.symlink_to(bundled_recipes())
    assert search_path(None, tmp_path, {}) == (here,)


def test_an_unknown_recipe_names_the_nearest_and_where_it_looked(make: Make, tmp_path: Path) -> None:
    folders = search_path(None, make().parent.parent, {})
    with pytest.raises(UnknownRecipe) as caught:
        find_recipe("sampel", folders)
    assert caught.value.exit_code == 3
    assert "'sampel'; did you mean 'sample'" in caught.value.message
    assert caught.value.evidence == f"looked in recipes, {bundled_recipes()}"
    assert caught.value.hint == "cudabuild sample"
    with pytest.raises(UnknownRecipe) as caught:
        find_recipe("zzzzzz", (tmp_path / "none",))
    assert caught.value.hint == "cudabuild recipes list"


@pytest.mark.parametrize("name", ["", "..", "../recipes/sample", "/etc", "Sample", "sample\n", "a/b", "sample\x00"])
def test_a_name_never_leaves_the_recipes(make: Make, name: str) -> None:
    folders = (make().parent,)
    with pytest.raises(UnknownRecipe):
        find_recipe(name, folders)


def test_a_broken_recipe_is_listed_and_hides_no_other(make: Make) -> None:
    folders = (make().parent, make("edition = 9", name="broken").parent, make(below="second").parent)
    (folders[0] / "stray-file").write_text("")
    listed = {entry.name: entry for entry in list_recipes(folders)}
    assert list(listed) == ["broken", "sample"]
    assert listed["broken"].problem is not None
    assert listed["broken"].loaded is None
    assert listed["sample"].loaded is not None
    assert listed["sample"].folder == folders[0] / "sample"
    assert recipe_names([folders[0] / "none"]) == {}


def test_an_installed_cudabuild_has_its_recipes_beside_it() -> None:
    assert (bundled_recipes() / "diso" / "recipe.toml").is_file()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sample", {}),
        ("torch-sample", {"sdist": "Torch_Sample", "sha256": "a" * 64, "version": "2.0", "module": "torch_sample"}),
        ("3d.thing_x", {"git": "https://git.example/a/b", "rev": "b" * 40, "spdx": "BSD-3-Clause"}),
        ("sample", {"git": "https://git.example/a/b", "summary": 'With "quotes" and \\ and é'}),
    ],
)
def test_a_new_recipe_loads(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    loaded = _loaded_text(tmp_path, name, new_recipe_text(name, **options))
    version = loaded.recipe.versions[0]
    assert loaded.recipe.status == "unconfirmed"
    assert (version.git, version.sdist) == (
        options.get("git"),
        None if "git" in options else options.get("sdist", name),
    )
    assert loaded.recipe.summary == options.get("summary", loaded.recipe.summary)
    assert loaded.recipe.build.env_cuda == {"FORCE_CUDA": "1"}


def test_a_new_recipes_comments_hold_when_they_are_switched_on(tmp_path: Path) -> None:
    text = new_recipe_text("sample", git="https://git.example/a/b")
    keys: tuple[str, ...] = (
        "# [[patch]]",
        "# file",
        "# when",
        "# reason",
        "# link",
        "# [system]",
        "# headers",
        "# apt",
        "# cuda-proof",
    )
    keys += ("# probe", "# submodules", "# subdirectory")
    lines = [line[2:] if line.startswith(keys) else line for line in text.splitlines()]
    (tmp_path / "sample" / "patches").mkdir(parents=True)
    (tmp_path / "sample" / "patches" / "what-it-does.patch").write_text("")
    (tmp_path / "sample" / "probe.py").write_text("")
    recipe = _loaded_text(tmp_path, "sample", "\n".join(lines)).recipe
    assert recipe.patches
    assert recipe.system.apt
    assert recipe.verify.cuda_proof
    assert recipe.versions[0].submodules


def test_a_review_refuses_a_fresh_skeleton_and_tells_what_the_edited_one_lacks(tmp_path: Path) -> None:
    text = new_recipe_text("sample", git="https://git.example/a/b")
    with pytest.raises(RecipeError, match=r"recipe\.toml:\d+: version\[0\]\.rev: still the zeros") as caught:
        review(_loaded_text(tmp_path, "sample", text))
    assert caught.value.evidence.startswith('rev = "000')
    lines = text.replace("0" * 40, "1" * 40).splitlines()
    said = review(_loaded_text(tmp_path, "sample", "\n".join(lines)))
    place = f"{tmp_path}/sample/recipe.toml:{lines.index('[verify]') + 1}"
    assert [line.partition(": not there")[0] for line in said] == [
        f"{place}: verify.cuda-proof",
        f"{place}: verify.probe",
    ]


def test_a_review_reads_licence_requirements_patches_and_probe(make: Make) -> None:
    folder = make(TEXT.replace('spdx = "MIT"', 'spdx = "MIT License"').replace("[verify]", _BAD_REQUIREMENT))
    (folder / "patches" / "new.patch").write_text("--- a/x.cpp\n+++ b/x.cpp\n@@ -1 +1 @@\n-a\n+b\n")
    (folder / "probe.py").write_text("def (:\n")
    with pytest.raises(RecipeError, match=r"recipe\.toml: 4 problems") as caught:
        review(load_recipe(folder))
    for part in (
        "recipe.toml:4: license.spdx: ",
        "runtime.requires: 'numpy>=' is no requirement",
        "recipe.toml:17: patch[0].file: patches/old.patch is no unified diff",
        "verify.probe: probe.py is not Python",
    ):
        assert part in caught.value.message


_BAD_REQUIREMENT = '[runtime]\nrequires = ["numpy>="]\n\n[verify]'


@pytest.mark.parametrize("name", ["", "Sample", "a b", "../x", "-x", "x\n"])
def test_a_new_recipe_needs_a_name_that_can_be(name: str) -> None:
    with pytest.raises(UsageError, match="no recipe's name"):
        new_recipe_text(name)


def _loaded_text(tmp_path: Path, name: str, text: str) -> LoadedRecipe:
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    (folder / "recipe.toml").write_text(text, "utf-8")
    return load_recipe(folder)
