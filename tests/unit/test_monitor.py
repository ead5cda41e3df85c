"""``cudabuild monitor``: the broker's answer to whoever asks, builds by their records, the page and the JSON."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from broker_bench import MIB, Bench, hog, runtime_folder
from jsonschema import Draft202012Validator
from processes import alive, wait_until

from buildkit.build.monitoring import Monitor, Now
from buildkit.build.recording import this_process
from buildkit.cli.main import main
from buildkit.cli.monitor_page import monitor_lines
from buildkit.cli.monitor_schema import MONITORED, MonitorObject, monitor_object, monitor_schema_text
from buildkit.guard.broker_launch import SOCKET
from buildkit.guard.broker_view import BrokerView, BuildView, UnitView, view_broker
from buildkit.guard.wire import Lines, encode
from buildkit.machine.usage import GpuWatch, Pressure, read_pressure
from buildkit.report.canvas import BLOCKS, text_of
from buildkit.store.builds import BuildProcess, BuildRecord, BuildRecords

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where XDG_RUNTIME_DIR points to."""
    with runtime_folder() as path:
        yield path


# the broker's answer


def test_the_broker_says_what_it_has(folder: Path) -> None:
    with Bench(folder, package="fast", budget=300 * MIB, prior=200 * MIB, id="20261121-3f2a") as bench:
        bench.unit("a\x1b.cu", hog(40, then="time.sleep(30)"))
        bench.wait_for("started")
        bench.unit("b.cu", hog(8))
        assert wait_until(lambda: len(bench.of("queued")) == 2)
        place = folder / "cudabuild"
        assert wait_until(lambda: (found := only_build(place)) is not None and found.usage > 40 * MIB)
        view = view_broker(place)
        assert view is not None
        assert view.pid == bench.broker()
        assert {pool.source for pool in view.pools} >= {"MemTotal", "--memory"}
        (build,) = view.builds
        assert (build.id, build.package, build.pid, build.done) == ("20261121-3f2a", "fast", os.getpid(), 0)
        assert 40 * MIB < build.usage < build.budget < 300 * MIB
        a, b = sorted(build.units, key=lambda unit: unit.name)
        assert (a.name, a.kind, a.state, a.bound) == ("a\x1b.cu", "cc", "running", 200 * MIB)
        assert (b.name, b.state, b.usage) == ("b.cu", "waiting", 0)


def only_build(place: Path) -> BuildView | None:
    view = view_broker(place)
    return view.builds[0] if view is not None and view.builds else None


def test_asking_starts_no_broker(folder: Path) -> None:
    place = folder / "cudabuild"
    place.mkdir(mode=0o700)
    assert view_broker(place) is None
    assert list(place.iterdir()) == []


def test_who_asks_does_not_keep_the_broker_alive(folder: Path) -> None:
    place = folder / "cudabuild"
    with Bench(folder) as bench:
        broker = bench.broker()
        silent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        silent.connect(str(place / SOCKET))
        silent.sendall(encode("status", v=1))
        pid = bench.client._endpoint
        assert pid is not None
        assert view_broker(place) is not None
        bench.client._ending = True
        pid.shutdown(socket.SHUT_RDWR)  # the build is gone without a word
        assert wait_until(lambda: view_broker(place) is None or not alive(broker), 4.0)
        assert wait_until(lambda: not alive(broker), 2.0)
    silent.close()


def test_one_answer_a_connection_and_other_versions_are_refused(folder: Path) -> None:
    with Bench(folder):
        assert [verb for verb, _ in asked(folder, encode("status", v=1))][-1] == "end"
        ((verb, values),) = asked(folder, encode("status", v=2))
        assert verb == "fail"
        assert "version 1" in values["text"]


def asked(folder: Path, question: bytes) -> list[tuple[str, Any]]:
    """All that the broker says to it, up to the end of the connection."""
    lines, found = Lines(), []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as endpoint:
        endpoint.settimeout(5)
        endpoint.connect(str(folder / "cudabuild" / SOCKET))
        endpoint.sendall(question)
        while chunk := endpoint.recv(4096):
            found += [(message.verb, message.values) for message in lines.feed(chunk)]
    return found


def test_tokens_are_not_told(folder: Path) -> None:
    with Bench(folder) as bench:
        token = bench.client.environment()["CUDABUILD_TOKEN"]
        assert token not in repr(asked(folder, encode("status", v=1)))


def test_a_run_that_was_killed_has_its_processor_seconds(folder: Path) -> None:
    burn = "end = time.process_time() + 0.4\nwhile time.process_time() < end: pass\ntime.sleep(30)"
    with Bench(folder) as bench:
        bench.unit("burner", hog(8, then=burn))
        root = int(bench.wait_for("started", "burner")["pid"])
        below = Path(f"/proc/{root}/task/{root}/children")
        assert wait_until(lambda: bool(below.read_text().split()))
        child = int(below.read_text().split()[0])
        assert wait_until(lambda: seconds_of(child) >= 0.4)
        os.kill(child, signal.SIGKILL)
        killed = bench.wait_for("killed", "burner")
        assert 0.35 <= float(killed["cpu"]) < 5.0
        assert float(killed["seconds"]) >= 0.3


def seconds_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# one look


@pytest.fixture
def nobody(tmp_path: Path) -> dict[str, str]:
    """The variables of a person who has no broker."""
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    return {"XDG_RUNTIME_DIR": str(runtime)}


def another_process() -> BuildProcess:
    """One of this number that ran before this one."""
    mine = this_process()
    assert mine is not None
    return mine.model_copy(update={"start": mine.start - 1})


def test_builds_without_the_broker_are_those_whose_process_lives(tmp_path: Path, nobody: dict[str, str]) -> None:
    records = BuildRecords(tmp_path)
    base = BuildRecord(id="b1", recipe="fast", started="2026-11-21T06:00:00Z", status="running", process=this_process())
    records.write(base)
    records.write(base.model_copy(update={"id": "b2", "process": another_process()}))
    records.write(base.model_copy(update={"id": "b3", "process": None}))
    records.write(base.model_copy(update={"id": "b4", "status": "failed"}))
    monitor = Monitor(tmp_path, nobody)
    now = monitor.look()
    assert [(build.build, build.pid, build.view) for build in now.builds] == [("b1", os.getpid(), None)]
    assert now.broker is None
    monitor.close()


def test_a_build_of_another_machine_has_no_memory_here(tmp_path: Path, nobody: dict[str, str]) -> None:
    mine = this_process()
    assert mine is not None
    process = mine.model_copy(update={"host": "elsewhere"})  # a number that is another process's here
    record = BuildRecord(id="b1", recipe="fast", started="2026-11-21T06:00:00Z", status="running", process=process)
    BuildRecords(tmp_path).write(record)
    now = Monitor(tmp_path, nobody).look()
    (build,) = monitor_object(now).builds
    assert (build.pid, build.host, build.memory) == (mine.pid, "elsewhere", 0)
    assert page(now, 200)[-2].startswith(f"fast  b1  process {mine.pid} on elsewhere  ")
    assert page(now, 200)[-1] == "  on another machine: what it holds is not seen here"


def test_a_build_under_the_broker_is_listed_once(folder: Path, tmp_path: Path) -> None:
    records = BuildRecords(tmp_path)
    records.write(
        BuildRecord(id="b1", recipe="fast", started="2026-11-21T06:00:00Z", status="running", process=this_process())
    )
    with Bench(folder, package="other", id="b1"):
        now = Monitor(tmp_path, {"XDG_RUNTIME_DIR": str(folder)}).look()
    (build,) = now.builds
    assert (build.build, build.recipe, build.started) == ("b1", "fast", "2026-11-21T06:00:00Z")
    assert build.view is not None


def test_pressure_is_what_the_kernel_says(tmp_path: Path) -> None:
    assert read_pressure(tmp_path) == {}
    (tmp_path / "proc/pressure").mkdir(parents=True)
    (tmp_path / "proc/pressure/memory").write_text(
        "some avg10=12.50 avg60=1.00 avg300=0.00 total=5\nfull avg10=3.25 avg60=0.00 avg300=0.00 total=1\n"
    )
    (tmp_path / "proc/pressure/cpu").write_text("some avg10=90.00 avg60=1.00 avg300=0.00 total=5\n")
    assert read_pressure(tmp_path) == {"cpu": Pressure(90.0, None), "memory": Pressure(12.5, 3.25)}


class Nvml:
    """NVML as a driver without everything answers: the second GPU does not tell how busy it is."""

    NVMLError = type("NVMLError", (Exception,), {})

    def __getattr__(self, name: str) -> Any:
        values = {
            "nvmlDeviceGetCount": lambda: 2,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetName": lambda _handle: b"NVIDIA H200",
            "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}",
            "nvmlDeviceGetMemoryInfo": lambda _handle: type("M", (), {"used": 3 << 30, "total": 139 << 30}),
            "nvmlDeviceGetUtilizationRates": self.rates,
            "nvmlShutdown": lambda: None,
        }
        return values[name]

    def rates(self, handle: int) -> Any:
        if handle == 1:
            raise self.NVMLError("Not Supported")
        return type("R", (), {"gpu": 37})


def test_gpus_are_looked_at_through_nvml() -> None:
    watch = GpuWatch()
    watch._nvml = Nvml()
    use = watch.look()
    assert [(gpu.name, gpu.uuid, gpu.busy, gpu.memory_used) for gpu in use.gpus] == [
        ("NVIDIA H200", "GPU-0", 37, 3 << 30), ("NVIDIA H200", "GPU-1", None, 3 << 30),
    ]  # fmt: skip
    watch.close()
    assert watch.look().gpus == ()
    assert watch.look().note.startswith("no GPU")


# the page and the JSON


@pytest.fixture
def busy(tmp_path: Path, nobody: dict[str, str]) -> Now:
    """A machine with a build that has much to do."""
    now = Monitor(tmp_path, nobody).look()
    units = [UnitView("a\x1b[2J.cu", "nvcc", "running", 72.0, 3 << 30, 3 << 30, 4 << 30, 0)]
    units += [UnitView(f"w{number}.cu", "nvcc", "waiting", 5.0, 0, 0, 2 << 30, 1) for number in range(9)]
    view = BuildView("20261121-3f2a", "fast", 77, 90.0, 4, 3 << 30, 20 << 30, 12, 2, tuple(units))
    broker = BrokerView(5, (), (view,))
    from buildkit.build.monitoring import RunningBuild

    builds = (
        RunningBuild("20261121-3f2a", "fast", 77, now.at, 4 << 30, view),
        RunningBuild("20261121-0001", "plain", 78, now.at, 1 << 30, None),
    )
    return Now(now.at, 50.0, now.limits, now.pressure, now.gpus, broker, builds)


def page(now: Now, width: int) -> list[str]:
    return [text_of(line) for line in monitor_lines(monitor_object(now), width=width, glyphs=BLOCKS)]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_page_of_a_busy_machine(busy: Now, width: int) -> None:
    lines = page(busy, width)
    assert all(len(line) <= width for line in lines)
    assert not any("\x1b" in line for line in lines)
    whole = "\n".join(lines)
    assert "█" * 10 + "·" * 10 in whole
    assert "fast  20261121-3f2a  process 77  0:00" in whole
    assert "and 4 more in line" in whole
    if width == 200:
        assert "1 running, 9 waiting, 12 done, 2 ended and made again; compilations hold 3 of 20 GiB" in whole
        assert "    a\\x1b[2J.cu  1:12  3 of 4 GiB" in lines
        assert "    w0.cu  waits 0:05 for 2 GiB" in lines
        assert "  1 GiB, no compilations under the broker" in lines


def test_an_idle_machine_says_so(tmp_path: Path, nobody: dict[str, str]) -> None:
    lines = page(Monitor(tmp_path, nobody).look(), 100)
    assert lines[-1] == "no build is running"
    assert any(line.startswith("memory     ") for line in lines)


def test_the_published_schema_is_the_models() -> None:
    published = (DOCS / "monitor.schema.json").read_text("utf-8")
    assert published == monitor_schema_text(), "make it anew: python -m buildkit.cli.reference"


def test_what_is_printed_holds_to_the_schema(busy: Now) -> None:
    printed = monitor_object(busy).model_dump(mode="json", by_alias=True)
    Draft202012Validator(json.loads(monitor_schema_text())).validate(printed)
    assert isinstance(MONITORED.validate_python(printed), MonitorObject)


def test_the_command_looks_once(
    tmp_path: Path, nobody: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDABUILD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", nobody["XDG_RUNTIME_DIR"])
    assert main(["monitor", "--once"]) == 0
    assert capsys.readouterr().out.endswith("no build is running\n")
    assert main(["monitor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["builds"] == []
    assert not (tmp_path / "cache").exists()
