"""What the compiler shim adds to a call: milliseconds and memory, beside the same compiler called directly.

    python benchmarks/shim.py [CALLS]

Both ways are called in turn, with the real broker and plenty of memory. Printed are the medians of a call that runs at
once (--version), of a trivial compile that the broker admits, the difference, and what a shim holds while it waits.
In brackets the fastest tenth: on a machine that does other things, too, the medians are of waiting for a processor.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from buildkit.guard.client import BrokerClient, Registration
from buildkit.guard.native import shim_program
from buildkit.guard.shim import compilers_on, make_shims

LIMIT_MS, LIMIT_KIB = 4.0, 3 * 1024


def call(words: Sequence[str], environment: Mapping[str, str]) -> float:
    """Seconds of one call that must succeed."""
    began = time.perf_counter()
    null = os.open(os.devnull, os.O_RDWR)
    quiet = [(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
    pid = os.posix_spawn(words[0], list(words), environment, file_actions=quiet)
    os.close(null)
    _, status = os.waitpid(pid, 0)
    seconds = time.perf_counter() - began
    if status != 0:
        raise SystemExit(f"{words} ended with {os.waitstatus_to_exitcode(status)}")
    return seconds


def pairs(
    direct: Sequence[str], shimmed: Sequence[str], environment: Mapping[str, str], calls: int
) -> tuple[list[float], list[float]]:
    """Milliseconds of both, called in turn; the fastest first."""
    plain: list[float] = []
    ours: list[float] = []
    for number in range(calls):
        for words, times in ((direct, plain), (shimmed, ours))[:: 1 if number % 2 else -1]:
            times.append(call(words, environment) * 1e3)
    return sorted(plain), sorted(ours)


def figures(times: Sequence[float]) -> tuple[float, float]:
    """The median, and that of the fastest tenth."""
    return statistics.median(times), statistics.median(times[: max(1, len(times) // 10)])


def resident_while_waiting(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """KiB that a shim holds whose unit nobody lets start: its broker is a socket that listens and says nothing."""
    folder = Path(tempfile.mkdtemp(prefix="silent-"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(folder / "s"))
        silent.listen()
        process = subprocess.Popen(words, env={**environment, "CUDABUILD_SOCKET": str(folder / "s")})
        peer, _ = silent.accept()
        peer.recv(1 << 16)
        time.sleep(0.1)
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        process.terminate()
        process.wait()
        peer.close()
    shutil.rmtree(folder)
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


def main() -> int:
    """Measure and print; 1 when a limit is passed."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    folder = Path(tempfile.mkdtemp(prefix="shim-"))
    path = "/usr/local/bin:/usr/bin:/bin"
    shims = make_shims(folder / "shims", compilers_on(path), shim_program())
    real = shutil.which("gcc", path=path) or "gcc"
    source = folder / "x.c"
    source.write_text("int x;\n", encoding="utf-8")
    registration = Registration("benchmark", "none", os.cpu_count() or 1, os.cpu_count() or 1, prior=32 << 20)
    with BrokerClient(registration, lambda _event: None) as client:
        environment = {"PATH": f"{shims}:{path}", "TMPDIR": str(folder), **client.environment()}
        worst = 0.0
        for name, rest in (
            ("--version", ["--version"]),
            ("trivial -c", ["-c", str(source), "-o", str(folder / "x.o")]),
        ):
            plain, ours = pairs([real, *rest], [str(shims / "gcc"), *rest], environment, calls)
            (direct, fast), (shimmed, quick) = figures(plain), figures(ours)
            worst = max(worst, shimmed - direct)
            print(
                f"gcc {name:10}  direct {direct:6.2f} ms [{fast:6.2f}]   shim {shimmed:6.2f} ms [{quick:6.2f}]   "
                f"added {shimmed - direct:6.2f} ms [{quick - fast:5.2f}]"
            )
    kib = resident_while_waiting([str(shims / "gcc"), "-c", str(source)], environment)
    print(f"waiting: {kib / 1024:.2f} MiB resident   ({os.cpu_count()} cores, {calls} pairs, medians)")
    shutil.rmtree(folder)
    return int(worst >= LIMIT_MS or kib >= LIMIT_KIB)


if __name__ == "__main__":
    sys.exit(main())
