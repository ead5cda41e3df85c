"""``monitor`` for people: one look as lines (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

from buildkit.cli.console import clock, of_budget, printable
from buildkit.cli.monitor_schema import GpuObject, MonitorObject, RunningObject, UnitObject
from buildkit.recipe.quantities import format_size
from buildkit.report.canvas import Glyphs, Line, fitted

_BAR = 20  # columns of a bar
_LABEL = 10
_MOST_WAITING = 5
"""Compilations in line that are listed; the others are counted."""


def monitor_lines(now: MonitorObject, *, width: int, glyphs: Glyphs) -> Iterator[Line]:
    """The machine, then each build with its compilations."""
    for line in _lines(now, glyphs):
        text = "".join(piece for piece, _ in line)
        yield line if len(text) <= width else ((fitted(text, width, glyphs.dots), ""),)


def _lines(now: MonitorObject, glyphs: Glyphs) -> Iterator[Line]:
    yield (("cudabuild monitor", "bold"), (f"  {now.at[:10]} {now.at[11:19]} UTC", "dim"))
    cpus = f"{now.cpu.cpus} processor{'s' if now.cpu.cpus != 1 else ''}"
    yield _measured("processors", now.cpu.percent / 100, f"{now.cpu.percent:.0f} % of {cpus}", glyphs)
    used = now.memory.limit - now.memory.available
    share = used / now.memory.limit if now.memory.limit else 0.0
    yield _measured("memory", share, f"{of_budget(used, now.memory.limit)} ({printable(now.memory.source)})", glyphs)
    yield (("pressure".ljust(_LABEL) + " ", "dim"), (_pressure(now), ""))
    for gpu in now.gpus:
        yield _gpu(gpu, glyphs)
    if not now.gpus:
        yield (("gpu".ljust(_LABEL) + " ", "dim"), (printable(now.gpu_note), ""))
    for build in now.builds:
        yield ()
        yield from _build(build, now)
    if not now.builds:
        yield ()
        yield (("no build is running", ""),)


def _measured(name: str, share: float, text: str, glyphs: Glyphs) -> Line:
    full = round(min(1.0, max(0.0, share)) * _BAR)
    style = "red" if share >= 0.95 else "yellow" if share >= 0.8 else "green"
    bar = ((glyphs.run * full, style), (glyphs.wait * (_BAR - full), "dim"))
    return ((name.ljust(_LABEL) + " ", "dim"), *bar, (f" {text}", ""))


def _pressure(now: MonitorObject) -> str:
    if not now.pressure:
        return "not told by this kernel"
    each = ", ".join(f"{name} {value.some:.0f} %" for name, value in now.pressure.items())
    return f"{each} of the last 10 s waited for"


def _gpu(gpu: GpuObject, glyphs: Glyphs) -> Line:
    name = printable(gpu.name)
    if gpu.memory_used is None or gpu.memory_total is None:
        share, memory = 0.0, "its memory is not told"
    else:
        share, memory = gpu.memory_used / max(1, gpu.memory_total), of_budget(gpu.memory_used, gpu.memory_total)
    busy = "" if gpu.busy is None else f", busy {gpu.busy} %"
    return _measured(f"gpu {gpu.index}", share, f"{memory}{busy} ({name})", glyphs)


def _build(build: RunningObject, now: MonitorObject) -> Iterator[Line]:
    began = f"  {clock(_age(build.started, now.at))}" if build.started else ""
    where = f" on {printable(build.host)}" if build.host is not None else ""
    name = f"{printable(build.recipe)}  {printable(build.build)}"
    yield ((name, "bold"), (f"  process {build.pid}{where}{began}", "dim"))
    if build.host is not None:
        yield (("  on another machine: what it holds is not seen here", ""),)
        return
    if not build.admitted or build.budget is None:
        yield ((f"  {format_size(build.memory)}, no compilations under the broker", ""),)
        return
    running = [unit for unit in build.units if unit.state == "running"]
    waiting = [unit for unit in build.units if unit.state == "waiting"]
    held = sum(unit.memory for unit in running)
    killed = f", {build.killed} ended and made again" if build.killed else ""
    counts = f"{len(running)} running, {len(waiting)} waiting, {build.done} done{killed}"
    yield ((f"  {counts}; compilations hold {of_budget(held, build.budget)}", ""),)
    for unit in [*running, *waiting[:_MOST_WAITING]]:
        yield _unit(unit)
    if len(waiting) > _MOST_WAITING:
        yield ((f"    and {len(waiting) - _MOST_WAITING} more in line", "dim"),)


def _unit(unit: UnitObject) -> Line:
    name = f"    {printable(unit.name)}"
    if unit.state == "waiting":
        return ((name, "dim"), (f"  waits {clock(unit.seconds)} for {format_size(unit.bound)}", "dim"))
    return ((name, "green"), (f"  {clock(unit.seconds)}  {of_budget(unit.memory, unit.bound)}", ""))


def _age(started: str, now: str) -> float:
    """Seconds between two moments as records write them."""
    return (_moment(now) - _moment(started)).total_seconds()


def _moment(text: str) -> datetime:
    return datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
