"""What is left of a build that is ended while it compiles: ``python benchmarks/survivors.py --help``.

Ends one build after another: by Ctrl-C, SIGTERM, SIGHUP and SIGKILL, each as soon as a compiler's process is
there, by SIGKILL of its supervisor, its broker or a compiler's shim, and by ``--timeout``. For each it prints one JSON
line with the processes that were still there after the grace, and the temporary folders, and in the end a table on
standard error; exits with 1 if there were any, or if a build did not end as it should.

    python benchmarks/survivors.py                               everything, as whoever runs it
    python benchmarks/survivors.py --tier cgroup --tier namespace --tier subreaper     in each containment
    python benchmarks/survivors.py --when ptxas                  every ending, while ptxas runs
    python benchmarks/survivors.py --case KILL:cicc --case timeout:15s --package chamferdist
    python benchmarks/survivors.py --user NAME --cache FOLDER --script FILE      by root, as an ordinary user, who is
                                                     given a cgroup where that is possible, as systemd does

``KILL@supervisor``, ``KILL@broker`` and ``KILL@shim`` are of those. A build outlives its broker, and may outlive a
shim: three seconds later it is ended by SIGTERM. Each build has a broker of its own.

This program is a subreaper: whatever is started below it, detached, with an emptied environment or in namespaces
of its own, stays its descendant. That none is left is said by the kernel (no children: ECHILD), not by a scan,
which forks could race with.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from common import ROOT, TARGET, TORCH, show
from persons import Person, in_cgroup, person_of, stamped, temporary_folder

from buildkit.build.places import Places

PR_SET_CHILD_SUBREAPER = 36
COMPILERS = frozenset({"nvcc", "cicc", "ptxas", "cc1plus", "cudafe++", "fatbinary"})
EXIT_CODES = {
    "INT": {130}, "TERM": {143}, "HUP": {143}, "KILL": {-signal.SIGKILL}, "timeout": {8},
    "KILL@supervisor": {6}, "KILL@broker": {143}, "KILL@shim": {143, 6},
}  # fmt: skip
SIGNALS = tuple(ending for ending in EXIT_CODES if ending != "timeout")
TOOLS = ("cicc", "cc1plus", "ptxas")
TIMEOUT = "timeout:8s"
TIERS = ("cgroup", "namespace", "subreaper")
AFTERWARDS = 3.0
"""Seconds until a build whose broker or shim was killed is ended."""
LASTING = ROOT / "tests" / "packages" / "lasting"
LIMIT = 1800.0
"""Seconds after which a build that nothing has ended counts as hung."""


@dataclass
class Ended:
    """How one build ended, and what was left of it."""

    returncode: int | None = None
    compiling: int = 0
    """Compilers among the processes when the signal was sent, or when compilers were last seen."""
    running: int = 0
    """All processes then."""
    after: float = 0.0
    """Seconds from the command's start until the signal was sent, or until it ended by itself."""
    survivors: tuple[str, ...] = ()
    gone_after: float | None = None
    """Seconds from the command's end until no process was left; None: some were left after the grace."""


def below() -> dict[int, str]:
    """Live descendants of this program: process id to name."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = process.name()
    return found


def reap(child: subprocess.Popen[bytes]) -> bool:
    """Collect what has ended, as an init does; True when no child is left, alive or dead."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if pid == 0:
            return False
        if pid == child.pid:
            child.returncode = os.waitstatus_to_exitcode(status)


def _is_shim(process: psutil.Process) -> bool:
    try:
        return any(folder in process.exe() for folder in ("/views/", "/shims/"))
    except psutil.Error:  # not even root may ask that of the first process of some machines
        return False


def victim(who: str, tool: str, child: int) -> int | None:
    """The process that is to be killed: the command, its supervisor, its broker, or the shim above the tool."""
    if not who:
        return child
    every = psutil.Process().children(recursive=True)
    for process in every:
        with contextlib.suppress(psutil.Error):
            if who == "supervisor" and process.ppid() == child and process.name().startswith("cudabuild-super"):
                return int(process.pid)
            if who == "broker" and any("broker_launch" in word for word in process.cmdline()):
                return int(process.pid)
            if who == "shim" and process.name() == tool:
                above = [one.pid for one in process.parents() if _is_shim(one)]
                if above:
                    return int(above[0])
    return None


def send(ending: str, tool: str, child: int) -> bool:
    """Send the signal to whom it is meant for; False: there is no such process yet."""
    name, _, who = ending.partition("@")
    pid = victim(who, tool, child)
    if pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if ending == "INT" else os.kill)(pid, getattr(signal, f"SIG{name}"))
    return True


def end_one(child: subprocess.Popen[bytes], ending: str, tool: str, grace: float) -> Ended:
    """Send the signal once the tool runs (none for a timeout), wait for the end, count after the grace."""
    ended, sent, started = Ended(), ending == "timeout", time.monotonic()
    then: float | None = None
    while not (reap(child) or child.returncode is not None) and time.monotonic() - started < LIMIT:
        names = list(below().values())
        if not sent or ending == "timeout":
            compiling = sum(name in COMPILERS for name in names)
            if compiling:
                ended.compiling, ended.running = compiling, len(names)
        if not sent and tool in names and send(ending, tool, child.pid):
            sent, ended.after = True, round(time.monotonic() - started, 1)
            then = time.monotonic() + AFTERWARDS if ending in {"KILL@broker", "KILL@shim"} else None
        if then is not None and time.monotonic() > then:
            child.send_signal(signal.SIGTERM)
            then = None
        time.sleep(0.01)
    over = time.monotonic()
    ended.after = ended.after or round(over - started, 1)
    while not (empty := reap(child)) and time.monotonic() - over < grace:
        time.sleep(0.005)
    ended.returncode = child.returncode
    if empty:
        ended.gone_after = round(time.monotonic() - over, 3)
    else:
        ended.survivors = tuple(below().values()) or ("?",)
    return ended


def clear_away(child: subprocess.Popen[bytes]) -> None:
    """End what survived, so that it does not count for the next case."""
    while not reap(child):
        for pid in below():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def left_behind(temporary: Path, build: Path) -> list[str]:
    """What may not stay: anything in TMPDIR, and in what the build had as its TMPDIR."""
    own = build / "tmp"
    return sorted(str(path) for folder in (temporary, own) if folder.is_dir() for path in folder.iterdir())


def try_case(case: str, tier: str, package: Sequence[str], person: Person, build: Path, grace: float) -> dict[str, Any]:
    """End one build in one way, and print what was left; ``passed``: nothing, and it ended as it should."""
    ending, _, detail = case.partition(":")
    # Nothing of the case before counts: no finished object of it, and no canary that is compiled first.
    words = [*package, "--no-resume", "--no-canary", *(("--timeout", detail) if ending == "timeout" else ())]
    with temporary_folder(person) as temporary:
        log = (temporary.parent / "output").open("w+b")
        child = person.start(words, temporary, stdout=log.fileno(), stderr=log.fileno(), tier=tier)
        ended = end_one(child, ending, detail, grace)
        folders = left_behind(temporary, build)
        clear_away(child)
        log.seek(0)
        said = log.read().decode("utf-8", "replace")[-2000:]
    refused = ended.returncode == 5 and "CUDABUILD_CONTAINMENT" in said
    as_it_should = ended.returncode in EXIT_CODES[ending] and ended.compiling > 0
    passed = refused or (as_it_should and ended.gone_after is not None and not folders)
    found: dict[str, Any] = dict(
        what="survivors",
        case=case,
        tier=tier or "best",
        permitted=not refused,
        user=person.name,
        exit=ended.returncode,
        after_s=ended.after,
        compiling=ended.compiling,
        running=ended.running,
        survivors=len(ended.survivors),
        names=ended.survivors,
        gone_after_s=ended.gone_after,
        temporary_folders=folders,
        passed=passed,
        **({} if as_it_should else {"said": said}),
    )
    show(**found)
    return found


def table(found: Sequence[dict[str, Any]]) -> str:
    """One row an ending, one column a containment: survivors and the seconds until none was left."""
    tiers = list(dict.fromkeys(each["tier"] for each in found))
    rows = [["ending:when", *tiers]]
    for case in dict.fromkeys(each["case"] for each in found):
        cells = {each["tier"]: each for each in found if each["case"] == case}
        rows.append([case, *(_cell(cells.get(tier)) for tier in tiers)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(tiers) + 1)]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)


def _cell(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    if not found["permitted"]:
        return "not permitted here"
    after = found["gone_after_s"]
    text = f"{found['survivors']} left" + (f" after {after:.2f} s" if after is not None else "")
    return text if found["passed"] else f"{text}, FAILED (exit {found['exit']})"


def fetch(package: Sequence[str], person: Person) -> Path:
    """Bring everything into the cache that the builds need; the folder that they will be made in."""
    with temporary_folder(person) as temporary:
        process = person.start(["fetch", *package, "--json"], temporary, stdout=subprocess.PIPE)
        out, _ = process.communicate()
    if process.returncode != 0:
        sys.exit(process.returncode)
    return Places(person.cache).builds / str(json.loads(out)["key"])


def arguments() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    endings = ", ".join(SIGNALS)
    parser.add_argument("--case", action="append", metavar="ENDING:WHEN", help=f"timeout:15s, or one of {endings}:cicc")
    parser.add_argument(
        "--when", action="append", metavar="TOOL", help=f"every ending while it runs ({', '.join(TOOLS)})"
    )
    parser.add_argument("--tier", action="append", choices=TIERS, help="force this containment (default: the best)")
    parser.add_argument(
        "--package", default=str(LASTING), help="a recipe or a folder (default: tests/packages/lasting); none is stored"
    )
    parser.add_argument("--user", help="the ordinary user who builds (this program is run by root then)")
    parser.add_argument("--cache", type=Path, help="the cache to use, warm or not; default: the user's own")
    parser.add_argument("--script", help="the console script, where the user can reach it")
    parser.add_argument("--grace", type=float, default=2.0, help="seconds for everything to be gone (default: 2)")
    return parser.parse_args()


def main() -> int:
    """Fetch what the builds need, then end one after the other."""
    options = arguments()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):  # a shell's background job ignores some of them
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    person = person_of(options.user, options.cache, options.script)
    every = [f"{ending}:{tool}" for tool in options.when or TOOLS for ending in SIGNALS] + [TIMEOUT]
    cases = options.case or every
    tiers = options.tier or [""]
    with stamped(options.package) as source:
        package = [source, "--target", TARGET, "--torch", TORCH]
        build = fetch(package, person)
        with in_cgroup(person):
            found = [try_case(case, tier, package, person, build, options.grace) for case in cases for tier in tiers]
    sys.stderr.write(f"survivors of {person.name}'s builds of {options.package}\n{table(found)}\n")
    return 0 if all(each["passed"] for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
