"""The compiler shim with a broker of a few lines: what is a unit, what passes through, what a killed unit leaves."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from stub_broker import Peer, StubBroker, short_folder

from buildkit.guard.native import SHIM, shim_program
from buildkit.guard.shim import LAUNCHERS, MARKER, compilers_on, make_shims, shimmed_environment, unit_places

SOURCES = Path(__file__).parents[2] / "csrc"
TOKEN = "0123456789abcdef" * 2

# A compiler that says how it was called, and does what the source tells it to.
FAKE = """#!/bin/sh
here=$(dirname "$0")
printf '%s\\n' "$0" "$@" > "$here/../called"
env > "$here/../environment"
for word; do case $word in *.do) . "./$word" ;; esac; done
"""


@pytest.fixture(scope="module")
def shim() -> Path:
    return shim_program()


class Bench:
    """A folder with compilers behind shims, and a broker."""

    def __init__(self, shim: Path) -> None:
        self.folder = short_folder()
        self.real = self.folder / "real"
        self.real.mkdir()
        for name in ("gcc", "g++-12", "ld", "clang++"):
            self.add(name, FAKE)
        self.shims = make_shims(self.folder / "shims", compilers_on(str(self.real)), shim)
        view = self.folder / "view" / "bin"
        (view / MARKER).mkdir(parents=True)
        self.nvcc = Path(shutil.copy(shim, view / "nvcc"))
        (view / MARKER / "nvcc").symlink_to(self.add("nvcc", FAKE))
        self.work = self.folder / "work"
        (self.work / "tmp").mkdir(parents=True)
        for name in ("a.cpp", "b.c", "k.cu", "a.o", "old.o"):
            (self.work / name).write_text("int x;\n", encoding="utf-8")
        self.broker = StubBroker(self.folder / "s")
        self.running: list[subprocess.Popen[bytes]] = []

    def add(self, name: str, text: str) -> Path:
        program = self.real / name
        program.write_text(text, encoding="utf-8")
        program.chmod(0o755)
        return program

    def script(self, name: str, text: str) -> str:
        """A source that the fake compiler runs."""
        (self.work / f"{name}.do").write_text(text, encoding="utf-8")
        return f"{name}.do"

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "PATH": f"{self.shims}:{self.nvcc.parent}:/usr/bin:/bin",
            "TMPDIR": str(self.work / "tmp"),
            "CUDABUILD_SOCKET": str(self.broker.path),
            "CUDABUILD_TOKEN": TOKEN,
            **more,
        }

    def start(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            words,
            cwd=self.work,
            env=self.environment() if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            executable=shutil.which(words[0], path=(env or self.environment()).get("PATH", "")),
        )
        self.running.append(process)
        return process

    def run(self, *words: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        process = self.start(*words, env=env)
        out, err = process.communicate(timeout=30)
        return process.returncode, out.decode(), err.decode()

    def called(self) -> list[str]:
        return (self.folder / "called").read_text("utf-8").splitlines()

    def seen(self) -> dict[str, str]:
        lines = (self.folder / "environment").read_text("utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def close(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.communicate()
        self.broker.close()
        shutil.rmtree(self.folder)


@pytest.fixture
def bench(shim: Path) -> Iterator[Bench]:
    made = Bench(shim)
    yield made
    made.close()


def begin(bench: Bench, *words: str, env: Mapping[str, str] | None = None) -> tuple[subprocess.Popen[bytes], Peer]:
    """Start a unit, and let it go on when the broker is told of it."""
    process = bench.start(*words, env=env)
    peer = bench.broker.next()
    peer.hear("unit")
    peer.say("queued")
    peer.say("go")
    return process, peer


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


UNITS = [
    ("gcc -c b.c", "cc", "b.c"),
    ("gcc -O2 -c a.cpp -o x.o", "cxx", "a.cpp"),
    ("g++-12 -x c++ -c old.o", "cxx", "old.o"),
    ("gcc -c b.c -MD -MF b.d", "cc", "b.c"),
    ("gcc b.c -o program", "cc", "b.c"),
    ("gcc -S b.c", "cc", "b.c"),
    ("g++-12 -v -c a.cpp", "cxx", "a.cpp"),
    ("g++-12 -shared a.o -o lib.so", "link", "lib.so"),
    ("gcc a.o", "link", "a.out"),
    ("clang++ -c -Xclang --version a.cpp", "cxx", "a.cpp"),
    ("ld -o program a.o", "link", "program"),
    ("nvcc -c k.cu -o k.o", "nvcc", "k.cu"),
    ("nvcc -ptx k.cu", "nvcc", "k.cu"),
    ("nvcc -Xcompiler -E -c k.cu", "nvcc", "k.cu"),
    ("nvcc -dlink a.o -o d.o", "link", "d.o"),
    ("nvcc --options-file nvcc.rsp -c", "nvcc", "k.cu"),
    ("gcc @gcc.rsp", "cxx", "a.cpp"),
]
AT_ONCE = [
    "gcc --version", "gcc -v", "gcc -dumpversion", "gcc -dumpmachine", "gcc -print-prog-name=ld", "gcc --help=target",
    "gcc -E a.cpp", "gcc -M a.cpp", "gcc -MM a.cpp", "gcc -fsyntax-only a.cpp", "gcc -### -c a.cpp",
    "gcc -c missing.cpp", "gcc -o a.o", "gcc -x c -c -", "gcc -x c -c /dev/null", "gcc -include a.cpp", "gcc",
    "ld --version", "ld -v", "ld -o a.o", "nvcc --version", "nvcc -V", "nvcc --dryrun -c k.cu", "nvcc -E k.cu",
    "nvcc -M k.cu", "nvcc --list-gpu-code", "nvcc -v __determine", "nvcc --run k.cu", "nvcc -o a.o", "gcc -E @gcc.rsp",
]  # fmt: skip


@pytest.mark.parametrize(("words", "kind", "name"), UNITS, ids=[unit[0] for unit in UNITS])
def test_what_compiles_or_links_is_a_unit(bench: Bench, words: str, kind: str, name: str) -> None:
    (bench.work / "gcc.rsp").write_text("-c 'a.cpp'\n-DX=\"1 2\"", encoding="utf-8")
    (bench.work / "nvcc.rsp").write_text("k.cu -DX", encoding="utf-8")
    bench.broker.open_door = True
    assert bench.run(*words.split()) == (0, "", "")
    (unit,) = bench.broker.units
    assert (unit.text("kind"), unit.text("name"), unit.text("threads")) == (kind, name, "1")
    assert (unit.text("token"), unit.text("cwd")) == (TOKEN, str(bench.work))
    assert bench.called()[1:] == words.split()[1:], "response files are the compiler's to read"


@pytest.mark.parametrize("words", AT_ONCE)
def test_the_rest_runs_at_once(bench: Bench, words: str) -> None:
    (bench.work / "gcc.rsp").write_text("-c a.cpp", encoding="utf-8")
    bench.broker.open_door = True
    assert bench.run(*words.split())[0] == 0
    assert bench.called()[1:] == words.split()[1:]
    assert bench.broker.units == []


def test_the_token_can_lie_in_a_file(bench: Bench) -> None:
    bench.broker.open_door = True
    (bench.folder / "token").write_text(f"{TOKEN}\n", encoding="utf-8")
    for value in (bench.folder / "token", bench.folder / "none"):
        assert bench.run("gcc", "-c", "b.c", env=bench.environment(CUDABUILD_TOKEN=str(value)))[0] == 0
    assert [unit.text("token") for unit in bench.broker.units] == [TOKEN, ""]


def key_of(bench: Bench, words: str, places: str = "", cwd: str = "") -> str:
    bench.broker.open_door = True
    before = len(bench.broker.units)
    env = bench.environment(CUDABUILD_PLACES=places)
    script = f"cd {bench.work / cwd} && {words}"
    assert bench.run("sh", "-c", script, env=env)[0] == 0
    until(lambda: len(bench.broker.units) > before)
    return bench.broker.units[-1].text("key")


def test_the_key_is_of_what_is_compiled_not_of_where(bench: Bench) -> None:
    for build in ("one", "two"):
        (bench.work / build / "src").mkdir(parents=True)
        (bench.work / build / "src" / "m.cpp").write_text("x", encoding="utf-8")
    (bench.work / "x.rsp").write_text("-O2 -c", encoding="utf-8")

    def key(build: str, flags: str = "-O2 -c", source: str = "src/m.cpp", place: bool = True) -> str:
        folder = bench.work / build
        places = unit_places(folder / "src", folder / "env", temporary=folder / "tmp") if place else ""
        words = f"g++-12 {flags} -I{folder}/env/include -I{folder}/tmp/{build}xyz/gen {source} -o {build}.o -MF {build}"
        return key_of(bench, words, places, build)

    one = key("one")
    assert len(one) == 64
    assert key("two") == one
    assert key("two", place=False) != one
    assert key("two", source=f"{bench.work}/two/src/../src/m.cpp") == one
    assert key("two", flags="-O3 -c") != one
    assert key("two", flags=f"@{bench.work}/x.rsp") == one


def test_targets_and_threads_are_in_the_key(bench: Bench) -> None:
    keys = [
        key_of(bench, f"nvcc -c k.cu {flags}") for flags in ("", "-arch=sm_80", "-arch=sm_90", "--threads 4", "-t4")
    ]
    assert len(set(keys)) == 4
    assert keys[3] == keys[4]
    assert [unit.number("threads") for unit in bench.broker.units] == [1, 1, 1, 4, 4]
    assert bench.run("nvcc", "-c", "k.cu", env=bench.environment(NVCC_APPEND_FLAGS="--threads=3"))[0] == 0
    until(lambda: len(bench.broker.units) == 6)
    assert bench.broker.units[-1].number("threads") == 3


@pytest.mark.parametrize(
    ("given", "changed"),
    [("-t 8", ["-t", "2"]), ("--threads=8", ["--threads=2"]), ("-t8", ["-t2"]), ("--threads 8", ["--threads", "2"])],
)
def test_the_broker_says_how_many_threads(bench: Bench, given: str, changed: list[str]) -> None:
    process = bench.start("nvcc", *given.split(), "-c", "k.cu")
    peer = bench.broker.next()
    assert peer.hear("unit").number("threads") == 8
    peer.say("go", threads=2)
    assert process.wait(10) == 0
    assert bench.called()[1:] == [*changed, "-c", "k.cu"]


def test_nvcc_takes_the_view_as_its_root_and_gcc_its_own(bench: Bench) -> None:
    bench.broker.open_door = True
    script = "tr '\\0' '\\n' < /proc/$$/cmdline"
    for name in ("nvcc", "gcc"):  # a script's own argv[0] is lost in its interpreter: a program shows it
        shutil.copy(shutil.which("sh") or "", bench.real / name)
    for source in ("no-file.cu", "k.cu"):
        assert bench.run("nvcc", "-c", script, source)[1].splitlines()[0] == str(bench.nvcc)
        assert bench.run("gcc", "-c", script, source)[1].splitlines()[0] == str(bench.real / "gcc")
    assert len(bench.broker.units) == 2


def test_what_a_compiler_starts_passes_without_a_detour(bench: Bench) -> None:
    inner = bench.script("inner", f"set -e; gcc -c b.c; {bench.shims}/ld a.o; {bench.nvcc} -c k.cu; ld --version\n")
    bench.broker.open_door = True
    env = bench.environment()
    code, out, err = bench.run("g++-12", "-c", inner, "a.cpp", env={**env, "PATH": f"{env['PATH']}:{bench.real}"})
    assert (code, err) == (0, "")
    assert "GNU" in out, "by its name the system's is found, without a shim"
    assert [unit.text("name") for unit in bench.broker.units] == ["a.cpp"]


def test_a_compiler_sees_its_environment_but_for_the_shims(bench: Bench) -> None:
    bench.broker.open_door = True
    assert bench.run("gcc", "-c", "b.c", env=bench.environment(OTHER="as it was"))[0] == 0
    seen = bench.seen()
    assert (seen["CUDABUILD_SHIM_BYPASS"], seen["OTHER"]) == ("1", "as it was")
    assert seen["PATH"] == f"{bench.nvcc.parent}:/usr/bin:/bin"
    assert Path(seen["TMPDIR"]).parent == bench.work / "tmp"
    assert not list((bench.work / "tmp").iterdir())


def test_streams_descriptors_and_folder_are_the_callers(bench: Bench) -> None:
    bench.broker.open_door = True
    reading, writing = os.pipe()
    os.write(writing, b"jobs\n")
    os.close(writing)
    script = f"echo out; echo err >&2; read line < /proc/self/fd/{reading}; echo got $line; pwd; exit 3\n"
    done = subprocess.run(
        ["sh", "-c", f"gcc -c {bench.script('say', script)} b.c"],
        cwd=bench.work, env=bench.environment(), pass_fds=[reading], capture_output=True, text=True, check=False,
    )  # fmt: skip
    os.close(reading)
    assert (done.returncode, done.stdout, done.stderr) == (3, f"out\ngot jobs\n{bench.work}\n", "err\n")


def test_much_on_standard_error_comes_through_whole(bench: Bench) -> None:
    bench.broker.open_door = True
    say = bench.script("say", "i=0; while [ $i -lt 4000 ]; do echo line $i of many >&2; i=$((i+1)); done; exit 1\n")
    code, _, err = bench.run("gcc", "-c", say, "b.c")
    assert code == 1
    assert err == "".join(f"line {i} of many\n" for i in range(4000))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_death_by_a_signal_is_passed_on(bench: Bench, number: int) -> None:
    die = bench.script("die", f"kill -{int(number)} $$\n")
    process, peer = begin(bench, "gcc", "-c", die, "b.c")
    peer.hear("started")
    ended = peer.hear("ended")
    assert (ended.number("code"), ended.number("signal")) == (0, number)
    peer.say("done")
    assert process.wait(10) == -number


def test_a_success_waits_for_no_answer(bench: Bench) -> None:
    process, peer = begin(bench, "gcc", "-c", "b.c")
    peer.hear("started")
    assert process.wait(10) == 0
    ended = peer.hear("ended")
    assert ended.number("maxrss") > 100_000
    assert peer.hung_up()


def grow(bench: Bench) -> str:
    """A unit that writes its output, and starts a process that leaves for a session of its own."""
    return bench.script(
        "grow",
        'echo part > x.o; echo > "$TMPDIR/tmpxft_1.ii"; echo noise >&2\n'
        "[ -e finish ] && { echo whole > x.o; exit 0; }\n"
        "setsid sh -c 'echo $$ > grandchild; env -i sleep 600' & sleep 600\n",
    )


def test_a_killed_unit_leaves_nothing_and_starts_again(bench: Bench) -> None:
    process, peer = begin(bench, "gcc", "-c", grow(bench), "b.c", "-o", "x.o")
    root = peer.hear("started").number("pid")
    until(lambda: (bench.work / "grandchild").exists() and (bench.work / "grandchild").read_text() != "")
    grandchild = int((bench.work / "grandchild").read_text())
    assert list((bench.work / "tmp").rglob("tmpxft*"))
    peer.say("kill")
    peer.hear("killed")
    assert not Path(f"/proc/{root}").exists()
    assert not Path(f"/proc/{grandchild}").exists()
    assert not (bench.work / "x.o").exists()
    assert not list((bench.work / "tmp").iterdir())
    (bench.work / "finish").touch()
    peer.say("go")
    assert peer.hear("started").number("pid") != root
    _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (0, b"noise\n"), "the killed run is not heard of"
    assert (bench.work / "x.o").read_text() == "whole\n"


def test_a_file_that_was_there_stays_unless_it_was_written_to(bench: Bench) -> None:
    wait = bench.script("wait", "echo part > k.d; touch ready; sleep 600\n")
    (bench.work / "k.d").write_text("before", encoding="utf-8")
    _, peer = begin(bench, "gcc", "-c", wait, "b.c", "-o", "old.o", "-MF", "k.d")
    until((bench.work / "ready").exists)
    peer.hear("started")
    peer.say("kill")
    peer.hear("killed")
    assert (bench.work / "old.o").read_text() == "int x;\n"
    assert not (bench.work / "k.d").exists(), "half a list of what was read is worse than none"


def test_devices_are_never_removed(bench: Bench) -> None:
    wait = bench.script("wait", "touch ready; sleep 600\n")
    _, peer = begin(bench, "gcc", "-c", wait, "b.c", "-o", "/dev/null")
    until((bench.work / "ready").exists)
    peer.hear("started")
    peer.say("kill")
    peer.hear("killed")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    "failing", ["exit 137", 'echo "g++: fatal error: Killed signal terminated program cc1plus" >&2; exit 1']
)
def test_a_killed_program_of_a_compiler_is_told_and_runs_again(bench: Bench, failing: str) -> None:
    again = bench.script("again", f"echo part > x.o; [ -e finish ] || {{ {failing}; }}\n")
    process, peer = begin(bench, "gcc", "-c", again, "b.c", "-o", "x.o")
    peer.hear("started")
    assert peer.hear("ended").number("signal") == 9
    assert not (bench.work / "x.o").exists()
    (bench.work / "finish").touch()
    peer.say("again")
    peer.say("go")
    peer.hear("started")
    assert process.communicate(timeout=10) == (b"", b"")
    assert process.returncode == 0


def test_a_failure_is_judged_by_the_broker(bench: Bench) -> None:
    fail = bench.script("fail", "echo wrong >&2; exit 2\n")
    process, peer = begin(bench, "gcc", "-c", fail, "b.c")
    peer.hear("started")
    ended = peer.hear("ended")
    assert (ended.number("code"), ended.number("signal")) == (2, 0)
    assert process.poll() is None
    peer.say("done")
    assert process.communicate(timeout=10)[1] == b"wrong\n"
    assert process.returncode == 2


def test_a_unit_that_cannot_be_built_says_why(bench: Bench) -> None:
    process, peer = begin(bench, "gcc", "-c", grow(bench), "b.c", "-o", "x.o")
    root = peer.hear("started").number("pid")
    peer.say("fail", text="b.c needs 9 GiB:\nuse --memory ü")
    assert process.communicate(timeout=10)[1].decode() == "b.c needs 9 GiB:\nuse --memory ü\n"
    assert process.returncode == 137
    assert not Path(f"/proc/{root}").exists()
    assert not (bench.work / "x.o").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_shim_ends_the_whole_unit(bench: Bench, number: int) -> None:
    process, peer = begin(bench, "gcc", "-c", grow(bench), "b.c", "-o", "x.o")
    root = peer.hear("started").number("pid")
    until(lambda: (bench.work / "grandchild").exists() and (bench.work / "grandchild").read_text() != "")
    grandchild = int((bench.work / "grandchild").read_text())
    process.send_signal(number)
    # A shell that waits for a foreground program holds SIGINT back; the rest of the tree is ended all the same.
    assert process.wait(30) in {-number, -signal.SIGKILL}
    assert not Path(f"/proc/{root}").exists()
    assert not Path(f"/proc/{grandchild}").exists()
    assert not (bench.work / "x.o").exists()


def test_a_signal_ends_a_shim_that_waits(bench: Bench) -> None:
    process = bench.start("gcc", "-c", "b.c")
    bench.broker.next().hear("unit")
    process.terminate()
    assert process.wait(10) == -signal.SIGTERM


def test_an_ignored_signal_stays_ignored(bench: Bench) -> None:
    process = bench.start("sh", "-c", "trap '' HUP; exec gcc -c b.c")
    peer = bench.broker.next()
    peer.hear("unit")
    process.send_signal(signal.SIGHUP)
    peer.say("go")
    assert process.wait(10) == 0


def test_a_killed_shim_takes_the_compiler_with_it(bench: Bench) -> None:
    process, peer = begin(bench, "gcc", "-c", grow(bench), "b.c")
    root = peer.hear("started").number("pid")
    process.kill()
    until(lambda: not Path(f"/proc/{root}/cmdline").exists() or Path(f"/proc/{root}/cmdline").read_bytes() == b"")


def test_a_lost_broker_leaves_the_unit_running(bench: Bench) -> None:
    go_on = bench.script("go_on", "touch ready; while [ ! -e finish ]; do sleep 0.05; done; echo whole > x.o\n")
    process, peer = begin(bench, "gcc", "-c", go_on, "b.c")
    root = peer.hear("started").number("pid")
    until((bench.work / "ready").exists)
    bench.broker.close()
    bench.broker = StubBroker(bench.broker.path)
    peer = bench.broker.next()
    unit = peer.hear("unit")
    assert (unit.number("running"), unit.text("name")) == (root, "b.c")
    (bench.work / "finish").touch()
    assert peer.hear("ended").number("code") == 0
    assert process.wait(10) == 0


def test_a_waiting_unit_waits_for_the_next_broker(bench: Bench) -> None:
    process = bench.start("gcc", "-c", "b.c")
    bench.broker.next().hear("unit")
    bench.broker.close()
    bench.broker = StubBroker(bench.broker.path)
    peer = bench.broker.next()
    assert peer.hear("unit").number("running") == 0
    peer.say("go")
    assert process.wait(10) == 0


def test_the_broker_is_started_again_and_survives_the_unit(bench: Bench) -> None:
    bench.broker.close()
    starter = bench.folder / "start.py"
    starter.write_text(
        "import os, sys, time\n"
        f"sys.path[:0] = [{str(SOURCES.parent / 'tests' / 'helpers')!r}, {str(SOURCES.parent)!r}]\n"
        "if os.fork(): os._exit(0)\n"
        "from pathlib import Path\n"
        "from stub_broker import StubBroker\n"
        f"broker = StubBroker(Path({str(bench.broker.path)!r}))\n"
        "broker.open_door = True\n"
        f"Path({str(bench.folder / 'pid')!r}).write_text(str(os.getpid()))\n"
        "time.sleep(20)\n",
        encoding="utf-8",
    )
    command = shlex.join([sys.executable, str(starter)])
    assert bench.run("gcc", "-c", "b.c", env=bench.environment(CUDABUILD_BROKER=command)) == (0, "", "")
    pid = int((bench.folder / "pid").read_text())
    assert f"{starter}" in Path(f"/proc/{pid}/cmdline").read_text()
    os.kill(pid, signal.SIGKILL)


def test_the_kernel_is_offered_the_compiler_first(bench: Bench) -> None:
    bench.broker.open_door = True
    (bench.work / "score.do").write_text("cat /proc/self/oom_score_adj > score\n", encoding="utf-8")
    assert bench.run("gcc", "-c", "b.c", "score.do") == (0, "", "")
    assert int((bench.work / "score").read_text()) >= 500


@pytest.mark.parametrize("how", ["CUDABUILD_GUARD", "CUDABUILD_SHIM_BYPASS", "CUDABUILD_SOCKET"])
def test_without_the_guard_every_call_runs_at_once(bench: Bench, how: str) -> None:
    value = {"CUDABUILD_GUARD": "off", "CUDABUILD_SHIM_BYPASS": "1", "CUDABUILD_SOCKET": ""}[how]
    bench.broker.open_door = True
    assert bench.run("gcc", "-c", "b.c", env=bench.environment(**{how: value})) == (0, "", "")
    assert bench.broker.units == []


def test_an_emptied_environment_finds_the_program(bench: Bench) -> None:
    done = subprocess.run(["env", "-i", str(bench.shims / "gcc"), "-c", "b.c"], cwd=bench.work, check=False)
    assert done.returncode == 0
    assert bench.called() == [str(bench.real / "gcc"), "-c", "b.c"]


def test_links_to_a_shim_are_followed(bench: Bench) -> None:
    link = bench.folder / "mycc"
    link.symlink_to(bench.shims / "gcc")
    bench.broker.open_door = True
    assert bench.run(str(link), "-c", "b.c")[0] == 0
    assert bench.called()[0] == str(bench.real / "gcc")
    assert len(bench.broker.units) == 1


def test_as_a_launcher_it_acts_once(bench: Bench) -> None:
    bench.broker.open_door = True
    launcher = str(bench.shims / SHIM)
    for compiler in (str(bench.shims / "gcc"), "gcc", str(bench.real / "gcc")):
        assert bench.run(launcher, compiler, "-c", "b.c") == (0, "", "")
        assert bench.called() == [str(bench.real / "gcc"), "-c", "b.c"]
    assert [unit.text("kind") for unit in bench.broker.units] == ["cc"] * 3
    # A compiler cache in between is no compiler: the shim behind it acts.
    (bench.real / "ccache").write_text('#!/bin/sh\nexec "$@"\n', encoding="utf-8")
    (bench.real / "ccache").chmod(0o755)
    assert bench.run(launcher, str(bench.real / "ccache"), "gcc", "-c", "b.c")[0] == 0
    assert len(bench.broker.units) == 4


def test_a_missing_compiler_is_said(bench: Bench) -> None:
    (bench.real / "gcc").unlink()
    bench.broker.open_door = True
    for words in ("gcc --version", "gcc -c b.c"):
        code, _, err = bench.run(*words.split())
        assert code == 127
        assert f"{bench.real}/gcc: No such file" in err
    code, _, err = bench.run(shutil.copy(str(bench.shims / "gcc"), str(bench.folder / "lost")))
    assert code == 127
    assert "nothing beside it says for which" in err


def test_a_compiler_cache_that_looks_for_its_own_name_ends(bench: Bench) -> None:
    bench.add("gcc", '#!/bin/sh\n[ -n "$DEEP" ] && exit 5\nDEEP=1 exec gcc "$@"\n')
    code, out, _ = bench.run("gcc", "--version", env=bench.environment())
    assert code == 0, "the next gcc on PATH is the system's, not the shim"
    assert "gcc" in out


def test_the_shim_is_small_while_it_waits(bench: Bench) -> None:
    process = bench.start("nvcc", "-c", "k.cu", *(f"-I/some/folder/number/{i}" for i in range(2000)))
    bench.broker.next().hear("unit")
    time.sleep(0.05)
    status = Path(f"/proc/{process.pid}/status").read_text("utf-8")
    size = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
    assert size < 3 * 1024


def test_shims_are_named_after_what_they_stand_for(shim: Path, tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    for name in ("cc", "x86_64-linux-gnu-g++-12", "ld.gold", "gcc-ar", "ccache", "c++filt", "lldb", "cconv"):
        (real / name).write_text("#!/bin/sh\n", encoding="utf-8")
        (real / name).chmod(0o755)
    (real / "clang").write_text("not to be run", encoding="utf-8")
    found = compilers_on(f"{tmp_path}/none::{real}:{real}")
    assert found == {name: real / name for name in ("cc", "ld.gold", "x86_64-linux-gnu-g++-12")}
    folder = make_shims(tmp_path / "shims", found, shim)
    assert {path.name for path in folder.iterdir()} == {*found, SHIM, MARKER}
    assert (folder / MARKER / "cc").readlink() == real / "cc"
    assert make_shims(tmp_path / "shims", found, shim) == folder
    assert make_shims(tmp_path / "shims", {"cc": real / "cc"}, shim) != folder
    assert len(list((tmp_path / "shims").iterdir())) == 2


def test_the_environment_of_a_build_leads_to_shims(shim: Path, tmp_path: Path) -> None:
    folder = make_shims(tmp_path / "shims", {"cc": Path("/bin/sh")}, shim)
    given = {
        "PATH": "/usr/bin",
        "CC": "/bin/sh -pthread",
        "CXX": "/opt/other/c++",
        "CMAKE_C_COMPILER_LAUNCHER": "ccache",
    }
    changed = shimmed_environment(given, folder)
    assert changed["PATH"] == f"{folder}:/usr/bin"
    assert changed["CC"] == "/bin/sh -pthread", "that name is another program's"
    assert changed["CXX"] == "/opt/other/c++"
    assert changed[LAUNCHERS[0]] == "ccache"
    assert changed[LAUNCHERS[2]] == str(folder / SHIM)
    named = make_shims(tmp_path / "shims", {"sh": Path("/bin/sh")}, shim)
    assert shimmed_environment(given, named)["CC"] == f"{named}/sh -pthread"


def test_the_shim_compiles_without_a_warning() -> None:
    flags = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror", "-fsyntax-only"]
    sources = [str(path) for path in sorted((SOURCES / "shim").glob("*.c"))]
    subprocess.run(["cc", *flags, *sources], check=True)
