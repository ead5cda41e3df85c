"""Judging installed packages: by tables, by small files, and by the recorder of a person's own program."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest

from buildkit.build.installed_scan import Installation, installations, own_modules, speaks_cuda, stem_of
from buildkit.build.installed_stages import error_of
from buildkit.build.leftovers import Leftover
from buildkit.build.verification_installed import Environment
from buildkit.cli.installed_page import code_text, lines_of, state_of, summary
from buildkit.cli.verify_command import PROGRAM, WithProgram
from buildkit.cli.verify_schema import installed_schema_text
from buildkit.machine.arch import Target
from buildkit.machine.torch_identity import TorchIdentity
from buildkit.verify import app_script, probe_script
from buildkit.verify.app import SCRIPT, PythonProgram, read_program, read_python_words
from buildkit.verify.device_code import ObjectCode, UnitCode
from buildkit.verify.installed import Finding, Kind, Package, import_finding, judge_package, worst
from buildkit.verify.installed_code import Device, code_for, targets_for
from buildkit.verify.installed_mend import Mender, Origin, remove
from buildkit.verify.installed_record import RecordCheck, check_installed_record, read_rows
from buildkit.verify.installed_torch import Claim, claims_of, cuda_of_label, cuda_release_needed, torch_of_label
from buildkit.verify.linkage import LibraryFinder, Linkage, ObjectLinkage
from buildkit.verify.symbols import Dynamic

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference"
TORCH = TorchIdentity("2.13.0+cu130", "13.0", "", "", Path("/site"), None)
CPU_TORCH = replace(TORCH, version="2.13.0+cpu", cuda=None)
MENDER = Mender(Origin("voxels", "1.0", recipe="voxels"), "/env", "uv", (Target(12, 0),))
REBUILD = "cudabuild install voxels --python /env --target 12.0"


# What it was built for


@pytest.mark.parametrize(
    ("local", "torch", "cuda"),
    [
        ("pt2.13.cu130", "2.13", "13.0"),
        ("pt2.13.cu130.sm120", "2.13", "13.0"),
        ("pt2.13.cpu", "2.13", ""),
        ("pt24cu121", "2.4", "12.1"),
        ("pt210cu128", "2.10", "12.8"),
        ("pt2.4.1cu121", "2.4", "12.1"),
        ("pt113cu117", "1.13", "11.7"),
        ("cu12torch2.8cxx11abifalse", "2.8", "12"),
        ("cu130", "", "13.0"),
        ("cpu", "", ""),
        ("gabc1234", "", ""),
        ("acu1234", "", ""),
        ("opt24", "", ""),
    ],
)
def test_labels_of_several_publishers(local: str, torch: str, cuda: str) -> None:
    assert (torch_of_label(local), cuda_of_label(local)) == (torch, cuda)


@pytest.mark.parametrize(
    ("version", "requires", "facts", "kinds"),
    [
        ("1.0+pt2.13.cu130", ["torch==2.13.*"], {"torch": "2.13.0+cu130", "device": "cuda"}, []),
        ("1.0+pt2.13.cu130", [], {"torch": "2.13.1+cu130", "device": "cuda"}, []),
        ("1.0", ["torch>=2.4", "numpy"], {}, []),
        ("1.0", ["torch==2.12.*"], {}, ["other-torch"]),
        ("1.0", ["torch<2.13; extra == 'old'"], {}, []),
        ("1.0", [], {"torch": "2.12.0+cu130", "device": "cuda"}, ["other-torch"]),
        ("1.0", [], {"torch": "2.12.0+cu126", "device": "cuda"}, ["other-torch", "other-cuda"]),
        ("1.0+pt24cu121", [], {}, ["other-torch", "other-cuda"]),
        ("1.0+pt2.13.cu126", [], {}, ["other-cuda"]),
        ("1.0+cu126", [], {}, []),
        ("1.0+cu126", ["torch==2.13.0"], {}, ["other-cuda"]),
        ("1.0", [], {"torch": "2.13.0.dev1+cu130", "device": "cuda"}, ["other-torch"]),
        ("1.0", ["torch @ nonsense nonsense", "torch!"], {}, []),
    ],
)
def test_the_torch_it_was_built_for(version: str, requires: list[str], facts: dict[str, Any], kinds: list[str]) -> None:
    found = judge_package(package(version=version, claims=claims_of(version, requires, facts), facts=facts), TORCH)
    assert [finding.kind for finding in found] == kinds
    assert {finding.severity for finding in found} <= {"error"}
    assert {finding.command for finding in found} <= {REBUILD}


def test_a_package_without_torch_may_bring_its_own_cuda() -> None:
    needs_12 = linkage(needed=("libcudart.so.12", "libc.so.6"))
    assert judge_package(package(linkage=needs_12), TORCH) == []
    extension = linkage(needed=("libcudart.so.12", "libc10.so"))
    (found,) = judge_package(package(linkage=extension), TORCH)
    assert (found.kind, found.evidence) == ("other-cuda", "libcudart.so.12 is needed")


def test_beside_a_cpu_only_torch_it_is_built_for_the_cpu() -> None:
    extension = linkage(needed=("libcudart.so.13", "libtorch_cpu.so"))
    (found,) = judge_package(package(linkage=extension), CPU_TORCH)
    assert found.what == "built for another CUDA than that of the torch here (2.13.0+cpu: no CUDA)"
    assert found.command == "cudabuild install voxels --python /env --device cpu"


def test_only_libraries_that_count_with_cuda_tell_its_major() -> None:
    names = ["libcudart.so.12", "libcublas.so.13", "libcufft.so.11", "libcudart-1a2b3c4d.so.12", "libnvrtc.so.12.8"]
    assert cuda_release_needed(names) == {"libcudart.so.12": "12", "libcublas.so.13": "13", "libnvrtc.so.12.8": "12"}


# Device code


def unit(elf: str = "", ptx: str = "", name: str = "unit 1 of 1") -> UnitCode:
    return UnitCode(name, targets(elf), targets(ptx))


def targets(text: str) -> tuple[Target, ...]:
    return tuple(Target(int(number[:-1]), int(number[-1])) for number in text.split())


def holding(*units: UnitCode, path: str = "voxels/_C.so") -> ObjectCode:
    elf = tuple(sorted({target for each in units for target in each.elf}))
    ptx = tuple(sorted({target for each in units for target in each.ptx}))
    return ObjectCode(path, elf, ptx, units)


def linkage(**facts: Any) -> Linkage:
    empty: dict[str, Any] = {
        "needed": (), "found": {}, "missing": (), "driver": (), "undefined": (), "outdated": (), "search": ()
    }  # fmt: skip
    return Linkage((ObjectLinkage(path="voxels/_C.so", **{**empty, **facts}),), {}, ())


def package(**changes: Any) -> Package:
    plain = Package(
        name="voxels",
        version="1.0",
        facts={},
        claims=(),
        objects=(),
        linkage=Linkage((), {}, ()),
        record=RecordCheck(present=3),
        mender=MENDER,
    )
    return replace(plain, **changes)


def coded(capability: tuple[int, int], *objects: ObjectCode, **changes: Any) -> Package:
    code = code_for(Device("a GPU", capability), objects)
    return package(objects=objects, code=() if code is None else (code,), **changes)


@pytest.mark.parametrize(
    ("elf", "ptx", "capability", "by"),
    [
        ("86", "", (8, 6), "sass"),
        ("86", "", (8, 9), "sass"),
        ("86", "", (8, 7), "none"),
        ("86", "", (12, 0), "none"),
        ("86", "86", (12, 0), "ptx-jit"),
        ("120", "", (12, 1), "sass"),
        ("120", "120", (9, 0), "none"),
    ],
)
def test_what_a_gpu_makes_of_it(elf: str, ptx: str, capability: tuple[int, int], by: str) -> None:
    code = code_for(Device("a GPU", capability), [holding(unit(elf, ptx))])
    assert code is not None
    assert code.by == by
    assert bool(code.lacking) == (by == "none")


def test_no_device_code_is_no_answer_for_a_gpu() -> None:
    assert code_for(Device("a GPU", (8, 6)), [holding()]) is None


def test_no_code_for_a_gpu() -> None:
    (found,) = judge_package(coded((12, 0), holding(unit("80", "80"), unit("86"))), TORCH)
    assert (found.kind, found.severity) == ("part-without-code", "warning")
    (found,) = judge_package(coded((12, 0), holding(unit("80 86")), strict=True), TORCH)
    assert (found.kind, found.severity) == ("no-code-for-gpu", "error")
    assert found.what == "no code that a GPU (12.0) can run"
    assert found.evidence == "it holds sm_80, sm_86"
    assert found.command == REBUILD


def test_one_file_for_another_gpu_is_an_error_where_cudabuild_built_it() -> None:
    two = (holding(unit("120"), path="a.so"), holding(unit("86"), path="b.so"))
    (found,) = judge_package(coded((12, 0), *two, strict=True), TORCH)
    assert (found.kind, found.severity, found.evidence) == ("part-without-code", "error", "b.so: unit 1 of 1")


def test_jit_is_worth_knowing() -> None:
    (found,) = judge_package(coded((9, 0), holding(unit("86", "86"))), TORCH)
    assert (found.kind, found.severity) == ("jit-only", "note")
    assert found.evidence == "it holds sm_86, PTX of 8.6"


def test_targets_it_claims_have_to_be_there() -> None:
    claims = package(objects=(holding(unit("86")),), targets=(Target(8, 6), Target(12, 0, ptx=True)))
    (found,) = judge_package(claims, TORCH)
    assert (found.kind, found.severity) == ("missing-targets", "error")
    assert found.evidence == "voxels/_C.so: unit 1 of 1 lacks sm_120, PTX of 12.0"
    assert shlex.split(found.command)[-1] == "8.6;12.0+PTX"


def test_cpu_only() -> None:
    (found,) = judge_package(package(expects_cuda="the recipe says so", objects=(holding(),)), TORCH)
    assert (found.kind, found.severity, found.evidence) == ("cpu-only", "error", "the recipe says so")
    (found,) = judge_package(package(facts={"device": "cpu"}), TORCH)
    assert found.severity == "note"
    assert judge_package(package(), TORCH) == []


def test_targets_of_gpus() -> None:
    devices = [Device("a", (12, 0)), Device("b", (8, 6)), Device("c", (8, 6))]
    assert targets_for(devices) == (Target(8, 6), Target(12, 0))


# Linkage, RECORD, requirements


@pytest.mark.parametrize(
    ("facts", "kind", "severity"),
    [
        ({"undefined": ("_ZN3c104goneEv",)}, "undefined-symbols", "error"),
        ({"missing": ("libcudart.so.12",)}, "missing-library", "error"),
        ({"outdated": ("libc.so.6: GLIBC_2.99",)}, "library-too-old", "error"),
    ],
)
def test_what_cannot_be_loaded(facts: dict[str, Any], kind: str, severity: str) -> None:
    (found,) = judge_package(package(linkage=linkage(**facts)), TORCH)
    assert (found.kind, found.severity, found.command) == (kind, severity, REBUILD)
    assert found.evidence == next(iter(facts.values()))[0]


def test_where_an_object_says_its_libraries_are(tmp_path: Path) -> None:
    own, other, rooted = tmp_path / "a" / "x.so", tmp_path / "b" / "liby.so.1", tmp_path / "c" / "libz.so.1"
    for path in (own, other, rooted):
        path.parent.mkdir()
        path.write_bytes(b"")
    dynamic = Dynamic("", (), ("$ORIGIN/../b", str(rooted.parent)), {}, frozenset())
    for installed, found in ((True, rooted), (False, None)):
        finder = LibraryFinder([], [], Path(sys.executable), installed=installed)
        finder._dynamics[own] = dynamic
        assert finder.beside(own, "libz.so.1") == found, "an absolute folder is of the machine that built a wheel"
        assert finder.beside(own, "liby.so.1") == tmp_path / "a" / ".." / "b" / "liby.so.1"
        assert finder.beside(own, "libnone.so") is None


def put(folder: Path, files: dict[str, str]) -> str:
    """Files below a folder, and a RECORD that is true of them."""
    rows = []
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        said = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        rows.append(f"{name},sha256={said},{len(text)}")
    return "\n".join([*rows, "voxels-1.0.dist-info/RECORD,,", "voxels/__pycache__/a.cpython-311.pyc,,", ""])


def record(folder: Path, text: str) -> RecordCheck:
    (folder / "voxels-1.0.dist-info").mkdir(exist_ok=True)
    (folder / "voxels-1.0.dist-info" / "RECORD").write_text(text, "utf-8")
    return check_installed_record(read_rows(text), folder, "voxels-1.0.dist-info")


def test_a_true_record(tmp_path: Path) -> None:
    text = put(tmp_path, {"voxels/a.py": "1", "voxels/b.py": "2", "voxels-1.0.dist-info/METADATA": "3"})
    assert record(tmp_path, text) == RecordCheck(present=2)


def test_a_record_that_is_not_true(tmp_path: Path) -> None:
    text = put(tmp_path, {"voxels/a.py": "1", "voxels/b.py": "2", 'voxels/"c,d".py': "3"})
    (tmp_path / "voxels" / "a.py").unlink()
    (tmp_path / "voxels" / "b.py").write_text("x")
    text = text.replace('voxels/"c,d".py,', '"voxels/""c,d"".py",') + "voxels/e.py,,\nshort\n"
    (tmp_path / "voxels" / "e.py").write_text("")
    found = record(tmp_path, text)
    assert found == RecordCheck(("voxels/a.py", "short"), ("voxels/b.py",), ("voxels/e.py",), 3)
    kinds = {finding.kind: finding.severity for finding in judge_package(package(record=found), TORCH)}
    assert kinds == {"record-missing": "error", "record-changed": "error", "record-unhashed": "note"}


def test_half_removed_is_all_that_is_said() -> None:
    gone = RecordCheck(missing=("voxels/a.py",), changed=("voxels-1.0.dist-info/METADATA",))
    found = judge_package(package(record=gone, linkage=linkage(missing=("x.so",))), TORCH)
    assert [finding.kind for finding in found] == ["half-removed"]


def test_without_a_record() -> None:
    (found,) = judge_package(package(record=RecordCheck(absent="no RECORD in x.egg-info")), TORCH)
    assert (found.kind, found.severity) == ("no-record", "warning")


def test_an_import_is_mended_by_what_mends_its_cause() -> None:
    unmet = package(unmet=("numpy>=9",))
    (warning,) = judge_package(unmet, TORCH)
    assert (warning.kind, warning.severity) == ("unmet-requirement", "warning")
    assert warning.command == "uv pip install --python /env 'numpy>=9'"
    assert import_finding(unmet, "it fails", "line", [warning]).command == warning.command
    error = Finding("record-changed", "error", "changed", "", "put it back")
    assert import_finding(unmet, "it fails", "line", [warning, error]).command == "put it back"
    assert import_finding(unmet, "it fails", "line", []).command == REBUILD


# Commands


@pytest.mark.parametrize(
    ("origin", "rebuild"),
    [
        ({}, "cudabuild install pypi:voxels==1.0 --python /env --target 12.0"),
        ({"recipe": "vox", "recipes": "/a b"}, "cudabuild install vox --python /env --recipes '/a b' --target 12.0"),
        ({"folder": "/src/my voxels"}, "cudabuild install '/src/my voxels' --python /env --target 12.0"),
        (
            {"git": ("https://git.example/v.git", "abc")},
            (
                "git clone https://git.example/v.git voxels && git -C voxels checkout abc && "
                "cudabuild install ./voxels --python /env --target 12.0"
            ),
        ),
    ],
)
def test_where_it_is_built_from_again(origin: dict[str, Any], rebuild: str) -> None:
    mender = replace(MENDER, origin=Origin("voxels", "1.0+cu126", **origin))
    assert mender.rebuild() == rebuild
    assert mender.reinstall() == rebuild


def test_the_other_commands() -> None:
    wheel = replace(MENDER, origin=Origin("voxels", "1.0", wheel="/w x/v.whl"), python="/e v")
    words = ["uv", "pip", "install", "--python", "/e v", "--no-cache", "--no-deps", "--reinstall-package", "voxels"]
    assert shlex.split(wheel.reinstall()) == [*words, "/w x/v.whl"]
    assert wheel.uninstall() == "uv pip uninstall --python '/e v' voxels"
    assert remove(["/site/~ox els"]) == "rm -r -- '/site/~ox els'"
    assert replace(MENDER, targets=()).rebuild().endswith("--target all")


# What lies in site-packages


def test_names_of_metadata_folders() -> None:
    assert stem_of(Path("voxels-1.0+cu1.dist-info")) == ("voxels", "1.0+cu1")
    assert stem_of(Path("voxels-1.0-py3.11-linux-x86_64.egg-info")) == ("voxels", "1.0")
    assert stem_of(Path("voxels.egg-info")) == ("voxels", "")


def installation(folder: Path, metadata: str, *files: str) -> Installation:
    info = folder / "vox_els-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(metadata, "utf-8")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files), "utf-8")
    (interpreter := type("Python", (), {})()).site_packages = (folder,)
    (found,) = installations(interpreter)
    return found


def test_a_distribution_and_its_modules(tmp_path: Path) -> None:
    files = ("vox/_C.cpython-311-x86_64-linux-gnu.so", "vox/a.py", "_top.abi3.so", "vox.libs/libx.so.1", "tools/b.py")
    found = installation(tmp_path, "Name: Vox_Els\nVersion: 1.0\n", *files)
    assert (found.sound, found.name, found.version) == (True, "vox-els", "1.0")
    assert own_modules(found) == ("_top", "vox")
    assert found.objects == {}


def test_the_modules_of_a_package_without_compiled_ones(tmp_path: Path) -> None:
    found = installation(tmp_path, "Name: vox\nVersion: 1.0\n", "vox/__init__.py", "vox/inner/a.py", "more.py", "x.txt")
    assert own_modules(found) == ("more", "vox")


def test_a_distribution_without_its_name(tmp_path: Path) -> None:
    found = installation(tmp_path, "Summary: nothing\n")
    assert (found.sound, found.name, found.version) == (False, "vox-els", "1.0")


def test_what_speaks_cuda(tmp_path: Path) -> None:
    plain = Path(sys.executable).resolve()
    assert not speaks_cuda(plain)
    truncated = tmp_path / "x.so"
    truncated.write_bytes(plain.read_bytes()[:5000])
    assert speaks_cuda(truncated), "nobody can tell, so it is looked at"
    uses = tmp_path / "y.so"
    uses.write_bytes(plain.read_bytes() + b"_ZN3c106Device8validateEv\0")
    assert speaks_cuda(uses)
    mentions = tmp_path / "z.so"
    mentions.write_bytes(plain.read_bytes() + b"\0libcudart.so.13\0")
    assert not speaks_cuda(mentions), "a name in its text is not a library that it needs"


@pytest.mark.parametrize(
    ("left", "name", "belongs"),
    [("~oxels", "voxels", True), ("~xels", "vox-els", False), ("~els", "Vox_Els", True), ("voxels", "Voxels", True)],
)
def test_whose_leftover_it_is(left: str, name: str, belongs: bool) -> None:
    finding = Finding("interrupted-uninstall", "warning", "left")
    assert Leftover(left, "", finding).belongs_to(name) is belongs


# A person's own program


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("run.py a --b", ((), "script", "run.py", ("a", "--b"))),
        ("-u -W ignore -Xdev -B run.py -u", (("-u", "-W", "ignore", "-Xdev", "-B"), "script", "run.py", ("-u",))),
        ("-m pkg.tool -x", ((), "module", "pkg.tool", ("-x",))),
        ("-I -c print(1) 2", (("-I",), "code", "print(1)", ("2",))),
        ("", None),
        ("-", None),
        ("-V", None),
        ("-m", None),
        ("--help", None),
    ],
)
def test_words_after_python(words: str, expected: tuple[Any, ...] | None) -> None:
    found = read_python_words(words.split())
    assert found == (PythonProgram(*expected) if expected else None)


def test_only_the_environments_own_python_is_recorded(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    script = python.parent / "tool"
    script.write_text(f"#!{python}3.11\n", "utf-8")
    assert read_program(["python", "a.py"], python, python) == PythonProgram((), "script", "a.py", ())
    assert read_program(["python3.11", "a.py"], python.parent / "python3.11", python) is not None
    assert read_program(["tool", "x"], script, python) == PythonProgram((), "script", str(script), ("x",))
    assert read_program(["python", "a.py"], Path("/usr/bin/python3"), python) is None
    assert read_program(["bash", "a.sh"], Path("/bin/bash"), python) is None


# Stands for torch on a machine with a GPU: what the recorder uses of it, and nothing else.
TORCH_WITH_GPU = """
import types
class _Kind: CUDA = "cuda"
class _Event:
    def __init__(self, name, device): self.name, self.device_type = name, device
class _Inner:
    def _prepare_trace(self): started.append(self)
started, queued = [], []
class _Profile:
    def __init__(self, activities): self.profiler, self.activities = _Inner(), activities
    def start(self): self.profiler._prepare_trace()
    def stop(self): pass
    def events(self):
        return [_Event("add(float*)", "cuda"), _Event("add(float*)", "cuda"), _Event("aten::add", "cpu"),
                _Event("MemoryPool_fill(float*)", "cuda"), _Event("Memcpy HtoD", "cuda"),
                _Event("Memset (Device)", "cuda")]
cuda = types.SimpleNamespace(_lazy_call=queued.append)
autograd = types.SimpleNamespace(profiler=types.SimpleNamespace(profile=_Inner), DeviceType=_Kind)
profiler = types.ModuleType("torch.profiler")
profiler.profile, profiler.ProfilerActivity = _Profile, types.SimpleNamespace(CUDA="cuda")
import sys
sys.modules["torch.profiler"] = profiler
def use_the_gpu():
    for call in queued: call()
"""
KERNELS = {"add(float*)": 2, "MemoryPool_fill(float*)": 1}
"""What of it is a kernel: no copies and fills, but what a package calls Mem... is one."""


def recorded(folder: Path, kind: str, what: str, *arguments: str, options: tuple[str, ...] = ()) -> Any:
    """How a program ended under the recorder, what it printed, and the recorder's answer (None: it wrote none)."""
    (folder / "torch.py").write_text(TORCH_WITH_GPU, "utf-8")
    answer = folder / "answer.json"
    answer.unlink(missing_ok=True)
    command = [sys.executable, *options, str(SCRIPT), str(answer), kind, what, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done, json.loads(answer.read_text()) if answer.is_file() else None


def test_a_program_runs_as_without_the_recorder(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    text = "import sys\nprint([__name__, sys.argv, sys.path[0]])\nsys.exit(int(sys.argv[1]))\n"
    for name in ("inner/run.py", "pack.py"):
        (tmp_path / name).write_text(text, "utf-8")
    cases = [
        ("script", "inner/run.py", ["inner/run.py"]),
        ("module", "pack", ["-m", "pack"]),
        ("code", text, ["-c", text]),
    ]
    for kind, what, plain in cases:
        done, answer = recorded(tmp_path, kind, what, "3", "-x")
        expected = subprocess.run(
            [sys.executable, *plain, "3", "-x"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (3, expected.stdout), done.stderr
        assert answer == {"recorder": "the program did not import torch", "kernels": {}}


def test_kernels_are_recorded_from_the_start_of_cuda(tmp_path: Path) -> None:
    program = "import torch\nassert not torch.started\ntorch.use_the_gpu()\nprint(len(torch.started))"
    done, answer = recorded(tmp_path, "code", program)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert answer == {"recorder": "works", "kernels": KERNELS}
    _, answer = recorded(tmp_path, "code", "import torch")
    assert answer["recorder"] == "torch did not start CUDA in the program's first process"


def test_both_recorders_leave_out_the_same() -> None:
    assert app_script.COPIES == probe_script.COPIES


def test_a_program_with_a_profiler_of_its_own_has_it(tmp_path: Path) -> None:
    program = "import torch\ntorch.use_the_gpu()\ntorch.profiler.profile([]).start()\nprint(len(torch.started))"
    done, answer = recorded(tmp_path, "code", program)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
    assert answer["recorder"] == "works, until the program started a profiler of its own"
    assert answer["kernels"] == KERNELS


def test_what_the_recorder_cannot_see(tmp_path: Path) -> None:
    thread = "import threading, torch\nt = threading.Thread(target=torch.use_the_gpu)\nt.start()\nt.join()"
    _, answer = recorded(tmp_path, "code", thread)
    assert answer["recorder"].startswith("torch started CUDA outside the main thread")
    child = "import os, torch\nif os.fork() == 0:\n    torch.use_the_gpu()\n    raise SystemExit(0)\nos.wait()"
    _, answer = recorded(tmp_path, "code", child)
    assert answer["recorder"] == "torch did not start CUDA in the program's first process"
    done, answer = recorded(tmp_path, "code", "import os\nos._exit(4)")
    assert (done.returncode, answer) == (4, None)
    done, answer = recorded(tmp_path, "code", "raise ValueError('mine')")
    assert (done.returncode, answer["kernels"]) == (1, {})
    assert "ValueError: mine" in done.stderr


# What people and programs read


def test_the_schema_is_the_published_one() -> None:
    published = (DOCS / "verify.schema.json").read_text("utf-8")
    assert published == installed_schema_text(), "make it anew: python -m buildkit.cli.reference"
    assert '"additionalProperties": false' not in published, "keys may be added"


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("cpu-only", "cpu-only-wheel"),
        ("no-code-for-gpu", "missing-targets"),
        ("import-failed", "import-failed"),
        ("other-torch", "verification-failed"),
    ],
)
def test_the_first_error_is_what_it_ends_with(kind: Kind, error: str) -> None:
    warning = Finding("no-record", "warning", "no record")
    found = error_of("voxels", [warning, Finding(kind, "error", "what", "line", "mend it")])
    assert found is not None
    assert (found.kind, found.exit_code, found.message) == (error, 9, "voxels: what")
    assert (found.evidence, found.hint) == ("line", "mend it")
    assert error_of("voxels", [warning]) is None
    assert worst([warning]) == "warning"
    assert worst([]) is None


def checked(*findings: Finding) -> Any:
    from buildkit.build.installed_stages import Checked

    code = code_for(Device("rtx3090", (8, 6), stated=True), [holding(unit("120"))])
    assert code is not None
    return Checked("voxels", "1.0", "", findings, (code,), None, error_of("voxels", findings))


def test_the_page_for_people() -> None:
    broken = checked(Finding("no-code-for-gpu", "error", "no code", "it holds sm_120", "cudabuild install voxels"))
    assert list(lines_of(broken)) == [
        "voxels 1.0: unsound",
        "  code       rtx3090 (8.6): no code (it holds sm_120)",
        "  error: no code [no-code-for-gpu]",
        "    | it holds sm_120",
        "    mend: cudabuild install voxels",
    ]
    sound = checked()
    look = checked(Finding("no-record", "warning", "no record"))
    assert [state_of(each) for each in (sound, look, broken)] == ["sound", "look", "unsound"]
    found = Environment(Path("/env"), "2.13.0", "13.0", (), None, (sound, broken, look))
    assert summary(found) == "1 sound, 1 look, 1 unsound"
    assert "no package here" in summary(replace(found, results=()))


def test_code_in_words() -> None:
    some = code_for(Device("x", (8, 6)), [holding(unit("86"), unit("120", name="unit 2 of 2"))])
    assert some is not None
    assert code_text(some) == "x (8.6): SASS, but not in 1 of its parts"
    jit = code_for(Device("x", (12, 0)), [holding(unit("", "86"))])
    assert jit is not None
    assert code_text(jit) == "x (12.0): JIT from PTX (it holds PTX of 8.6)"


def test_words_after_two_dashes_are_another_programs() -> None:
    seen: dict[str, Any] = {}

    @click.command(cls=WithProgram)
    @click.argument("words", nargs=-1)
    @click.option("--json", "as_json", is_flag=True)
    @click.pass_context
    def command(ctx: click.Context, /, words: tuple[str, ...], as_json: bool) -> None:
        seen.update(words=words, as_json=as_json, program=ctx.meta.get(PROGRAM))

    command.main(["x", "--", "run", "--json", "--", "y"], standalone_mode=False)
    assert seen == {"words": ("x",), "as_json": False, "program": ("run", "--json", "--", "y")}
    command.main(["x", "--json"], standalone_mode=False)
    assert seen == {"words": ("x",), "as_json": True, "program": None}


def test_claims_are_plain() -> None:
    found = claims_of("1.0+pt2.13.cu130", ["torch==2.13.*"], {"torch": "2.13.0+cu130", "device": "cuda"})
    assert found == (
        Claim("cudabuild built it for torch 2.13.0+cu130", "2.13.0+cu130", "13.0"),
        Claim("its version is 1.0+pt2.13.cu130", "2.13", "13.0"),
        Claim("Requires-Dist: torch==2.13.*", specifier="==2.13.*"),
    )
    assert claims_of("1.0+cu130", [], {"torch": ""}) == (Claim("its version is 1.0+cu130", "", "13.0"),)
