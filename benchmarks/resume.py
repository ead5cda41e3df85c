"""What a build that was killed half way compiles again: ``python benchmarks/resume.py PACKAGE [JOBS [ENDING]]``.

Three runs of one plan: ended when half of its sources have their objects (ENDING: KILL of the command, or INT, TERM,
HUP), the same command again, and a clean one (``--no-resume --refresh``). Compilers are counted by strace, not by what
cudabuild says: cicc for device code, cc1plus and cc1 where their source is one of the package's. Prints one JSON line;
exits with 1 when both runs together have compiled more than the clean one and what was in flight, or when a file of
the wheels differs.

nvcc writes the name of its temporary file (its process's number is in it) into the symbol table as that of the file,
so that no two clean builds of CUDA sources have the same bytes there and in the build id. Compared is what is loaded
(``objcopy -S``: device code too) and the names of all symbols.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import TORCH, cache_folder, clean_environment, script
from wheels import loaded_content

from buildkit.build.places import Places
from buildkit.build.resuming import OBJECTS

TARGET = "7.5"
SOURCES = (".c", ".cc", ".cpp", ".cxx", ".cu")
_COMPILER = re.compile(r'execve\("[^"]*/(?P<name>cicc|cc1plus|cc1)"')
_SOURCE = re.compile(
    r'(?:"--orig_src_path_name", |"-quiet",? .*?)"(?P<path>(?:[^"]*/builds/|(?![-/]))[^"]*\.(?:cu|cpp|cc|cxx|c))"'
)
"""Below a build's folder, or as a name within it: distutils names sources that way."""


class Trial:
    """One plan: its command under strace, in the benchmarks' cache."""

    def __init__(self, package: str, jobs: str, folder: Path) -> None:
        self.folder = folder
        self.builds = Places(cache_folder()).builds
        self.before = {path.name for path in self.builds.glob("*")}
        # The value is in the key: nothing of an earlier run is in the store or in a build's folder.
        own = ("--pass-env", f"RESUME_TRIAL={time.time_ns()}", "--no-canary", "--require", "imported", "--json")
        self.words = [script(), "build", package, "--torch", TORCH, "--target", TARGET, "--jobs", jobs, *own]

    def start(self, name: str, *more: str) -> subprocess.Popen[bytes]:
        """The command, with what it executes written to a trace of this name."""
        trace = [
            "strace",
            "-f",
            "--seccomp-bpf",
            "-qq",
            "-s",
            "100000",
            "-e",
            "trace=execve",
            "-o",
            str(self.trace(name)),
        ]
        words = [*trace, *self.words, "--out", str(self.folder / name), *more]
        return subprocess.Popen(words, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def trace(self, name: str) -> Path:
        """Where it is written."""
        return self.folder / f"{name}.trace"

    def whole(self, name: str, *more: str) -> tuple[dict[str, Any], float]:
        """A run to its end: the answer, and the seconds that it took."""
        began = time.monotonic()
        process = self.start(name, *more)
        out, _ = process.communicate()
        if process.returncode != 0:
            raise SystemExit(f"the {name} build failed: {out.decode()}")
        return json.loads(out), time.monotonic() - began

    def end_half_way(self, ending: str) -> int:
        """Seconds do not say how far a build is: its finished objects do. Returns how many there were."""
        process = self.start("killed")
        while process.poll() is None:
            time.sleep(0.2)
            finished, sources = self._progress()
            if sources and finished >= sources / 2:
                children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii")
                os.kill(int(children.split()[0]), signal.Signals[f"SIG{ending}"])
                process.communicate()
                return finished
        raise SystemExit("the build ended before half of it was done")

    def _progress(self) -> tuple[int, int]:
        for build in (path for path in self.builds.glob("*") if path.name not in self.before):
            # os.walk passes over folders that the build has removed meanwhile, which Path.glob does not.
            sources = [name for _, _, names in os.walk(build / "src") for name in names if name.endswith(SOURCES)]
            if sources and (build / OBJECTS).is_dir():
                return sum(len(path.name) == 64 for path in (build / OBJECTS).iterdir()), len(sources)
        return 0, 0

    def compilers(self, *names: str) -> int:
        """Executions for sources of the package."""
        lines = [line for name in names for line in self.trace(name).read_text("utf-8", "replace").splitlines()]
        count = 0
        for line in lines:
            compiler, source = _COMPILER.search(line), _SOURCE.search(line)
            if compiler is None or source is None or Path(source["path"]).name.startswith("tmpxft_"):
                continue  # the last is nvcc's own: a part of a unit that is counted by its cicc
            if (compiler["name"] == "cicc") == source["path"].endswith(".cu"):
                count += 1
        return count


def main() -> int:
    """Run the three, and judge."""
    package, jobs, ending = (*sys.argv[1:], *("2", "KILL")[len(sys.argv) - 2 :])
    with tempfile.TemporaryDirectory(prefix="resume-") as name:
        folder = Path(name)
        trial = Trial(package, jobs, folder)
        finished = trial.end_half_way(ending)
        resumed, resumed_seconds = trial.whole("resumed")
        clean, clean_seconds = trial.whole("clean", "--no-resume", "--refresh")
        both, alone = trial.compilers("killed", "resumed"), trial.compilers("clean")
        one, two = (loaded_content(answer["wheel"]["path"], folder) for answer in (resumed, clean))
        different = sorted(name for name in {*one, *two} if one.get(name) != two.get(name))
        row = {
            "package": package, "ending": ending, "jobs": int(jobs), "cpus": os.cpu_count(),
            "objects_at_the_kill": finished,
            "compilers_clean": alone, "compilers_killed": trial.compilers("killed"),
            "compilers_resumed": trial.compilers("resumed"), "more": both - alone,
            "kept": resumed["guard"]["kept"], "seconds_resumed": round(resumed_seconds, 1),
            "seconds_clean": round(clean_seconds, 1), "different_files": different,
        }  # fmt: skip
        print(json.dumps(row))
    return int(alone == 0 or both - alone > int(jobs) or bool(different))


if __name__ == "__main__":
    sys.exit(main())
