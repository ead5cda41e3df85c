"""``verify --installed`` over a real environment: what is sound, what is not, and that each command mends it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from jsonschema import Draft202012Validator

from buildkit.build.installer import find_uv
from buildkit.cli.verify_schema import INSTALLED, installed_schema_text

pytestmark = pytest.mark.integration

PACKAGE = Path(__file__).parents[1] / "packages" / "fastcuda"
Cudabuild = Callable[..., Any]

RECIPE = """
edition = 1
name = "{name}"
summary = "adds one, on the GPU"
license = {{ spdx = "MIT", redistributable = true }}
[[version]]
version = "1.0"
folder = "{folder}"
[build.env-cuda]
FORCE_CUDA = "1"
[verify]
imports = ["{name}"]
cuda-proof = ["{name}._C:add_one_cuda"]
"""

# c10 has no such function in any release: it stands for one that another release has.
CALLS_GONE = """
#include <Python.h>
namespace c10 { int only_in_another_release(int); }
static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};
PyMODINIT_FUNC PyInit__C() { return c10::only_in_another_release(1) ? PyModule_Create(&module) : nullptr; }
"""


@dataclass(frozen=True)
class World:
    """A person's environment with torch and no GPU, their recipes, and the console script in it."""

    environment: Path
    folder: Path
    site: Path
    run: Cudabuild

    @property
    def env(self) -> dict[str, str]:
        # The Python of the tests lends its uv and cudabuild to the commands that are typed as they were printed.
        scripts = sysconfig.get_path("scripts")
        path = f"{scripts}:{find_uv().parent}:{os.environ['PATH']}"
        return {"VIRTUAL_ENV": str(self.environment), "CUDA_VISIBLE_DEVICES": "", "PATH": path}

    def verify(self, *words: str, **options: Any) -> Any:
        return self.run("verify", "--installed", *words, env=self.env, cwd=self.folder, **options)

    def install(self, *words: str) -> None:
        done = self.run("install", *words, env=self.env, cwd=self.folder)
        assert done.code == 0, (done.out, done.err)

    def put(self, wheel: Path) -> None:
        python = str(self.environment / "bin" / "python")
        command = [str(find_uv()), "pip", "install", "-q", "--no-deps", "--link-mode", "copy", "--python", python]
        subprocess.run([*command, str(wheel)], check=True, env={**os.environ, "UV_CACHE_DIR": str(self.folder / "uv")})

    def type(self, command: str, cache: Path) -> None:
        """A command as it was printed, in a shell."""
        environment = {**os.environ, **self.env, "CUDABUILD_CACHE": str(cache)}
        words = ["bash", "-c", command]
        done = subprocess.run(words, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stdout, done.stderr)

    def recipe(self, name: str) -> None:
        """A recipe whose source is the test package under another name."""
        source = self.folder / name
        shutil.copytree(PACKAGE, source)
        (source / "fastcuda").rename(source / name)
        for path in source.rglob("*.*"):
            if path.is_file():
                path.write_text(path.read_text("utf-8").replace("fastcuda", name), "utf-8")
        place = self.folder / "recipes" / name
        place.mkdir(parents=True)
        (place / "recipe.toml").write_text(RECIPE.format(name=name, folder=source), "utf-8")


def make_wheel(folder: Path, name: str, version: str, files: Mapping[str, bytes], *requires: str) -> Path:
    """A wheel as any backend writes it."""
    info = f"{name}-{version}.dist-info"
    metadata = "".join([f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", *requires_lines(requires)])
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    wheel = f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: {tag}-{tag}-linux_x86_64\n"
    members = {**files, f"{info}/METADATA": metadata.encode(), f"{info}/WHEEL": wheel.encode()}
    rows = [f"{path},sha256={digest(data)},{len(data)}" for path, data in members.items()]
    path = folder / f"{name}-{version}-{tag}-{tag}-linux_{os.uname().machine}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
        archive.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,", ""]))
    return path


def requires_lines(requires: tuple[str, ...]) -> list[str]:
    return [f"Requires-Dist: {text}\n" for text in requires]


def digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def shared_object(folder: Path, text: str, *words: str) -> bytes:
    """A Python module compiled from C++."""
    source, result = folder / "module.cpp", folder / "module.so"
    source.write_text(text, "utf-8")
    include = sysconfig.get_paths()["include"]
    subprocess.run(["g++", "-shared", "-fPIC", f"-I{include}", str(source), "-o", str(result), *words], check=True)
    return result.read_bytes()


@pytest.fixture(scope="module")
def world(torch_environment: Path, cudabuild: Cudabuild, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    site = next(torch_environment.glob("lib/python*/site-packages"))
    before = {path.name for path in site.iterdir()}
    yield World(torch_environment, tmp_path_factory.mktemp("person"), site, cudabuild)
    for path in site.iterdir():
        if path.name not in before:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (torch_environment / ".lock").unlink(missing_ok=True)  # uv's own


@pytest.fixture(scope="module")
def right(world: World) -> str:
    """A package that is sound. Tests that put a wrong one in its place have it back when they are through."""
    world.recipe("voxright")
    world.install("voxright", "--target", "12.0", "--no-canary")
    return "voxright"


def only(answer: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for each in answer.get("results", [answer]) if each["name"] == name]
    return dict(found)


def kinds(result: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {finding["kind"]: finding for finding in result["findings"]}


def checked(ran: Any) -> dict[str, Any]:
    """The answer, held against its models and its published schema."""
    answer = ran.json
    INSTALLED.validate_python(answer)
    Draft202012Validator(json.loads(installed_schema_text())).validate(answer)
    return dict(answer)


def test_leftovers(world: World, cache: Path, tmp_path: Path) -> None:
    for name in ("halfgone", "nometadata"):
        world.put(make_wheel(tmp_path, name, "2.0", {f"{name}.py": b"", f"{name}_more.py": b""}))
    # Installers of today refuse that name; the pips that installed it did not.
    with zipfile.ZipFile(make_wheel(tmp_path, "UNKNOWN", "0.0.0", {})) as archive:
        archive.extractall(world.site)
    for left in [*world.site.glob("halfgone*.py"), *world.site.glob("nometadata*.py")]:
        left.unlink()
    (world.site / "nometadata-2.0.dist-info" / "METADATA").unlink()
    (world.site / "~oxright").mkdir()
    answer = checked(world.verify("--json"))
    listed = {name: only(answer, name)["findings"] for name in ("UNKNOWN", "halfgone", "nometadata", "~oxright")}
    assert {name: [finding["kind"] for finding in found] for name, found in listed.items()} == {
        "UNKNOWN": ["unknown-leftover"],
        "halfgone": ["half-removed"],
        "nometadata": ["half-removed"],
        "~oxright": ["interrupted-uninstall"],
    }
    assert [finding["severity"] for finding in listed["~oxright"]] == ["warning"]
    assert checked(world.verify("halfgone", "--json"))["error"]["kind"] == "verification-failed"
    for found in listed.values():
        world.type(found[0]["command"], cache)
    after = checked(world.verify("--json"))
    assert not {each["name"] for each in after.get("results", [after])} & set(listed)
    assert not [path for path in world.site.iterdir() if re.search("unknown|halfgone|nometadata|~", path.name, re.I)]


def test_a_right_wheel_is_sound(world: World, right: str) -> None:
    ran = world.verify(right, "--json", "--gpu", "rtx5090")
    answer = checked(ran)
    assert ran.code == 0, (ran.out, ran.err)
    assert answer["findings"] == []
    assert answer["recipe"] == right
    assert [(code["gpu"], code["capability"], code["by"]) for code in answer["code"]] == [("rtx5090", "12.0", "sass")]
    assert answer["environment"]["torch"] == "2.13.0+cu130"
    stages = {stage["name"]: stage["outcome"] for stage in answer["verdict"]["stages"]}
    assert stages == {"audit": "passed", "import": "passed"}
    assert "error" not in answer


def test_without_code_for_a_stated_gpu(world: World, right: str, cache: Path) -> None:
    ran = world.verify(right, "--json", "--gpu", "12.1", "--gpu", "rtx3090", "--gpu", "8.9")
    answer = checked(ran)
    assert ran.code == 9
    by = {code["gpu"]: code["by"] for code in answer["code"]}
    assert by == {"12.1": "sass", "rtx3090": "none", "8.9": "none"}
    found = [finding for finding in answer["findings"] if finding["kind"] == "no-code-for-gpu"]
    assert [finding["what"] for finding in found] == [
        "no code that rtx3090 (8.6) can run",
        "no code that 8.9 can run",
    ]
    assert found[0]["evidence"] == "it holds sm_120"
    recipes = world.folder / "recipes"
    environment = str(world.environment)
    words = ["cudabuild", "install", right, "--python", environment, "--recipes", str(recipes)]
    assert shlex.split(found[0]["command"]) == [*words, "--target", "8.6;8.9;12.1"]
    assert answer["error"]["kind"] == "missing-targets"
    # The canary takes longer than all else here, and tells nothing of the command.
    world.type(f"{found[0]['command']} --no-canary", cache)
    mended = world.verify(right, "--json", "--gpu", "12.1", "--gpu", "rtx3090", "--gpu", "8.9")
    assert mended.code == 0, (mended.out, mended.err)
    assert {code["by"] for code in checked(mended)["code"]} == {"sass"}


def test_built_for_another_torch(world: World, right: str, torch_site: Path, cache: Path, tmp_path: Path) -> None:
    library = shared_object(tmp_path, CALLS_GONE, f"-L{torch_site}/torch/lib", "-lc10")
    files = {f"{right}/__init__.py": f"import torch\nfrom {right} import _C\n".encode(), f"{right}/_C.so": library}
    world.put(make_wheel(tmp_path, right, "1.0+pt2.12.cu126", files, "torch==2.12.*"))
    ran = world.verify(right, "--json", "--gpu", "12.0")
    answer = checked(ran)
    assert ran.code == 9
    found = kinds(answer)
    assert set(found) == {"other-torch", "other-cuda", "cpu-only", "undefined-symbols", "import-failed"}
    assert "1.0+pt2.12.cu126" in found["other-torch"]["evidence"]
    assert "Requires-Dist: torch==2.12.*" in found["other-torch"]["evidence"]
    assert "only_in_another_release" in found["undefined-symbols"]["evidence"]
    assert "undefined symbol" in found["import-failed"]["what"]
    assert {finding["command"] for finding in found.values()} == {found["other-torch"]["command"]}
    world.type(found["other-torch"]["command"], cache)
    mended = world.verify(right, "--json", "--gpu", "12.0")
    assert mended.code == 0, (mended.out, mended.err)
    assert checked(mended)["version"].startswith("1.0+pt2.13.cu130")


def test_a_cpu_only_build_of_a_cuda_package(world: World, right: str, cache: Path, tmp_path: Path) -> None:
    library = shared_object(tmp_path, (PACKAGE / "csrc" / "module.cpp").read_text("utf-8"))
    files = {f"{right}/__init__.py": f"from {right}._C import *\n".encode(), f"{right}/_C.so": library}
    world.put(make_wheel(tmp_path, right, "1.0", files))
    ran = world.verify(right, "--json", "--gpu", "rtx5090")
    answer = checked(ran)
    assert (ran.code, answer["error"]["kind"]) == (9, "cpu-only-wheel")
    assert list(kinds(answer)) == ["cpu-only"]
    assert answer["verdict"]["stages"][1]["outcome"] == "passed", "it imports, which is why nobody notices"
    command = kinds(answer)["cpu-only"]["command"]
    assert shlex.split(command)[-2:] == ["--target", "12.0"]
    world.type(command, cache)
    assert world.verify(right, "--gpu", "rtx5090").code == 0


def test_a_changed_and_a_missing_file(world: World, cache: Path, tmp_path: Path) -> None:
    library = shared_object(tmp_path, (PACKAGE / "csrc" / "module.cpp").read_text("utf-8"))
    files = {
        "voxchanged/__init__.py": b"from voxchanged._C import *\n",
        "voxchanged/_C.so": library,
        "voxchanged/more.py": b"",
    }
    wheel = make_wheel(tmp_path, "voxchanged", "1.0", files)
    world.put(wheel)
    (world.site / "voxchanged" / "__init__.py").write_text("from voxchanged._C import *\nMINE = 1\n")
    (world.site / "voxchanged" / "more.py").unlink()
    ran = world.verify("voxchanged", "--json")
    found = kinds(checked(ran))
    assert (ran.code, set(found)) == (9, {"record-changed", "record-missing"})
    assert found["record-changed"]["evidence"] == "voxchanged/__init__.py"
    assert found["record-missing"]["evidence"] == "voxchanged/more.py"
    assert shlex.split(found["record-changed"]["command"])[-1] == str(wheel)
    world.type(found["record-changed"]["command"], cache)
    assert world.verify("voxchanged").code == 0
    (world.site / "voxchanged" / "_C.so").write_bytes(library[:100])
    damaged = checked(world.verify("voxchanged", "--json"))
    assert {"record-changed", "import-failed"} <= set(kinds(damaged))
    world.type(kinds(damaged)["import-failed"]["command"], cache)
    assert world.verify("voxchanged").code == 0


def test_files_of_nobody(world: World, right: str, cache: Path) -> None:
    (world.site / "voxstray").mkdir()
    (library,) = (world.site / right).glob("_C*.so")
    shutil.copy(library, world.site / "voxstray" / library.name)
    found = kinds(only(checked(world.verify("--json")), "voxstray"))
    assert found["ownerless-files"]["severity"] == "warning"
    world.type(found["ownerless-files"]["command"], cache)
    assert not (world.site / "voxstray").exists()


def test_half_removed_and_compiled(world: World, right: str, cache: Path) -> None:
    """The wheel that cudabuild installed is still in the cache, so it is put back without a build."""
    shutil.rmtree(world.site / right)
    ran = world.verify(right, "--json")
    found = kinds(checked(ran))
    assert (ran.code, list(found)) == (9, ["half-removed"])
    world.type(found["half-removed"]["command"], cache)
    assert world.verify(right).code == 0


def test_the_whole_environment_for_people(world: World, right: str) -> None:
    ran = world.verify("--gpu", "7.5")
    assert ran.code == 9
    assert re.search(
        rf"(?m)^{re.escape(str(world.environment))}: torch 2\.13\.0\+cu130 \(CUDA 13\.0\), stated", ran.out
    )
    assert f"{right} 1.0+pt2.13.cu130" in ran.out
    assert re.search(r"(?m)^  code +7\.5: no code \(it holds sm_", ran.out)
    assert re.search(r"(?m)^    mend: cudabuild install voxright .*--target 7\.5$", ran.out)
    assert "torch 2.13.0:" not in ran.out, "torch itself is not judged"
    assert "\x1b" not in ran.out
    assert re.search(r"(?m)^(\d+ \w+, )*\d+ unsound$", ran.err)


def test_what_cannot_be_asked(world: World, right: str, plain_environment: Path) -> None:
    assert world.run("verify", "--installed", env={"VIRTUAL_ENV": str(plain_environment)}).code == 5
    assert world.verify("no-such-package").code == 10
    assert world.verify("torch").code == 2
    assert world.verify(right, "--gpu", "rtx9999").code == 2
    assert world.verify("--", "true").code == 2
    assert world.verify(right, "--").code == 2
    assert world.verify(right, "--", "no-such-program-here").code == 2
    assert world.run("verify", "x.whl", "--gpu", "8.6").code == 2
    ran = world.verify(right, "--require", "executed", "--json")
    assert (ran.code, checked(ran)["error"]["kind"]) == (9, "below-requirement")


APP = """
import json, os, sys
sys.pycache_prefix = os.environ["CUDABUILD_CACHE"] + "/pycache"  # torch's byte code, as the proofs before it left it
import voxright
print(json.dumps([sys.argv[1:], os.path.basename(sys.executable), os.environ["VIRTUAL_ENV"]]))
sys.exit(int(sys.argv[1]))
"""


def test_a_persons_own_program(world: World, right: str) -> None:
    (world.folder / "run.py").write_text(APP, "utf-8")
    ran = world.verify(right, "--json", "--", "python", "run.py", "0", "--json", "--gpu")
    answer = checked(ran)
    assert ran.code == 0, (ran.out, ran.err)
    (app,) = [stage for stage in answer["verdict"]["stages"] if stage["name"] == "app"]
    assert (app["outcome"], app["evidence"]["exit"]) == ("passed", 0)
    assert app["evidence"]["command"] == "python run.py 0 --json --gpu"
    assert app["evidence"]["seconds"] > 0
    assert app["evidence"]["kernels"] is None
    assert app["evidence"]["recorder"] == "not recorded: no GPU"
    said = json.loads(next(line for line in ran.err.splitlines() if line.startswith("[")))
    assert said == [["0", "--json", "--gpu"], "python", str(world.environment)]
    plain = world.verify(right, "--", "python", "run.py", "0")
    assert '[["0"], "python"' in plain.out


def test_a_program_that_fails(world: World, right: str) -> None:
    (world.folder / "run.py").write_text(APP, "utf-8")
    ran = world.verify(right, "--json", "--", "python", "run.py", "3")
    answer = checked(ran)
    assert (ran.code, answer["error"]["kind"]) == (9, "verification-failed")
    assert "ended with exit status 3" in answer["error"]["message"]
    assert answer["findings"] == []
    assert answer["verdict"]["stages"][-1]["outcome"] == "failed"
    late = world.verify(right, "--json", "--timeout", "1s", "--", "sleep", "60")
    assert (late.code, checked(late)["error"]["kind"]) == (8, "timeout")


def test_ctrl_c_ends_the_program_and_its_children(world: World, right: str, cache: Path) -> None:
    mark = world.folder / "children"
    script = f"for i in 1 2; do (echo $BASHPID >> {mark}; exec -a {mark} sleep 300) & done; wait"
    words = [sys.executable, "-m", "buildkit", "verify", "--installed", right, "--", "bash", "-c", script]
    environment = {**os.environ, **world.env, "CUDABUILD_CACHE": str(cache)}
    process = subprocess.Popen(words, cwd=world.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not mark.exists() or len(mark.read_text().split()) < 2):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (out, err)
    assert len(mark.read_text().split()) == 2
    # By their words: their numbers may be those of a namespace.
    running = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not [words for words in running if str(mark) in " ".join(words)]
