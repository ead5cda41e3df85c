"""Machines that are not here: a root with the files that each leaves behind, scripts for programs, a library for NVML.

The detection runs over them as it is: it gets their root and their environment, and nothing else of it is replaced.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from buildkit.build.context import Context
from buildkit.build.doctor.look import Outside
from buildkit.build.places import Places
from buildkit.guard.tier import Tier
from buildkit.machine.identity import Memo
from buildkit.machine.toolkit import REQUIRED_HEADERS
from buildkit.progress import Silent
from buildkit.source.index_settings import IndexSettings
from buildkit.source.reach import Reach
from buildkit.store.store import Store

GIB = 1 << 30
NVML = "libnvidia-ml.so.1"

# What each program prints for what doctor asks. Debian's and Ubuntu's say more; what is read of it is the same.
_GCC = """case "$1" in
--version) echo "g++ (Ubuntu {version}) {version}"; echo "Copyright (C) Free Software Foundation, Inc." ;;
-dumpfullversion) echo {version} ;;
-dumpmachine) echo {machine}-linux-gnu ;;
-print-*) echo "${{1#*=}}" ;;
esac"""
_NVCC = """case "$1" in
--version) echo "Cuda compilation tools, release {release}, V{version}" ;;
--dryrun) cat >&2 <<'END'
#$ _HERE_={root}/bin
#$ TOP={root}
#$ CICC_PATH={root}/nvvm/bin
#$ NVVMIR_LIBRARY_DIR={root}/nvvm/libdevice
#$ INCLUDES="-I{root}/include"
#$ LIBRARIES="-L{root}/lib64"
END
;;
esac"""
# A script that is asked for its Python is taken for one in front of it: it stands for itself.
_PYTHON = """case "$*" in
*"print(sys.executable)") echo "$0" ;;
*) cat <<'END'
{answer}
END
;;
esac"""


def compiled_nvml(folder: Path) -> Path:
    """The library, compiled; its SONAME is NVML's, so that it is found under that name once it is loaded."""
    source = Path(__file__).parent / "native" / "fake_nvml.c"
    library = folder / NVML
    words = ["cc", "-shared", "-fPIC", "-Wall", "-Werror", f"-Wl,-soname,{NVML}", "-o", str(library), str(source)]
    subprocess.run(words, check=True)
    return library


@dataclass
class SimulatedHost:
    """A machine under ``root``. ``environ`` is what a person's shell has there."""

    root: Path
    machine: str = "x86_64"
    environ: dict[str, str] = field(default_factory=dict)
    reach: Reach = field(default_factory=lambda: Reach("answers"))
    free: int = 181 * GIB
    tier: Tier = field(default_factory=lambda: Tier("namespace", "namespace"))

    def __post_init__(self) -> None:
        folders = [self.root / "usr/local/bin", self.root / "usr/bin"]
        for folder in (*folders, self.root / "home/ann"):
            folder.mkdir(parents=True)
        self.environ = {"HOME": str(self.root / "home/ann"), "PATH": ":".join(map(str, folders)), **self.environ}

    def write(self, path: str, text: str = "") -> Path:
        """A file of the machine."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def program(self, path: str, script: str) -> Path:
        """A program of the machine: a shell script, which may use what this machine's shell has."""
        file = self.write(path, f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
        file.chmod(0o755)
        return file

    def system(self, name: str, kernel: str, glibc: str) -> None:
        """Distribution, kernel and C library."""
        self.write("etc/os-release", f'NAME="{name.split(maxsplit=1)[0]}"\nPRETTY_NAME="{name}"\n')
        self.write("proc/sys/kernel/osrelease", f"{kernel}\n")
        said = f"GNU C Library ({name.split(maxsplit=1)[0]} GLIBC {glibc}) stable release version {glibc}."
        self.write(f"usr/lib/{self.machine}-linux-gnu/libc.so.6", f"\0{said}\0")

    def size(self, processors: int, memory: float, available: float) -> None:
        """Processors, and memory in GiB."""
        kib = {"MemTotal": memory, "MemFree": available / 2, "MemAvailable": available}
        self.write("proc/meminfo", "".join(f"{name}: {round(gib * (1 << 20))} kB\n" for name, gib in kib.items()))
        self.write("proc/self/status", f"Name:\tpython\nCpus_allowed_list:\t0-{processors - 1}\n")

    def cgroup(self, memory: float, used: float, *, name: str = "") -> None:
        """A version 2 group around everything, with a limit and what is used of it in GiB."""
        self.write("proc/self/mountinfo", "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
        self.write("proc/self/cgroup", f"0::/{name}\n")
        group = f"sys/fs/cgroup/{name}".rstrip("/")
        self.write(f"{group}/memory.max", f"{round(memory * GIB)}\n")
        self.write(f"{group}/memory.current", f"{round(used * GIB)}\n")
        self.write(f"{group}/memory.stat", "inactive_file 0\n")

    def nvml(self, library: Path, folder: str, answer: str) -> None:
        """A driver whose library answers so (see fake_nvml.c); FAKE_NVML has to name the file ``nvml``."""
        self.write("dev/nvidiactl")
        place = self.root / folder / NVML
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(library)
        self.write("nvml", answer)

    def nvidia_smi(self, rows: Sequence[str]) -> None:
        """A driver's program: one row a GPU, as ``name, uuid, compute_cap, driver_version``."""
        lines = "\n".join(rows)
        self.program("usr/bin/nvidia-smi", f"cat <<'END'\n{lines}\nEND")

    def gcc(self, version: str) -> None:
        """A host compiler."""
        self.program("usr/bin/g++", _GCC.format(version=version, machine=self.machine))

    def toolkit(self, version: str, *, folder: str = "", without: Sequence[str] = ()) -> Path:
        """A CUDA toolkit of scripts and empty files, on PATH; ``without`` these headers."""
        release = ".".join(version.split(".")[:2])
        root = self.root / (folder or f"usr/local/cuda-{release}")
        name = str(root.relative_to(self.root))
        self.program(f"{name}/bin/nvcc", _NVCC.format(release=release, version=version, root=root))
        for header in REQUIRED_HEADERS:
            if header not in without:
                self.write(f"{name}/include/{header}")
        for file in ("bin/nvcc.profile", "nvvm/bin/cicc", "nvvm/libdevice/libdevice.10.bc", "lib64/libcudart.so"):
            self.write(f"{name}/{file}")
        return root

    def python(
        self, version: str, place: str, *, torch: str = "", cuda: str | None = None, setuptools: str = ""
    ) -> None:
        """An active environment below ``place``, with headers, and with a torch where one is named."""
        short = ".".join(version.split(".")[:2])
        prefix = self.root / place
        site = prefix / "lib" / f"python{short}" / "site-packages"
        include = self.root / f"usr/include/python{short}"
        (site / "torch").mkdir(parents=True)
        include.mkdir(parents=True)
        (include / "Python.h").touch()
        answer = {
            "version": version,
            "implementation": "cpython",
            "abi": f"cp{short.replace('.', '')}",
            "platform": f"linux-{self.machine}",
            "machine": self.machine,
            "prefix": str(prefix),
            "base_executable": str(prefix / "bin/python"),
            "site_packages": [str(site)],
            "purelib": [str(site)],
            "user_site": None,
            "include": str(include),
            "managed": False,
        }
        self.program(f"{place}/bin/python", _PYTHON.format(answer=json.dumps(answer)))
        if torch:
            told = f"'{cuda}'" if cuda else "None"
            text = f"__version__ = '{torch}'\ncuda: Optional[str] = {told}\ngit_version = 'abc'\nhip = None\n"
            (site / "torch/version.py").write_text(text, encoding="utf-8")
        if setuptools:
            (site / f"setuptools-{setuptools}.dist-info").mkdir()
        self.environ["VIRTUAL_ENV"] = str(prefix)

    def context(self, index: IndexSettings | None = None) -> Context:
        """What a command would make of this machine's environment."""
        places = Places(self.root / "home/ann/.cache/cudabuild")
        return Context(
            places=places,
            memo=Memo(None),
            store=Store(places.store),
            index=index or IndexSettings(index_url="https://index.example/simple"),
            reporter=Silent(),
            environ=self.environ,
            cwd=self.root / "home/ann",
            may_install=False,
        )

    def outside(self) -> Outside:
        """The network, what the kernel permits, the disk."""
        return Outside(reach=lambda *_: self.reach, tier=lambda *_: self.tier, free=lambda _: self.free)
