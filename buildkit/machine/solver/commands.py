"""The exact lines for each change. No registry is named: uv knows torch's own index by ``--torch-backend``."""

from __future__ import annotations

from collections.abc import Sequence

from buildkit.machine.facts import TorchRelease, release_number, short_release
from buildkit.machine.solver.answer import Change, Command
from buildkit.machine.solver.host import Host, HostCompiler, HostTorch, Place
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
            Command("cudabuild", f"cudabuild build RECIPE --target '{listed}'"),
            Command("shell", f"export TORCH_CUDA_ARCH_LIST='{listed}'"),
        ),
    )


def install_setuptools(spec: str) -> Change:
    """A setuptools that still has what torch imports."""
    return Change(
        "setuptools",
        f"Take {spec} for the build.",
        (Command("uv", f"uv pip install '{spec}'"), Command("pip", f"pip install '{spec}'")),
    )


def install_torch(torch: HostTorch, known: TorchRelease, host: Host) -> Change:
    """One of PyTorch's own wheels; plain pip finds it only where it is the default one."""
    spec = _spec(torch, host)
    lines = [Command("uv", f"uv pip install '{spec}' --torch-backend {backend(torch)}")]
    if torch.cuda == known.default_cuda and host.machine == "x86_64":
        lines.append(Command("pip", f"pip install '{spec}'"))
    lines.append(Command("cudabuild", f"cudabuild build RECIPE --torch {torch.version}"))
    return Change("torch", f"Take torch {known.version} of CUDA {torch.cuda}.", tuple(lines))


def backend(torch: HostTorch) -> str:
    """``cu128``: the name of a CUDA for ``uv pip install --torch-backend``."""
    return f"cu{(torch.cuda or '').replace('.', '')}"


def _spec(torch: HostTorch, host: Host) -> str:
    """The very version where only its CUDA changes, else whatever patch release is the newest."""
    public = torch.version.partition("+")[0]
    stays = host.torch is not None and host.torch.version.partition("+")[0] == public
    return f"torch=={public}" if stays else f"torch=={short_release(public)}.*"


def install_nvidias_torch(torch: HostTorch) -> Change:
    """NVIDIA's torch for Jetsons, which no index that pip knows holds."""
    wheel = f"torch-{torch.version}"
    return Change(
        "torch",
        f"Take NVIDIA's torch for Jetson, of JetPack's CUDA {torch.cuda}.",
        (
            Command(
                "by-hand",
                f'get the wheel {wheel} named on NVIDIA\'s page "Installing PyTorch for Jetson Platform" as FILE',
            ),
            Command("pip", "pip install FILE"),
        ),
    )


def use_toolkit(release: str) -> Change:
    """A toolkit that is here, but is not the preferred one."""
    home = f"/usr/local/cuda-{release}"
    return Change(
        "toolkit",
        f"Use the CUDA {release} toolkit that is here.",
        (
            Command("cudabuild", f"cudabuild build RECIPE --cuda-home {home}"),
            Command("shell", f"export CUDA_HOME={home}"),
        ),
    )


def install_toolkit(release: str, place: Place) -> Change:
    """A toolkit alone. Never ``cuda`` or ``cuda-drivers``: they bring a driver, which breaks the one of WSL2."""
    lines = [Command("cudabuild", f"cudabuild toolkit install {release}")] if release_number(release) >= (11, 8) else []
    if place == "slurm":
        lines.append(Command("module", f"module load cuda/{release}"))
    else:
        sudo = "" if place == "container" else "sudo "
        lines.append(Command("apt", f"{sudo}apt-get install cuda-toolkit-{release.replace('.', '-')}"))
    return Change("toolkit", f"Get the CUDA {release} toolkit.", tuple(lines))


def install_compiler(compiler: HostCompiler, place: Place) -> Change:
    """Another host compiler beside the one that is here."""
    number = compiler.major
    chosen = Command("shell", f"export CC=gcc-{number} CXX=g++-{number}")
    conda = Command("conda", f"conda install -c conda-forge gxx={number}")
    sudo = "" if place == "container" else "sudo "
    apt = (Command("apt", f"{sudo}apt-get install g++-{number}"), chosen)
    lines = (Command("module", f"module load gcc/{number}"), conda) if place == "slurm" else (*apt, conda)
    return Change("compiler", f"Compile with gcc {number}.", lines)


def install_driver(driver: str, place: Place) -> Change:
    """A newer driver, on the system that has it."""
    branch = driver.partition(".")[0]
    newer = f"driver {driver} or newer"
    apt = f"apt-get install nvidia-driver-{branch}"
    lines: tuple[Command, ...]
    if place == "wsl2":
        lines = (
            Command("by-hand", f"in Windows: install NVIDIA's Windows {newer}; nothing of it inside WSL"),
            Command("by-hand", "in Windows: wsl --shutdown"),
        )
    elif place == "slurm":
        lines = (Command("by-hand", f"ask the cluster's administrators for {newer}, or for nodes that have it"),)
    elif place == "container":
        lines = (Command("by-hand", f"on the machine that runs the container: sudo {apt}, then restart it"),)
    else:
        lines = (Command("apt", f"sudo {apt}"), Command("by-hand", "restart the machine"))
    whose = "Windows driver" if place == "wsl2" else "driver"
    return Change("driver", f"Get {whose} {driver} or newer.", lines)


def use_python(python: str, torch: HostTorch, known: TorchRelease | None, host: Host) -> Change:
    """Another Python, which needs an environment of its own, with the torch in it."""
    lines = [Command("uv", f"uv venv --python {python}")]
    if known is not None and torch.by_pytorch:
        lines.append(install_torch(torch, known, host).commands[0])
    return Change("python", f"Take Python {python}.", tuple(lines))
