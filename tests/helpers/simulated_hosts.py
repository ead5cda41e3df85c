"""The machines whose screens are kept and shown in the docs, each by its name."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from simulated import SimulatedHost, compiled_nvml

from buildkit.cli.doctor_command import examined
from buildkit.cli.doctor_page import doctor_lines
from buildkit.cli.doctor_schema import DoctorObject
from buildkit.guard.tier import Tier
from buildkit.machine.windows import POWERSHELL
from buildkit.report.canvas import text_of
from buildkit.source.reach import Reach

SCREENS = Path(__file__).parents[1] / "unit" / "data" / "doctor"
"""Where the screens are kept: ``NAME.txt``. ``python tests/helpers/simulated_hosts.py`` makes them anew."""
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "doctor.md"
"""Where they are shown."""

UBUNTU_22 = ("Ubuntu 22.04.5 LTS", "5.15.0-122-generic", "2.35")
UBUNTU_24 = ("Ubuntu 24.04.1 LTS", "6.8.0-45-generic", "2.39")


def plain(root: Path, nvml: Path) -> SimulatedHost:
    """A workstation on which everything fits."""
    host = SimulatedHost(root)
    host.system(*UBUNTU_24)
    host.size(24, 62.6, 55.1)
    host.nvml(nvml, "usr/lib/x86_64-linux-gnu", "driver 570.86.15\ngpu 8 9 GPU-0001 NVIDIA GeForce RTX 4090\n")
    host.gcc("13.2.0")
    host.toolkit("12.8.93")
    host.python("3.12.3", "home/ann/venv", torch="2.8.0+cu128", cuda="12.8", setuptools="80.9.0")
    return host


def wsl2(root: Path, nvml: Path) -> SimulatedHost:
    """RTX 5070 Ti under WSL2 with 7.8 GiB, Windows' driver 576.88, and a torch from before Blackwell."""
    host = SimulatedHost(root, tier=Tier("cgroup", "namespace"))
    host.system("Ubuntu 24.04.1 LTS", "5.15.167.4-microsoft-standard-WSL2", "2.39")
    host.size(24, 7.8, 7.1)
    host.nvml(nvml, "usr/lib/wsl/lib", "driver 576.88\ngpu 12 0 GPU-0002 NVIDIA GeForce RTX 5070 Ti\n")
    (host.root / "dev/nvidiactl").rename(host.root / "dev/dxg")
    host.program(POWERSHELL, "printf '68475109376\\r\\n'")
    host.gcc("13.2.0")
    host.toolkit("12.8.93")
    host.python("3.11.9", "home/ann/venv", torch="2.6.0+cu124", cuda="12.4", setuptools="78.1.0")
    drives = ("/mnt/c/Windows/system32", "/mnt/c/Program Files/NVIDIA GPU Computing Toolkit/CUDA/v12.8/bin")
    host.environ["PATH"] += ":" + ":".join(drives)
    return host


def ampere(root: Path, nvml: Path) -> SimulatedHost:
    """RTX 3080 Ti with torch 2.1 of CUDA 12.1."""
    host = SimulatedHost(root)
    host.system(*UBUNTU_22)
    host.size(16, 31.2, 24.5)
    host.nvml(nvml, "usr/lib/x86_64-linux-gnu", "driver 535.183.01\ngpu 8 6 GPU-0003 NVIDIA GeForce RTX 3080 Ti\n")
    host.gcc("11.4.0")
    host.toolkit("12.1.105")
    host.python("3.10.12", "home/ann/venv", torch="2.1.2+cu121", cuda="12.1", setuptools="82.0.1")
    return host


def slurm(root: Path, nvml: Path) -> SimulatedHost:
    """RTX A6000 in a Slurm job of 64 GB, on a node without a network, where only nvidia-smi answers."""
    host = SimulatedHost(root, tier=Tier("namespace", "namespace"))
    host.system("Rocky Linux 9.4 (Blue Onyx)", "5.14.0-427.13.1.el9_4.x86_64", "2.34")
    host.size(64, 503.5, 430.0)
    host.cgroup(64, 1.5, name="system.slice/slurmstepd.scope/job_4711")
    host.nvml(nvml, "usr/lib/x86_64-linux-gnu", "error 18\n")
    host.nvidia_smi(["NVIDIA RTX A6000, GPU-0004, 8.6, 550.54.15"])
    host.gcc("11.4.1")
    host.toolkit("12.4.131", folder="apps/cuda/12.4")
    host.python("3.11.9", "home/ann/venv", torch="2.5.1+cu124", cuda="12.4", setuptools="75.8.0")
    host.environ |= {
        "CUDA_HOME": str(root / "apps/cuda/12.4"),
        "SLURM_JOB_ID": "4711",
        "SLURM_CPUS_PER_TASK": "4",
        "SLURM_MEM_PER_NODE": "65536",
        "CUDA_VISIBLE_DEVICES": "0",
    }
    host.reach = Reach("silent", "https://index.example/simple: no answer within 0.5 s", slow=True)
    return host


def container(root: Path, nvml: Path) -> SimulatedHost:
    """An image with CUDA 12.8, while it is built: no GPU, and no target."""
    host = SimulatedHost(root, tier=Tier("subreaper", "none"))
    host.system(*UBUNTU_22)
    host.size(16, 31.2, 28.0)
    host.cgroup(16, 0.6)
    host.write(".dockerenv")
    host.gcc("11.4.0")
    host.toolkit("12.8.93", folder="usr/local/cuda")
    host.python("3.11.9", "opt/venv", torch="2.8.0+cu128", cuda="12.8", setuptools="80.9.0")
    host.environ["CUDA_HOME"] = str(root / "usr/local/cuda")
    return host


def jetson(root: Path, nvml: Path) -> SimulatedHost:
    """Jetson AGX Orin with JetPack 6 and a torch from PyTorch's own wheels."""
    host = SimulatedHost(root, machine="aarch64")
    host.system("Ubuntu 22.04.5 LTS", "5.15.148-tegra", "2.35")
    host.size(12, 29.9, 22.4)
    host.write("proc/device-tree/compatible", "nvidia,p3737-0000+p3701-0005\0nvidia,p3701-0005\0nvidia,tegra234\0")
    host.write("proc/device-tree/model", "NVIDIA Jetson AGX Orin Developer Kit\0")
    host.write(
        "etc/nv_tegra_release", "# R36 (release), REVISION: 4.0, GCID: 37537400, BOARD: generic, EABI: aarch64\n"
    )
    host.gcc("11.4.0")
    host.toolkit("12.6.68")
    host.python("3.10.12", "home/ann/venv", torch="2.9.1+cu126", cuda="12.6", setuptools="75.8.0")
    return host


HOSTS: dict[str, Callable[[Path, Path], SimulatedHost]] = {
    "plain": plain,
    "wsl2": wsl2,
    "rtx-3080-ti": ampere,
    "slurm": slurm,
    "container": container,
    "jetson": jetson,
}


def looked_at(host: SimulatedHost, package: str | None = None, *, targets: tuple[str, ...] = ()) -> DoctorObject:
    """What doctor says of the machine. The library for NVML reads what it answers from where FAKE_NVML says."""
    os.environ["FAKE_NVML"] = str(host.root / "nvml")
    return examined(host.context(), package, targets=targets, root=host.root, outside=host.outside())


def screen(found: DoctorObject) -> str:
    """As it is printed into a pipe."""
    return "".join(f"{text_of(line)}\n" for line in doctor_lines(found))


def main() -> int:
    """Make the screens anew, here and in the docs."""
    page = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as scratch:
        library = compiled_nvml(Path(scratch))
        SCREENS.mkdir(exist_ok=True)
        for name, make in HOSTS.items():
            file, text = SCREENS / f"{name}.txt", screen(looked_at(make(Path(scratch) / name, library)))
            page = page.replace(file.read_text(encoding="utf-8"), text) if file.is_file() else page
            file.write_text(text, encoding="utf-8")
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
