"""The order of the line: of a build that is known, and of one that nobody has seen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from buildkit.guard.broker_desk import Desk
from buildkit.guard.broker_line import MOST_SETTLED, SETTLE, longest_first, place_in_line
from buildkit.guard.broker_units import Build, UnitState
from buildkit.guard.profile import Bound, PackageProfile, Record
from buildkit.guard.profile_store import ProfileFolder, encode_profile, file_name
from buildkit.guard.wire import VERSION, Message

GIB = 1 << 30


class Nobody:
    """A link that leads nowhere."""

    pid = 1

    def send(self, verb: str, **values: object) -> None:
        """Said to nobody."""

    def close(self) -> None:
        """Nothing to close."""


def in_line(build: Build, slot: int, seconds: float, kind: str = "cc") -> UnitState:
    bound = Bound(1, seconds, "seen" if seconds else "prior")
    return UnitState(slot, Nobody(), build, kind, "n", "k", 1, 1, slot, slot, 0.0, bound)


def test_a_build_deals_its_own_places_out_anew() -> None:
    build = Build(Nobody(), "t", "p", "13.0", 1, 1, 0, 0, "", 0, ProfileFolder(None), 1)
    units = [in_line(build, 3, 2.0), in_line(build, 5, 0.0), in_line(build, 9, 7.0)]
    place_in_line(units)
    assert [unit.slot for unit in units] == [5, 9, 3]


def test_where_no_time_is_known_device_code_goes_first() -> None:
    build = Build(Nobody(), "t", "p", "13.0", 1, 1, 0, 0, "", 0, ProfileFolder(None), 1)
    units = [in_line(build, 1, 0.0, "cxx"), in_line(build, 2, 0.0, "nvcc"), in_line(build, 3, 0.0, "cxx")]
    units += [in_line(build, 4, 0.0, "nvcc"), in_line(build, 5, 1.0, "cxx")]
    place_in_line(units)
    assert [unit.slot for unit in units] == [4, 2, 5, 3, 1]


def new_build(kinds: Sequence[str], times: Sequence[float], profile: Path, cpus: int = 1) -> tuple[Desk, list[str]]:
    """A build of units that come at these times (seconds), each told to the desk; and the names that have started."""
    started: list[str] = []

    class Heard(Nobody):
        pid = os.getpid()

        def send(self, verb: str, **values: object) -> None:
            if verb == "event" and values["what"] == "started":
                started.append(str(values["name"]))

    desk = Desk(lambda *_: None, 0.0, 0.0)
    words = {"v": str(VERSION), "token": "t" * 16, "package": "p", "toolkit": "13.0", "cpus": str(cpus)}
    desk.hear(Heard(), Message("build", {**words, "profile": str(profile)}), times[0])
    for at, kind in zip(times, kinds, strict=True):
        unit = {"v": str(VERSION), "token": "t" * 16, "kind": kind, "name": f"{kind}-{at}", "key": f"{kind}-{at}"}
        desk.hear(Heard(), Message("unit", unit), at)
        desk.core.schedule(at)
    return desk, started


def test_a_new_build_looks_at_its_line_before_cxx_takes_the_processors(tmp_path: Path) -> None:
    desk, started = new_build(["cxx", "cxx", "nvcc"], [100.0, 100.01, 100.03], tmp_path)
    assert started == ["nvcc-100.03"]
    desk.core.schedule(100.0 + SETTLE)
    assert started == ["nvcc-100.03"]
    _, started = new_build(["cc"], [100.0], tmp_path)
    assert started == ["cc-100.0"]
    desk, started = new_build(["cxx"], [100.0], tmp_path)
    assert started == []
    desk.core.schedule(100.0 + SETTLE)
    assert started == ["cxx-100.0"]


def test_a_known_build_and_one_that_compiles_one_file_at_a_time_do_not_look(tmp_path: Path) -> None:
    known = PackageProfile(1, {("other", "13.0"): Record("o", "cxx", 1, 1, 2.0, build=1)})
    (tmp_path / file_name("p")).write_bytes(encode_profile("p", known))
    _, started = new_build(["cxx"], [100.0], tmp_path)
    assert started == ["cxx-100.0"]
    (tmp_path / file_name("p")).unlink()
    desk, started = new_build(["cxx"], [100.0], tmp_path)
    (build,) = desk.core.builds.values()
    build.bursts = MOST_SETTLED + 1
    desk.core.schedule(100.0)
    assert started == ["cxx-100.0"]


def test_history_says_whether_the_longest_go_first() -> None:
    short, long = Record("s", "nvcc", 1, 1, 2.0), Record("l", "nvcc", 1, 1, 16.0)
    assert longest_first([short] * 8 + [long], budget=10 * GIB, cores=2, jobs=2, window=16)
    assert not longest_first([short] * 9, budget=10 * GIB, cores=2, jobs=2, window=16)
    assert not longest_first([short, long], budget=10 * GIB, cores=2, jobs=2, window=16)
    assert not longest_first([short] * 900 + [long], budget=10 * GIB, cores=2, jobs=2, window=16)
