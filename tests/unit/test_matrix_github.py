"""The generated workflow: what it may do, what it names, and what its scripts do with builds that misbehave."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from buildkit.cli.matrix_github import github_command
from buildkit.errors import ConfigError, UsageError
from buildkit.matrix.cell import Cell
from buildkit.matrix.github import MARK, matrices, workflow, workflow_text
from buildkit.matrix.github_cells import LARGEST_MATRIX
from buildkit.matrix.github_data import Image, action, actions, script
from buildkit.matrix.github_settings import GithubSettings
from buildkit.matrix.model import parse_matrix

ROOT = Path(__file__).resolve().parents[2]
INDEX = {"index": "https://wheels.example/legacy/"}


def cell(number: int = 1, **changes: Any) -> Cell:
    given: dict[str, Any] = {
        "id": f"kernels-{number}", "recipe": "kernels", "version": "1.0", "torch": "2.13.0+cu130", "cuda": "13.0",
        "python": "3.11", "targets": ("8.6;9.0",), "device": "cuda", "platform": "linux_x86_64", "require": "executed",
    }  # fmt: skip
    return Cell(**{**given, **changes})


def settings(**given: Any) -> GithubSettings:
    return GithubSettings.model_validate({name.replace("_", "-"): value for name, value in given.items()})


def system(_cell: Cell, image: Image) -> tuple[str, ...]:
    return ("libopenblas-dev",) if image.installer == "apt" else ("openblas-devel",)


def made(*cells: Cell, **given: Any) -> dict[str, Any]:
    return workflow(cells or (cell(),), settings(**given), system)


def steps(value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for job in value["jobs"].values():
        yield from job["steps"]


EVERYTHING: dict[str, Any] = {
    "gpu_runners": {"9.0": ["self-hosted", "h100"]}, "publish": INDEX, "schedule": "17 3 * * 1", "tags": ["v*"],
}  # fmt: skip


def test_every_action_stands_at_a_commit_with_its_release_behind_it() -> None:
    text = workflow_text(made(**EVERYTHING), "cudabuild.toml")
    used = re.findall(r"uses: (.*)", text)
    assert len(used) > 10
    assert all(re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v[0-9.]+", each) for each in used)
    assert "not confirmed" not in text  # each pair of release and commit was seen elsewhere
    assert all(each.confirmed for each in actions())


def test_what_was_not_confirmed_is_said_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    unsure = action("actions/cache").model_copy(update={"confirmed": ""})
    monkeypatch.setattr("buildkit.matrix.github.actions", lambda: (*actions()[:1], unsure, *actions()[2:]))
    head = workflow_text(made(), "cudabuild.toml").splitlines()[:2]
    assert head[0].startswith(f"# {MARK} from cudabuild.toml")
    assert head[1] == "# actions/cache v5.0.3: this commit was not confirmed."


@pytest.mark.parametrize(
    ("given", "publishing"),
    [
        (EVERYTHING, {"contents": "read"}),
        ({**EVERYTHING, "publish": {**INDEX, "to": "trusted"}}, {"id-token": "write"}),
    ],
)
def test_permissions_are_the_least(given: dict[str, Any], publishing: dict[str, str]) -> None:
    value = made(**given)
    assert value["permissions"] == {}
    allowed = {name: job["permissions"] for name, job in value["jobs"].items()}
    assert allowed.pop("publish") == publishing
    assert all(permissions in ({}, {"contents": "read"}) for permissions in allowed.values())
    texts = {name: json.dumps(job) for name, job in value["jobs"].items()}
    assert [name for name, text in texts.items() if "secrets." in text] == (
        ["publish"] if publishing == {"contents": "read"} else []
    )
    assert all(
        step["with"]["persist-credentials"] is False for step in steps(value) if "checkout" in step.get("uses", "")
    )


def test_no_expression_stands_in_a_script() -> None:
    assert not [step["name"] for step in steps(made(**EVERYTHING)) if "${{" in step.get("run", "")]


def test_the_same_cells_give_the_same_text_and_it_reads_back() -> None:
    text = workflow_text(made(**EVERYTHING), "cudabuild.toml")
    assert text == workflow_text(made(**EVERYTHING), "cudabuild.toml")
    assert yaml.safe_load(text) == made(**EVERYTHING)


def test_a_row_has_all_that_a_build_is_asked_for() -> None:
    (row,) = matrices([cell(timeout=5400.0, memory=8 << 30)], settings(glibc="2.36"), system)["build"]["include"]
    assert row["package"] == "kernels==1.0"
    assert (row["targets"], row["require"]) == ("8.6;9.0", "imported")  # a runner without a GPU shows no more
    assert (row["timeout"], row["memory"], row["image"]) == ("5400s", str(8 << 30), "debian:12")
    assert row["packages"].endswith(" libopenblas-dev")
    (other,) = matrices([cell(recipe="./kernels", version="", platform="linux_aarch64")], settings(), system)["build"][
        "include"
    ]
    assert (other["package"], other["runner"], other["image"]) == ("./kernels", "ubuntu-24.04-arm", "almalinux:8")


def test_proofs_run_where_the_code_of_a_cell_runs() -> None:
    runners = {"8.9": ["l4"], "9.0": ["h100"], "12.0": ["self-hosted", "rtx5090"]}
    rows = matrices(
        [cell(1), cell(2, targets=("12.0",)), cell(3, device="cpu", targets=())], settings(gpu_runners=runners), system
    )
    assert [(row["cell"], row["gpu"]) for row in rows["prove"]["include"]] == [
        ("kernels-1", "8.9"), ("kernels-1", "9.0"), ("kernels-2", "12.0"),
    ]  # fmt: skip
    assert json.loads(rows["prove"]["include"][-1]["labels"]) == ["self-hosted", "rtx5090"]


def test_a_matrix_is_never_larger_than_github_takes() -> None:
    value = made(*(cell(number) for number in range(LARGEST_MATRIX + 1)))
    sizes = {
        name: len(job["strategy"]["matrix"]["include"])
        for name, job in value["jobs"].items()
        if name.startswith("build") and not name.startswith("build-round")
    }
    assert sizes == {"build": LARGEST_MATRIX, "build-part-2": 1}
    assert value["jobs"]["left-1"]["needs"] == ["build", "build-part-2"]


def test_each_round_goes_on_with_what_the_one_before_left() -> None:
    jobs = made(rounds=3)["jobs"]
    assert list(jobs) == ["build", "left-1", "build-round-2", "left-2", "build-round-3"]
    assert jobs["left-2"]["needs"] == ["build-round-2"]
    assert jobs["build-round-3"]["strategy"]["matrix"] == "${{ fromJSON(needs.left-2.outputs.cells) }}"
    last = [step["env"]["LAST_ROUND"] for step in steps({"jobs": jobs}) if step.get("id") == "build"]
    assert last == ["false", "false", "true"]
    assert list(made(rounds=1)["jobs"]) == ["build"]


def test_builds_end_before_github_ends_them() -> None:
    for job in made(checkpoint="320 min")["jobs"].values():
        assert job["timeout-minutes"] <= 360
    with pytest.raises(ValidationError, match="at most '320 min'"):
        settings(checkpoint="6 h")


@pytest.mark.parametrize(
    "given",
    [
        {"install": "cudabuild; rm -rf /\nx"}, {"install": "--index-url=https://x.example"}, {"glibc": "new"},
        {"gpu_runners": {"rtx": ["a"]}}, {"gpu_runners": {"9.0": []}}, {"runners": {"windows": "w"}},
        {"schedule": "daily"}, {"publish": {"index": "file:///x"}}, {"publish": {**INDEX, "environment": "${{ x }}"}},
        {"publish": {"index": "https://wheels.example/legacy/\"; curl"}}, {"rounds": 0}, {"unknown": 1},
        {"publish": {"index": "https://a[b/legacy/"}}, {"publish": {"index": "https://me:secret@wheels.example/"}},
    ],
)  # fmt: skip
def test_settings_that_cannot_be(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**given)


def test_a_key_of_the_file_that_is_not_known_is_said_with_those_that_are() -> None:
    text = '[matrix]\nrecipes = ["a"]\ntorch = ["2.13.0+cu130"]\n[matrix.github]\ninstal = "."\n'
    with pytest.raises(ConfigError, match=r"matrix\.github\.instal: unknown key; did you mean 'install'\?"):
        parse_matrix(text, Path("cudabuild.toml"))


def test_a_c_library_without_an_image_is_said_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no image with 2\.99") as caught:
        made(glibc="2.99")
    assert "2.28 (almalinux:8)" in caught.value.hint


# the scripts


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def ran(tmp_path: Path, cudabuild: str, *, last: bool = False, checkpoint: str = "60s") -> tuple[int, list[str], str]:
    """The build step with a cudabuild of this text: exit code, its output's lines, the state it says."""
    program(tmp_path / "tools/bin/cudabuild", f'if [ "$1" = cache ]; then exit 0; fi\n{cudabuild}')
    # Only root may become somebody else: here nobody does.
    program(tmp_path / "bin/setpriv", 'while [[ "$1" == --* ]]; do shift; done\nexec "$@"')
    (tmp_path / "out").mkdir()
    (row,) = matrices([cell()], settings(), system)["build"]["include"]
    given = {f"CELL_{name.upper()}": value for name, value in row.items() if name != "cell"} | {
        "CELL": row["cell"], "CELL_JSON": json.dumps(row), "CELL_INTERPRETER": "/usr/bin/python3",
        "CHECKPOINT": checkpoint, "LAST_ROUND": "true" if last else "false",
        "WORK": str(tmp_path), "TOOLS": str(tmp_path / "tools"),
        "GITHUB_OUTPUT": str(tmp_path / "output"), "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
    }  # fmt: skip
    (tmp_path / "output").touch()
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script("build")]
    done = subprocess.run(command, env=given, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout.splitlines(), (tmp_path / "output").read_text().strip()


def commands(lines: list[str]) -> list[str]:
    """The commands that a runner takes from an output: none between stop-commands and its token."""
    taken, token = [], ""
    for line in lines:
        if token:
            token = "" if line == f"::{token}::" else token
        elif line.startswith("::stop-commands::"):
            token = line.removeprefix("::stop-commands::")
        elif line.startswith("::"):
            taken.append(line)
    return taken


def test_what_a_build_prints_is_no_command(tmp_path: Path) -> None:
    meddling = "echo '{}'; echo '::set-env name=LD_PRELOAD::/tmp/evil.so' >&2; echo '::add-path::/tmp' >&2; "
    meddling += "echo '::stop-commands::mine' >&2; echo '::mine::' >&2; env | sed 's/.*=//; s/.*/::&::/' >&2"
    code, lines, state = ran(tmp_path, meddling)
    assert (code, state) == (0, "state=done")
    assert "::add-path::/tmp" in lines
    assert commands(lines) == []


def test_the_build_gets_its_words(tmp_path: Path) -> None:
    ran(tmp_path, 'echo "$@"')
    words = (tmp_path / "out/kernels-1.json").read_text().split()
    assert words == [
        "build", "kernels==1.0", "--torch", "2.13.0+cu130", "--python", "/usr/bin/python3", "--device", "cuda",
        "--target", "8.6;9.0", "--require", "imported", "--verbose", "--out", str(tmp_path / "out"), "--json",
    ]  # fmt: skip


@pytest.mark.parametrize(("last", "code", "kind"), [(False, 0, "::warning"), (True, 124, "::error")])
def test_the_checkpoint_ends_a_build_and_hands_it_on(tmp_path: Path, last: bool, code: int, kind: str) -> None:
    done, lines, state = ran(tmp_path, "exec tail -f /dev/null", last=last, checkpoint="0.2s")
    assert (done, state) == (code, "state=unfinished")
    assert commands(lines)[0].startswith(kind)
    assert json.loads((tmp_path / "unfinished/kernels-1.json").read_text())["cell"] == "kernels-1"


def test_a_failed_build_keeps_its_exit_code(tmp_path: Path) -> None:
    code, lines, state = ran(tmp_path, "exit 6")
    assert (code, state) == (6, "state=failed")
    assert commands(lines)[0].startswith("::error title=kernels-1::exit code 6")


def stepped(name: str, folder: Path) -> str:
    """What a step that only moves files gives out."""
    output = folder / "output"
    output.touch()
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script(name)]
    subprocess.run(
        command, env={**os.environ, "GITHUB_OUTPUT": str(output)}, cwd=folder, check=True, stdout=subprocess.PIPE
    )
    return output.read_text()


def test_what_is_left_is_the_next_rounds_matrix(tmp_path: Path) -> None:
    assert stepped("left", tmp_path) == 'count=0\ncells={"include": []}\n'
    rows = matrices([cell(1), cell(2)], settings(), system)["build"]["include"]
    (tmp_path / "unfinished").mkdir()
    for row in rows:
        (tmp_path / "unfinished" / f"{row['cell']}.json").write_text(json.dumps(row, indent=2))
    (tmp_path / "output").unlink()
    count, cells = stepped("left", tmp_path).splitlines()
    assert count == "count=2"
    assert json.loads(cells.removeprefix("cells=")) == {"include": rows}


def test_verdicts_are_collected_under_the_hash_of_their_wheel(tmp_path: Path) -> None:
    for folder, name, text in (
        ("wheel-a", "a.whl", "wheel"),
        ("wheel-a", "a.json", json.dumps({"verdict": {"wheel_sha256": "1" * 64, "grade": "imported"}})),
        ("proof-a-sm9.0", "a-sm9.0.json", json.dumps({"verdict": {"wheel_sha256": "1" * 64, "grade": "executed"}})),
        ("wheel-b", "b.json", json.dumps({"verdict": {"wheel_sha256": "../../evil"}})),
        ("wheel-c", "c.json", json.dumps({"error": {}})),
    ):
        (tmp_path / "artifacts" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "artifacts" / folder / name).write_text(text)
    stepped("collect", tmp_path)
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == ["a.whl"]
    found = {path.name: json.loads(path.read_text())["grade"] for path in (tmp_path / "verdicts").iterdir()}
    assert found == {f"{'1' * 64}-a.json": "imported", f"{'1' * 64}-a-sm9.0.json": "executed"}


# the command


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    text = '[matrix]\nrecipes = ["diso"]\ntorch = ["2.13.0+cu130"]\npython = ["3.11"]\ntargets = ["12.0"]\n'
    (tmp_path / "cudabuild.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDABUILD_CONFIG", str(tmp_path / "cudabuild.toml"))
    monkeypatch.delenv("CUDABUILD_CONFIG")
    return tmp_path


def command(*words: str) -> Any:
    return github_command(list(words), standalone_mode=False)


def test_the_command_writes_checks_and_prints(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="is not there"):
        command("--out", "w.yml", "--check")
    command("--out", "w.yml")
    command("--out", "w.yml", "--check")
    capsys.readouterr()
    command()
    assert capsys.readouterr().out == (project / "w.yml").read_text()
    command("--print-matrix")
    assert [row["targets"] for row in json.loads(capsys.readouterr().out)["build"]["include"]] == ["12.0"]
    (project / "w.yml").write_text((project / "w.yml").read_text().replace("'12.0'", "'8.6'"))
    with pytest.raises(ConfigError, match="is not what the matrix gives"):
        command("--out", "w.yml", "--check")


def test_a_folder_is_a_package_of_the_repository(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = project / "cudabuild.toml"
    file.write_text(file.read_text().replace('"diso"', '"."'))
    (project / "pyproject.toml").write_text('[project]\nname = "mine"\nversion = "1"\n')
    command("--print-matrix")
    (row,) = json.loads(capsys.readouterr().out)["build"]["include"]
    assert (row["package"], row["cell"]) == (".", "mine-pt2.13-cu130-cp311-sm120")


def test_somebody_elses_file_is_left_alone(project: Path) -> None:
    (project / "w.yml").write_text("name: mine\n")
    with pytest.raises(UsageError, match="was not written by this command"):
        command("--out", "w.yml")
    command("--out", "w.yml", "--force")
    assert MARK in (project / "w.yml").read_text()


def test_pythons_have_to_be_named(project: Path) -> None:
    file = project / "cudabuild.toml"
    file.write_text(file.read_text().replace('python = ["3.11"]\n', ""))
    with pytest.raises(ConfigError, match=r"matrix\.python is empty"):
        command()


def test_this_repositorys_workflow_is_the_generated_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    command("--out", ".github/workflows/wheels.yml", "--check")
