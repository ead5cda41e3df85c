"""Run by the store's tests in a process of its own, with store_faults.c before the C library.

python store_faults.py LIBRARY FOLDER FAULT OPERATION...     answers in JSON

Each operation is done over and over, each time in a child and on a store of its own, and at the first, second, third
... call that changes the disk the child is killed, or the call fails; until it comes through. After each the store is
looked at: what was acknowledged is there, whole; nothing that was there before is lost; all of it works again.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from stored import entry_of, release_of, wheel_of

from buildkit.build.exchange import export, import_bundle
from buildkit.build.places import Places
from buildkit.errors import StoreError
from buildkit.store.clearing import Clearing
from buildkit.store.store import Store

ACKNOWLEDGED, REFUSED, BROKEN = 0, 3, 1

Operation = Callable[[Store, Path], object]


def made_wheel(made: Path, number: int) -> Path:
    """One of those that :func:`prepared` has made."""
    return made / f"sample-1.{number}-py3-none-any.whl"


def put(store: Store, made: Path) -> object:
    """A wheel with entry and release."""
    wheel = made_wheel(made, 2)
    return store.put(wheel, entry_of(wheel, 2), release_of(wheel, entry_of(wheel, 2)))


def publish(store: Store, made: Path) -> object:
    """A wheel under its name only."""
    wheel = made_wheel(made, 2)
    return store.publish(wheel, release_of(wheel, entry_of(wheel, 2)))


def clear(store: Store, _made: Path) -> object:
    """Take the first wheel out."""
    clearing = Clearing(store)
    first = [stored for stored in clearing.wheels() if stored.entries and stored.entries[0].version == "1.1"]
    return clearing.remove(first)


def take_in(store: Store, made: Path) -> object:
    """An export with the first two wheels."""
    done = import_bundle(made / "export", store, Places(store.root.parent), [])
    return [wheel.outcome for wheel in done.wheels if wheel.outcome == "refused"]


OPERATIONS: dict[str, Operation] = {"put": put, "publish": publish, "gc": clear, "import": take_in}


def prepared(folder: Path) -> Path:
    """A store with a wheel (1.1) that is to be cleared and one (1.0) that must never be lost; wheels and an export."""
    made = folder / "made"
    store = Store(folder / "before" / "store")
    for number in (0, 1):
        wheel = wheel_of(made, number)
        store.put(wheel, entry_of(wheel, number), release_of(wheel, entry_of(wheel, number)))
    other = Store(folder / "other")
    for number in (1, 2):
        wheel = wheel_of(made, number)
        other.put(wheel, entry_of(wheel, number), release_of(wheel, entry_of(wheel, number)))
    export(other, [], made / "export", key=folder / "none")
    return made


def in_child(work: Callable[[], object], library: ctypes.CDLL, number: int, fault: int) -> int:
    """Fork and work with the fault at the n-th call; the exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        status = BROKEN
        try:
            library.arm(number, fault)
            work()
            library.disarm()
            status = ACKNOWLEDGED
        except StoreError:
            status = REFUSED
        except BaseException:  # noqa: BLE001 - reported as the exit status
            library.disarm()
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def problems(operation: str, store: Store, made: Path, *, acknowledged: bool) -> list[str]:
    """What is wrong with a store afterwards."""
    found = [f"{problem.path}: {problem.text}" for problem in store.verify_all()]
    entries = {entry.version: entry for entry in store.entries()}
    releases = {release.version for release in store.releases()}
    if "1.0" not in entries or "1.0" not in releases:
        found.append("a wheel that nobody touched is gone")
    for version in ("1.0", "1.1", "1.2"):
        right = entry_of(made_wheel(made, int(version[2:])), int(version[2:]))
        got = store.get(right.key)
        if got.note or (got.entry is not None and got.entry.sha256 != right.sha256):
            found.append(f"{version}: {got.note or 'other bytes than those that were stored'}")
    if acknowledged:
        wanted = {"put": "1.2" in entries and "1.2" in releases, "publish": "1.2" in releases,
                  "gc": "1.1" not in entries and "1.1" not in releases, "import": "1.2" in entries}  # fmt: skip
        if not wanted[operation]:
            found.append("it was acknowledged, and it is not so")
    if operation != "gc" and "1.1" not in entries:
        found.append("an older wheel was lost")
    return found


def again(operation: str, store: Store, made: Path) -> list[str]:
    """After all of that the same works, and leaves nothing that nothing names."""
    OPERATIONS[operation](store, made)
    Clearing(store).remove_unnamed()
    left = [str(path) for path in Clearing(store).unnamed()]
    return [*left, *problems(operation, store, made, acknowledged=True)]


def tried(operation: str, folder: Path, made: Path, library: ctypes.CDLL, fault: int) -> dict[str, object]:
    """Every call of one operation."""
    seen: dict[int, int] = {}
    wrong: list[str] = []
    calls = count_calls(operation, folder, made, library)
    for number in range(1, calls + 1):
        place = folder / f"{operation}-{number}"
        shutil.copytree(folder / "before", place)
        store = Store(place / "store")

        def work(store: Store = store) -> object:
            return OPERATIONS[operation](store, made)

        status = in_child(work, library, number, fault)
        seen[status] = seen.get(status, 0) + 1
        found = problems(operation, store, made, acknowledged=status == ACKNOWLEDGED) + again(operation, store, made)
        wrong += [f"call {number} of {calls}, exit status {status}: {each}" for each in found]
        shutil.rmtree(place)
    return {"calls": calls, "statuses": seen, "wrong": wrong}


def count_calls(operation: str, folder: Path, made: Path, library: ctypes.CDLL) -> int:
    """How many calls the operation makes where nothing fails."""
    place = folder / f"{operation}-count"
    shutil.copytree(folder / "before", place)
    library.arm(0, 0)
    OPERATIONS[operation](Store(place / "store"), made)
    count = int(library.disarm())
    shutil.rmtree(place)
    return count


def main() -> None:
    """Try all operations with one fault."""
    library = ctypes.CDLL(sys.argv[1])
    folder, fault = Path(sys.argv[2]), int(sys.argv[3])
    made = prepared(folder)
    result = {name: tried(name, folder, made, library, fault) for name in sys.argv[4:]}
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
