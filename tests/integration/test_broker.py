"""The broker with real processes over its real socket; memory is scaled down to some hundred MiB."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from broker_bench import MIB, Bench, broker_pid, hog, runtime_folder
from processes import alive, wait_until

from buildkit.errors import MachineError
from buildkit.guard.broker_launch import SOCKET
from buildkit.guard.broker_links import Connection, Refused
from buildkit.guard.broker_place import broker_command, broker_folder
from buildkit.guard.client import connect
from buildkit.guard.profile_store import decode_profile, encode_profile
from buildkit.guard.wire import BadMessage, Lines, Message, decode, encode
from buildkit.machine.memory import capped_reserve

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where XDG_RUNTIME_DIR points to."""
    with runtime_folder() as path:
        yield path


# the words


@pytest.mark.parametrize("value", ["", "plain-1.0/x_y+z", "a b\tc\nd%", "ünïcode", "\udcff", "=" * 3])
def test_any_value_survives_the_wire(value: str) -> None:
    assert decode(encode("unit", name=value).rstrip(b"\n")) == Message("unit", {"name": value})


def test_lines_come_in_any_pieces() -> None:
    sent = encode("go") + encode("ended", code=3, cpu=0.25)
    lines = Lines()
    heard = [message for byte in sent for message in lines.feed(bytes([byte]))]
    assert [message.verb for message in heard] == ["go", "ended"]
    assert (heard[1].number("code"), heard[1].seconds("cpu"), heard[1].number("signal", 7)) == (3, 0.25, 7)


@pytest.mark.parametrize("line", [b"", b"GO", b"go x", b"go\tx", b"go\t=1", b"go\xff", b"go\tX=1"])
def test_what_is_no_message(line: bytes) -> None:
    with pytest.raises(BadMessage):
        decode(line)


def test_numbers_are_checked() -> None:
    for text in ("-1", "1.5", "x", "9" * 19, "٣"):
        with pytest.raises(BadMessage):
            Message("ended", {"code": text}).number("code")
    with pytest.raises(BadMessage):
        Lines().feed(b"x" * 70_000)


# admission


def test_as_many_run_as_fit_what_was_learned(folder: Path, tmp_path: Path) -> None:
    """The first build knows only its prior, and starts with one. The second knows all: the small ones run side by
    side, past the large one, which came first and runs alone."""
    profile, latch = tmp_path / "profile", tmp_path / "latch"
    until_latch = f"import os\nwhile not os.path.exists({str(latch)!r}): time.sleep(0.01)"
    small = hog(48, then=until_latch)
    with Bench(folder, budget=360 * MIB, prior=300 * MIB, profile=profile) as bench:
        bench.unit("a", small)
        bench.wait_for("started", "a")
        units = [bench.unit(name, small) for name in "bc"]
        assert wait_until(lambda: any(one["waiting"] == "2" for one in bench.of("memory")))
        assert bench.together() == 1
        latch.touch()
        units.append(bench.unit("large", hog(240, pause=0.01)))
        assert [unit.wait(20) for unit in units] == [0, 0, 0]
        large = bench.wait_for("ended", "large")
        assert 240 * MIB < int(large["peak"]) < 280 * MIB
    assert wait_until(lambda: [path.suffix for path in profile.iterdir()] == [".json"])
    took_long(profile, "key-a")
    latch.unlink()
    with Bench(folder, budget=360 * MIB, prior=300 * MIB, profile=profile) as bench:
        bench.unit("a", small)
        bench.wait_for("started", "a")
        units = [bench.unit("large", hog(240, pause=0.01))]
        assert wait_until(lambda: any(one["waiting"] == "1" for one in bench.of("memory")))
        units += [bench.unit(name, small) for name in "bc"]
        bench.wait_for("started", "b")
        bench.wait_for("started", "c")
        assert bench.of("started", "large") == []
        latch.touch()
        assert [unit.wait(20) for unit in units] == [0, 0, 0]
        assert bench.wait_for("started", "large")["source"] == "seen"
        assert bench.together() == 3


def took_long(profile: Path, key: str) -> None:
    """However slow this machine is: a unit that is held by a latch is not expected to end soon."""
    (file,) = profile.iterdir()
    name, known = decode_profile(file.read_bytes())
    known.records[key, "13.0"] = replace(known.records[key, "13.0"], seconds=600.0)
    file.write_bytes(encode_profile(name, known))


def test_a_unit_that_is_too_big_alone_ends_by_name(folder: Path) -> None:
    with Bench(folder, budget=160 * MIB) as bench:
        unit = bench.unit("huge.cu", hog(400, pause=0.03))
        _, text = unit.communicate(timeout=20)
        failed = bench.wait_for("failed")
    assert unit.returncode == 137
    assert failed["reason"] == "too-big"
    assert 100 * MIB < int(failed["peak"]) < 170 * MIB
    assert text == failed["text"]
    assert text.startswith("huge.cu needs more memory than there is: alone it held 1")
    assert "160 MiB (--memory)" in text


def test_what_is_killed_from_outside_is_made_again_but_not_for_ever(folder: Path) -> None:
    with Bench(folder) as bench:
        unit = bench.unit("victim", hog(8, then="time.sleep(30)"))
        for count in (1, 2, 3):
            root = int(bench.wait_for("started", "victim", count)["pid"])
            assert wait_until(lambda root=root: bool(children(root)))  # type: ignore[misc]
            assert wait_until(lambda root=root: score(children(root)[0]) == 500)  # type: ignore[misc]
            os.kill(children(root)[0], signal.SIGKILL)
        out, text = unit.communicate(timeout=20)
        assert out.split() == ["queued", "go", "again", "go", "again", "go", "fail"]
        assert unit.returncode == 137
        assert "victim was killed 3 times" in text
        assert bench.wait_for("failed")["reason"] == "killed-outside"


def test_an_ordinary_failure_is_the_compilers_own(folder: Path) -> None:
    with Bench(folder) as bench:
        unit = bench.unit("wrong", [sys.executable, "-I", "-S", "-c", "raise SystemExit(3)"])
        assert unit.wait(20) == 3
        assert bench.wait_for("ended")["code"] == "3"


# who may come


def test_a_wrong_token_is_refused(folder: Path) -> None:
    home = broker_folder({"XDG_RUNTIME_DIR": str(folder)})
    command = broker_command(home)
    subprocess.run([*command[:-1], command[-1].replace("])", ", '0'])")], check=True)
    with Bench(folder) as bench:
        unit = bench.unit("stranger", hog(8), token="0" * 32)
        _, text = unit.communicate(timeout=20)
        assert (unit.returncode, text) == (137, "the broker knows no build with this token")
        assert bench.of("started") == []


def test_a_shim_may_come_before_its_build_after_a_restart(folder: Path) -> None:
    with Bench(folder) as bench:
        early = bench.unit("early", hog(8), token="a" * 32)
        time.sleep(0.2)
        assert early.poll() is None
        with Bench(folder, token="a" * 32) as late:
            assert early.wait(20) == 0
            late.wait_for("ended", "early")


def test_another_version_is_told_so(folder: Path) -> None:
    home = broker_folder({"XDG_RUNTIME_DIR": str(folder)})
    with connect(home) as endpoint:
        endpoint.sendall(b"build\tv=2\ttoken=" + b"b" * 32 + b"\n")
        assert b"version%201" in endpoint.recv(4096)
        assert endpoint.recv(10) == b""
    short: dict[str, Any] = {"token": "short"}
    with pytest.raises(MachineError, match="refuses this build") as caught, Bench(folder, **short):
        pass
    assert "CUDABUILD_GUARD=off" in caught.value.hint


def test_another_user_is_refused(folder: Path) -> None:
    """The folder keeps others out already; a peer's user is asked besides."""

    class Peer(socket.socket):
        """Stands for a connection from another user, which only root can make."""

        def getsockopt(self, *_: object) -> bytes:  # type: ignore[override]
            return b"".join(number.to_bytes(4, "little") for number in (1, os.getuid() + 1, 0))

    with Peer(socket.AF_UNIX) as peer, pytest.raises(Refused):
        Connection(peer, lambda *_: None)
    with Bench(folder) as bench:
        assert (folder / "cudabuild").stat().st_mode & 0o777 == 0o700
        if os.getuid() == 0:
            folder.chmod(0o755)
            (folder / "cudabuild").chmod(0o755)
            (folder / "cudabuild" / SOCKET).chmod(0o777)
            assert said_to(NOBODY, folder, bench.client.environment()["CUDABUILD_TOKEN"]) == b""
        assert said_to(os.getuid(), folder, bench.client.environment()["CUDABUILD_TOKEN"]).startswith(b"queued\n")
        (folder / "cudabuild").chmod(0o700)


def said_to(user: int, folder: Path, token: str) -> bytes:
    """What the broker answers to a unit of another user."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.setuid(user)
            with socket.socket(socket.AF_UNIX) as endpoint:
                endpoint.settimeout(5)
                endpoint.connect(str(folder / "cudabuild" / SOCKET))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    endpoint.sendall(encode("unit", v=1, token=token, kind="cc", name="x", key="k", pid=1, threads=1))
                    os.write(writing, endpoint.recv(4096))
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as stream:
        return stream.read()


def test_somebody_elses_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cudabuild").mkdir(mode=0o777)
    (tmp_path / "cudabuild").chmod(0o777)
    with pytest.raises(MachineError, match="not this user's private folder"):
        broker_folder({"XDG_RUNTIME_DIR": str(tmp_path)})


def test_a_path_too_long_for_a_socket_is_not_taken(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir(mode=0o700)
    assert not broker_folder({"XDG_RUNTIME_DIR": str(deep)}).is_relative_to(tmp_path)


# its life


def test_it_has_ended_when_its_last_build_has(folder: Path) -> None:
    with Bench(folder):
        pid = broker_pid(folder)
        status = Path(f"/proc/{pid}/status").read_text()
        assert os.getsid(pid) != os.getsid(0)
        assert f"PPid:\t{os.getpid()}\n" not in status
        assert Path(f"/proc/{pid}/environ").read_bytes() == b"PATH=/usr/bin:/bin\0LC_ALL=C.UTF-8\0"
    assert wait_until(lambda: not alive(pid), 2.0)


def test_many_that_start_it_at_once_get_one(folder: Path) -> None:
    benches = [Bench(folder) for _ in range(4)]
    with ThreadPoolExecutor(len(benches)) as pool, contextlib.ExitStack() as stack:
        list(pool.map(Bench.__enter__, benches))
        for bench in benches:
            stack.push(bench)
        assert len({bench.broker() for bench in benches}) == 1


def test_more_units_than_it_may_have_files_wait_at_the_door(folder: Path) -> None:
    """Of 80 descriptors some are kept for its own work; each of 100 units gets its turn when others have gone."""
    place = broker_folder({"XDG_RUNTIME_DIR": str(folder)})
    subprocess.run(["/bin/sh", "-c", 'ulimit -n 80; exec "$@"', "sh", *broker_command(place)], check=True)
    with Bench(folder, cpus=1, jobs=1, prior=MIB) as bench, contextlib.ExitStack() as stack:
        before, told = bench.broker(), bench.client.environment()
        units = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(100)]
        for number, unit in enumerate(units):
            unit.settimeout(30)
            unit.connect(told["CUDABUILD_SOCKET"])
            said = {"token": told["CUDABUILD_TOKEN"], "kind": "cc", "name": "n", "key": f"k{number}"}
            unit.sendall(encode("unit", v=1, pid=os.getpid(), **said))
        assert wait_until(lambda: len(bench.of("queued")) >= 15)
        assert not wait_until(lambda: not alive(before), 0.4)
        for unit in units:
            heard = b""
            while b"go" not in heard:
                more = unit.recv(4096)
                assert more, heard
                heard += more
            unit.sendall(encode("ended", code=0, signal=0))
            unit.close()
        assert (bench.broker(), bench.client.restarts) == (before, 0)


def test_the_reserve_inside_a_limit_is_at_most_a_twentieth() -> None:
    assert capped_reserve(4 << 30) == (4 << 30) // 20
    assert capped_reserve(512 << 30) == 1 << 30


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())
