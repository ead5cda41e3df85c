"""A probe as a stage, with the real guard and the real runner; without torch, whose import takes seconds."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from processes import wait_until

from buildkit.build.context import Context
from buildkit.build.places import Places
from buildkit.build.probing import ProbeSubject, ahead, gpu_for, probe_stage
from buildkit.errors import ProbeFailed
from buildkit.machine.arch import parse_targets
from buildkit.machine.gpus import Gpu
from buildkit.machine.identity import Memo
from buildkit.machine.limits import read_limits
from buildkit.progress import Silent
from buildkit.source.index_settings import read_index_settings
from buildkit.store.store import Store
from buildkit.verify.stages import NO_GPU, Recorder
from buildkit.verify.verdict import Stage

HOPPER = Gpu(name="NVIDIA H200", uuid="GPU-1", capability=(9, 0), index=0)
GOOD = 'def checks(device, tools):\n    yield {"name": "device", "expected": "cpu", "got": device}\n'
BOTH = f'DEVICES = ("cpu", "cuda")\n{GOOD}'

Probe = Callable[..., Stage]


@pytest.fixture
def context(tmp_path: Path) -> Context:
    (tmp_path / "scratch").mkdir()
    return Context(
        places=Places(tmp_path / "cache", elsewhere=tmp_path / "elsewhere"),
        memo=Memo(tmp_path / "cache" / "memo"),
        store=Store(tmp_path / "cache" / "store"),
        index=read_index_settings({}),
        reporter=Silent(),
        environ=dict(os.environ),
        cwd=tmp_path,
    )


def subject_of(folder: Path, text: str, **changes: Any) -> ProbeSubject:
    """A probe's text beside a package for a GPU, without torch."""
    (folder / "probe.py").write_text(text)
    values = {
        "probe": folder / "probe.py",
        "device": "cuda",
        "targets": parse_targets(["9.0"]),
        "python": Path(sys.executable),
        "objects": {},
        "torch_lib": None,
        "gpus": (),
        "driver": "",
        "environment": dict(os.environ),
    }
    return ProbeSubject(**{**values, **changes})


@pytest.fixture
def probe(tmp_path: Path, context: Context) -> Probe:
    """Run a probe's text as a stage; the stage as it was recorded, also where it failed."""

    def run(text: str, *, beside: Callable[[], None] | None = None, **changes: Any) -> Stage:
        subject, recorder = subject_of(tmp_path, text, **changes), Recorder()
        with ahead(subject if beside else None, context, tmp_path / "scratch") as ran:
            if beside:
                assert ran is not None
                beside()
            with contextlib.suppress(ProbeFailed), recorder.stage("probe") as stage:
                probe_stage(subject, context, tmp_path / "scratch", stage, ran=ran)
        return recorder.stages[0]

    return run


def test_a_cpu_build_passes_on_the_cpu(probe: Probe) -> None:
    found = probe(BOTH, device="cpu", targets=())
    assert (found.outcome, found.evidence["device"]) == ("passed", "cpu")
    assert [check["name"] for check in found.evidence["checks"]] == ["device"]
    assert found.evidence["peak_memory"] > 1 << 20


def test_a_cuda_build_without_a_gpu_is_not_executed_whatever_its_cpu_half_shows(probe: Probe) -> None:
    found = probe(BOTH)
    assert (found.outcome, found.detail) == ("not-executed", f"{NO_GPU}; on the CPU its 1 checks passed")


def test_a_wrong_cpu_half_fails_a_cuda_build(probe: Probe) -> None:
    found = probe(BOTH.replace('"expected": "cpu"', '"expected": "tpu"'))
    assert (found.outcome, found.detail) == ("failed", "the probe failed on the CPU: device")
    assert found.evidence["kind"] == "probe-failed"
    assert found.evidence["line"] == "expected tpu (within 0), got cpu"
    assert found.evidence["checks"][0]["passed"] is False


@pytest.fixture
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = read_limits(os.environ)
    monkeypatch.setattr("buildkit.build.probing.read_limits", lambda _: replace(limits, cpus=2))
    monkeypatch.setattr("buildkit.build.probing.ROOM_FOR_BOTH", 0)


@pytest.mark.usefixtures("two_processors")
@pytest.mark.parametrize(("expected", "outcome"), [("cpu", "not-executed"), ("tpu", "failed")])
def test_the_cpu_half_may_run_beside_something_else(probe: Probe, tmp_path: Path, expected: str, outcome: str) -> None:
    mark = tmp_path / "scratch" / "it-runs"
    text = BOTH.replace("    yield", f"    open({str(mark)!r}, 'w').close()\n    yield")

    def beside() -> None:
        assert wait_until(mark.exists)

    assert probe(text.replace('"cpu", "got"', f'"{expected}", "got"'), beside=beside).outcome == outcome


@pytest.mark.usefixtures("two_processors")
def test_one_that_nobody_waits_for_is_ended(probe: Probe, tmp_path: Path) -> None:
    mark = tmp_path / "scratch" / "it-runs"
    body = f"    open({str(mark)!r}, 'w').close()\n    import time\n    time.sleep(600)\n    yield"

    def beside() -> None:
        assert wait_until(mark.exists)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        probe(BOTH.replace("    yield", body), beside=beside)
    there = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert not [line for line in there if str(tmp_path) in line]


@pytest.mark.parametrize(
    ("text", "cpus", "room", "changes"),
    [
        (BOTH, 1, 0, {}),
        (BOTH, 2, 1 << 60, {}),
        (GOOD, 2, 0, {}),
        ("DEVICES = 1", 2, 0, {}),
        (BOTH, 2, 0, {"gpus": (HOPPER,), "torch_lib": Path("/lib")}),
    ],
)
def test_nothing_runs_ahead_on_a_gpu_or_where_there_is_no_room(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, cpus: int, room: int, changes: Any
) -> None:
    limits = replace(read_limits(os.environ), cpus=cpus)
    monkeypatch.setattr("buildkit.build.probing.read_limits", lambda _: limits)
    monkeypatch.setattr("buildkit.build.probing.ROOM_FOR_BOTH", room)
    with ahead(subject_of(tmp_path, text, **changes), context, tmp_path / "scratch") as ran:
        assert ran is None


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({}, NO_GPU),
        ({"gpus": (HOPPER,), "targets": parse_targets(["12.0"])}, "no GPU here runs these targets"),
        ({"device": "cpu", "targets": ()}, "the probe is for GPUs only"),
        ({"gpus": (HOPPER,)}, "kernels are recorded through torch, and this package has none"),
    ],
)
def test_a_probe_for_gpus_says_why_it_did_not_run(probe: Probe, changes: Mapping[str, Any], detail: str) -> None:
    found = probe(GOOD, **changes)
    assert (found.outcome, found.detail, found.evidence) == ("not-executed", detail, {})


def test_a_deadline_ends_it_with_all_that_it_started(probe: Probe, tmp_path: Path) -> None:
    mark = f"child of {tmp_path}"  # its number is one of the probe's own namespace

    def is_there() -> bool:
        return any(mark in " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))

    text = f"""
DEVICES = ("cpu",)
import pathlib, subprocess, sys, time
def checks(device, tools):
    yield {{"name": "one", "expected": 1, "got": 1}}
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", {mark!r}], start_new_session=True)
    pathlib.Path({str(tmp_path / "scratch" / "child")!r}).touch()
    time.sleep(600)
"""
    started = time.monotonic()
    found = probe(text, device="cpu", timeout=1.5)
    assert time.monotonic() - started < 30
    assert found.outcome == "failed"
    assert found.detail == "the probe did not end within 1.5 s on the CPU: it was at after check 'one'"
    assert (tmp_path / "scratch" / "child").exists(), "it has started one"
    assert not is_there()


def test_memory_is_guarded(probe: Probe) -> None:
    text = """
DEVICES = ("cpu",)
import time
def checks(device, tools):
    yield {"name": "one", "expected": 1, "got": 1}
    held = bytearray(400 << 20)
    time.sleep(600)
    yield {"name": "two", "expected": 1, "got": len(held)}
"""
    found = probe(text, device="cpu", memory=200 << 20)
    assert found.outcome == "failed"
    assert found.detail.startswith("the probe used more than 200")
    assert found.evidence["line"] == "it was at after check 'one'"


def test_it_cannot_change_what_is_protected(probe: Probe, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    text = f"""
DEVICES = ("cpu",)
import pathlib
def checks(device, tools):
    try:
        pathlib.Path({str(kept)!r}, "new").write_text("x")
        done = True
    except OSError:
        done = False
    yield {{"name": "wrote", "expected": False, "got": done}}
"""
    found = probe(text, device="cpu", protected=[kept])
    # Without namespaces (some containers) nothing can be protected: then the check fails, and so it must.
    assert found.outcome == ("failed" if (kept / "new").exists() else "passed")


def test_a_gpu_that_is_none_never_gets_that_far(probe: Probe) -> None:
    """A GPU is claimed and a torch library folder is there, but no driver: the runner cannot even import torch here."""
    found = probe(GOOD, gpus=(HOPPER,), torch_lib=Path("/nonexistent"))
    assert found.outcome == "failed"
    assert found.evidence.get("kernels") is None


def test_the_gpu_is_one_that_the_wheel_is_for() -> None:
    older = Gpu(name="RTX 3060", uuid="GPU-2", capability=(8, 6), index=1)
    assert gpu_for(parse_targets(["9.0"]), [older, HOPPER]) == HOPPER
    assert gpu_for(parse_targets(["12.0"]), [older, HOPPER]) is None
    assert gpu_for(parse_targets(["8.6+PTX"]), [HOPPER]) == HOPPER
