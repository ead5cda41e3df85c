"""Run by the store's tests in a process of its own: writers that are killed, race, run out of room or may not write.

python store_writer.py MODE ROOT     with a JSON list of [wheel, entry] on standard input; answers in JSON
"""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from buildkit.errors import StoreError
from buildkit.store import in_use
from buildkit.store.clearing import Clearing
from buildkit.store.disk import PUT_STEPS
from buildkit.store.model import Entry
from buildkit.store.release import Release
from buildkit.store.store import Store

Put = tuple[Path, Entry]


def in_child(work: Callable[[], None]) -> int:
    """Fork, run, and return the child's process id."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - reported as the exit status
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    return child


def kill_at_each_step(root: Path, puts: list[Put]) -> dict[str, bool]:
    """One store a step, in the folder named after it; tells whether the writer was killed there."""
    wheel, entry = puts[0]

    def work(step: str) -> None:
        def stop(name: str) -> None:
            if name == step:
                os.kill(os.getpid(), signal.SIGKILL)

        Store(root / step, step=stop).put(wheel, entry)

    killed = {}
    for step in PUT_STEPS:
        _, status = os.waitpid(in_child(partial(work, step)), 0)
        killed[step] = os.WIFSIGNALED(status)
    return killed


def race(root: Path, puts: list[Put]) -> list[int]:
    """All writers at once, each some rounds; their exit statuses."""
    start = time.monotonic() + 0.2

    def work(wheel: Path, entry: Entry) -> None:
        time.sleep(max(0.0, start - time.monotonic()))
        for _ in range(5):
            Store(root).put(wheel, entry)

    children = [in_child(partial(work, *put)) for put in puts]
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def attempt(root: Path, puts: list[Put]) -> dict[str, str]:
    """A put and its cause."""
    try:
        Store(root).put(*puts[0])
    except StoreError as error:
        return {"kind": error.kind, "message": error.message, "evidence": error.evidence, "hint": error.hint}
    return {"kind": "stored"}


def with_small_files(root: Path, puts: list[Put]) -> dict[str, str]:
    """A put where no file may grow beyond 4 KiB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    return attempt(root, puts)


def read_only(root: Path, puts: list[Put]) -> dict[str, Any]:
    """A get and a put by somebody who may not write in the store (its folders have no write permission)."""
    os.chdir(root)
    if os.getuid() == 0:  # permissions mean nothing to root
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    store = Store(Path())
    lookups = [store.get(entry.key) for _, entry in puts]
    out = Path("/tmp") / f"cudabuild-test-{os.getpid()}"
    handed = [store.hand_out(found.entry, out) for found in lookups if found.entry]
    sizes = [path.stat().st_size for path in handed]
    for path in handed:
        path.unlink()
    out.rmdir()
    wheel, entry = puts[0]
    return {
        "found": [found.entry is not None for found in lookups],
        "notes": [found.note for found in lookups],
        "sizes": sizes,
        "put": attempt(Path(), [(wheel, entry.model_copy(update={"key": "other"}))]),
        "problems": len(store.verify_all()),
    }


def hold(root: Path, puts: list[Put]) -> None:
    """Hold the lock of a key until killed."""
    with Store(root).lock(puts[0][1].key):
        sys.stdout.write("held\n")
        sys.stdout.flush()
        time.sleep(600)


def raced(root: Path, puts: list[Put]) -> dict[str, Any]:
    """33 processes that want the same key; who builds first is killed in the middle of it. What each did, in order.

    Each goes the way of the pipeline (``buildkit.build.pipeline._obtain``): look, take the key's lock, look again,
    build, put, let go, hand out. What stands for the build is a line in the diary, a pause, and another line.
    """
    wheel, entry = puts[0]
    diary, killed = root.parent / "diary", root.parent / "killed"

    def note(text: str) -> None:
        with diary.open("a", encoding="ascii") as file:
            file.write(f"{text} {os.getpid()}\n")

    def obtain(store: Store) -> Entry:
        found = store.get(entry.key).entry
        if found is not None:
            return found
        with store.lock(entry.key):
            found = store.get(entry.key).entry
            if found is not None:
                return found
            note("begins")
            time.sleep(0.05)
            if not killed.exists():
                killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            store.put(wheel, entry)
            note("ends")
            return entry

    def work(number: int) -> None:
        store = Store(root)
        store.hand_out(obtain(store), root.parent / f"out-{number}")

    children = [in_child(partial(work, number)) for number in range(33)]
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return {"statuses": statuses, "diary": diary.read_text("ascii").splitlines()}


def traced(root: Path, puts: list[Put]) -> list[int]:
    """For strace: a put with a release as it is, and with one of its promises left out; each in a child of its own.

    A child writes ``begin NAME``, and ``stored`` for the answer.
    """
    wheel, entry = puts[0]

    def work(name: str) -> None:
        MUTATIONS[name]()
        os.write(1, f"begin {name}\n".encode())
        store = Store(root / name)
        if name == "answer first":
            os.write(1, b"stored\n")
        store.put(wheel, entry, _release(entry))
        if name != "answer first":
            os.write(1, b"stored\n")

    return [os.waitstatus_to_exitcode(os.waitpid(in_child(partial(work, name)), 0)[1]) for name in MUTATIONS]


READERS = 3
MOST_TURNS = 20_000
"""More than any schedule needs; it ends a run in which readers find nothing."""


def cleared(root: Path, puts: list[Put]) -> dict[str, Any]:
    """Readers and writers of the same wheels, and two that clear all of them over and over; what each ended with.

    A reader takes what it finds, and what it has taken it must be able to hand out, with the right bytes. A writer
    must find what it has put and holds. However they are scheduled, each reader comes to hand something out: writers
    go on until all have, and those that clear do not.
    """
    handed = root.parent / "handed"
    handed.touch()

    def read(number: int) -> None:
        store, count = Store(root), 0
        for turn in range(MOST_TURNS):
            if turn >= 150 and count:
                break
            wheel, entry = puts[(turn + number) % len(puts)]
            found = store.get(entry.key)
            assert not found.note, found.note
            if found.entry is not None and store.hold(found.entry):
                out = store.hand_out(found.entry, root.parent / f"out-{number}")
                assert out.read_bytes() == wheel.read_bytes()
                out.unlink()
                count += 1
            in_use.let_go()
        with handed.open("a", encoding="ascii") as file:
            file.write(f"{count}\n")

    def write(number: int) -> None:
        store = Store(root)
        for turn in range(MOST_TURNS):
            if turn >= 40 and len(handed.read_text("ascii").split()) == READERS:
                break
            wheel, entry = puts[(turn + number) % len(puts)]
            store.put(wheel, entry)
            if store.hold(entry):
                assert store.get(entry.key).entry is not None
            in_use.let_go()

    def clear(_number: int) -> None:
        for _turn in range(60):
            clearing = Clearing(Store(root))
            clearing.remove(clearing.wheels())
            clearing.remove_unnamed()

    jobs = [partial(read, n) for n in range(READERS)] + [partial(write, n) for n in range(2)] + [partial(clear, 0)] * 2
    children = [in_child(job) for job in jobs]
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    problems = [problem.text for problem in Store(root).verify_all()]
    return {"statuses": statuses, "handed": handed.read_text("ascii").split(), "problems": problems}


def _release(entry: Entry) -> Release:
    return Release(
        filename=entry.filename, sha256=entry.sha256, size=entry.size, project="sample", version="1.0",
        created=entry.created, metadata_sha256="0" * 64, device="cpu", python="py3", origin="build",
    )  # fmt: skip


def _no_file_sync() -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            real(descriptor)

    os.fsync = fsync  # type: ignore[assignment]


def _no_folder_sync() -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            real(descriptor)

    os.fsync = fsync  # type: ignore[assignment]


def _rename_first() -> None:
    """The file is synced only after its rename."""
    real, rename = os.fsync, Path.replace
    late: list[int] = []

    def fsync(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            late.append(os.dup(descriptor))
        else:
            real(descriptor)

    def replace(self: Path, target: Path) -> Path:
        moved = rename(self, target)
        while late:
            real(late.pop())
        return moved

    os.fsync = fsync  # type: ignore[assignment]
    Path.replace = replace  # type: ignore[assignment, method-assign]


def _entry_first() -> None:
    def put(self: Store, wheel: Path, entry: Entry, release: Release | None = None) -> Entry:
        with self._writing():
            self._entries.write(entry)
            self.blobs.add(wheel, entry.sha256, entry.size)
            if release is not None:
                self._releases.write(release)
        return entry

    Store.put = put  # type: ignore[method-assign]


MUTATIONS: dict[str, Callable[[], None]] = {
    "as it is": lambda: None,
    "no sync of files": _no_file_sync,
    "no sync of folders": _no_folder_sync,
    "rename first": _rename_first,
    "entry first": _entry_first,
    "answer first": lambda: None,
}
"""What is left out of a put, or done too early."""

MODES: dict[str, Callable[[Path, list[Put]], object]] = {
    "kill": kill_at_each_step,
    "race": race,
    "small-files": with_small_files,
    "read-only": read_only,
    "hold": hold,
    "cleared": cleared,
    "raced": raced,
    "traced": traced,
}


def main() -> None:
    """Run one mode."""
    mode, root = sys.argv[1:]
    puts = [(Path(wheel), Entry.model_validate(entry)) for wheel, entry in json.load(sys.stdin)]
    json.dump(MODES[mode](Path(root), puts), sys.stdout)


if __name__ == "__main__":
    main()
