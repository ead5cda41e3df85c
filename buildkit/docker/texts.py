"""All files of an image. Pure, but for reading the helper script that comes with this package."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from buildkit.docker.compose import compose_text
from buildkit.docker.dockerfile import dockerfile_text
from buildkit.docker.lines import comment
from buildkit.docker.model import HELPER, MARK, WHEEL_LIST, WHEELHOUSE, Image, Text, Wheel

IGNORED = (
    ".git", ".venv", "venv", "**/__pycache__", "**/*.pyc", "**/.pytest_cache", "**/.mypy_cache", "**/.ruff_cache",
    "**/node_modules", "**/.ipynb_checkpoints", "**/wandb", "**/lightning_logs",
    "data", "models", "checkpoints", "outputs", "**/*.ckpt", "**/*.pt", "**/*.pth", "**/*.safetensors", "**/*.onnx",
    "**/.env", "**/.env.*", "**/.netrc", "**/.pypirc", "**/pip.conf", "**/*.pem", "**/*.key", "**/id_rsa*",
    "**/id_ed25519*", "Dockerfile", "compose.yaml", ".dockerignore",
)  # fmt: skip
"""What no image of this kind needs: history, environments, caches, models and data (they have volumes), secrets."""


def texts(image: Image, *, compose: bool = False) -> tuple[Text, ...]:
    """The Dockerfile first, then what goes beside it."""
    found = [Text("Dockerfile", dockerfile_text(image)), Text(".dockerignore", ignore_text(image))]
    found.append(Text(HELPER, helper_text(image)))
    if image.origin == "wheelhouse":
        found.append(Text(f"{WHEELHOUSE}/{WHEEL_LIST}", wheel_list(image)))
    if compose:
        found.append(Text("compose.yaml", compose_text(image)))
    return tuple(found)


def ignore_text(image: Image) -> str:
    """The .dockerignore: a context of gigabytes is sent with each build, and ends in images by COPY."""
    needed = [HELPER, *image.requirements, *([f"{WHEELHOUSE}/"] if image.origin == "wheelhouse" else [])]
    needed += [image.recipes] if image.recipes else []
    lines = [comment(f"{MARK}: {image.command}"), *IGNORED, comment("Needed, whatever stands above.")]
    return "\n".join([*lines, *(f"!{path}" for path in needed)]) + "\n"


def helper_text(image: Image) -> str:
    """The script that the Dockerfile's steps call."""
    return f"{comment(f'{MARK}: {image.command}')}\n{_script()}"


@cache
def _script() -> str:
    return Path(__file__).with_name(HELPER).read_text(encoding="utf-8")


def wheel_list(image: Image) -> str:
    """A pip requirements file: each wheel by its address in the image and its hash, so that no other one is taken."""
    lines = [comment(f"{MARK}: {image.command}")]
    lines += [_line(package.project, package.wheel) for package in image.packages if package.wheel is not None]
    return "\n".join(lines) + "\n"


def _line(project: str, wheel: Wheel) -> str:
    from urllib.parse import quote

    return f"{project} @ file:///{WHEELHOUSE}/{quote(wheel.filename)}#sha256={wheel.sha256}"
