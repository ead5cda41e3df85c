"""Probes with real objects, a real torch and a driver library that lies: what can reach ``executed``, and what cannot.

No GPU is here, so the last step (CUPTI's record of a launch) is stood in for by the names that it would report.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buildkit.build.context import Context
from buildkit.build.probing import ProbeSubject, probe_stage
from buildkit.errors import ProbeFailed
from buildkit.machine.arch import parse_targets
from buildkit.machine.gpus import Gpu
from buildkit.verify.device_code import find_cuobjdump
from buildkit.verify.kernels import OwnKernels, demangle, kernel_names
from buildkit.verify.stages import Recorder
from buildkit.verify.verdict import Stage

pytestmark = pytest.mark.integration

PACKAGE = Path(__file__).parents[1] / "packages" / "fastcuda"
KERNELS = """
namespace shapes { namespace {
template <typename T> __global__ void scale(T *p, T by, long n) { for (long i = threadIdx.x; i < n; ++i) p[i] *= by; }
} }
extern "C" __global__ void plain(float *p) { *p = 1; }
static __global__ void hidden(int *p) { *p = 2; }
extern "C" void run(float *p, int *q) {
    shapes::scale<float><<<1, 32>>>(p, 2.f, 3);
    plain<<<1, 1>>>(p);
    hidden<<<1, 1>>>(q);
}
"""
SHOWN = {"void shapes::(anonymous namespace)::scale<float>(float*, float, long)", "plain", "hidden(int*)"}
LIAR = r"""
// Claims one GPU and says yes to everything it is asked; no kernel ever runs.
#include <cstring>
extern "C" {
int cuInit(unsigned) { return 0; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int) { *device = 0; return 0; }
int cuDeviceGetName(char *name, int size, int) { std::strncpy(name, "NVIDIA H200", size); return 0; }
int cuDeviceGetUuid_v2(char *uuid, int) { std::memset(uuid, 0x11, 16); return 0; }
int cuDeviceTotalMem_v2(unsigned long *size, int) { *size = 8ul << 30; return 0; }
int cuDeviceGetAttribute(int *value, int which, int) { *value = which == 75 ? 9 : which == 76 ? 0 : 1; return 0; }
static int yes() { return 0; }
int cuGetExportTable(const void **table, const void *) {
    static void *all[256];
    all[0] = (void *)sizeof all;
    for (int i = 1; i < 256; ++i) all[i] = (void *)yes;
    *table = all;
    return 0;
}
int cuGetProcAddress_v2(const char *name, void **function, int, unsigned long, int *status) {
    struct { const char *name; void *function; } own[] = {
        {"cuInit", (void *)cuInit}, {"cuDriverGetVersion", (void *)cuDriverGetVersion},
        {"cuDeviceGetCount", (void *)cuDeviceGetCount}, {"cuDeviceGet", (void *)cuDeviceGet},
        {"cuDeviceGetName", (void *)cuDeviceGetName}, {"cuDeviceGetUuid", (void *)cuDeviceGetUuid_v2},
        {"cuDeviceTotalMem", (void *)cuDeviceTotalMem_v2}, {"cuDeviceGetAttribute", (void *)cuDeviceGetAttribute},
        {"cuGetExportTable", (void *)cuGetExportTable}, {"cuGetProcAddress", (void *)cuGetProcAddress_v2}};
    *function = (void *)yes;
    for (auto &each : own)
        if (std::strcmp(each.name, name) == 0) *function = each.function;
    if (status) *status = 0;
    return 0;
}
int cuGetProcAddress(const char *name, void **function, int version, unsigned long flags) {
    return cuGetProcAddress_v2(name, function, version, flags, nullptr);
}
}
"""
HOPPER = Gpu(name="NVIDIA H200", uuid="GPU-11111111-1111-1111-1111-111111111111", capability=(9, 0), index=0)


@pytest.fixture(scope="module")
def objects(toolkit_view: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same kernels as machine code with PTX, and as PTX alone."""
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "kernels.cu").write_text(KERNELS)
    flags = {
        "both.so": "-gencode=arch=compute_86,code=[sm_86,compute_86]",
        "ptx.so": "-gencode=arch=compute_90,code=compute_90",
    }
    for name, flag in flags.items():
        command = [str(toolkit_view / "bin" / "nvcc"), "-shared", "-Xcompiler=-fPIC", flag, "kernels.cu", "-o", name]
        environment = {**os.environ, "CUDA_HOME": str(toolkit_view)}
        subprocess.run([*command, f"-L{toolkit_view}/lib64"], cwd=folder, env=environment, check=True, timeout=300)
    return {name: folder / name for name in flags}


@pytest.mark.parametrize("name", ["both.so", "ptx.so"])
def test_the_kernels_of_an_object_are_found_by_name(objects: dict[str, Path], name: str) -> None:
    mangled = kernel_names(objects[name], find_cuobjdump())
    assert set(demangle(mangled).values()) == SHOWN
    # The host part hands the same names to __cudaRegisterFunction.
    assert all(kernel.encode() + b"\0" in objects[name].read_bytes() for kernel in mangled)


def test_an_object_without_device_code_has_no_kernels(torch_site: Path) -> None:
    assert kernel_names(torch_site / "torch" / "lib" / "libc10.so", find_cuobjdump()) == frozenset()


def test_own_kernels_are_told_from_torchs(objects: dict[str, Path], torch_site: Path) -> None:
    own = OwnKernels({"both.so": objects["both.so"]}, torch_site / "torch" / "lib", find_cuobjdump())
    torchs = torch_kernels(own)
    assert len(torchs) == 200
    recorded = {**dict.fromkeys(SHOWN, 2), **dict.fromkeys(demangle(torchs).values(), 1), "ampere_sgemm_128x64_nn": 5}
    assert own.launches(recorded) == dict.fromkeys(SHOWN, 2)
    assert str(own.code("both.so").elf[0]) == "8.6"


def test_a_kernel_that_torch_holds_is_torchs_though_the_package_has_it_too(
    objects: dict[str, Path], torch_site: Path
) -> None:
    own = OwnKernels({"both.so": objects["both.so"]}, torch_site / "torch" / "lib", find_cuobjdump())
    torchs = torch_kernels(own)
    own.names = {"both.so": frozenset([*own.names["both.so"], *torchs])}  # as if its author had instantiated them all
    recorded = {**dict.fromkeys(demangle(torchs).values(), 1), "plain": 3}
    assert own.launches(recorded) == {"plain": 3}


def torch_kernels(own: OwnKernels) -> list[str]:
    """Some of torch's own, half of them with an anonymous namespace in their names."""
    words = [word.decode() for word in own.torch_texts[0].split(b"\0") if word.startswith(b"_ZN2at6native")]
    kernels = [word for word in words if "kernel" in word]
    hidden = [word for word in kernels if "_GLOBAL__N_" in word]
    return [*hidden[:100], *(word for word in kernels if word not in hidden[:100])][:200]


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a libcuda.so.1 that is none."""
    folder = tmp_path_factory.mktemp("liar")
    (folder / "liar.cpp").write_text(LIAR)
    command = ["g++", "-shared", "-fPIC", "-w", "liar.cpp", "-o", "libcuda.so.1"]
    subprocess.run(command, cwd=folder, check=True, timeout=120)
    return folder


Probe = Callable[..., Stage]


@pytest.fixture
def probe(context: Context, person: dict[str, str], torch_site: Path, tmp_path: Path) -> Probe:
    """Run a probe in an environment with torch, on a GPU that is claimed to be here."""

    def run(text: str, *, library_path: str = "", gpus: tuple[Gpu, ...] = (HOPPER,), **changes: Any) -> Stage:
        (tmp_path / "probe.py").write_text(text)
        kept = {name: value for name, value in context.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        kept["PYTHONPYCACHEPREFIX"] = str(context.places.pycache)  # as proof_environment sets it
        subject = ProbeSubject(
            probe=tmp_path / "probe.py",
            device=changes.get("device", "cuda"),
            targets=parse_targets(["9.0"]),
            python=Path(person["VIRTUAL_ENV"]) / "bin" / "python",
            objects={},
            torch_lib=torch_site / "torch" / "lib",
            gpus=gpus,
            driver="580.65",
            environment={**kept, **({"LD_LIBRARY_PATH": library_path} if library_path else {})},
            timeout=240.0,
        )
        recorder = Recorder()
        try:
            with recorder.stage("probe") as stage:
                probe_stage(subject, context, tmp_path, stage)
        except ProbeFailed as error:
            return recorder.stages[0].model_copy(update={"detail": f"{error.message}: {error.evidence}"})
        return recorder.stages[0]

    return run


TORCH_ONLY = """
DEVICES = ("cpu", "cuda")
import torch
def checks(device, tools):
    x = torch.arange(4.0, device=device)
    yield {"name": "sum", "expected": 6.0, "got": x.sum().item()}
"""


def test_a_driver_that_is_a_library_only_never_leads_to_executed(probe: Probe, liar: Path) -> None:
    found = probe(TORCH_ONLY, library_path=str(liar))
    assert found.outcome == "not-executed", found
    assert found.detail.startswith("CUDA does not start here")
    assert not found.evidence.get("kernels")


def test_without_any_driver_a_claimed_gpu_does_not_start(probe: Probe) -> None:
    found = probe(TORCH_ONLY)
    assert (found.outcome, found.evidence["checks"]) == ("not-executed", [])
    assert found.detail.startswith("CUDA does not start here")


def test_on_the_cpu_a_probe_with_torch_passes(probe: Probe) -> None:
    found = probe(TORCH_ONLY, device="cpu", gpus=())
    assert (found.outcome, found.detail) == ("passed", "")
    assert found.evidence["checks"][0]["got"] == 6.0


RECIPE = """
edition = 1
name = "fastcuda"
summary = "compiles in seconds, and has a probe"
license = { spdx = "Apache-2.0", redistributable = true }
[[version]]
version = "1.0"
folder = "source"
[build.env-cuda]
FORCE_CUDA = "1"
[verify]
imports = ["fastcuda"]
probe = "probe.py"
"""


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipes")
    shutil.copytree(PACKAGE, folder / "fastcuda" / "source")
    setup = folder / "fastcuda" / "source" / "setup.py"
    setup.write_text(f"{setup.read_text()}\n# {os.getpid()} {time.time_ns()}\n")  # a source that no store has
    (folder / "fastcuda" / "recipe.toml").write_text(RECIPE)
    (folder / "fastcuda" / "probe.py").write_text(TORCH_ONLY)
    return folder


def test_executed_without_a_gpu_is_refused_before_anything_is_built(
    cudabuild: Callable[..., Any], recipes: Path, tmp_path: Path
) -> None:
    words = ("fastcuda", "--recipes", str(recipes), "--torch", "2.13.0+cu130", "--target", "12.0", "--no-canary")
    env = {"CUDA_VISIBLE_DEVICES": "", "CUDABUILD_CACHE": str(tmp_path)}
    done = cudabuild("build", *words, "--require", "executed", "--json", env=env)
    error = done.json["error"]
    assert (done.code, error["kind"], error["exit_code"]) == (9, "below-requirement", 9)
    assert "12.0 (GeForce RTX 5050" in error["hint"]
    assert (done.json["key"], done.json["verdict"]) == (None, None)
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".log" or path.parent.name == "torch"]


def test_the_verdict_is_kept_shown_proven_again_and_raised(
    cudabuild: Callable[..., Any], recipes: Path, context: Context, tmp_path: Path
) -> None:
    words = ("fastcuda", "--recipes", str(recipes), "--torch", "2.13.0+cu130", "--target", "8.6+PTX", "--json")
    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    first = cudabuild("build", *words, "--no-canary", "--out", str(tmp_path), env=hidden)
    assert first.code == 0, first.err
    verdict = first.json["verdict"]
    (stage,) = [stage for stage in verdict["stages"] if stage["name"] == "probe"]
    assert (verdict["grade"], stage["outcome"]) == ("imported", "not-executed")
    assert stage["detail"] == "no GPU visible; on the CPU its 1 checks passed"
    (row,) = verdict["rows"]
    assert (row["target"], row["executed"], len(row["sass"]), len(row["ptx"])) == ("8.6+PTX", False, 1, 1)
    # Kept with the wheel, and shown.
    key = first.json["key"]
    shown = cudabuild("cache", "show", key, "--json").json
    assert shown["verdict"] == verdict
    assert "machine code and PTX present, never executed" in cudabuild("cache", "show", key).out
    # On a hit it stays below what is asked for.
    again = cudabuild("build", *words, "--no-canary", "--require", "executed", env=hidden)
    assert (again.code, again.json["error"]["kind"]) == (9, "below-requirement")
    # One in an older form is proven again, not a crash and not a new build.
    age(context, key)
    assert cudabuild("cache", "show", key, "--json").json["verdict"] is None
    served = cudabuild("build", *words, "--no-canary", env=hidden)
    assert (served.code, served.json["cache"]) == (0, "hit"), served.err
    assert [stage["name"] for stage in served.json["verdict"]["stages"]] == ["build", "audit", "import", "probe"]
    # And verify raises what is stored of the very wheel.
    age(context, key, grade="built")
    wheel = first.json["wheel"]["path"]
    options = ("--recipes", str(recipes), "--torch", "2.13.0+cu130", "--json")
    verified = cudabuild("verify", wheel, *options, env=hidden)
    assert verified.code == 0, verified.err
    assert verified.json["raised"] == [{"key": key, "before": "built", "now": "imported"}]
    # A hit shows what is stored now, not what its receipt says (times differ from one proof to the next).
    served = cudabuild("build", *words, "--no-canary", env=hidden)
    assert served.json["verdict"] == cudabuild("cache", "show", key, "--json").json["verdict"]
    # A probe that has changed is run again, and a wrong value fails the hit.
    (recipes / "fastcuda" / "probe.py").write_text(TORCH_ONLY.replace("6.0", "7.0"))
    wrong = cudabuild("build", *words, "--no-canary", env=hidden)
    assert (wrong.code, wrong.json["error"]["kind"]) == (9, "probe-failed")
    assert wrong.json["error"]["evidence"] == "expected 7.0 (within 0), got 6.0"


def age(context: Context, key: str, *, grade: str = "imported") -> None:
    """Make a stored verdict one of the schema before."""
    file = context.places.store / "entries" / f"{key}.json"
    entry = json.loads(file.read_text())
    del entry["checksum"]  # there was none then, either
    stages = [{"name": "probe", "outcome": "not-executed", "seconds": 0.0, "evidence": {}, "detail": "no GPU visible"}]
    entry["verdict"] = {**entry["verdict"], "schema": 1, "grade": grade, "stages": stages}
    del entry["verdict"]["rows"]
    file.write_text(json.dumps(entry))
