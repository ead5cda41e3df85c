"""The rules of the house that no other tool holds: who may import whom, sizes, names, what a hit may load."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from buildkit.build.canary import RECIPE
from buildkit.recipe.loader import bundled_recipes

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "buildkit"
MODULES = sorted(PACKAGE.rglob("*.py"))

BOTTOM = frozenset({"errors", "process", "progress"})
MAY_IMPORT: dict[str, frozenset[str]] = {
    "input_errors": frozenset(),
    "errors": frozenset({"input_errors"}),
    "file_identity": frozenset(),
    "progress": frozenset(),
    "process": frozenset({"errors"}),
    "machine": frozenset({"errors", "file_identity", "process"}),
    "recipe": frozenset({"errors"}),
    "plan": frozenset({"errors", "machine", "recipe"}),
    "source": BOTTOM | {"recipe"},
    "guard": BOTTOM | {"machine"},
    "verify": BOTTOM | {"machine", "recipe"},
    "store": frozenset({"errors", "file_identity", "progress"}),
    "diagnose": frozenset({"errors"}),
    "build": BOTTOM | {"machine", "recipe", "plan", "source", "guard", "verify", "store", "diagnose"},
    "report": frozenset({"errors", "recipe", "guard", "verify", "store", "diagnose", "build"}),
    "index": frozenset(
        {"errors", "input_errors", "process", "progress", "file_identity", "machine", "store", "verify"}
    ),
    "docker": frozenset({"errors", "machine", "recipe"}),
    "matrix": BOTTOM | {"input_errors", "machine", "recipe", "plan", "verify", "store", "build", "index", "report"},
    "service": BOTTOM
    | {
        "input_errors",
        "machine",
        "recipe",
        "plan",
        "verify",
        "store",
        "diagnose",
        "build",
        "report",
        "index",
        "matrix",
    },
    "cli": BOTTOM
    | {
        "input_errors",
        "machine",
        "recipe",
        "plan",
        "source",
        "guard",
        "verify",
        "store",
        "diagnose",
        "build",
        "report",
        "index",
        "docker",
        "matrix",
        "service",
    },
    "__main__": frozenset({"cli"}),
}
"""The folders of buildkit, lowest first, and what each may import; docs/explanation/architecture.md explains it."""

LONGEST_MODULE = 300
LONGEST_FUNCTION = 60


@cache
def tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text("utf-8"), str(module))


@cache
def statements(module: Path) -> tuple[ast.AST, ...]:
    """All statements of a module, wherever they stand; a tenth of all nodes."""
    found: list[ast.AST] = [tree(module)]
    for node in found:  # which grows
        for field in ("body", "handlers", "orelse", "finalbody", "cases"):
            below = getattr(node, field, None)
            if isinstance(below, list):
                found += below
    return tuple(found)


def part_of(module: Path) -> str:
    """The folder of buildkit that a module belongs to, or its own name at the top."""
    return module.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_parts(module: Path) -> Iterator[tuple[str, int]]:
    """Every part of buildkit that a module imports, wherever in it the import stands, with its line."""
    for node in statements(module):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "buildkit" and parts[1:] != ["__version__"]:
                yield (parts[1] if len(parts) > 1 else "buildkit"), getattr(node, "lineno", 0)


def test_every_folder_has_its_row() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders <= MAY_IMPORT.keys()
    assert all(allowed <= MAY_IMPORT.keys() for allowed in MAY_IMPORT.values())


def test_the_rows_go_downwards() -> None:
    order = list(MAY_IMPORT)
    for part, allowed in MAY_IMPORT.items():
        assert all(order.index(other) < order.index(part) for other in allowed), part


def test_imports_go_down_the_table() -> None:
    wrong = [
        f"{module.relative_to(ROOT)}:{line} imports buildkit.{other}"
        for module in MODULES
        if part_of(module) != "__init__"
        for other, line in imported_parts(module)
        if other != part_of(module) and other not in MAY_IMPORT[part_of(module)]
    ]
    assert not wrong, "\n".join(wrong)


def test_the_architecture_page_has_every_folder() -> None:
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text("utf-8")
    for part in MAY_IMPORT.keys() - {"__main__"}:
        assert f"`buildkit/{part}" in page, part


def test_modules_are_short() -> None:
    sizes = {module: len(module.read_text("utf-8").splitlines()) for module in MODULES}
    long = [f"{module.relative_to(ROOT)}: {size} lines" for module, size in sizes.items() if size > LONGEST_MODULE]
    assert not long, "\n".join(long)


def test_functions_are_short() -> None:
    long = [
        f"{module.relative_to(ROOT)}:{node.lineno} {node.name}: {length} lines"
        for module in [*MODULES, *sorted(bundled_recipes().rglob("*.py"))]
        for node in statements(module)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > LONGEST_FUNCTION
    ]
    assert not long, "\n".join(long)


def example_lines(module: Path) -> set[int]:
    """Lines of the strings that a command shows as its examples: an EPILOG, or an epilog=... argument."""
    shown: list[ast.expr] = []
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Assign):
            shown += [node.value for name in node.targets if isinstance(name, ast.Name) and name.id == "EPILOG"]
        elif isinstance(node, ast.keyword) and node.arg in {"epilog", "help"}:
            shown.append(node.value)
    return {line for node in shown for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}


def test_no_code_knows_a_package_by_its_name() -> None:
    own = {RECIPE}  # the canary is a part of this project that is built as a package
    names = [name for file in bundled_recipes().glob("*/recipe.toml") if (name := file.parent.name) not in own]
    pattern = re.compile("|".join(re.escape(name).replace(r"\-", "[-_.]?") for name in names), re.IGNORECASE)
    found = []
    for file in sorted(path for path in PACKAGE.rglob("*") if path.suffix in {".py", ".toml", ".json"}):
        text = file.read_text("utf-8")
        lowered = text.lower()
        if not any(all(part in lowered for part in name.split("-")) for name in names):
            continue
        allowed = example_lines(file) if file.suffix == ".py" and part_of(file) == "cli" else set()
        for number, line in enumerate(text.splitlines(), start=1):
            if number not in allowed and pattern.search(line):
                found.append(f"{file.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found, "\n".join(found)


def test_texts_are_of_named_characters() -> None:
    """Hypothesis' own take each process 6 s in a fresh checkout; tests/helpers/texts.py has as many."""
    unnamed = re.compile(r"\bst\.(characters\(|text\((\)|m\w+=))")
    assert [path.name for path in (ROOT / "tests").rglob("*.py") if unnamed.search(path.read_text("utf-8"))] == []


REGISTRIES = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("download", "pytorch", "org"),
        ("pypi", "nvidia", "com"),
        ("pypi", "ngc", "nvidia", "com"),
        ("nvcr", "io"),
        ("anaconda", "org"),
        ("anaconda", "com"),
        ("ghcr", "io"),
        ("quay", "io"),
        ("gcr", "io"),
        ("docker", "io"),
        ("hub", "docker", "com"),
        ("crates", "io"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("deb", "debian", "org"),
        ("archive", "ubuntu", "com"),
        ("huggingface", "co"),
    )
]
"""Hosts of package registries, in pieces: the index is whatever pip is configured with, and none is named here."""


def own_files() -> list[Path]:
    """Every file of the project: tracked, or new and not ignored."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.fail("this test asks git which files are the project's: run it in a git checkout")
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_registry_is_named() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {host}"
        for path in own_files()
        for text in [path.read_text("utf-8", errors="replace").lower()]
        for host in REGISTRIES
        if host in text and re.search(rf"(?<![a-z0-9-]){re.escape(host)}", text)
    ]
    assert not found, "\n".join(found)


HEAVY = {
    "torch", "fastapi", "starlette", "uvicorn", "rich", "unearth", "httpx2", "psutil", "elftools", "pynvml",
    "installer", "build", "pyproject_hooks", "pathspec", "uv", "numpy",
}  # fmt: skip


def test_the_build_command_loads_nothing_heavy() -> None:
    command = [sys.executable, "-X", "importtime", "-c", "import buildkit.cli.build_command"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert "buildkit" in loaded
    assert not loaded & HEAVY


README = (ROOT / "README.md").read_text("utf-8")


def block_after(marker: str) -> list[str]:
    """The lines of the README's code block that follows a marker, as .ci/run reads them."""
    match = re.search(rf"<!-- {marker} -->\n```\n(.*?)\n```\n", README, re.DOTALL)
    assert match is not None, f"README.md has no code block after <!-- {marker} -->"
    return match[1].splitlines()


def test_the_readme_has_its_two_commands() -> None:
    (main_job,) = block_after("ci: main job")
    (tests,) = block_after("ci: tests")
    assert main_job.startswith("python3 -m venv .venv && ")
    assert main_job.endswith(".venv/bin/cudabuild diso --target 12.0 --torch 2.13.0+cu130")
    assert tests.endswith(".venv/bin/pytest")


def test_ci_runs_the_readmes_tests_command() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    extraction = re.search(r"^tests=\$\((.*)\)$", script, re.MULTILINE)
    assert extraction is not None
    done = subprocess.run(["bash", "-c", extraction[1]], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == block_after("ci: tests")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_every_page_of_the_docs_is_linked_and_every_link_leads_somewhere() -> None:
    docs = ROOT / "docs"
    pages = {path.resolve() for path in docs.rglob("*.md")}
    linked: set[Path] = set()
    for page in [*sorted(pages), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            if "://" not in link:
                target = (page.parent / link).resolve()
                assert target.exists(), f"{page.relative_to(ROOT)} links to {link}"
                linked.add(target)
    index = (docs / "index.md").resolve()
    assert pages - linked - {index} == set()
