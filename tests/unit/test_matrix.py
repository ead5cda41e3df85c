"""A matrix: what its file may say, and which cells it means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.cli.settings import load_settings
from buildkit.errors import ConfigError, RecipeError, UnknownRecipe
from buildkit.matrix.cell import Cell, cell_id
from buildkit.matrix.expand import MOST_CELLS, Expansion, Here, expand, words_of_recipes
from buildkit.matrix.feasible import impossible
from buildkit.matrix.model import load_matrix, parse_matrix
from buildkit.matrix.packages import Wanted, find_packages
from buildkit.recipe.loader import bundled_recipes

FILE = Path("cudabuild.toml")
HERE = Here("3.11", "linux_x86_64")
VOX = Wanted("vox", "1.2", "vox", sha256="0" * 64, has_probe=True)


def expanded(text: str, **packages: Wanted) -> Expansion:
    """The cells of a file whose recipes are all as ``VOX`` is, unless they are given."""
    matrix = parse_matrix(f"[matrix]\n{text}", FILE)
    meant = {}
    for word in words_of_recipes(matrix):
        name, _, version = word.partition("==")
        known = packages.get(name, replace(VOX, recipe=name, name=name))
        meant[word] = (replace(known, version=version or known.version),)
    return expand(matrix, meant, HERE)


def ids(text: str, **packages: Wanted) -> list[str]:
    return [cell.id for cell in expanded(text, **packages).cells]


ONE = 'recipes = ["vox"]\ntorch = ["2.13.0+cu130"]\n'


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        pytest.param(
            ONE + 'targets = ["12.0", "8.6;9.0"]',
            ["vox-1.2-pt2.13-cu130-cp311-sm120", "vox-1.2-pt2.13-cu130-cp311-sm86-sm90"],
            id="a wheel for each target set",
        ),
        pytest.param(
            ONE, ["vox-1.2-pt2.13-cu130-cp311-sm75-sm80-sm86-sm90-sm100-sm120ptx"], id="the declared set of its CUDA"
        ),
        pytest.param(
            'recipes = ["vox"]\ntorch = ["2.13.0", "2.12.0+cu126"]\ncuda = ["13.0", "13.2"]\ntargets = ["8.6"]',
            [
                "vox-1.2-pt2.13-cu130-cp311-sm86",
                "vox-1.2-pt2.13-cu132-cp311-sm86",
                "vox-1.2-pt2.12-cu126-cp311-sm86",
            ],
            id="CUDA is combined with torches that name none",
        ),
        pytest.param(
            'recipes = ["vox"]\ntorch = ["2.13"]\ntargets = ["8.6"]',
            ["vox-1.2-pt2.13-cu130-cp311-sm86"],
            id="the CUDA of PyTorch's default wheel",
        ),
        pytest.param(
            'recipes = ["vox"]\ntorch = ["2.13.0+cu130", "2.13.0+cu126", "2.12.0+cu132"]\n'
            'targets = { "12.6" = ["8.6"], 13 = ["9.0"], default = ["8.0"] }',
            [
                "vox-1.2-pt2.13-cu130-cp311-sm90",
                "vox-1.2-pt2.13-cu126-cp311-sm86",
                "vox-1.2-pt2.12-cu132-cp311-sm90",
            ],
            id="target sets by release, then by major",
        ),
        pytest.param(
            'recipes = ["vox==1.0", "vox==2.0"]\ntorch = ["2.13"]\ntargets = ["8.6"]\npython = ["3.12", "3.13"]',
            [
                "vox-1.0-pt2.13-cu130-cp312-sm86",
                "vox-1.0-pt2.13-cu130-cp313-sm86",
                "vox-2.0-pt2.13-cu130-cp312-sm86",
                "vox-2.0-pt2.13-cu130-cp313-sm86",
            ],
            id="versions and Pythons",
        ),
        pytest.param(
            'recipes = ["vox"]\ntorch = ["2.12.0+cu130", "2.12.1+cu130"]\ntargets = ["8.6"]',
            ["vox-1.2-pt2.12.0-cu130-cp311-sm86", "vox-1.2-pt2.12.1-cu130-cp311-sm86"],
            id="the whole torch version where its series would be two cells",
        ),
        pytest.param(
            ONE + 'targets = ["86", "8.6", "rtx3090"]',
            ["vox-1.2-pt2.13-cu130-cp311-sm86"],
            id="one set, spelled thrice",
        ),
        pytest.param(
            ONE + 'device = "cpu"\ntargets = ["8.6", "9.0"]', ["vox-1.2-pt2.13-cpu-cp311"], id="one wheel for the CPU"
        ),
        pytest.param(
            ONE + 'targets = ["9.0"]\nplatforms = ["linux_aarch64", "linux_x86_64"]',
            ["vox-1.2-pt2.13-cu130-cp311-sm90-linux_aarch64", "vox-1.2-pt2.13-cu130-cp311-sm90"],
            id="platforms",
        ),
        pytest.param(
            ONE + 'targets = ["8.6"]\n[[matrix.include]]\nrecipes = ["other"]\npython = ["3.13"]\n[[matrix.include]]\n',
            ["vox-1.2-pt2.13-cu130-cp311-sm86", "other-1.2-pt2.13-cu130-cp313-sm86"],
            id="what is included has the matrix's other axes, and is there once",
        ),
        pytest.param(
            ONE + 'targets = ["8.6", "9.0"]\n[[matrix.override]]\ntargets = ["sm_90"]\ndevice = "cpu"',
            ["vox-1.2-pt2.13-cu130-cp311-sm86", "vox-1.2-pt2.13-cpu-cp311"],
            id="an override of the device",
        ),
    ],
)
def test_what_is_combined_with_what(text: str, wanted: list[str]) -> None:
    assert ids(text) == wanted


def test_a_package_without_torch_is_built_once_a_cuda() -> None:
    text = 'recipes = ["vox"]\ntorch = ["2.13.0+cu130", "2.12.0+cu130", "2.12.0+cu126"]\ntargets = ["8.6"]'
    assert ids(text, vox=replace(VOX, torch=False)) == ["vox-1.2-cu130-cp311-sm86", "vox-1.2-cu126-cp311-sm86"]


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        ('torch = ["2.6.0+cu132"]\ntargets = ["8.6"]', "impossible", "There is no torch 2.6 of CUDA 13.2"),
        ('torch = ["2.6.0+cu126"]\ntargets = ["12.0"]', "impossible", "CUDA 12.6 does not know it"),
        ('torch = ["2.13.0+cu130"]\ntargets = ["7.0"]', "impossible", "CUDA 13.0 makes nothing below 7.5"),
        ('torch = ["2.13.0+cu130"]\ntargets = ["8.6"]\npython = ["3.8"]', "impossible", "no torch 2.13 for Python 3.8"),
        ('torch = ["1.4.0"]\ntargets = ["8.6"]', "impossible", "name its CUDA, as in 1.4.0+cu130"),
        ('torch = ["2.13.0+cu130"]\ndevice = "cpu"', "impossible", "the recipe vox has no form for the CPU"),
        (
            'torch = ["2.13.0+cu130"]\ntargets = { "12.6" = ["8.6"] }',
            "impossible",
            "no target set is given for CUDA 13.0",
        ),
        (
            'torch = ["2.13.0+cu130"]\ntargets = ["8.6"]\n[[matrix.exclude]]\nwhen = "torch >= 2.13"\nreason = "slow"',
            "excluded",
            "slow",
        ),
        (
            'torch = ["2.13.0+cu130"]\ntargets = ["8.6"]\n[[matrix.exclude]]\nwhen = "cuda == 13.0 and python < 3.12"',
            "excluded",
            "excluded by: cuda == 13.0 and python < 3.12",
        ),
    ],
)
def test_what_is_no_cell_says_why(text: str, kind: str, reason: str) -> None:
    found = expanded(f'recipes = ["vox"]\n{text}', vox=replace(VOX, cpu=False))
    assert not found.cells
    assert [one.kind for one in found.dropped] == [kind]
    assert all(reason in one.reason for one in found.dropped), found.dropped


def test_rules_are_about_what_they_name() -> None:
    found = expanded(
        'recipes = ["vox==1.0", "vox==2.0", "other"]\ntorch = ["2.13.0+cu130"]\ntargets = ["8.6", "9.0"]\n'
        'require = "imported"\n'
        '[[matrix.override]]\nrecipes = ["vox==1.0"]\nmemory = "8 GiB"\ntimeout = "2 h"\n'
        '[[matrix.override]]\nrecipes = ["vox"]\ntargets = ["9.0"]\nrequire = "executed"\n'
        '[[matrix.override]]\nwhen = "version == 2.0"\nmemory = "4 GiB"\n'
        '[[matrix.override]]\nrecipes = ["other"]\ngpu = "h100"\n'
        '[[matrix.exclude]]\nrecipes = ["other"]\ntargets = ["8.6"]\n'
    )
    shown = {(cell.recipe, cell.version, cell.targets[0]): cell for cell in found.cells}
    assert len(shown) == 5
    assert shown["vox", "1.0", "8.6"].memory == 8 << 30
    assert shown["vox", "1.0", "8.6"].timeout == 7200
    assert (shown["vox", "1.0", "9.0"].require, shown["vox", "1.0", "9.0"].gpu) == ("executed", "")
    assert (shown["vox", "2.0", "8.6"].memory, shown["vox", "2.0", "8.6"].require) == (4 << 30, "imported")
    assert shown["other", "1.2", "9.0"].gpu == "h100"
    assert [one.cell.recipe for one in found.dropped] == ["other"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no table [matrix]"),
        ("[matrx]\n", "matrx does not belong here; did you mean 'matrix'?"),
        ("memory = '8 GiB'\n[matrix]\n", "memory does not belong here"),
        ("[matrix]\nrecpes = ['vox']\ntorch = ['2.13']", "cudabuild.toml:2: matrix.recpes: unknown key; did you mean"),
        ("[matrix]\ntorch = ['2.13']", "matrix.recipes: is missing"),
        ("[matrix]\nrecipes = []\ntorch = ['2.13']", "matrix.recipes: must not be empty"),
        ("[matrix]\nrecipes = 'vox'\ntorch = ['2.13']", "matrix.recipes: must be a list"),
        (f"[matrix]\n{ONE}targets = ['native']", "differs from machine to machine"),
        (f"[matrix]\n{ONE}targets = ['rtx490']", "targets.default[0]: target 'rtx490' is neither"),
        (f"[matrix]\n{ONE}[matrix.targets]\ncu12 = ['8.6']", "'cu12' is neither a CUDA release"),
        (f"[matrix]\n{ONE}python = ['3']", "matrix.python[0]: '3' is not written as a Python such as '3.11'"),
        (f"[matrix]\n{ONE}cuda = ['cu130']", "'cu130' is not written as a CUDA release"),
        (f"[matrix]\n{ONE}platforms = ['linux']", "matrix.platforms[0]: 'linux' is not one of linux_x86_64, linux_aa"),
        (f"[matrix]\n{ONE}require = 'execute'", "did you mean 'executed'?"),
        ("[matrix]\nrecipes = ['vox']\ntorch = ['active']", "a matrix names its torch"),
        ("[matrix]\nrecipes = ['vox']\ntorch = ['2']", "'2' is no torch version"),
        (f"[matrix]\n{ONE}[[matrix.exclude]]\nwhen = 'torhc < 2'", "cudabuild.toml:5: matrix.exclude[0].when: the"),
        (f"[matrix]\n{ONE}[[matrix.exclude]]\nwhen = 'device == cpu or gcc > 12'", "gcc cannot stand in a matrix"),
        (f"[matrix]\n{ONE}[[matrix.override]]\nmemory = '8'", "'8' is not a size"),
        (f"[matrix]\n{ONE}[[matrix.override]]\nmemry = '8 GiB'", "matrix.override[0].memry: unknown key; did you mean"),
        (f"[matrix]\n{ONE}[matrix.override]\nmemory = '8 GiB'", "must be a list of tables: write [[matrix.override]]"),
        ("[matrix]\nrecipes = ['vox']\ntorch = ['new']", "is no torch version: write 2.13.0 or 2.13.0+cu130"),
        ("[matrix\n", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_located_and_said(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_matrix(text, FILE)
    assert said in caught.value.message
    assert caught.value.hint


def test_every_problem_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_matrix(f"[matrix]\n{ONE}pithon = ['3.11']\nrequire = 'x'\n", FILE)
    assert caught.value.message.startswith("cudabuild.toml: 2 problems\n")


def test_the_configuration_file_may_hold_a_matrix(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'memory = "8 GiB"\n[matrix]\n{ONE}', encoding="utf-8")
    environ = {"CUDABUILD_CONFIG": str(file), "HOME": str(tmp_path)}
    assert load_settings(environ).memory == 8 << 30
    assert load_matrix(file, settings=file).recipes == ("vox",)
    with pytest.raises(ConfigError, match="memory does not belong here"):
        load_matrix(file)
    with pytest.raises(ConfigError, match="no such file"):
        load_matrix(tmp_path / "other.toml")


def test_words_become_packages(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "pyproject.toml").write_text('[project]\nname = "My_Ext"\nversion = "1"\n', encoding="utf-8")
    for name in ("vox",):
        (tmp_path / "recipes" / name).mkdir(parents=True)
        (tmp_path / "recipes" / name / "recipe.toml").write_text(
            f'edition = 1\nname = "{name}"\nsummary = "x"\nlicense = {{ spdx = "MIT", redistributable = true }}\n'
            + "".join(f'[[version]]\nversion = "{version}"\nfolder = "."\n' for version in ("2.0", "1.0"))
            + "[build]\ntorch = false\ncpu = false\n",
            encoding="utf-8",
        )
    folders = [tmp_path / "recipes", bundled_recipes()]
    words = ["vox", "vox==*", "vox==1.0", "./mine", "pypi:Ext==3.0"]
    found = find_packages(words, folders, tmp_path)
    versions = {word: [one.version for one in meant] for word, meant in found.items()}
    assert versions == {"vox": ["2.0"], "vox==*": ["2.0", "1.0"], "vox==1.0": ["1.0"], "./mine": [""],
                        "pypi:Ext==3.0": ["3.0"]}  # fmt: skip
    (vox,), (mine,), (ext,) = found["vox"], found["./mine"], found["pypi:Ext==3.0"]
    assert (vox.torch, vox.cpu, vox.folder) == (False, False, tmp_path / "recipes" / "vox")
    assert (mine.name, mine.recipe, ext.recipe, ext.name) == ("my-ext", "./mine", "pypi:Ext", "Ext")
    for word, cause in (("vix", UnknownRecipe), ("vox==9", RecipeError), ("./none", ConfigError),
                        ("pypi:", ConfigError), ("pypi:../x==1", ConfigError),
                        ("pypi:x==1\n::error::y", ConfigError)):  # fmt: skip
        with pytest.raises(cause):
            find_packages([word], folders, tmp_path)


def test_no_package_takes_anothers_place_by_its_name() -> None:
    folders = ["./a/vox", "./b/vox", "../a/vox"]
    packages = {word: (Wanted(word, "", "vox", Path("/src", word).resolve(), known=False),) for word in folders}
    packages |= {"./own": (Wanted("./own", "", "own", Path("/own"), known=False),)}
    packages |= {"own/": (Wanted("own/", "", "own", Path("/own"), known=False),)}
    packages |= {".": (Wanted(".", "", "this", Path("/this"), known=False),)}
    packages |= {"diso": (Wanted("diso", "1", "diso", Path("/recipes/diso")),)}
    packages |= {"pypi:diso==1": (Wanted("pypi:diso", "1", "diso", known=False),)}
    text = f'[matrix]\nrecipes = {list(packages)}\ntorch = ["2.13.0+cu130"]\ndevice = "cpu"\n'
    found = expand(parse_matrix(text, FILE), packages, HERE).cells
    names = ["a_vox", "b_vox", "up_a_vox", "own", "this", "diso-1", "pypi_diso-1"]
    assert [cell.id.removesuffix("-pt2.13-cpu-cp311") for cell in found] == names


def test_ids_are_names_of_files() -> None:
    name = cell_id(
        recipe="./my ext/../sub-project",
        version="1.0+local",
        torch="2.14.0.dev20260101+cu130",
        cuda="13.0",
        python="3.14",
        targets=("9.0a;12.0+PTX",),
        device="cuda",
        platform="linux_x86_64",
    )
    assert name == "sub_project-1.0_local-pt2.14.0.dev20260101-cu130-cp314-sm90a-sm120ptx"


def test_targets_of_two_words_are_judged_together() -> None:
    cell = Cell("x", "vox", "1.2", "2.13.0+cu130", "13.0", "3.11", ("8.6;9.0a",), "cuda", "linux_x86_64")
    assert impossible(cell, VOX) == ""
    assert "no target set" in impossible(replace(cell, targets=()), VOX)


def test_lists_that_multiply_without_end_are_refused() -> None:
    many = ", ".join(f'"r{number}"' for number in range(60))
    torches = ", ".join(f'"2.{number}.0+cu130"' for number in range(60))
    with pytest.raises(ConfigError, match=f"more than {MOST_CELLS}"):
        expanded(f"recipes = [{many}]\ntorch = [{torches}]\n")
