"""The compose file: services that share one image, its GPUs, its models and its data. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from buildkit.docker.lines import comment
from buildkit.docker.model import MARK, Image

SHARED_MEMORY = "8gb"
"""Docker gives 64 MiB, with which the first DataLoader that has workers dies of a bus error."""

_CUDA_CALL = "import torch; torch.ones(1, device='cuda').add_(1).item()"
_DRIVER_CALL = "import ctypes; raise SystemExit(ctypes.CDLL('libcuda.so.1').cuInit(0))"


def compose_text(image: Image) -> str:
    """compose.yaml: the program, and by profile a shell, a notebook where one is installed, and a monitor."""
    lines = [*_heading(image), *_shared(image), "services:", *_app(image)]
    lines += _service("dev", "a shell with this folder: docker compose run --rm dev", '["bash"]', _DEV)
    if image.notebook:
        command = ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser", "--allow-root"]
        told = "docker compose --profile notebook up; reached by ssh -L 8888:localhost:8888 MACHINE"
        lines += _service("notebook", told, json.dumps(command), _NOTEBOOK)
    if image.device == "cuda":
        told = "what the GPUs do: docker compose run --rm monitor"
        lines += _service("monitor", told, '["nvidia-smi", "--loop=5"]', ())
    return "\n".join([*lines, "", "volumes:", "  models: {}", "  data: {}", *_secrets(image)]) + "\n"


def health_check(image: Image) -> str:
    """Python that fails where the GPU cannot be used: a driver that went away, a mismatch, a GPU that fell off."""
    if image.device == "cpu":
        return "import " + ", ".join(name for package in image.packages for name in package.imports)
    return _CUDA_CALL if image.torch else _DRIVER_CALL


def _heading(image: Image) -> Iterator[str]:
    yield comment(f"{MARK}: {image.command}")
    yield comment("docker compose up --detach: it goes on when the terminal or the ssh connection ends.")


def _shared(image: Image) -> Iterator[str]:
    yield "x-shared: &shared"
    yield "  image: ${COMPOSE_PROJECT_NAME:-app}"
    yield "  build:"
    yield "    context: ."
    if image.origin == "index":
        yield "    secrets: [netrc]"
    yield "  init: true"
    yield f"  shm_size: {SHARED_MEMORY}   # of DataLoader workers; Docker's own 64 MB do not suffice"
    yield "  environment:"
    yield "    HF_HOME: /models/huggingface"
    yield "    TORCH_HOME: /models/torch"
    yield "  volumes:"
    yield "    - models:/models"
    yield "    - data:/data"
    if image.device == "cuda":
        yield from _gpus()
    yield ""


def _gpus() -> Iterator[str]:
    yield "  deploy:"
    yield "    resources:"
    yield "      reservations:"
    yield "        devices:"
    yield "          - driver: nvidia"
    yield '            count: all   # or device_ids: ["0"] in its place, for a container that has one of them'
    yield "            capabilities: [gpu]"


def _app(image: Image) -> Iterator[str]:
    yield "  app:"
    yield "    <<: *shared"
    yield '    command: ["sleep", "infinity"]   # your program, such as ["python", "-m", "src"]'
    yield "    restart: unless-stopped"
    yield "    healthcheck:"
    yield f"      test: {json.dumps(['CMD', 'python', '-c', health_check(image)])}"
    yield "      interval: 60s"
    yield "      timeout: 30s"
    yield "      start_period: 60s"
    yield "      retries: 3"


_DEV = (
    "    stdin_open: true",
    "    tty: true",
    "    volumes:",
    "      - models:/models",
    "      - data:/data",
    "      - .:/app",
)
_NOTEBOOK = ('    ports: ["127.0.0.1:8888:8888"]',)


def _service(name: str, told: str, command: str, more: Sequence[str]) -> Iterator[str]:
    yield ""
    yield f"  {name}:   # {told}"
    yield "    <<: *shared"
    yield f"    profiles: [{name}]"
    yield f"    command: {command}"
    yield from more


def _secrets(image: Image) -> Iterator[str]:
    if image.origin == "index":
        yield from ("", "secrets:", "  netrc:", "    file: ${HOME}/.netrc")
