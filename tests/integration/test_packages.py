"""The packages of the index, built for real by their recipes: ``pytest -m packages``, and ``-m weekly``.

Not collected otherwise: a night of two processors. With CUDABUILD_PACKAGES_TABLE=FILE each build appends a line of a
Markdown table to that file.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from buildah import BASE, Buildah, make_base

from buildkit.build.context import Context
from buildkit.progress import Silent
from buildkit.recipe.loader import bundled_recipes, load_recipe
from buildkit.source.fetch import fetch_source, unpack
from buildkit.source.index_settings import IndexSettings
from buildkit.source.spec import spec_of

NIGHTLY = ("chamferdist", "cumcubes", "diso", "torch-cluster", "torch-scatter", "torch-spline-conv")
WEEKLY = ("causal-conv1d", "gsplat", "minkowskiengine")
HOURS = 4
TORCH = "2.13.0+cu130"
Cudabuild = Callable[..., Any]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(HOURS * 3600)]


def row(what: str, answer: dict[str, Any]) -> str:
    """Package, grade, time, units, the build's peak, what was said."""
    guard = answer.get("guard") or {}
    peak = f"{guard.get('peak_memory', 0) / (1 << 30):.1f} GiB"
    ended = (answer.get("verdict") or {}).get("grade") or answer.get("error", {}).get("kind", "")
    said = answer.get("error", {}).get("evidence", "").partition("\n")[0].replace("|", "/")
    return f"| {what} | {ended} | {answer.get('seconds', 0):.0f} s | {guard.get('units', 0)} | {peak} | {said} |\n"


def build(cudabuild: Cudabuild, person: dict[str, str], what: str, *words: str) -> dict[str, Any]:
    """Build it anew, and note how that went."""
    ran = cudabuild("build", what, *words, "--refresh", "--target", "12.0", "--timeout", "3h", "--json",
                    env=person, timeout=HOURS * 3600)  # fmt: skip
    answer: dict[str, Any] = ran.json
    if table := os.environ.get("CUDABUILD_PACKAGES_TABLE"):
        with Path(table).open("a", encoding="utf-8") as file:
            file.write(row(what, answer))
    assert ran.code == 0, (ran.out, ran.err)
    return answer


@pytest.mark.parametrize(
    "recipe",
    [
        *(pytest.param(name, marks=pytest.mark.packages) for name in NIGHTLY),
        *(pytest.param(name, marks=pytest.mark.weekly) for name in WEEKLY),
    ],
)
def test_a_recipe_of_the_index_builds(recipe: str, cudabuild: Cudabuild, person: dict[str, str]) -> None:
    answer = build(cudabuild, person, recipe)
    assert (answer["cache"], answer["verdict"]["grade"]) == ("miss", "imported")
    assert answer["plan"]["targets"] == ["12.0"]
    assert not [note for note in answer["notes"] if "needless" in note]


@pytest.mark.packages
def test_a_package_builds_without_a_recipe(cudabuild: Cudabuild, person: dict[str, str]) -> None:
    answer = build(cudabuild, person, "pypi:torch-spline-conv==1.2.2")
    assert answer["verdict"]["grade"] == "imported"
    assert re.match(r"1\.2\.2\+pt2\.13\.cu130", answer["version"])


@pytest.mark.packages
def test_where_no_torch_is_named_the_newest_is_taken(cudabuild: Cudabuild, tmp_path: Path) -> None:
    """It is another one than all other tests use, and several GB."""
    shutil.copytree(Path(__file__).parents[1] / "packages" / "plainc", tmp_path / "plainc")
    ran = cudabuild("build", "./plainc", "--device", "cpu", "--refresh", "--json", cwd=tmp_path)
    assert ran.code == 0, (ran.out, ran.err)
    assert ran.json["verdict"]["grade"] == "imported"
    assert ran.json["plan"]["torch"]


@pytest.fixture
def renamed(context: Context, tmp_path: Path) -> Iterator[str]:
    """URL of a local index that has torch-spline-conv's source distribution by a name that nobody knows."""
    loaded = load_recipe(bundled_recipes() / "torch-spline-conv")
    spec = spec_of(loaded.recipe.versions[0], loaded.folder)
    source = fetch_source(spec, cache=context.places.sources, index=context.index, offline=False, reporter=Silent())
    project = unpack(source, tmp_path / "unpacked")
    for file, old in (("setup.py", "name='torch_spline_conv'"), ("PKG-INFO", "Name: torch_spline_conv")):
        text = (project / file).read_text(encoding="utf-8")
        assert old in text
        new = old.replace("torch_spline_conv", "nobodys-splines")
        (project / file).write_text(text.replace(old, new), encoding="utf-8")
    served = tmp_path / "simple" / "nobodys-splines"
    served.mkdir(parents=True)
    with tarfile.open(served / "nobodys_splines-1.2.2.tar.gz", "w:gz") as tar:
        tar.add(project, "nobodys_splines-1.2.2")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/simple"
        server.shutdown()


@pytest.mark.packages
def test_the_same_source_builds_by_a_name_that_nobody_knows(
    cudabuild: Cudabuild, person: dict[str, str], context: Context, renamed: str
) -> None:
    indexes = " ".join([*context.index.extra_index_urls, renamed])
    answer = build(cudabuild, {**person, "PIP_EXTRA_INDEX_URL": indexes}, "pypi:nobodys-splines")
    assert (answer["cache"], answer["verdict"]["grade"]) == ("miss", "imported")
    assert Path(answer["wheel"]["path"]).name.startswith("nobodys_splines-1.2.2+pt2.13.cu130")


@pytest.mark.packages
def test_every_recipe_of_the_index_is_among_them() -> None:
    """But for those that nobody can build in time."""
    folders = [file.parent for file in bundled_recipes().glob("*/recipe.toml")]
    of_the_index = {folder.name for folder in folders if load_recipe(folder).recipe.versions[0].sdist}
    assert of_the_index == {*NIGHTLY, *WEEKLY}


def pip_configuration(index: IndexSettings) -> tuple[str, list[str]]:
    """A pip.conf with the person's own index, and the folders of this machine that it speaks of."""
    extra = [url for url in index.indexes if url != index.index_url]
    named = {"index-url": [index.index_url or ""], "extra-index-url": extra, "find-links": list(index.find_links)}
    lines = [f"{name} = {' '.join(values)}\n" for name, values in named.items() if any(values)]
    places = [place.removeprefix("file://") for place in (*index.indexes, *index.find_links)]
    folders = [place for place in places if place.startswith("/")]
    certificates = "/etc/ssl/certs"
    return f"[global]\ncert = {certificates}/ca-certificates.crt\n{''.join(lines)}", [*folders, certificates]


@pytest.mark.packages
def test_diso_in_an_image_with_torch(
    cudabuild: Cudabuild, person: dict[str, str], context: Context, cache: Path, tmp_path: Path
) -> None:
    """From the wheelhouse, beside the torch of the person's index, imported while the image is built."""
    buildah = Buildah(cache / "images")
    make_base(buildah)
    out = tmp_path / "image"
    built = cudabuild("diso", "--target", "12.0", env=person, timeout=HOURS * 3600)
    assert built.code == 0, built.err
    done = cudabuild("docker", "diso", "--target", "12.0", "--base", BASE, "--out", str(out), env=person)
    assert done.code == 0, done.err
    text, volumes = pip_configuration(context.index)
    (tmp_path / "pip.conf").write_text(text, encoding="utf-8")
    secrets = {"pipconf": tmp_path / "pip.conf"}
    try:
        log = buildah.build(out, "localhost/diso", secrets=secrets, volumes=volumes, timeout=HOURS * 3600)
        assert "diso._C: imported" in log
        code = "import torch, diso; print(torch.__version__)"
        assert buildah.run_in("localhost/diso", "python", "-c", code).split()[-1] == TORCH
    finally:
        buildah.run("rmi", "--force", "localhost/diso", check=False)
        buildah.run("rmi", "--prune", "--force", check=False)
