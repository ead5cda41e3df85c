"""What kind of place this is: the distribution, WSL2, a container, a Slurm cluster, a Jetson. Reads files only.

Told by what each leaves behind: WSL2 by the kernel's release (``...-microsoft-standard-WSL2``), containers by the files
that Docker and Podman put into them, by variables, by the control group of process 1 or by a root that is an overlay
(BuildKit leaves nothing else), Slurm by its variables or its programs, a Jetson by its device tree.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from buildkit.machine.cgroups import read_text
from buildkit.machine.solver.host import Place

_CONTAINER_VARIABLES = {
    "APPTAINER_CONTAINER": "Apptainer",
    "SINGULARITY_CONTAINER": "Singularity",
    "KUBERNETES_SERVICE_HOST": "Kubernetes",
}
_CONTAINER_GROUPS = re.compile(r"docker|kubepods|containerd|libpod|lxc|buildkit")
_WINDOWS_DRIVE = re.compile(r"/mnt/[a-z](/|$)")


@dataclass(frozen=True)
class Surroundings:
    """``system`` "Ubuntu 24.04.1 LTS", ``kernel`` its release. What does not hold is empty or False.

    ``container`` names the kind ("Docker"), ``slurm_job`` is the job's id, ``slurm`` holds on a login node as well,
    ``jetson`` is the release of Jetson Linux ("L4T 36.4.0"), or "Jetson" where that is not told.
    """

    system: str
    kernel: str
    wsl2: bool = False
    container: str = ""
    slurm: bool = False
    slurm_job: str = ""
    jetson: str = ""

    @property
    def place(self) -> Place:
        """The one of them that decides how things are installed and whose driver counts."""
        if self.jetson:
            return "jetson"
        if self.slurm:
            return "slurm"
        if self.wsl2:
            return "wsl2"
        return "container" if self.container else "linux"


def read_surroundings(environ: Mapping[str, str], *, root: Path = Path("/")) -> Surroundings:
    """What kind of place this is. ``root`` is ``/``, or a tree made by a test."""
    kernel = read_text(root / "proc/sys/kernel/osrelease").strip()
    job = environ.get("SLURM_JOB_ID") or environ.get("SLURM_JOBID") or ""
    return Surroundings(
        system=_system(root),
        kernel=kernel,
        wsl2="microsoft" in kernel.lower() and not kernel.endswith("-Microsoft"),  # as WSL1's kernels end
        container=next(_containers(environ, root), ""),
        slurm=bool(job) or shutil.which("sbatch", path=environ.get("PATH", "")) is not None,
        slurm_job=job,
        jetson=jetson_release(root),
    )


def without_windows_drives(path: str) -> tuple[str, int]:
    """A PATH without the entries on Windows' drives (``/mnt/c/...``), and how many those were.

    WSL2 appends Windows' whole PATH: looking there is slow, and what is found there runs in Windows.
    """
    entries = path.split(":")
    kept = [entry for entry in entries if not _WINDOWS_DRIVE.match(entry)]
    return ":".join(kept), len(entries) - len(kept)


def _system(root: Path) -> str:
    """PRETTY_NAME of os-release(5)."""
    text = read_text(root / "etc/os-release") or read_text(root / "usr/lib/os-release")
    found = re.search(r"^PRETTY_NAME=[\"']?(.*?)[\"']?$", text, re.MULTILINE)
    return found[1] if found else "Linux"


def _containers(environ: Mapping[str, str], root: Path) -> Iterator[str]:
    for name, kind in _CONTAINER_VARIABLES.items():
        if environ.get(name):
            yield kind
    if (root / ".dockerenv").exists():
        yield "Docker"
    if (root / "run/.containerenv").exists():
        yield "Podman"
    if environ.get("container"):
        yield environ["container"]
    if _CONTAINER_GROUPS.search(read_text(root / "proc/1/cgroup")) or _root_is_overlay(root):
        yield "a container"


def _root_is_overlay(root: Path) -> bool:
    for line in read_text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) >= 5 and fields[4] == "/":
            return after.startswith("overlay ")
    return False


def jetson_release(root: Path = Path("/")) -> str:
    """``L4T 36.4.0`` of ``# R36 (release), REVISION: 4.0, ...`` in /etc/nv_tegra_release.

    "Jetson" where the release is not told; empty on other machines.
    """
    release = re.match(r"#\s*R(\d+) \(release\), REVISION: ([\d.]+)", read_text(root / "etc/nv_tegra_release"))
    if release is not None:
        return f"L4T {release[1]}.{release[2]}"
    is_one = re.search(r"nvidia,tegra\d+", read_text(root / "proc/device-tree/compatible")) is not None
    return "Jetson" if is_one or (root / "etc/nv_tegra_release").exists() else ""
