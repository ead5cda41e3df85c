"""The smoke test: its shapes and bounds, the kernel's CPU twin under it, its script, and scikit-image beside it."""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from buildkit.errors import VerificationFailed
from buildkit.machine.gpus import Gpu
from buildkit.verify import smoke, smoke_stage
from buildkit.verify.smoke_checks import Crossings, Mesh, check, check_mesh, crossings
from buildkit.verify.smoke_shapes import (
    Known,
    Shape,
    all_shapes,
    gyroid,
    plane,
    random_field,
    sphere,
    torus,
    touching_spheres,
)
from buildkit.verify.smoke_stage import GpuBusy, judge_smoke, run_smoke

SCRIPT = Path(smoke.__file__)
ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
GPU = Gpu("NVIDIA Test", "GPU-0", (9, 0), 0)
MODULE: Any = importlib.import_module("buildkit._native.cudabuild_mcubes")
FOLDER = Path(MODULE.__file__).parent


def mesh_of(shape: Shape) -> Mesh:
    return smoke.kernel(MODULE, "cpu")(shape)


# The shapes


def ambiguous_faces(shape: Shape) -> int:
    """Faces of cells whose opposite corners are alike and whose neighbouring ones are not."""
    inside = shape.volume < np.float32(shape.isovalue)
    count = 0
    for axis in range(3):
        face = np.moveaxis(inside, axis, 0)
        here, right, up, both = face[:, :-1, :-1], face[:, :-1, 1:], face[:, 1:, :-1], face[:, 1:, 1:]
        count += int(np.count_nonzero((here == both) & (right == up) & (here != right)))
    return count


@pytest.mark.parametrize("shape", [plane(), sphere(), torus(), gyroid()], ids=lambda shape: shape.name)
def test_smooth_shapes_leave_nothing_open(shape: Shape) -> None:
    assert ambiguous_faces(shape) == 0


def test_the_other_shapes_are_about_ambiguous_faces() -> None:
    assert ambiguous_faces(touching_spheres()) > 0
    assert ambiguous_faces(random_field()) > 500


def test_axes_differ_and_strides_are_of_every_kind() -> None:
    for shape in all_shapes():
        assert len({*shape.spacing}) > 1
        assert len({*shape.volume.shape}) > 1
        assert shape.volume.dtype == np.float32
    strides = [shape.volume.strides for shape in all_shapes()]
    assert any(min(steps) < 0 for steps in strides)
    assert any(steps[0] < steps[1] < steps[2] for steps in strides)


def error_of(shape: Shape, what: str) -> float:
    found = next(entry for entry in check_mesh(mesh_of(shape), shape) if entry["name"] == f"{shape.name}: {what}")
    assert found["passed"]
    return abs(float(found["got"]) - float(found["expected"]))


@pytest.mark.parametrize("make", [sphere, torus])
@pytest.mark.parametrize("what", ["area", "volume"])
def test_errors_fall_with_the_square_of_the_spacing(make: Any, what: str) -> None:
    """As the derivation of the bound has it: half the spacing, a quarter of the error; and the bound falls as well."""
    assert error_of(make(), what) / error_of(make(2), what) == pytest.approx(4, rel=0.15)
    coarse, fine = (getattr(shape, {"area": "area", "volume": "volume_below"}[what]) for shape in (make(), make(2)))
    assert isinstance(coarse, Known)
    assert coarse.tolerance / fine.tolerance > 4


def test_the_bounds_are_narrow() -> None:
    """A bound that anything passes is none: at most a few percent, and within a factor of twenty of the error."""
    for shape in (sphere(), torus()):
        for what, known in (("area", shape.area), ("volume", shape.volume_below)):
            assert known is not None
            assert known.tolerance < 0.04 * known.value
            assert known.tolerance < 40 * error_of(shape, what)


# The checks


@pytest.mark.parametrize(
    ("got", "expected", "tolerance", "passed"),
    [
        (1.0, 1.1, 0.2, True),
        (1.0, 1.3, 0.2, False),
        (math.nan, 0.0, 1.0, False),
        (math.inf, 0.0, 1e300, False),
        ("a", "a", 0.0, True),
        ("1", 1.0, 9.0, False),
    ],
)
def test_one_comparison(got: float | str, expected: float | str, tolerance: float, passed: bool) -> None:
    found = check("name", got, expected, tolerance)
    assert found["passed"] is passed
    assert set(found) == {"name", "expected", "got", "tolerance", "passed"}
    json.dumps(found, allow_nan=False)


def test_crossings_are_counted_by_hand() -> None:
    volume = np.zeros((2, 2, 2), dtype=np.float32)
    volume[1, 1, 1] = 4
    found = crossings(volume, 1.0)
    assert found.owner.tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]
    assert found.axis.tolist() == [0, 1, 2]
    assert found.share.tolist() == [0.25, 0.25, 0.25]
    assert found.outward.tolist() == [1, 1, 1]
    assert found.at(0.5).tolist() == [[0.5, 1, 1], [1, 0.5, 1], [1, 1, 0.5]]


# The kernel's CPU twin


def test_the_cpu_twin_passes() -> None:
    answer = smoke.run(smoke.kernel(MODULE, "cpu"), "cpu")
    assert answer["passed"], [entry for entry in answer["checks"] if not entry["passed"]]
    assert {entry["name"].partition(":")[0] for entry in answer["checks"]} == {shape.name for shape in all_shapes()}


def test_what_was_reached_is_told_before_each_shape() -> None:
    told: list[tuple[str, int]] = []
    smoke.run(mesh_of, "cpu", reached=lambda answer: told.append((answer["step"], len(answer["checks"]))))
    assert [name for name, _ in told] == [shape.name for shape in all_shapes()]
    assert [count for _, count in told] == sorted({count for _, count in told})


def test_a_mesh_that_lies_elsewhere_is_no_result() -> None:
    with pytest.raises(RuntimeError, match="lies elsewhere"):
        smoke.kernel(Elsewhere, "cuda")(plane())


class Elsewhere:
    """A module whose CUDA part hands back what the CPU made."""

    @staticmethod
    def to_device(volume: Any) -> Any:
        return volume

    marching_cubes = staticmethod(MODULE.marching_cubes)


# scikit-image beside it


def segments(triangles: NDArray[Any], found: Crossings) -> set[tuple[int, int]]:
    """The directed sides of triangles that lie in a face of a cell: they do not depend on how a cell is triangulated.

    Two vertices of one triangle lie in the same face if their edges do: neither runs along its normal, and both have
    the same place on it.
    """
    sides = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    start, end = sides.T
    in_face = np.zeros(len(sides), dtype=bool)
    for axis in range(3):
        across = (found.axis[start] != axis) & (found.axis[end] != axis)
        in_face |= across & (found.owner[start, axis] == found.owner[end, axis])
    return set(map(tuple, sides[in_face].tolist()))


def by_scikit_image(shape: Shape, method: str, found: Crossings) -> NDArray[np.int64]:
    """Its triangles, with its vertices numbered as ours: by the grid edge on which they lie."""
    measure: Any = importlib.import_module("skimage.measure")
    # "descent" is towards what is inside, by the left hand: by the right hand, normals point to greater values.
    vertices, triangles, *_ = measure.marching_cubes(
        np.ascontiguousarray(shape.volume), shape.isovalue, gradient_direction="descent", method=method
    )
    axis = np.abs(vertices - np.round(vertices)).argmax(axis=1)
    owner = np.round(vertices).astype(np.int64)
    rows = np.arange(len(axis))
    owner[rows, axis] = np.floor(vertices[rows, axis]).astype(np.int64)
    numbers = np.full((*shape.volume.shape, 3), -1)
    crossed = (*found.owner.T, found.axis)
    numbers[crossed] = rows if len(rows) == len(found.axis) else -1
    place = (*owner.T, axis)
    number = numbers[place]
    assert sorted(number) == list(range(len(found.axis)))
    assert np.abs(vertices - found.at(found.share)[number]).max() < 1e-4
    numbered: NDArray[np.int64] = number[triangles]
    return numbered


@pytest.mark.parametrize("shape", [plane(), sphere(), torus(), gyroid()], ids=lambda shape: shape.name)
@pytest.mark.parametrize("method", ["lewiner", "lorensen"])
def test_scikit_image_draws_the_same_surface(shape: Shape, method: str) -> None:
    found = crossings(shape.volume, shape.isovalue)
    theirs, ours = by_scikit_image(shape, method, found), mesh_of(shape).triangles
    assert len(theirs) == len(ours)
    assert segments(theirs, found) == segments(ours, found)


def cells_without_ambiguous_faces() -> list[Shape]:
    """Each case of a single cell that leaves nothing open, with values that put crossings anywhere."""
    random = np.random.default_rng(7)
    cells = []
    for case in range(1, 255):
        signs = np.array([-1.0 if case >> corner & 1 else 1.0 for corner in range(8)]).reshape(2, 2, 2)
        volume = (signs * random.uniform(0.2, 1, (2, 2, 2))).astype(np.float32)
        cells.append(Shape(f"case {case}", volume, 0.0, (1, 1, 1), (0, 0, 0), closed=False))
    return [cell for cell in cells if ambiguous_faces(cell) == 0]


def test_scikit_image_draws_every_unambiguous_cell_alike() -> None:
    cells = cells_without_ambiguous_faces()
    assert len(cells) > 100
    for cell in cells:
        found = crossings(cell.volume, cell.isovalue)
        theirs, ours = by_scikit_image(cell, "lorensen", found), mesh_of(cell).triangles
        assert segments(theirs, found) == segments(ours, found), cell.name
        assert len(theirs) == len(ours), cell.name


# The script, and the stage


def ask(folder: Path, **request: Any) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    (folder / "request.json").write_text(json.dumps(request))
    command = [sys.executable, "-I", str(SCRIPT), "request.json", "answer.json"]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    answer: dict[str, Any] = json.loads((folder / "answer.json").read_text())
    return done, answer


def test_the_script_stands_alone(tmp_path: Path) -> None:
    done, answer = ask(tmp_path, device="cpu", module_path=str(FOLDER))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (answer["passed"], answer["step"], answer["device"], answer["error"]) == (True, "done", "cpu", None)
    assert answer["module"] == MODULE.__file__
    assert answer["checks"] == smoke.run(mesh_of, "cpu")["checks"]


def test_the_script_needs_the_module(tmp_path: Path) -> None:
    done, answer = ask(tmp_path, device="cpu", module_path=str(tmp_path))
    assert done.returncode == 1
    assert (answer["passed"], answer["step"]) == (False, "import")
    assert answer["error"]["type"] == "ModuleNotFoundError"


def stage(
    folder: Path,
    *,
    python: Path = Path(sys.executable),
    module: Path = FOLDER,
    gpu: Gpu | None = None,
    timeout: float = 60.0,
    **variables: str,
) -> dict[str, Any]:
    environment = {**ENVIRONMENT, **variables}
    return run_smoke(python, module_path=module, gpu=gpu, env=environment, timeout=timeout, scratch=folder)


def liar(folder: Path, lie: str) -> Path:
    """A folder whose module cudabuild_mcubes is the real one but for one function."""
    place = folder / "liar"
    place.mkdir()
    text = (
        "import importlib.machinery, importlib.util, os, sys, time\n"
        f"loader = importlib.machinery.ExtensionFileLoader('cudabuild_mcubes', {MODULE.__file__!r})\n"
        "real = importlib.util.module_from_spec(importlib.util.spec_from_loader('cudabuild_mcubes', loader))\n"
        "loader.exec_module(real)\n"
        "cuda_targets = '9.0'\n"
        "to_device = lambda volume: volume\n"
        f"def marching_cubes(volume, isovalue, spacing, origin):\n    {lie}\n"
    )
    (place / "cudabuild_mcubes.py").write_text(text)
    return place


def test_the_stage_returns_evidence_and_leaves_nothing(tmp_path: Path) -> None:
    evidence = stage(tmp_path)
    assert {name: evidence[name] for name in ("device", "cuda_targets")} == {"device": "cpu", "cuda_targets": ""}
    assert len(evidence["checks"]) > 40
    assert all(entry["passed"] for entry in evidence["checks"])
    assert not list(tmp_path.iterdir())


def test_byte_code_goes_where_the_environment_says(tmp_path: Path) -> None:
    venv.create(tmp_path / "env", symlinks=True)
    site = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    (site / "numpy.py").touch()  # all of the real one would be compiled as well, which takes a second
    cache = tmp_path / "pycache"
    with pytest.raises(VerificationFailed, match="import"):
        stage(tmp_path, python=tmp_path / "env/bin/python", module=tmp_path, PYTHONPYCACHEPREFIX=str(cache))
    assert list(cache.rglob("smoke_checks.*.pyc"))


def test_wrong_numbers_fail_with_the_name_of_the_check(tmp_path: Path) -> None:
    wrong = liar(tmp_path, "return real.marching_cubes(volume, isovalue + 1e-3, spacing, origin)")
    with pytest.raises(
        VerificationFailed, match=r"smoke test on the CPU: plane: crossings: 0\.003.* instead of"
    ) as caught:
        stage(tmp_path, module=wrong)
    assert "sphere: vertices" in caught.value.evidence


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        ("os.kill(os.getpid(), 11)", r"exit status -11 \(plane\): .*"),
        ("sys.exit(0)", r"exit status 0 \(plane\)"),
        ("raise RuntimeError('cuda.cu:7: cudaErrorIllegalAddress')", r"\(plane\): RuntimeError: cuda.cu:7"),
    ],
)
def test_a_crash_says_where(tmp_path: Path, lie: str, message: str) -> None:
    with pytest.raises(VerificationFailed, match=message):
        stage(tmp_path, module=liar(tmp_path, lie))


def test_the_deadline_says_where(tmp_path: Path) -> None:
    with pytest.raises(VerificationFailed, match=r"did not end within 1 s \((plane|import|the start of Python)\)"):
        stage(tmp_path, module=liar(tmp_path, "time.sleep(60)"), timeout=1.0)


def test_on_a_gpu_only_what_came_from_the_gpu_counts(tmp_path: Path) -> None:
    with pytest.raises(VerificationFailed, match=r"NVIDIA Test .*compiled without CUDA"):
        stage(tmp_path, gpu=GPU)
    fake = liar(tmp_path, "return real.marching_cubes(volume, isovalue, spacing, origin)")
    with pytest.raises(VerificationFailed, match="lies elsewhere"):
        stage(tmp_path, gpu=GPU, module=fake)


ANSWER = {"step": "done", "passed": True, "error": None, "device": "cuda", "module": "m.so", "cuda_targets": "9.0"}


def judged(line: str, *, free: float, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    # NVML stands on a driver, which no test machine needs to have.
    monkeypatch.setattr(smoke_stage, "free_memory", lambda _gpu: free)
    facts = {**ANSWER, "passed": False, "step": "plane", "checks": [], "error": {"line": line}}
    return judge_smoke(facts, 1, "", gpu=GPU)


def test_a_busy_gpu_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = "RuntimeError: cuda.cu:9: cudaErrorDevicesUnavailable: CUDA-capable device(s) is/are busy or unavailable"
    with pytest.raises(GpuBusy, match="NVIDIA Test is busy"):
        judged(taken, free=math.inf, monkeypatch=monkeypatch)
    full = "RuntimeError: cuda.cu:9: cudaErrorMemoryAllocation: out of memory"
    with pytest.raises(GpuBusy):
        judged(full, free=1e6, monkeypatch=monkeypatch)


def test_asking_for_too_much_memory_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VerificationFailed, match="out of memory") as caught:
        judged("RuntimeError: cudaErrorMemoryAllocation: out of memory", free=64e9, monkeypatch=monkeypatch)
    assert not isinstance(caught.value, GpuBusy)


def test_evidence_names_the_gpu_and_holds_every_check() -> None:
    checks = [check("a", 1.0, 1.0)]
    evidence = judge_smoke({**ANSWER, "checks": checks}, 0, "", gpu=GPU)
    assert (evidence["gpu"], evidence["device_uuid"], evidence["capability"]) == ("NVIDIA Test", "GPU-0", "9.0")
    assert evidence["checks"] == checks
    with pytest.raises(VerificationFailed):
        judge_smoke({**ANSWER, "checks": []}, 0, "", gpu=GPU)


def test_where_nvml_does_not_answer_nothing_is_called_full() -> None:
    assert smoke_stage.free_memory(Gpu("none", "GPU-00000000-0000-0000-0000-000000000000", (9, 0), 0)) == math.inf
