"""Steps of the Dockerfile beside this file. Runs in the image; needs Python 3.8 and nothing else.

wheels FOLDER                                  name each wheel of a folder with its hash, in FOLDER/wheels.txt
constraints REPORT WHEELS OUT OTHERS FILE...   from pip's report of one resolution to constraints (OUT), and to what is
                                               to be installed before the compiled wheels (OTHERS)
check [--torch VERSION] [--driver MODULE]... MODULE...    import everything, beside the torch that was meant
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

NO_DRIVER = re.compile(
    r"lib(cuda|nvidia-ml)\.so|Found no NVIDIA driver|No CUDA GPUs are available|no CUDA-capable device"
)
INDEX_OPTIONS = (
    "-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--no-index", "--trusted-host", "--pre",
    "--prefer-binary", "--only-binary", "--no-binary",
)  # fmt: skip


def normalised(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wheels(folder: str) -> None:
    """By address and hash: pip then takes these files and no other ones."""
    files = sorted(Path(folder).glob("*.whl"))
    if not files:
        sys.exit(f"no wheel in {folder}")
    lines = []
    for file in files:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        name = normalised(file.name.split("-")[0])
        lines.append(f"{name} @ file://{quote(str(file))}#sha256={digest}\n")
    Path(folder, "wheels.txt").write_text("".join(lines), encoding="utf-8")


def constraints(report: str, wheel_list: str, out: str, others: str, *requirements: str) -> None:
    """All versions of the resolution; and as requirements those that no compiled wheel brings."""
    named = Path(wheel_list).read_text(encoding="utf-8").splitlines()
    compiled = {normalised(line.split(" @ ")[0]) for line in named if line and not line.startswith("#")}
    found = json.loads(Path(report).read_text(encoding="utf-8"))["install"]
    pinned, rest = [], index_lines(requirements)
    for item in sorted(found, key=lambda item: normalised(item["metadata"]["name"])):
        name, version = normalised(item["metadata"]["name"]), item["metadata"]["version"]
        pinned.append(f"{name}=={version}\n")
        if name not in compiled:
            rest.append((direct(item, name) or f"{name}=={version}") + "\n")
    lost = compiled - {line.split("==")[0] for line in pinned}
    if lost:
        sys.exit("pip resolved without " + ", ".join(sorted(lost)))
    Path(out).write_text("".join(pinned), encoding="utf-8")
    Path(others).write_text("".join(rest), encoding="utf-8")


def index_lines(requirements: tuple[str, ...]) -> list[str]:
    """The lines that say where packages are from: they count for the installation as for the resolution."""
    lines = (line.strip() for file in requirements for line in Path(file).read_text(encoding="utf-8").splitlines())
    return [line + "\n" for line in lines if re.split("[ =]", line)[0] in INDEX_OPTIONS]


def direct(item: dict[str, Any], name: str) -> str:
    """What was asked for by an address and not by a version: ``name @ git+https://...@COMMIT``."""
    if not item.get("is_direct"):
        return ""
    info = item["download_info"]
    vcs = info.get("vcs_info")
    return f"{name} @ {vcs['vcs']}+{info['url']}@{vcs['commit_id']}" if vcs else f"{name} @ {info['url']}"


def check(*words: str) -> None:
    """Fail where a package has no name, torch is another one, or an import fails for anything but a missing driver."""
    if any((found.metadata["Name"] or "UNKNOWN") == "UNKNOWN" for found in metadata.distributions()):
        sys.exit("a package called UNKNOWN is installed: its build ran with a setuptools that cannot read its name")
    rest, modules = list(words), []
    while rest:
        word = rest.pop(0)
        if word == "--torch":
            check_torch(rest.pop(0))
        elif word == "--driver":
            modules.append((rest.pop(0), True))
        else:
            modules.append((word, False))
    for module, driver in modules:
        said = import_or_excuse(module, driver)
        sys.stdout.write(f"{module}: {said}\n")


def check_torch(wanted: str) -> None:
    """Its own version says for which CUDA it was built; its metadata need not."""
    found = importlib.import_module("torch").__version__
    if found != wanted:
        sys.exit(f"the image is for torch {wanted}, and torch {found} was installed")


def import_or_excuse(module: str, driver: bool) -> str:
    """Import it. A missing driver is let pass for what is linked to one."""
    try:
        importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as error:
        if not driver or not NO_DRIVER.search(str(error)):
            raise
        return f"not possible here: no GPU driver is there while an image is built ({error})"
    return "imported"


if __name__ == "__main__":
    steps: dict[str, Any] = {"wheels": wheels, "constraints": constraints, "check": check}
    steps[sys.argv[1]](*sys.argv[2:])
