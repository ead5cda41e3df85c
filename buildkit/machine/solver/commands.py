"""The exact lines for each change. No registry is named: uv knows torch's own index by ``--torch-backend``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from buildkit.machine.facts import TorchRelease, short_release
from buildkit.machine.installable import find_installable
from buildkit.machine.solver.answer import Change, Way
from buildkit.machine.solver.host import Host, HostCompiler, HostToolkit, HostTorch, Place
from buildkit.machine.target import Target, torch_arch_list


def build_for(targets: Sequence[Target], wanted: Sequence[Target]) -> Change:
    """Another target list than the wanted one."""
    listed = torch_arch_list(targets)
    built = {target.capability for target in targets}
    gone = torch_arch_list(target for target in wanted if target.capability not in built)
    stays = any(target.capability in built for target in wanted)
    instead = f"{', without' if stays else ' instead of'} {gone}" if gone else ""
    return Change(
        "targets",
        f"Build for {listed}{instead}.",
        (
            Way("cudabuild", (f"cudabuild build RECIPE --target '{listed}'",)),
            Way("shell", (f"export TORCH_CUDA_ARCH_LIST='{listed}'",)),
        ),
    )


def install_setuptools(spec: str) -> Change:
    """A setuptools that still has what torch imports."""
    return Change(
        "setuptools",
        f"Take {spec} for the build.",
        (Way("uv", (f"uv pip install '{spec}'",)), Way("pip", (f"pip install '{spec}'",))),
    )


def install_torch(torch: HostTorch, known: TorchRelease, host: Host) -> Change:
    """One of PyTorch's own wheels; plain pip finds it only where it is the default one."""
    ways = [Way("uv", (_by_uv(torch, host),))]
    if torch.cuda == known.default_cuda and host.machine == "x86_64":
        # pip takes 2.8.0+cpu for 2.8.0, and would leave it where it is.
        away = ("pip uninstall -y torch",) if _same_version(torch, host) else ()
        ways.append(Way("pip", (*away, f"pip install '{_spec(torch, host)}'")))
    ways.append(Way("cudabuild", (f"cudabuild build RECIPE --torch {torch.version}",)))
    return Change("torch", f"Take torch {known.version} of CUDA {torch.cuda}.", tuple(ways))


def _by_uv(torch: HostTorch, host: Host) -> str:
    label = backend(torch.cuda or "")
    exact = f"torch=={torch.version}" if _same_version(torch, host) else _spec(torch, host)
    return f"uv pip install '{exact}' --torch-backend {label}"


def backend(cuda: str) -> str:
    """``cu128`` of ``12.8``: the name of a CUDA for ``uv pip install --torch-backend``."""
    return f"cu{cuda.replace('.', '')}"


def _spec(torch: HostTorch, host: Host) -> str:
    """The very version where only its CUDA changes, else whatever patch release is the newest."""
    public = torch.version.partition("+")[0]
    return f"torch=={public}" if _same_version(torch, host) else f"torch=={short_release(public)}.*"


def _same_version(torch: HostTorch, host: Host) -> bool:
    return host.torch is not None and host.torch.version.partition("+")[0] == torch.version.partition("+")[0]


def install_nvidias_torch(torch: HostTorch) -> Change:
    """NVIDIA's torch for Jetsons, which no index that pip knows holds."""
    page = 'NVIDIA\'s page "Installing PyTorch for Jetson Platform"'
    get = f"get the wheel torch-{torch.version}, named on {page}, as FILE"
    return Change(
        "torch",
        f"Take NVIDIA's torch for Jetson, of JetPack's CUDA {torch.cuda}.",
        (Way("by-hand", (get, "pip install FILE")),),
    )


def use_toolkit(toolkit: HostToolkit) -> Change:
    """A toolkit that is here, but is not the preferred one."""
    home = shlex.quote(toolkit.home or _home(toolkit.release))
    return Change(
        "toolkit",
        f"Use the CUDA {toolkit.release} toolkit that is here.",
        (
            Way("cudabuild", (f"cudabuild build RECIPE --cuda-home {home}",)),
            Way("shell", (f"export CUDA_HOME={home}",)),
        ),
    )


def _home(release: str) -> str:
    return f"/usr/local/cuda-{release}"


def install_toolkit(release: str, place: Place) -> Change:
    """A toolkit alone, without root where that can be had.

    Never ``cuda`` or ``cuda-drivers``: they bring a driver, which breaks the one of WSL2.
    """
    ours = (Way("cudabuild", (f"cudabuild toolkit install {release}",)),) if find_installable(release) else ()
    if place == "slurm":
        way = Way("module", (f"module load cuda/{release}",))
    else:
        install = f"{_sudo(place)}apt-get install cuda-toolkit-{release.replace('.', '-')}"
        way = Way("apt", (install, f"export CUDA_HOME={_home(release)}"))
    return Change("toolkit", f"Get the CUDA {release} toolkit.", (*ours, way))


def _sudo(place: Place) -> str:
    """Nobody but root is in a container while its image is built."""
    return "" if place == "container" else "sudo "


def install_compiler(compiler: HostCompiler, place: Place) -> Change:
    """Another host compiler beside the one that is here."""
    number = compiler.major
    chosen = f"export CC=gcc-{number} CXX=g++-{number}"
    first = (
        Way("module", (f"module load gcc/{number}",))
        if place == "slurm"
        else Way("apt", (f"{_sudo(place)}apt-get install g++-{number}", chosen))
    )
    conda = Way("conda", (f"conda install -c conda-forge gxx={number}",))
    return Change("compiler", f"Compile with gcc {number}.", (first, conda))


def install_driver(driver: str, place: Place) -> Change:
    """A newer driver, on the system that has it."""
    newer = f"driver {driver} or newer"
    apt = f"sudo apt-get install nvidia-driver-{driver.partition('.')[0]}"
    ways: dict[Place, Way] = {
        "wsl2": Way(
            "by-hand",
            (
                f"in Windows: install NVIDIA's Windows {newer}; nothing of it inside WSL",
                "in Windows: wsl --shutdown",
            ),
        ),
        "slurm": Way("by-hand", (f"ask the cluster's administrators for {newer}, or for nodes that have it",)),
        "container": Way("by-hand", (f"on the machine that runs the container: {apt}", "restart that machine")),
    }
    whose = "Windows driver" if place == "wsl2" else "driver"
    return Change("driver", f"Get {whose} {driver} or newer.", (ways.get(place, Way("apt", (apt, "sudo reboot"))),))


def use_python(python: str, torch: HostTorch, known: TorchRelease | None, host: Host) -> Change:
    """Another Python, which needs an environment of its own, with the torch in it."""
    lines = [f"uv venv --python {python}", ". .venv/bin/activate"]
    if known is not None and torch.by_pytorch and torch.cuda is not None:
        lines.append(_by_uv(torch, host))
    return Change("python", f"Take Python {python}.", (Way("uv", tuple(lines)),))
