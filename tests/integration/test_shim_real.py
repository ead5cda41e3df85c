"""The shim and the broker with real compilers: a build sees the compiler, and the broker each of its units."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from buildkit.build.toolkit_view import make_view
from buildkit.guard.client import BrokerClient, Registration
from buildkit.guard.native import shim_program
from buildkit.guard.sampling import all_processes, descendants
from buildkit.guard.shim import compilers_on, make_shims, shimmed_environment
from buildkit.machine.toolkit import Toolkit

pytestmark = pytest.mark.integration

FOLDERS = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
KERNEL = """
#ifdef BROKEN
#error as it was meant
#endif
__global__ void slow(float *values) {
  float x = values[threadIdx.x];
#pragma unroll
  for (int i = 1; i < 24; ++i) x = sinf(x) + powf(x, i) * cosf(x);
  values[threadIdx.x] = x;
}
"""
"""It keeps the device compiler busy for a second or two, and the others hardly."""
SMALL = "__global__ void nothing() {}\nvoid launch() { nothing<<<1, 1>>>(); }\n"
HOST = "#include <string>\nstd::string f(int n) { return std::to_string(n); }\n"
SLOW = '#include <regex>\nbool f(const char *t) { return std::regex_match(t, std::regex("a+b")); }\n'
"""It keeps the C++ compiler busy for a second or two."""
CMAKE = """
cmake_minimum_required(VERSION 3.18)
project(tiny LANGUAGES C CXX CUDA)
find_package(CUDAToolkit REQUIRED)
add_library(tiny SHARED small.cu host.cpp)
target_link_libraries(tiny PRIVATE CUDA::cudart)
message(STATUS "root=${CUDAToolkit_BIN_DIR}")
message(STATUS "versions=${CMAKE_CUDA_COMPILER_VERSION}=${CUDAToolkit_VERSION}")
message(STATUS "ids=${CMAKE_C_COMPILER_ID} ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CUDA_COMPILER_ID}")
"""


class Site:
    """A build's folder behind shims, with a broker of its own."""

    def __init__(self, folder: Path, toolkit: Toolkit) -> None:
        self.folder = folder
        # A runtime folder of its own: no other build's broker is met, and killing this one harms nobody.
        self.runtime = Path("/tmp", f"shim-{os.getpid()}-{time.monotonic_ns()}")
        self.runtime.mkdir(mode=0o700)
        self.shims = make_shims(folder / "shims", compilers_on(FOLDERS), shim_program())
        self.view = make_view(toolkit, [], folder / "view", compiler=Path("/usr/bin/cc"), shim=shim_program())
        self.plain_view = make_view(toolkit, [], folder / "plain", compiler=Path("/usr/bin/cc"))
        self.work = folder / "work"
        (self.work / "tmp").mkdir(parents=True)
        sources = {"k.cu": KERNEL, "small.cu": SMALL, "host.cpp": HOST, "slow.cpp": SLOW, "CMakeLists.txt": CMAKE}
        for name, text in sources.items():
            (self.work / name).write_text(text, encoding="utf-8")
        self.events: list[dict[str, str]] = []
        self.client = BrokerClient(
            Registration("site", "13.0", os.cpu_count() or 1, 4, prior=1 << 30),
            lambda event: self.events.append(dict(event)),
            environ={"XDG_RUNTIME_DIR": str(self.runtime)},
        )

    @property
    def plain(self) -> dict[str, str]:
        """What a build sees without shims."""
        return {
            "PATH": f"{self.plain_view}/bin:{FOLDERS}",
            "HOME": str(self.work),
            "TMPDIR": str(self.work / "tmp"),
            "LC_ALL": "C.UTF-8",
            "CUDACXX": str(self.plain_view / "bin" / "nvcc"),
            "CUDA_PATH": str(self.plain_view),
            "CUDAToolkit_ROOT": str(self.plain_view),
            "CUDAARCHS": "75-real",
        }

    @property
    def guarded(self) -> dict[str, str]:
        """And with them."""
        seen = {name: value.replace(str(self.plain_view), str(self.view)) for name, value in self.plain.items()}
        return {**shimmed_environment(seen, self.shims), **self.client.environment()}

    def start(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        environment = self.guarded if env is None else env
        program = shutil.which(words[0], path=environment["PATH"])
        assert program is not None, words[0]
        return subprocess.Popen(
            [program, *words[1:]], cwd=self.work, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def run(self, *words: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        process = self.start(*words, env=env)
        out, err = process.communicate(timeout=600)
        return process.returncode, out, err

    def told(self, what: str) -> list[dict[str, str]]:
        return [event for event in self.events if event["what"] == what]

    def await_event(self, what: str, count: int = 1, seconds: float = 60.0) -> dict[str, str]:
        until(lambda: len(self.told(what)) >= count, seconds)
        return self.told(what)[count - 1]

    def broker_pid(self) -> int:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as endpoint:
            endpoint.connect(str(self.client.socket_path))
            raw = endpoint.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            return int(struct.unpack("3i", raw)[0])


@pytest.fixture(scope="module")
def built(wheel_toolkit: Toolkit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"), wheel_toolkit)
    yield made
    shutil.rmtree(made.runtime)


@pytest.fixture
def site(built: Site) -> Iterator[Site]:
    """The site with its broker; nothing may be left in the folder for temporary files."""
    built.events.clear()
    with built.client:
        yield built
    built.client = BrokerClient(
        Registration("site", "13.0", os.cpu_count() or 1, 4, prior=1 << 30),
        lambda event: built.events.append(dict(event)),
        environ={"XDG_RUNTIME_DIR": str(built.runtime)},
    )
    left = [path.name for path in (built.work / "tmp").iterdir()]
    shutil.rmtree(built.work / "tmp")
    (built.work / "tmp").mkdir()
    assert left == []


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.005)


def below(root: int, name: str) -> list[int]:
    """Processes of this name below a process of ours."""
    found = []
    for process in descendants(root, all_processes()):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{process.pid}/comm").read_text(encoding="utf-8").strip() == name and not process.ended:
                found.append(process.pid)
    return found


def test_nvcc_through_the_shim_has_the_view_as_its_root(site: Site) -> None:
    code, _, said = site.run("nvcc", "--dryrun", "-c", "small.cu")
    assert code == 0
    assert f"#$ TOP={site.view}/bin/.." in said
    assert f'"-I{site.view}/bin/..//include"' in said
    assert site.run("nvcc", "--version")[1] == site.run("nvcc", "--version", env=site.plain)[1]
    assert site.events == [] or not site.told("started")


@pytest.mark.parametrize("generator", ["Ninja", "Unix Makefiles"])
def test_cmake_finds_the_real_toolkit_and_each_file_is_one_unit(site: Site, generator: str) -> None:
    out = f"out-{generator.partition(' ')[0]}"
    code, said, err = site.run("cmake", "-G", generator, "-S", ".", "-B", out)
    assert code == 0, said + err
    assert f"root={site.view}/bin" in said
    compiled, found = said.split("versions=")[1].splitlines()[0].split("=")
    assert compiled == found
    assert said.split("ids=")[1].splitlines()[0].split() == ["GNU", "GNU", "NVIDIA"]
    code, said, err = site.run("cmake", "--build", out, "-j", "2")
    assert code == 0, said + err
    expected = [("cxx", "host.cpp"), ("link", "libtiny.so"), ("nvcc", "small.cu")]
    until(lambda: any(unit["name"] == "libtiny.so" for unit in site.told("ended")))
    units = [(unit["kind"], unit["name"]) for unit in site.told("ended")]
    names = {name for _kind, name in expected}  # beside CMake's own, which it tries compilers with
    assert sorted(unit for unit in units if unit[1] in names) == expected
    needed = subprocess.run(["readelf", "-d", site.work / out / "libtiny.so"], capture_output=True, check=True).stdout
    assert b"libcudart.so.13" in needed


def test_the_objects_are_those_of_the_compiler_alone(site: Site) -> None:
    for env in (site.plain, site.guarded):
        assert site.run("g++", "-O1", "-c", "host.cpp", "-o", "h.o", env=env) == (0, "", "")
        (site.work / "h.o").rename(site.work / f"h-{len(env)}.o")
    one, two = sorted(site.work.glob("h-*.o"))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        "g++ -c missing.cpp",
        "g++ -DX=( -Wall -fnonsense -c host.cpp",
        "nvcc -DBROKEN -c k.cu",
        "nvcc -c host.cpp -nonsense",
        "g++ a.o",
        "ld -o x small.cu",
    ],
)
def test_a_failing_compiler_says_and_ends_as_without_the_shim(site: Site, words: str) -> None:
    alone = site.run(*words.split(), env=site.plain)
    assert alone[0] != 0
    code, out, err = site.run(*words.split())
    assert (code, out, err.replace(str(site.view), str(site.plain_view))) == alone


def test_response_files_are_read_by_the_compiler(site: Site) -> None:
    (site.work / "host.rsp").write_text('-O0 "-DTEXT=\\"a b\\"" -c host.cpp', encoding="utf-8")
    (site.work / "cuda.rsp").write_text("-arch=sm_75 -c small.cu", encoding="utf-8")
    assert site.run("g++", "@host.rsp", "-o", "r.o") == (0, "", "")
    assert site.run("nvcc", "--options-file", "cuda.rsp", "-o", "s.o")[0] == 0
    assert (site.work / "r.o").stat().st_size > 0
    assert (site.work / "s.o").stat().st_size > 0
    until(lambda: len(site.told("ended")) == 2)
    assert [unit["name"] for unit in site.told("ended")] == ["host.cpp", "small.cu"]


@pytest.mark.parametrize("victim", ["cicc", "cc1plus"])
def test_a_program_killed_from_outside_starts_again(site: Site, victim: str) -> None:
    words = ("nvcc", "-arch=sm_75", "-c", "k.cu", "-o", "k.o") if victim == "cicc" else ("g++", "-O2", "-c", "slow.cpp")
    process = site.start(*words)
    until(lambda: bool(below(process.pid, victim)))
    os.kill(below(process.pid, victim)[0], signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out, err) == (0, "", "")
    assert site.await_event("killed")["reason"] == "killed-outside"
    assert site.await_event("ended")["code"] == "0"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_shim_ends_nvcc_and_cicc(site: Site, number: int) -> None:
    (site.work / "k.o").unlink(missing_ok=True)
    process = site.start("nvcc", "-arch=sm_75", "-c", "k.cu", "-o", "k.o")
    until(lambda: bool(below(process.pid, "cicc")))
    tree = [one.pid for one in descendants(process.pid, all_processes())]
    process.send_signal(number)
    process.communicate(timeout=10)
    assert process.returncode != 0
    assert not [pid for pid in tree if Path(f"/proc/{pid}").exists()]
    assert not (site.work / "k.o").exists()


def test_a_broker_killed_in_the_middle_is_replaced(site: Site) -> None:
    first = site.broker_pid()
    running = site.start("nvcc", "-arch=sm_75", "-c", "k.cu", "-o", "k.o")
    until(lambda: bool(below(running.pid, "nvcc")))
    os.kill(first, signal.SIGKILL)
    assert site.run("g++", "-c", "host.cpp")[0] == 0
    assert running.communicate(timeout=300) == ("", "")
    assert running.returncode == 0
    assert site.broker_pid() != first
    assert {unit["name"] for unit in (site.await_event("ended", 1), site.await_event("ended", 2))} == {
        "k.cu",
        "host.cpp",
    }


def test_without_a_broker_a_waiting_unit_ends_with_a_word(site: Site) -> None:
    env = {**site.guarded, "CUDABUILD_SOCKET": str(site.runtime / "nobody"), "CUDABUILD_BROKER": "false"}
    began = time.monotonic()
    code, _, err = site.run("g++", "-c", "host.cpp", env=env)
    assert code == 1
    assert "host.cpp was not started" in err
    assert "CUDABUILD_GUARD=off" in err
    assert time.monotonic() - began > 9, "a broker that is slow to come is waited for"


def test_the_guard_can_be_turned_off(site: Site) -> None:
    assert site.run("g++", "-c", "host.cpp", env={**site.guarded, "CUDABUILD_GUARD": "off"})[0] == 0
    assert site.run("g++", "-c", "host.cpp")[0] == 0
    until(lambda: bool(site.told("ended")))
    assert len(site.told("started")) == 1, "only the second was a unit"
