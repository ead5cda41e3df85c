"""What a Dask cluster loses when its parts are killed: 12 cells by `cudabuild matrix run` on three workers with stores
and, where cgroups can be made, memory limits of their own; a worker, a nanny, the scheduler and the client are killed
with SIGKILL in turn, each while builds compile. Each cell is one C file, and each compiler that is executed is counted.

    benchmarks/matrix_faults.py [--folder DIR]

Prints a JSON line for each kill and one for all of it; exits with 1 if a wheel is missing, if a kill cost more than one
build, or if a process is left. Takes some minutes; uses no torch and no nvcc.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

from dask_cluster import DaskCluster, kill
from gated import Gated, shared_folders
from processes import wait_until

SCRIPT = Path(sysconfig.get_path("scripts")) / "cudabuild"
CELLS, NAMES = 12, ("a", "b", "c")
LIMIT = 4 << 30
VICTIMS = ("worker", "nanny", "scheduler", "client")


@contextmanager
def limited() -> Iterator[tuple[str, ...]]:
    """The words of a program that starts others, each in a memory cgroup of its own; none where none can be made."""
    for root, file in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        group = root / f"cudabuild-faults-{os.getpid()}"
        try:
            group.mkdir()
            (group / file).write_text(str(LIMIT * len(NAMES)))
        except OSError:
            continue
        own = f"mkdir {group}/$$ && echo {LIMIT} > {group}/$$/{file} && echo $$ > {group}/$$/cgroup.procs"
        try:
            yield ("sh", "-c", f'{own} && exec "$@"', "sh")
        finally:
            for each in (*(path for path in group.iterdir() if path.is_dir()), group):
                wait_until(partial(_empty, each), 20)
                each.rmdir()
        return
    yield ()


def _empty(group: Path) -> bool:
    return not (group / "cgroup.procs").read_text().strip()


def _compiled(gated: Gated, client: Client, cells: int) -> bool:
    assert client.process.poll() is None or len(set(gated.compiled())) >= cells, client.answer()
    return len(set(gated.compiled())) >= cells


class Client:
    """`cudabuild matrix run`, which is started again where it was killed."""

    def __init__(self, cluster: DaskCluster, gated: Gated, folder: Path) -> None:
        self.words = [str(SCRIPT), "matrix", "run", "--file", str(folder / "cudabuild.toml"), "--recipes",
                      str(gated.recipes), "--executor", f"dask:{cluster.address}", "--store", str(cluster.share),
                      "--no-canary", "--json"]  # fmt: skip
        self.folder, self.environ = folder, {**os.environ, "CUDABUILD_CACHE": str(folder / "home")}
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Begin, or go on."""
        with (self.folder / "answer.json").open("wb") as out, (self.folder / "said.log").open("ab") as said:
            return subprocess.Popen(self.words, env=self.environ, stdin=subprocess.DEVNULL, stdout=out, stderr=said)

    def again(self) -> None:
        """Kill it, and begin where it was."""
        self.process.kill()
        self.process.wait()
        self.process = self.start()

    def answer(self) -> dict[str, object]:
        """What it has said in the end."""
        self.process.wait(1800)
        found: dict[str, object] = json.loads((self.folder / "answer.json").read_text())
        return found


def strike(victim: str, cluster: DaskCluster, client: Client) -> None:
    """Kill it, and start what nobody else starts again."""
    if victim == "worker":
        kill(cluster.worker_process("a"))
    elif victim == "nanny":
        nanny = cluster.workers.pop("b")
        nanny.kill()
        nanny.wait()
        cluster.start_workers(["b"])
    elif victim == "scheduler":
        assert cluster.scheduler is not None
        cluster.scheduler.kill()
        cluster.scheduler.wait()
        cluster.start_scheduler()
    else:
        client.again()


def measure(folder: Path, marks: Path, prefix: tuple[str, ...]) -> bool:
    """The whole of it; whether nothing was lost."""
    gated = Gated(folder, marks)
    names = [gated.add(f"cell{number:02}") for number in range(CELLS)]
    listed = ", ".join(f'"{name}"' for name in names)
    text = (
        f'[matrix]\nrecipes = [{listed}]\ntorch = ["2.13.0"]\ndevice = "cpu"\n[[matrix.override]]\nmemory = "512 MiB"\n'
    )
    (folder / "cudabuild.toml").write_text(text)
    cluster = DaskCluster(folder / "cluster", SCRIPT, dict(os.environ), prefix)
    shared_folders(folder / "home", *(cluster.cache(name) for name in NAMES))
    good = True
    try:
        cluster.start_scheduler()
        cluster.start_workers(NAMES)
        client = Client(cluster, gated, folder)
        for victim in VICTIMS:
            gated.hold()
            before = len(set(gated.compiled()))
            assert wait_until(partial(_compiled, gated, client, before + 2), 600), gated.compiled()
            twice = len(gated.compiled()) - len(set(gated.compiled()))
            began = time.monotonic()
            strike(victim, cluster, client)
            gated.go()
            wanted = min(CELLS, before + 4)
            assert wait_until(partial(_compiled, gated, client, wanted), 600), gated.compiled()
            again = len(gated.compiled()) - len(set(gated.compiled())) - twice
            good &= again <= 1
            seconds = round(time.monotonic() - began, 1)
            print(json.dumps({"killed": victim, "built_again": again, "seconds_to_go_on": seconds}), flush=True)
        answer = client.answer()
    finally:
        gated.go()
        cluster.close()
    wait_until(lambda: not cluster.left(), 10)
    counts = Counter(gated.compiled())
    wheels = len(list((cluster.share / "entries").glob("*.json")))
    cells = answer["cells"]
    assert isinstance(cells, list)
    done = {"wheels": wheels, "succeeded": sum(cell["status"] == "succeeded" for cell in cells),
            "compilations": sum(counts.values()), "most_of_one_cell": max(counts.values()),
            "survivors": len(cluster.left()), "limited": bool(prefix)}  # fmt: skip
    print(json.dumps(done), flush=True)
    return good and (wheels, done["succeeded"], done["survivors"]) == (CELLS, CELLS, 0)


def main() -> int:
    """Run it; 1 where something was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, help="where caches and logs go, and stay")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="cudabuild-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    marks = Path(tempfile.mkdtemp(prefix="faults-", dir="/dev/shm"))
    try:
        with limited() as prefix:
            good = measure(folder, marks, prefix)
    finally:
        shutil.rmtree(marks)
        if asked.folder is None:
            shutil.rmtree(folder)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
