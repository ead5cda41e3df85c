"""Whether a build stays below a kernel's memory limit, judged by the kernel: ``python benchmarks/memory.py --help``.

A generated package of real nvcc units (:mod:`hungry`) is built by ``cudabuild`` with 8 jobs inside a control group
with a limit, by a program that makes such groups (memcap.py: a limit, ``--``, a command; one JSON line on standard
error). Half of the runs start with nothing learned. For each run: exit code, grade, seconds, the anonymous peak that
the kernel counted, its kills, what was requeued. Then the same package under ``pip wheel`` with MAX_JOBS=8.

    python benchmarks/memory.py --memcap .../memcap.py --caps 4,6,8 --runs 10
    python benchmarks/memory.py --memcap .../memcap.py --caps 8 --runs 2 --beside in     two builds at once in one cap
    python benchmarks/memory.py --memcap .../memcap.py --caps 6 --runs 2 --beside out     the other one outside of it
    python benchmarks/memory.py --memcap .../memcap.py --caps 6 --runs 2 --beside killed     and killed while both build
    python benchmarks/memory.py --memcap .../memcap.py --caps 6 --runs 2 --neighbour     another program grows at once
    python benchmarks/memory.py --memcap .../memcap.py --caps 6 --runs 2 --blind     and the guard is stopped meanwhile
    python benchmarks/memory.py --memcap .../memcap.py --caps 6 --runs 4 --full-cache     the page cache filled first

With ``--blind`` nobody admits, preempts or frees while the other program grows: the kernel has to kill, and what is
shown is that its kill is taken for what it is and the unit runs again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from common import TORCH, bare_environment, cache_folder, clean_environment, forget, script, show
from hungry import package_for, write_package

JOBS = "8"
TARGET = "7.5"
KILLED_AFTER = 20
"""Seconds; both builds compile by then."""


@dataclass(frozen=True)
class Run:
    """One run inside the limit: what the kernel says, and what the command printed.

    ``outside``: programs with memory that were seen outside of the group. (memcap's own ``escaped`` counts processes
    at their end, too: they hold no memory any more, and on a busy machine take a while to go.)
    """

    kernel: dict[str, Any]
    out: str
    err: str
    outside: frozenset[str]

    @property
    def answer(self) -> dict[str, Any]:
        """The command's JSON; empty where it has none."""
        try:
            value: dict[str, Any] = json.loads(self.out)
        except json.JSONDecodeError:
            return {}
        return value


def start(memcap: Path, cap: int, command: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    """The command inside the limit."""
    words = [sys.executable, str(memcap), f"{cap}GiB", "--", *command]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str]) -> Run:
    """Its figures; the last line of standard error is the kernel's."""
    outside: set[str] = set()
    with ThreadPoolExecutor(1) as threads:
        streams = threads.submit(process.communicate)
        while not wait([streams], timeout=0.25).done:
            outside |= programs_outside(process.pid)
    out, err = streams.result()
    lines = err.rstrip().splitlines()
    return Run(json.loads(lines[-1]), out, "\n".join(lines[:-1]), frozenset(outside))


def programs_outside(root: int) -> set[str]:
    """Those below memcap with memory of their own that are in no group of its making."""
    found: set[str] = set()
    processes: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        processes = psutil.Process(root).children(recursive=True)
    for process in processes:
        with contextlib.suppress(psutil.Error, OSError):
            groups = Path(f"/proc/{process.pid}/cgroup").read_text(encoding="utf-8")
            if "/memcap-" not in groups and process.memory_info().rss > 0 and process.cmdline():
                found.add(process.name())
    return found


def command(source: Path) -> list[str]:
    """What a person types."""
    return [script(), "build", str(source), "--target", TARGET, "--torch", TORCH, "--jobs", JOBS, "--json"]


def unlearn(name: str) -> None:
    """Forget what was learned of a package."""
    for file in (cache_folder() / "profiles").glob(f"{name}-*"):
        file.unlink()


def report(cap: int, number: int, fresh: bool, done: Run, *, may_kill: bool, must_kill: bool) -> bool:
    """Print one run; whether it is what was promised. ``may_kill``: the kernel may, as a neighbour grew."""
    guard, verdict = done.answer.get("guard") or {}, done.answer.get("verdict") or {}
    kernel = done.kernel
    spared = bool(kernel["kills"]) if must_kill else not kernel["kills"] or may_kill
    good = kernel["exit"] == 0 and spared and not done.outside and verdict.get("grade") == "imported"
    show(
        cap_gib=cap, run=number, empty_profile=fresh, good=good, exit=kernel["exit"], grade=verdict.get("grade"),
        seconds=kernel["seconds"], build_s=_build_seconds(verdict), peak_anon_mib=kernel["peak_anon_mib"],
        share=round(kernel["peak_anon_mib"] / (cap << 10), 3), kernel_kills=kernel["kills"],
        outside=sorted(done.outside), escaped=kernel["escaped"], left=kernel["left_running"],
        requeued=guard.get("requeued"), units=guard.get("units"),
    )  # fmt: skip
    if not good:
        print(done.err[-1500:], file=sys.stderr)
    return good


def _build_seconds(verdict: dict[str, Any]) -> float | None:
    return next((stage["seconds"] for stage in verdict.get("stages", ()) if stage["name"] == "build"), None)


def bare(memcap: Path, cap: int, source: Path) -> Run:
    """``pip wheel`` of the package at the same number of jobs."""
    python, view = bare_environment()
    folder = Path(tempfile.mkdtemp(prefix="bare-"))
    environment = {
        **clean_environment(),
        "PATH": f"{python.parent}:{view}/bin:/usr/bin:/bin",
        "CUDA_HOME": str(view),
        "TORCH_CUDA_ARCH_LIST": TARGET,
        "MAX_JOBS": JOBS,
    }
    copy = shutil.copytree(source, folder / source.name)
    words = ["wheel", "--no-cache-dir", "--no-build-isolation", "--no-deps", "-w", str(folder / "out"), str(copy)]
    try:
        return end(start(memcap, cap, [str(python), "-m", "pip", *words], environment))
    finally:
        shutil.rmtree(folder)


def fill_page_cache(gib: float) -> None:
    """Write and read a file, so that free memory is taken by what the kernel can drop."""
    with tempfile.NamedTemporaryFile(dir=os.environ["CUDABUILD_CACHE"]) as file:  # on a disk, as builds are
        for _ in range(round(gib * 16)):
            file.write(os.urandom(1 << 20) * 64)
        file.flush()
        file.seek(0)
        while file.read(1 << 24):
            pass


def inside(cap: int, chosen: argparse.Namespace, folder: Path) -> bool:
    """The runs below one cap."""
    name = f"hungry{cap}"
    source = write_package(folder, name, package_for(cap))
    # Another package of the same shape: two builds of one key would wait for each other.
    other = write_package(folder, f"{name}b", package_for(cap)) if chosen.beside else None
    good = True
    for number in range(chosen.runs):
        fresh = number % 2 == 0
        for package in (name, f"{name}b"):
            forget(package)
            if fresh:
                unlearn(package)
        words = command(source)
        if chosen.full_cache:
            words = [sys.executable, str(Path(__file__)), "--fill", str(0.8 * cap), "--", *words]
        if chosen.neighbour or chosen.blind:
            words = ["/bin/sh", "-c", f"{shlex.join(_neighbour(cap, blind=chosen.blind))} & exec {shlex.join(words)}"]
        outside = None
        if other is not None and chosen.beside == "out":
            outside = subprocess.Popen(command(other), env=clean_environment(), stdout=subprocess.PIPE, text=True)
        elif other is not None:
            words = ["/bin/sh", "-c", _side_by_side(words, command(other), folder, chosen.beside == "killed")]
        done = end(start(chosen.memcap, cap, words, clean_environment()))
        good &= report(cap, number + 1, fresh, done, may_kill=chosen.neighbour, must_kill=chosen.blind)
        if other is not None:
            said = outside.communicate()[0] if outside else (folder / "beside.json").read_text()
            second = json.loads(said or "{}")
            grade = (second.get("verdict") or {}).get("grade")
            show(cap_gib=cap, run=number + 1, beside=chosen.beside, grade=grade,
                 requeued=(second.get("guard") or {}).get("requeued"))  # fmt: skip
            good &= grade == (None if chosen.beside == "killed" else "imported")
    if not chosen.no_pip:
        done = bare(chosen.memcap, cap, source)
        show(cap_gib=cap, what="pip wheel, MAX_JOBS=8", exit=done.kernel["exit"], kernel_kills=done.kernel["kills"],
             seconds=done.kernel["seconds"], peak_anon_mib=done.kernel["peak_anon_mib"])  # fmt: skip
    return good


def _neighbour(cap: int, *, blind: bool) -> list[str]:
    """Words for a program that, while the build compiles, takes most of the cap at once and keeps it for a while."""
    if not blind:
        program = f"import time; time.sleep({KILLED_AFTER}); taken = b'x' * ({cap} * 7 * 2**30 // 10); time.sleep(5)"
        return [sys.executable, "-I", "-S", "-c", program]
    return [sys.executable, str(Path(__file__)), "--grow", str(cap * 9 * 2**30 // 10)]


def grow_unseen(size: int) -> None:
    """Take ``size`` bytes while all brokers of this user are stopped."""
    time.sleep(KILLED_AFTER)
    brokers = [
        process
        for process in psutil.process_iter(["cmdline", "uids"])
        if "buildkit.guard.broker" in " ".join(process.info["cmdline"] or ())
        and process.info["uids"].real == os.getuid()
    ]
    for broker in brokers:
        broker.suspend()
    try:
        taken = b"x" * size
        time.sleep(1)
        print(f"took {len(taken)} bytes, {len(brokers)} brokers stopped", file=sys.stderr)
    finally:
        for broker in brokers:
            broker.resume()


def _side_by_side(first: Sequence[str], second: Sequence[str], folder: Path, kill: bool) -> str:
    """A shell's line: both at once, or the second killed; fails when one does; the second's answer goes to a file."""
    one, two = shlex.join(first), shlex.join(second)
    begin = f"{two} >{shlex.quote(str(folder / 'beside.json'))} 2>/dev/null & other=$!; "
    if kill:
        return f"{begin} (sleep {KILLED_AFTER}; kill -9 $other) & {one}"
    return f"{begin} {one}; code=$?; wait $other && exit $code"


def main() -> int:
    """Measure and print; 1 when a run was not what was promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memcap", type=Path, help="the program that runs a command below a limit")
    parser.add_argument("--caps", default="4,6,8", help="GiB, separated by commas (of 4, 6 and 8)")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--beside", choices=("in", "out", "killed"), help="two builds at once")
    parser.add_argument("--neighbour", action="store_true", help="another program takes most of the cap meanwhile")
    parser.add_argument("--blind", action="store_true", help="the same, unseen by the guard: the kernel has to kill")
    parser.add_argument("--full-cache", action="store_true", help="fill the page cache of the group first")
    parser.add_argument("--no-pip", action="store_true", help="without the run of pip wheel")
    parser.add_argument("--fill", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--grow", type=int, help=argparse.SUPPRESS)
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.fill:
        fill_page_cache(chosen.fill)
        return subprocess.call(chosen.words)
    if chosen.grow:
        grow_unseen(chosen.grow)
        return 0
    if chosen.memcap is None:
        parser.error("--memcap is needed")
    folder = Path(tempfile.mkdtemp(prefix="memory-"))
    try:
        results = [inside(int(cap), chosen, folder) for cap in chosen.caps.split(",")]
        return int(not all(results))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
