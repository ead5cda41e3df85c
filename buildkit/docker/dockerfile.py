"""The Dockerfile: one for all origins of wheels, which differ in the stage that brings them. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from buildkit.docker.lines import (
    ENVIRONMENT,
    HELPER_MOUNT,
    PIP_CACHE,
    SECRETS,
    apt_install,
    comment,
    environment,
    run,
    told,
)
from buildkit.docker.model import HELPER, MARK, WHEEL_LIST, WHEELHOUSE, Image
from buildkit.docker.sources import build_stage, index_stage

CONSTRAINTS = f"{ENVIRONMENT}/constraints.txt"
_SCRATCH = "/resolution"
"""A folder in memory: pip's report names addresses, and is to be in no layer."""


def dockerfile_text(image: Image) -> str:
    """The whole file."""
    parts = ["\n".join(_heading(image)), *_base(image)]
    if image.origin == "index":
        parts += [*index_stage(image), "FROM base"]
    elif image.origin == "build":
        parts += [*build_stage(image), "FROM base"]
    parts += [_resolution(image), _later_lines(), _compiled(image), _check(image), _ending()]
    return "\n\n".join(parts) + "\n"


def _heading(image: Image) -> Iterator[str]:
    yield "# syntax=docker/dockerfile:1"
    yield comment(f"{MARK}: {image.command}")
    secret = "--secret id=netrc,src=$HOME/.netrc " if image.origin == "index" else ""
    yield comment(f"Build:  docker build {secret}--tag IMAGE .")
    gpus = "--gpus all " if image.device == "cuda" else ""
    yield comment(f"Run:    docker run {gpus}--shm-size 8g --rm -it IMAGE")
    yield comment(
        "Credentials of package indexes come in by --secret id=netrc,src=FILE (a netrc) or id=pipconf,src=FILE\n"
        "(a pip.conf), and stay in no layer."
    )


def _base(image: Image) -> Iterator[str]:
    yield f"FROM {image.base}{' AS base' if image.staged else ''}"
    yield environment(_variables(image))
    if not is_python(image.base):
        python = apt_install(("python3", "python3-venv"), unless="python3 -c 'import ensurepip, venv' 2>/dev/null")
        yield told("Python, where the base image has none.", python)
    if image.apt:
        yield told("Libraries of the system that the compiled packages load.", apt_install(image.apt))
    yield _environment(image)


def _variables(image: Image) -> Iterator[tuple[str, str]]:
    yield "PATH", f"{ENVIRONMENT}/bin:$PATH"
    yield "PIP_DISABLE_PIP_VERSION_CHECK", "1"
    yield "PYTHONUNBUFFERED", "1"
    yield "VIRTUAL_ENV", ENVIRONMENT
    if image.device == "cuda":
        yield "NVIDIA_DRIVER_CAPABILITIES", "compute,utility"
        yield "NVIDIA_VISIBLE_DEVICES", "all"
        # For what compiles at its first use, too: there is no GPU to be asked while an image is built.
        yield "TORCH_CUDA_ARCH_LIST", f'"{image.arch_list}"'


def is_python(base: str) -> bool:
    """Whether the image is one of Python's own."""
    return base.rpartition("/")[2].partition(":")[0].partition("@")[0] == "python"


def _environment(image: Image) -> str:
    major, _, minor = image.python.partition(".")
    asked = (
        f'python3 -c "import sys; sys.exit(sys.version_info[:2] != ({major}, {minor}) '
        f"and 'the wheels are for Python {image.python}, the base image has ' + sys.version)\""
    )
    upgrade = "python -m pip install --upgrade 'pip>=24' 'setuptools>=70'"
    return told(
        "pip and setuptools before all else: old ones cannot read modern metadata, and install packages as UNKNOWN.",
        run((PIP_CACHE, *SECRETS), asked, f"python3 -m venv {ENVIRONMENT}", upgrade),
    )


def _wheelhouse(image: Image) -> str:
    """The mount of the folder with the wheels: from the context, or from the stage that brought them."""
    stage = "from=wheels,source=/" if image.staged else "source="
    return f"--mount=type=bind,{stage}{WHEELHOUSE},target=/{WHEELHOUSE}"


def _resolution(image: Image) -> str:
    files = [f"/requirements/{file}" for file in image.requirements]
    index, asked = _torch_index(image), [f"--requirement {shlex.quote(file)}" for file in files[:1]]
    asked.append(f"--requirement /{WHEELHOUSE}/{WHEEL_LIST}")
    if image.torch:
        asked.append(shlex.quote(torch_requirement(image)))
    mounts = [
        _wheelhouse(image),
        HELPER_MOUNT,
        *(f"--mount=type=bind,source={file},target=/requirements/{file}" for file in image.requirements),
        f"--mount=type=tmpfs,target={_SCRATCH}",
        PIP_CACHE,
        *SECRETS,
    ]
    report, others = f"{_SCRATCH}/report.json", f"{_SCRATCH}/others.txt"
    words = [HELPER, "constraints", report, f"/{WHEELHOUSE}/{WHEEL_LIST}", CONSTRAINTS, others, *files]
    resolution = run(
        mounts,
        f"python -m pip install --dry-run --quiet --ignore-installed --report {report}{index} \\\n        "
        + " ".join(asked),
        f"python /{shlex.join(words)}",
        f"python -m pip install --no-deps{index} --requirement {others}",
    )
    why = (
        "One resolution for everything: your requirements together with those of the compiled wheels, so that\n"
        "neither changes what the other has pinned. Its answer is kept as constraints; the compiled wheels come last."
    )
    return f"{_torch_argument(image)}{told(why, resolution)}"


def _torch_index(image: Image) -> str:
    return ' ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"}' if image.torch and not image.torch_on_index else ""


def _torch_argument(image: Image) -> str:
    if not _torch_index(image):
        return ""
    why = f"The address of PyTorch's own index, where torch {image.torch} is: --build-arg TORCH_INDEX=URL"
    return told(why, 'ARG TORCH_INDEX=""') + "\n\n"


def torch_requirement(image: Image) -> str:
    """``torch==2.13.0``, which every build of it matches; with its build where only PyTorch's own index has that."""
    return f"torch=={image.torch.partition('+')[0] if image.torch_on_index else image.torch}"


def _later_lines() -> str:
    return told(
        "Later lines are bound to it: one that would change a version fails and says so, instead of breaking what was\n"
        "compiled. Better add to the requirements: then everything is resolved anew.",
        environment([("PIP_CONSTRAINT", CONSTRAINTS), ("UV_CONSTRAINT", CONSTRAINTS)]),
    )


def _compiled(image: Image) -> str:
    install = f"python -m pip install --no-cache-dir --no-deps --no-index --requirement /{WHEELHOUSE}/{WHEEL_LIST}"
    return told(
        "The compiled wheels last, by name and hash, and nothing with them.", run((_wheelhouse(image),), install)
    )


def _check(image: Image) -> str:
    words = ["--torch", image.torch] if image.torch else []
    words += [word for each in image.packages if each.driver for name in each.imports for word in ("--driver", name)]
    words += [name for each in image.packages if not each.driver for name in each.imports]
    why = "What is installed need not work yet: versions and imports, as a layer of their own."
    if needing := ", ".join(package.project for package in image.packages if package.driver):
        why += (
            f"\nNo GPU driver is there while an image is built, which {needing} is linked to: that alone is let pass."
        )
    return told(why, run((HELPER_MOUNT,), "python -m pip check", f"python /{HELPER} check {shlex.join(words)}"))


def _ending() -> str:
    lines = (
        "Your own lines from here. Code comes last, so that a change of it installs nothing anew:\n"
        "COPY src/ /app/src/\n"
        'CMD ["python", "-m", "src"]'
    )
    return f"WORKDIR /app\n{comment(lines)}"
