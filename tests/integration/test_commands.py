"""Each command as a person or a program uses it, by the real console script."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from buildkit.cli.schema import ANSWER

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "tests" / "packages" / "fastcuda"
SM120 = ("--target", "12.0")
NOWHERE = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_EXTRA_INDEX_URL": "", "UV_HTTP_RETRIES": "0"}
Cudabuild = Callable[..., Any]


def new_copy(folder: Path) -> Path:
    """The test package with a content that no store has."""
    shutil.copytree(PACKAGE, folder)
    with (folder / "setup.py").open("a", encoding="utf-8") as file:
        file.write(f"# {os.getpid()} {time.time_ns()}\n")
    return folder


@dataclass(frozen=True)
class Built:
    """A package in the session's store, and what the build that put it there printed."""

    project: Path
    answer: dict[str, Any]
    said: str


@pytest.fixture(scope="module")
def built(cudabuild: Cudabuild, person: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Built:
    project = new_copy(tmp_path_factory.mktemp("built") / "fastcuda")
    ran = cudabuild("build", str(project), *SM120, "--json", env=person)
    assert ran.code == 0, (ran.out, ran.err)
    return Built(project, ran.json, ran.err)


# build


def test_a_build_says_what_it_proved(built: Built, cache: Path) -> None:
    answer = built.answer
    ANSWER.validate_python(answer)
    assert (answer["schema"], answer["recipe"], answer["cache"], answer["device"]) == (1, "fastcuda", "miss", "cuda")
    assert answer["version"].startswith("1.0+pt2.13.cu130")
    assert answer["plan"]["targets"] == ["12.0"]
    assert answer["plan"]["torch"] == "2.13.0+cu130"
    assert answer["verdict"]["grade"] == "imported"
    assert [stage["name"] for stage in answer["verdict"]["stages"]] == ["canary", "build", "audit", "import", "smoke"]
    assert answer["guard"]["survivors"] == 0
    assert answer["guard"]["peak_memory"] > 0
    wheel = Path(answer["wheel"]["path"])
    assert (wheel.name, wheel.stat().st_size) == (answer["wheel"]["filename"], answer["wheel"]["size"])
    assert wheel.is_relative_to(cache)
    for phase in ("source", "environment", "build", "audit", "import"):
        assert re.search(f"(?m)^{phase} ", built.said), built.said


def test_the_bare_form_is_a_hit_into_out(
    cudabuild: Cudabuild, built: Built, person: dict[str, str], tmp_path: Path
) -> None:
    ran = cudabuild(str(built.project), *SM120, "--out", str(tmp_path / "out"), env=person)
    assert (ran.code, ran.out) == (0, "")
    assert "from the store in" in ran.err
    assert "proven: imported" in ran.err
    wheel = tmp_path / "out" / built.answer["wheel"]["filename"]
    assert wheel.is_file()
    assert f"wheel: {wheel}" in ran.err
    python = f"{person['VIRTUAL_ENV']}/bin/python"
    assert re.search(rf"(?m)^install it: .*{re.escape(python)}.* {re.escape(str(wheel))}$", ran.err)


def test_a_hit_has_the_same_shape(cudabuild: Cudabuild, built: Built, person: dict[str, str]) -> None:
    ran = cudabuild("build", str(built.project), *SM120, "--json", env=person)
    assert ran.code == 0
    ANSWER.validate_python(ran.json)
    assert ran.out.count("\n") == 1
    assert ran.json.keys() == built.answer.keys()
    assert (ran.json["cache"], ran.json["guard"]) == ("hit", None)
    for name in ("build", "key", "version"):
        assert ran.json[name] == built.answer[name]
    assert ran.json["wheel"]["sha256"] == built.answer["wheel"]["sha256"]


def test_several_packages_and_the_first_failures_code(
    cudabuild: Cudabuild, built: Built, person: dict[str, str]
) -> None:
    project = str(built.project)
    ran = cudabuild("no-such-recipe", project, "pypi:a b", *SM120, "--json", env=person)
    assert ran.code == 3
    ANSWER.validate_python(ran.json)
    assert list(ran.json) == ["schema", "results"]
    unknown, good, misspelt = ran.json["results"]
    assert unknown["error"]["kind"] == "unknown-recipe"
    assert (good["cache"], "error" in good) == ("hit", False)
    assert misspelt["error"]["exit_code"] == 2
    told = cudabuild(project, "no-such-recipe", *SM120, env=person)
    assert told.code == 3
    assert "fastcuda 1.0" in told.err
    assert "error: there is no recipe 'no-such-recipe'" in told.err


def test_a_grade_that_cannot_be_shown_here(cudabuild: Cudabuild, built: Built, person: dict[str, str]) -> None:
    ran = cudabuild(str(built.project), *SM120, "--require", "executed", "--json", env=person)
    assert ran.code == 9
    assert ran.json["error"]["kind"] == "below-requirement"
    assert "--require executed needs" in ran.json["error"]["message"]
    assert "--require imported" in ran.json["error"]["hint"]
    assert (ran.json["wheel"], ran.json["key"]) == (None, None)  # refused before anything is planned or built
    lower = cudabuild(str(built.project), *SM120, "--require", "audited", "--json", env=person)
    assert (lower.code, lower.json["cache"]) == (0, "hit")


# plan


def test_plan_tells_a_hit_and_what_a_miss_differs_in(
    cudabuild: Cudabuild, built: Built, person: dict[str, str]
) -> None:
    hit = cudabuild("plan", str(built.project), *SM120, "--json", env=person).json
    assert (hit["cache"], hit["key"]) == ("hit", built.answer["key"])
    assert hit["inputs"]["targets"] == ["12.0"]
    ran = cudabuild("plan", str(built.project), "--target", "8.9", "--jobs", "1", env=person)
    assert ran.code == 0
    for line in (
        "targets    8.9",
        "jobs       1: ",
        "must reach imported",
        "store      miss",
        "differs  targets: 12.0 -> 8.9",
    ):
        assert line in ran.out, ran.out
    same = cudabuild("build", "--plan", str(built.project), "--target", "8.9", "--jobs", "1", env=person)
    assert same.code == 0
    assert [line for line in same.out.splitlines() if "key" in line] == [x for x in ran.out.splitlines() if "key" in x]


def test_the_exported_list_is_the_default_and_is_reduced(
    cudabuild: Cudabuild, built: Built, person: dict[str, str]
) -> None:
    env = {**person, "TORCH_CUDA_ARCH_LIST": "7.0 12.0"}
    found = cudabuild("plan", str(built.project), "--json", env=env).json
    assert found["plan"]["targets"] == ["12.0"]
    assert any("7.0 is left out" in note and "12.9" in note for note in found["plan"]["notes"])
    assert found["key"] == built.answer["key"], "where the targets come from is nothing to the wheel"
    typed = cudabuild("plan", str(built.project), "--target", "8.6", "--json", env=env).json
    assert typed["plan"]["targets"] == ["8.6"]


def test_settings_by_file_variable_and_option(
    cudabuild: Cudabuild, built: Built, person: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text('targets = "8.6;12.0+PTX"\njobs = 2\nmemory = "6 GiB"\n', encoding="utf-8")
    env = {**person, "CUDABUILD_CONFIG": str(tmp_path / "config.toml"), "CUDABUILD_MEMORY": "3 GiB"}
    plan = cudabuild("plan", str(built.project), "--json", env=env).json["plan"]
    assert (plan["targets"], plan["memory_budget"], plan["jobs"]) == (["8.6", "12.0+PTX"], 3 << 30, 1)
    plan = cudabuild("plan", str(built.project), "--memory", "4GiB", *SM120, "--json", env=env).json["plan"]
    assert (plan["targets"], plan["memory_budget"]) == (["12.0"], 4 << 30)


# fetch


def test_fetched_once_a_build_needs_no_network(
    cudabuild: Cudabuild, person: dict[str, str], cache: Path, tmp_path: Path
) -> None:
    project = new_copy(tmp_path / "fastcuda")
    fetched = cudabuild("fetch", str(project), *SM120, "--json", env=person)
    assert fetched.code == 0, fetched.err
    assert fetched.json["torch"] == "2.13.0+cu130"
    assert not any("build" in line.split(" ")[0] for line in fetched.err.splitlines())
    ran = cudabuild(str(project), *SM120, "--offline", "--json", env={**person, "ALL_PROXY": "http://127.0.0.1:9"})
    assert ran.code == 0, (ran.out, ran.err)
    assert (ran.json["cache"], ran.json["key"]) == ("miss", fetched.json["key"])
    told = cudabuild("fetch", str(project), *SM120, env=person)
    assert (told.code, told.out) == (0, "")
    assert "fastcuda: everything is in the cache (torch 2.13.0+cu130, CUDA 13.0)" in told.err


# recipes


def test_recipes_are_listed_shown_and_checked(cudabuild: Cudabuild) -> None:
    listed = cudabuild("recipes", "list", "--json").json["recipes"]
    names = [row["name"] for row in listed]
    assert {"diso", "torch-scatter", "chamferdist", "cumcubes"} <= set(names)
    rows = cudabuild("recipes", "list")
    assert [line.split()[0] for line in rows.out.splitlines()] == names
    shown = cudabuild("recipes", "show", "cumcubes", "--json").json
    assert shown["recipe"]["name"] == "cumcubes"
    assert shown["recipe"]["patch"]
    assert json.loads(cudabuild("recipes", "show", "cumcubes").out) == shown["recipe"]
    checked = cudabuild("recipes", "check")
    assert checked.code == 0
    assert checked.out.splitlines() == [f"{name}: sound" for name in names]


def test_a_new_recipe_is_found_and_sound_once_it_is_edited(cudabuild: Cudabuild, tmp_path: Path) -> None:
    made = cudabuild("recipes", "new", "thing", "--sdist", "Thing==1.2", cwd=tmp_path)
    assert (made.code, made.out) == (0, "recipes/thing/recipe.toml\n")
    assert "cudabuild recipes check recipes/thing" in made.err
    shown = cudabuild("recipes", "show", "thing", "--json", cwd=tmp_path).json
    assert shown["recipe"]["version"][0]["sdist"] == "Thing"
    checked = cudabuild("recipes", "check", "thing", cwd=tmp_path)
    assert (checked.code, checked.out) == (3, "")
    assert re.search(r"recipes/thing/recipe\.toml:\d+: version\[0\]\.sha256: still the zeros", checked.err)
    recipe = tmp_path / "recipes" / "thing" / "recipe.toml"
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("0" * 64, "1" * 64), encoding="utf-8")
    for place in ("thing", "recipes/thing"):
        checked = cudabuild("recipes", "check", place, cwd=tmp_path)
        assert (checked.code, checked.out) == (0, "thing: sound\n"), checked.err
        assert re.search(r"(?m)^recipes/thing/recipe\.toml:\d+: verify\.probe: not there", checked.err)


def test_the_recipes_schema_is_the_published_one(cudabuild: Cudabuild) -> None:
    published = ROOT / "docs" / "reference" / "recipe.schema.json"
    assert json.loads(cudabuild("recipes", "schema").out) == json.loads(published.read_text(encoding="utf-8"))


# cache and log


def test_the_store_shows_what_it_has(cudabuild: Cudabuild, built: Built, cache: Path) -> None:
    assert cudabuild("cache", "path").out == f"{cache}\n"
    key, wheel = built.answer["key"], built.answer["wheel"]
    row = next(row for row in cudabuild("cache", "list", "--json").json["wheels"] if row["key"] == key)
    assert (row["recipe"], row["targets"], row["grade"]) == ("fastcuda", ["12.0"], "imported")
    assert f"{key[:12]}  imported" in cudabuild("cache", "list").out
    for name in (key[:16], built.answer["build"]):
        shown = cudabuild("cache", "show", name, "--json").json
        assert (shown["key"], shown["sha256"]) == (key, wheel["sha256"])
        assert shown["inputs"]["device"] == "cuda"
    assert "proof import" in cudabuild("cache", "show", key[:16]).out
    path = Path(cudabuild("cache", "path", key[:16]).out.strip())
    assert path.read_bytes() == Path(wheel["path"]).read_bytes()


def test_the_store_finds_a_flipped_byte(
    cudabuild: Cudabuild, built: Built, person: dict[str, str], tmp_path: Path
) -> None:
    """On a store of its own, made of one entry of the session's."""
    source = Path(cudabuild("cache", "path").out.strip()) / "store"
    key, sha256 = built.answer["key"], built.answer["wheel"]["sha256"]
    copied = [path for path in source.rglob("*") if path.is_file() and (key in path.name or sha256 in path.name)]
    for path in copied:
        place = tmp_path / "store" / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place)
    env = {"CUDABUILD_CACHE": str(tmp_path)}
    sound = cudabuild("cache", "verify", "--json", env=env)
    assert (sound.code, sound.json["entries"], sound.json["problems"]) == (0, 1, [])
    blob = next(path for path in (tmp_path / "store" / "blobs").rglob("*") if path.is_file())
    stamp = blob.stat()
    blob.chmod(0o644)
    content = bytearray(blob.read_bytes())
    content[100] ^= 1
    blob.write_bytes(content)
    os.utime(blob, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    found = cudabuild("cache", "verify", "--json", env=env)
    assert found.code == 10
    assert key in found.json["problems"][0]["key"]
    assert cudabuild("cache", "verify", env=env).code == 10


def test_the_log_of_a_build(cudabuild: Cudabuild, built: Built) -> None:
    name = built.answer["build"]
    path = Path(cudabuild("log", name, "--path").out.strip())
    text = cudabuild("log", name).out
    assert text == path.read_text(encoding="utf-8")
    assert re.search(r"nvcc .*add\.cu", text)
    assert "add.cu" in cudabuild("log", built.answer["key"][:16]).out
    assert cudabuild("log", name, "--follow").out == text


# doctor


def test_doctor_says_what_is_here(cudabuild: Cudabuild, person: dict[str, str]) -> None:
    ran = cudabuild("doctor", "--json", "--target", "12.0", env=person)
    assert (ran.code, ran.json["ok"]) == (0, ran.json["verdict"] != "cannot")
    machine = ran.json["machine"]
    assert machine["torch"]["version"] == "2.13.0+cu130"
    assert {"python", "torch", "toolkits", "compiler", "gpus", "limits", "cache"} <= machine.keys()
    told = cudabuild("doctor", "--target", "12.0", env=person)
    assert told.code == 0
    assert re.search(r"\ntorch\s+2\.13\.0\+cu130,\s+of\s+CUDA\s+13\.0,\s+in\s", told.out)  # where it may break lines


def test_doctor_names_what_is_missing(cudabuild: Cudabuild, person: dict[str, str], tmp_path: Path) -> None:
    without = {**person, "PATH": str(tmp_path)}
    ran = cudabuild("doctor", "--json", env=without)
    assert (ran.code, ran.json["ok"]) == (0, False)
    assert any("no C++ compiler" in problem and "apt-get install g++" in problem for problem in ran.json["problems"])
    assert cudabuild("doctor", "diso", "--target", "12.0", env=without).code == 5


# How a program and a terminal see it


def test_help_and_version(cudabuild: Cudabuild, console_script: Path) -> None:
    for words in (("-h",), ("--help",), ("build", "-h"), ("diso", "-h")):
        ran = cudabuild(*words)
        assert (ran.code, ran.err) == (0, "")
        assert "Example" in ran.out
    nothing = cudabuild()
    assert (nothing.code, nothing.out) == (2, "")
    assert nothing.err.startswith("Usage: cudabuild")
    assert cudabuild("cache").err.startswith("Usage: cudabuild cache")
    module = subprocess.run([sys.executable, "-m", "buildkit", "--version"], capture_output=True, text=True, check=True)
    assert module.stdout == cudabuild("--version").out


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ('"$0" recipes schema | true; exit ${PIPESTATUS[0]}', {0, 141}),
        ('"$0" recipes list | true; exit ${PIPESTATUS[0]}', {0, 141}),
        ('"$0" recipes list --json >&-', {0}),
        ('"$0" recipes show no-such >&- 2>&-', {3}),
        ('"$0" recipes list >/dev/full', {10}),
        ('"$0" recipes list <&-', {0}),
    ],
)
def test_closed_and_full_streams(console_script: Path, script: str, code: set[int]) -> None:
    ran = subprocess.run(["bash", "-c", script, str(console_script)], capture_output=True, text=True, check=False)
    assert ran.returncode in code, ran.stderr
    assert "Traceback" not in ran.stderr
    assert "Exception ignored" not in ran.stderr


def on_a_terminal(console_script: Path, *words: str, env: dict[str, str]) -> str:
    """What a command prints whose standard error is a terminal."""
    main, side = pty.openpty()
    process = subprocess.Popen([str(console_script), *words], stdin=side, stdout=side, stderr=side, env=env)
    os.close(side)
    shown = b""
    while True:
        try:
            chunk = os.read(main, 1 << 16)
        except OSError:  # the other side was closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(main)
    process.wait()
    return shown.decode()


def test_colour_on_a_terminal_only(
    cudabuild: Cudabuild, console_script: Path, person: dict[str, str], cache: Path, tmp_path: Path
) -> None:
    backend = "def build_wheel(folder, settings=None, metadata=None):\n    raise SystemExit(3)\n"
    (tmp_path / "backend.py").write_text(backend, encoding="utf-8")
    table = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    (tmp_path / "pyproject.toml").write_text(table, encoding="utf-8")
    words = (str(tmp_path), "--device", "cpu")
    assert "\x1b" not in cudabuild(*words, env=person).err
    env = {**os.environ, **person, "CUDABUILD_CACHE": str(cache), "TERM": "xterm"}
    env.pop("NO_COLOR", None)
    assert "\x1b[1mbuild\x1b[0m" in on_a_terminal(console_script, *words, env=env)
    plain = on_a_terminal(console_script, *words, env={**env, "NO_COLOR": "1"})
    assert "\x1b[1m" not in plain
    assert "\x1b[3" not in plain
    assert "build" in plain


# Ending it while uv waits for an index


@pytest.fixture
def silent_index() -> Iterator[tuple[int, threading.Event]]:
    """A port where connections are taken and nothing is ever answered; the event: somebody has connected."""
    asked = threading.Event()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        server.settimeout(120)
        connections: list[socket.socket] = []

        def accept() -> None:
            try:
                while True:
                    connections.append(server.accept()[0])
                    asked.set()
            except OSError:
                return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1], asked
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in connections:
            connection.close()


@pytest.mark.parametrize(("ending", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 143)])
def test_ended_while_it_installs(
    console_script: Path,
    plain_environment: Path,
    silent_index: tuple[int, threading.Event],
    tmp_path: Path,
    ending: str,
    code: int,
) -> None:
    port, asked = silent_index
    cache = tmp_path / "cache"
    env = {
        **os.environ,
        "VIRTUAL_ENV": str(plain_environment),
        "CUDABUILD_CACHE": str(cache),
        "CUDA_VISIBLE_DEVICES": "",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": f"http://127.0.0.1:{port}/simple",
        **dict.fromkeys(("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS"), ""),
    }
    words = [str(console_script), str(PACKAGE), *SM120, "--torch", "2.13.0+cu130", "--json"]
    process = subprocess.Popen(
        words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert asked.wait(60), "uv never asked the index"
        os.killpg(process.pid, getattr(signal, ending))
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code, err
    answer = json.loads(out)
    ANSWER.validate_python(answer)
    assert answer["error"]["exit_code"] == code
    assert "Traceback" not in err
    assert [path.name for path in (cache / "torch").iterdir() if not path.name.startswith(".")] == []
    assert str(cache) not in commands_running(), "uv is still there"


def commands_running() -> str:
    """The command lines of all processes."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            found.append(place.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
    return "\n".join(found)
