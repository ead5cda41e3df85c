"""`recipes new`, by the command: what is written for a project on an index, a repository and a folder; nothing runs."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.build.package import normalised
from buildkit.cli.main import main
from buildkit.errors import CommitMissing, UsageError
from buildkit.recipe.loader import LoadedRecipe, load_recipe
from buildkit.recipe.review import review
from buildkit.recipe.skeleton import Draft, Setting, recipe_text
from buildkit.source.drafting import draft_of
from buildkit.source.findings import find
from buildkit.source.git_refs import confirmed, is_git_url, pinned
from buildkit.source.reading import SourceText

URL = "https://git.example/someone/fast-voxels"
TOUCH = "open({mark!r}, 'w')\n"
SETUP = """import os, numpy, company_tools
from setuptools import setup
if os.getenv("FAST_FORCE_CUDA", "OFF") == "ON":
    kind = CUDAExtension
extensions = [CUDAExtension("fastvoxels._C", ["src/a.cu"], extra_compile_args={"nvcc": ["-std=c++17"]})]
setup(name="Fast_Voxels", version="1.2", description='Voxels, "fast"', packages=["fastvoxels"], ext_modules=extensions)
"""
LICENCE = "Creative Commons Attribution-NonCommercial 4.0 International\n"

pytestmark = pytest.mark.usefixtures("empty_machine")


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that setup.py makes when somebody runs it."""
    return tmp_path / "somebody-ran-it"


@pytest.fixture
def files(mark: Path) -> dict[str, str]:
    return {
        "setup.py": TOUCH.format(mark=str(mark)) + SETUP,
        "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n',
        "src/a.cu": "__global__ void add() {}\n",
        "src/a.cpp": 'm.def("voxels_cuda", &voxels);\n',
        "fastvoxels/__init__.py": TOUCH.format(mark=str(mark)),
        "LICENSE": LICENCE,
    }


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def pack(folder: Path, files: Mapping[str, str]) -> str:
    """Write fast_voxels-1.2.tar.gz into the folder; returns its hash."""
    folder.mkdir()
    archive = folder / "fast_voxels-1.2.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in {**files, "PKG-INFO": "Metadata-Version: 2.1\nName: fast-voxels\nVersion: 1.2\n"}.items():
            member = tarfile.TarInfo(f"fast_voxels-1.2/{name}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return hashlib.sha256(archive.read_bytes()).hexdigest()


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command without an index; gives exit code and both streams."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")

    def call(*words: str) -> tuple[int, str, str]:
        code = main(words)
        return code, *capsys.readouterr()

    return call


def made(folder: Path, name: str) -> tuple[LoadedRecipe, str]:
    place = folder / "recipes" / name / "recipe.toml"
    return load_recipe(place), place.read_text("utf-8")


def test_a_project_on_the_index(run: Run, files: dict[str, str], mark: Path, tmp_path: Path) -> None:
    sha256 = pack(tmp_path / "links", files)
    code, out, err = run("recipes", "new", "Fast_Voxels==1.2", "--find-links", str(tmp_path / "links"))
    assert (code, out) == (0, "recipes/fast-voxels/recipe.toml\n"), err
    loaded, text = made(tmp_path, "fast-voxels")
    recipe = loaded.recipe
    version = recipe.versions[0]
    assert (version.version, version.sdist, version.sha256) == ("1.2", "Fast_Voxels", sha256)
    assert recipe.summary == 'Voxels, "fast"'
    assert (recipe.license.spdx, recipe.license.redistributable) == ("CC-BY-NC-4.0", False)
    assert recipe.build.env_cuda == {"FAST_FORCE_CUDA": "ON"}
    assert recipe.build.requires == ("numpy",)
    assert recipe.verify.imports == ("fastvoxels", "fastvoxels._C")
    for line in (
        "# LICENSE:1: LIMITS THE USE: Creative Commons Attribution-NonCommercial 4.0 International",
        "# src/a.cu:1: CUDA source",
        "# setup.py:6: CUDAExtension fastvoxels._C from src/a.cu",
        "# setup.py:6: -std=c++17: fixed; torch 2.14 and later need C++20",
        "# setup.py:2: imports company_tools: add the project that brings it to requires",
        'FAST_FORCE_CUDA = "ON"   # setup.py:4',
        '# cuda-proof = ["fastvoxels._C:voxels_cuda"]',
    ):
        assert line in text.splitlines(), text
    assert "its licence limits the use" in err
    assert all(": verify." in sentence for sentence in review(loaded))
    code, out, err = run("recipes", "check", "fast-voxels", "--online", "--find-links", str(tmp_path / "links"))
    assert (code, out) == (0, "fast-voxels: sound\n"), err
    assert not mark.exists(), "something of the source was run"


def test_a_folder(run: Run, files: dict[str, str], mark: Path, tmp_path: Path) -> None:
    write(tmp_path / "work" / "voxels", files)
    code, _, err = run("recipes", "new", "./work/voxels", "--name", "mine")
    assert code == 0, err
    loaded, _ = made(tmp_path, "mine")
    version = loaded.recipe.versions[0]
    assert (version.folder, version.version) == ("../../work/voxels", "1.2")
    assert (loaded.folder / (version.folder or "")).resolve() == (tmp_path / "work" / "voxels").resolve()
    (tmp_path / "mine").mkdir()  # the package's own folder is not its recipe
    assert run("recipes", "check", "mine")[0] == 0
    assert not mark.exists()


def test_a_folder_without_cuda_says_so(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "plain", {"setup.py": 'setup(name="plain")', "plain/__init__.py": ""})
    code, _, err = run("recipes", "new", "./plain")
    assert (code, "warning: no CUDA code was found" in err) == (0, True)
    loaded, text = made(tmp_path, "plain")
    assert "There is nothing here for cudabuild to build for a GPU." in text
    assert loaded.recipe.build.env_cuda == {}
    assert 'version = "0.1.0"   # replace' in text


@pytest.fixture
def repository(files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A repository at URL, by this user's insteadOf: its first commit (tagged v1), and its last."""
    folder = write(tmp_path / "origin", files)
    config = tmp_path / "gitconfig"
    config.write_text(
        "[user]\n\tname = T\n\temail = t@example.invalid\n[init]\n\tdefaultBranch = main\n"
        f'[url "{folder.as_uri()}"]\n\tinsteadOf = {URL}\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "one")
    git("tag", "-a", "v1", "-m", "v1")
    first = git("rev-parse", "HEAD").strip()
    git("commit", "-q", "--allow-empty", "-m", "two")
    return first, git("rev-parse", "HEAD").strip()


def test_a_repository_is_pinned(run: Run, repository: tuple[str, str], mark: Path, tmp_path: Path) -> None:
    first, last = repository
    code, _, err = run("recipes", "new", f"{URL}@v1")
    assert code == 0, err
    loaded, text = made(tmp_path, "fast-voxels")
    version = loaded.recipe.versions[0]
    assert (version.git, version.rev, version.submodules) == (URL, first, False)
    assert "# The commit that refs/tags/v1 pointed to." in text
    assert run("recipes", "new", URL, "--name", "head")[0] == 0
    assert made(tmp_path, "head")[0].recipe.versions[0].rev == last
    assert run("recipes", "new", "short", "--git", f"{URL}@{first}")[0] == 0
    assert made(tmp_path, "short")[0].recipe.versions[0].rev == first
    code, out, err = run("recipes", "check", "--online", "fast-voxels", "head", "short")
    assert (code, out) == (0, "fast-voxels: sound\nhead: sound\nshort: sound\n"), err
    assert "version[0].rev: confirmed: refs/tags/v1" in err
    assert not mark.exists()


def test_refs_and_commits(repository: tuple[str, str], tmp_path: Path) -> None:
    first, last = repository
    assert pinned(f"git+{URL}@v1#subdirectory=bindings/torch")[0].subdirectory == "bindings/torch"
    assert pinned(f"{URL}@main")[0].rev == last
    assert pinned(f"{URL}@{first}") == (pinned(f"{URL}@v1")[0], "")
    with pytest.raises(CommitMissing, match="no branch or tag 'v9'") as caught:
        pinned(f"{URL}@v9")
    assert "v1" in caught.value.evidence
    assert confirmed(URL, first) == ("refs/tags/v1",)
    subprocess.run(["git", "-C", str(tmp_path / "origin"), "commit", "-q", "--amend", "--allow-empty", "-m", "three"],
                   check=True)  # fmt: skip
    assert confirmed(URL, last) == (), "no ref points to it any more, and it is still there"
    with pytest.raises(CommitMissing):
        confirmed(URL, "0" * 39 + "1")


URLS = {
    "https://h.example/a/b": True, "https://h.example/a/b@v1": True, "git+https://h.example/a@x#subdirectory=x": True,
    "git@h.example:a/b.git": True, "git@h.example:a/b.git@v1": True, "ssh://git@h.example/a/b": True,
    "name": False, "name==1.0": False, "./path": False, "/path": False, "path@v1": False, "pypi:name": False,
}  # fmt: skip


@pytest.mark.parametrize("text", URLS)
def test_what_is_a_url(text: str) -> None:
    assert is_git_url(text) == URLS[text]


def test_what_git_is_not_asked_for() -> None:
    with pytest.raises(UsageError):
        pinned("http://h.example/a")


def test_a_name_that_no_index_has_gives_an_empty_recipe(run: Run, tmp_path: Path) -> None:
    git = ("bare", "--git", f"{URL}x@v1")
    for words in (("thing",), ("other", "--sdist", "Thing==1.2"), ("blank", "--blank"), git):
        code, out, err = run("recipes", "new", *words)
        assert (code, out) == (0, f"recipes/{words[0]}/recipe.toml\n"), err
        assert ("nobody has looked at the source" in err) == ("--blank" not in words)
        made(tmp_path, words[0])


ODD = {
    "no module to be seen": ("fast-voxels", "_", "fast_voxels"),
    "a name that begins with a digit": ("3d-voxels", "_", "_3d_voxels"),
    "a name that is not ASCII": ("voxélé", "_", "vox_l"),
    "a module that is not ASCII": ("voxels", "voxélé", "voxels"),
    "a module that is too long": ("voxels", "v" * 500, "voxels"),
    "a name that is too long": ("voxels-" * 30, "_", ""),
    "a module just short enough": ("voxels", "v" * 395, "v" * 395),
}
"""Name, module, and what is imported to prove the wheel."""


@pytest.mark.parametrize("case", ODD)
def test_an_odd_name_gives_a_recipe_that_loads(tmp_path: Path, case: str) -> None:
    name, module, imported = ODD[case]
    script = f"setup(name={name!r}, py_modules=[{module!r}], ext_modules=[CUDAExtension('{module}._C', [])])"
    texts = {"setup.py": script} if module != "_" else {"setup.py": "CUDAExtension('', [])"}
    chosen = normalised(name)
    draft = draft_of(chosen, find(SourceText(tuple(texts), texts)), ("add_cuda", "ädd_cuda", "c" * 400 + "cuda"))
    text = recipe_text(replace(draft, sdist="voxels"))
    folder = write(tmp_path / chosen, {"recipe.toml": text.replace("# cuda-proof", "cuda-proof")})
    verify = load_recipe(folder).recipe.verify
    assert len(verify.cuda_proof) == 1
    assert verify.imports[0] == (imported or chosen.replace("-", "_"))


def test_what_does_not_load_is_not_written(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "odd\x07", {"setup.py": 'setup(name="thing")'})
    code, out, err = run("recipes", "new", "./odd\x07", "--name", "thing")
    assert (code, out) == (3, ""), err
    assert "nothing was written" in err
    assert "must not hold control characters" in err
    assert not (tmp_path / "recipes").exists()


REFUSED = {
    "there already": (("thing", "--blank"), 2, "is there already"),
    "no name": (("Bad Name",), 2, "cudabuild recipes new bad-name"),
    "no name of a recipe": (("thing", "--name", "Bad"), 2, "is no recipe's name"),
    "not on the index": (("pypi:other",), 4, "no source distribution of other"),
    "no folder": (("./nowhere",), 2, "no folder or file"),
    "no project": (("./empty",), 2, "neither pyproject.toml nor setup.py"),
    "an option that does not fit": (("./empty", "--blank"), 2, "goes with a name"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_recipe_can_be_written_for(run: Run, tmp_path: Path, case: str) -> None:
    write(tmp_path / "recipes" / "thing", {"recipe.toml": ""})
    (tmp_path / "empty").mkdir()
    words, code, says = REFUSED[case]
    found, out, err = run("recipes", "new", *words)
    assert (found, out) == (code, ""), err
    assert says in err


def test_a_hostile_source_cannot_leave_its_comment(tmp_path: Path) -> None:
    """Texts of a source stand in comments and quotes: none may become a key, or move the cursor."""
    bad = 'x\n[build.env]\nA = "1"\x1b[2J\u202e \u2028'
    tables = ("license", "version", "build", "env-cuda", "verify")
    draft = Draft(
        name="thing", summary=bad, version=bad, modules=(bad,), requires=(Setting(bad, bad),),
        env_cuda=(Setting(bad, bad, "GOOD"), Setting("1", bad, bad)), notes=dict.fromkeys(tables, (bad,)),
    )  # fmt: skip
    folder = write(tmp_path / "thing", {"recipe.toml": recipe_text(draft)})
    recipe = load_recipe(folder).recipe
    assert recipe.build.env == {}
    assert list(recipe.build.env_cuda) == ["GOOD"]
    assert (recipe.build.requires, recipe.verify.imports, recipe.versions[0].version) == ((), ("thing",), "0.1.0")
    assert recipe_text(draft).replace("\n", "").isprintable()
