"""What is left of an ended try, and when a failed build counts as one without memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.build.resuming import begin, given, objects_folder
from buildkit.build.retrying import Try, fewer, gave_up
from buildkit.guard.broker_pools import kills_by_kernel


def test_finished_objects_stay_and_what_was_being_written_goes(tmp_path: Path) -> None:
    assert begin(tmp_path, resume=True) == 0
    folder = objects_folder(tmp_path)
    (folder / ("a" * 64)).touch()
    (folder / ("b" * 64)).touch()
    (folder / f"{'c' * 64}.cudabuild-7").touch()
    (folder / "given").write_text("a.cu\nb.cu\n", encoding="utf-8")
    assert given(tmp_path) == 2
    assert begin(tmp_path, resume=True) == 2
    assert given(tmp_path) == 0
    assert sorted(path.name[0] for path in folder.iterdir()) == ["a", "b"]
    assert begin(tmp_path, resume=False) == 0
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 1), (3, 1), (8, 4)])
def test_half_as_many(before: int, after: int) -> None:
    assert fewer(before) == after


NO_MEMORY = ["MemoryError", "cc1plus: out of memory allocating 64 bytes", "OSError: [Errno 12] Cannot allocate memory"]
ELSE = ["a.cu(3): error: expected a ;", "Killed", "raise MemoryError('x')  # a line of a trace", ""]


@pytest.mark.parametrize("line", [*NO_MEMORY, *ELSE])
def test_what_says_that_memory_ran_out(tmp_path: Path, line: str) -> None:
    """A killed program says so only if the kernel has killed something, which it has not since this test began."""
    log = tmp_path / "log"
    log.write_text("the first try: std::bad_alloc\n", encoding="utf-8")
    began = Try.begin(log)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    assert began.out_of_memory(1, log) == (line if line in NO_MEMORY else "")


@pytest.mark.parametrize(("line", "code"), [("ninja: exit status 137", 1), ("Killed", 1), ("nothing", -9)])
def test_a_kill_counts_where_the_kernel_has_killed(tmp_path: Path, line: str, code: int) -> None:
    log = tmp_path / "log"
    log.write_text(f"{line}\n", encoding="utf-8")
    since = Try(kills_by_kernel() - 1, 0)
    assert "the kernel has ended" in since.out_of_memory(code, log)
    log.write_text("error: expected a ;\n", encoding="utf-8")
    assert since.out_of_memory(1, log) == ""


def test_the_end_says_how_much_it_took(tmp_path: Path) -> None:
    error = gave_up("MemoryError", jobs=1, peak=3 << 30, limit=4 << 30, log=tmp_path / "log")
    assert (error.exit_code, error.evidence) == (7, "MemoryError")
    assert "3.00 GiB, in 4.00 GiB" in error.message
    assert "--memory" in error.hint
