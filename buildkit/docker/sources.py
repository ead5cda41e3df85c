"""The stages that bring wheels into ``/wheelhouse``: from an index, or from a build inside. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from urllib.parse import urlsplit

from buildkit import __version__
from buildkit.docker.lines import ENVIRONMENT, HELPER_MOUNT, PIP_CACHE, SECRETS, apt_install, run, told
from buildkit.docker.model import HELPER, WHEELHOUSE, Image

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_NAME_LIST = f"python /{HELPER} wheels /{WHEELHOUSE}"


def index_stage(image: Image) -> Iterator[str]:
    """Fetch the compiled wheels, and them alone, from the variant's page of an index."""
    yield "FROM base AS wheels"
    yield told("\n".join(_network(image)), "\n".join(_arguments(image)))
    # An extra index, wherever it is set, could answer for the same names.
    alone = "PIP_CONFIG_FILE=/dev/null PIP_EXTRA_INDEX_URL='' PIP_FIND_LINKS=''"
    names = " ".join(shlex.quote(f"{package.project}=={package.version}") for package in image.packages)
    why = (
        "These names come from this index only: a higher version of one of them elsewhere is never looked at.\n"
        + _for_uv(image)
    )
    yield told(
        why,
        run(
            (HELPER_MOUNT, PIP_CACHE, SECRETS[0]),
            f"{alone} \\\n        python -m pip download --no-deps --only-binary :all: "
            f'--index-url "$CUDABUILD_INDEX" --dest /{WHEELHOUSE} \\\n        {names}',
            _NAME_LIST,
        ),
    )


def _arguments(image: Image) -> Iterator[str]:
    yield f"ARG CUDABUILD_INDEX={image.index}"
    yield f"ARG PIP_TRUSTED_HOST={trusted_host(image.index)}"


def trusted_host(index: str) -> str:
    """The host that pip has to be told to trust: one that is spoken to without TLS and is not this machine."""
    parts = urlsplit(index)
    if parts.scheme != "http" or is_loopback(index):
        return '""'
    return parts.netloc


def is_loopback(index: str) -> bool:
    """Whether the address means the machine that speaks."""
    return urlsplit(index).netloc.rpartition("@")[2].removesuffix(f":{urlsplit(index).port}") in LOOPBACK


def _network(image: Image) -> Iterator[str]:
    yield f"The page of the variant {image.variant}; another address: --build-arg CUDABUILD_INDEX=URL"
    if is_loopback(image.index):
        port = urlsplit(image.index).port or 80
        path = urlsplit(image.index).path
        yield "Inside a build this address is the build's own machine. Either give it the network of this one,"
        yield "  docker build --network host ..."
        yield "or let the index listen everywhere (cudabuild serve --index-only --host 0.0.0.0) and name this machine:"
        yield "  docker build --add-host host.docker.internal:host-gateway \\"
        yield f"    --build-arg CUDABUILD_INDEX=http://host.docker.internal:{port}{path} \\"
        yield f"    --build-arg PIP_TRUSTED_HOST=host.docker.internal:{port} ..."
    if urlsplit(image.index).scheme == "http":
        yield "pip speaks plain HTTP to this machine only, and to hosts that it is told to trust; with TLS"
        yield "(cudabuild serve with a certificate) PIP_TRUSTED_HOST can go."


def _for_uv(image: Image) -> str:
    """What a uv project has to say for the same."""
    name = f"cudabuild-{image.variant}".replace(".", "-")
    sources = "\n".join(f'  {package.project} = {{ index = "{name}" }}' for package in image.packages)
    return (
        "The same in the pyproject.toml of a uv project:\n"
        f'  [[tool.uv.index]]\n  name = "{name}"\n  url = "{image.index}"\n  explicit = true\n'
        f"  [tool.uv.sources]\n{sources}"
    )


def build_stage(image: Image) -> Iterator[str]:
    """Compile them by cudabuild itself, for the targets that are named."""
    yield "FROM base AS wheels"
    tools = {"g++", "git", *(() if "python:" in image.base else ("python3-dev",))}
    system = sorted({*tools, *(name for package in image.packages for name in package.build_apt)})
    yield told("The compiler, and headers that the packages need.", apt_install(system))
    yield told(
        "What pip installs cudabuild from: a version of it, or git+https://...",
        f"ARG CUDABUILD=cudabuild=={__version__}",
    )
    yield told(
        "The version stands in the argument.\nhadolint ignore=DL3013",
        run((PIP_CACHE, *SECRETS), 'python -m pip install "$CUDABUILD"'),
    )
    yield told(
        "Torch, the toolkit and every wheel that was built lie in the cache mount: the next build of this image takes\n"
        "them from there.",
        run(_build_mounts(image), *_toolkit(image), _build_command(image), _NAME_LIST),
    )


def _build_mounts(image: Image) -> list[str]:
    mounts = [HELPER_MOUNT, "--mount=type=cache,target=/root/.cache/cudabuild", *SECRETS]
    if image.recipes:
        mounts.append(f"--mount=type=bind,source={image.recipes},target=/recipes")
    return mounts


def _toolkit(image: Image) -> Iterator[str]:
    if image.toolkit:
        yield f"{{ command -v nvcc || cudabuild toolkit install {image.toolkit}; }}"


def _build_command(image: Image) -> str:
    words = ["cudabuild", "build", *(f"{package.recipe}=={package.version}" for package in image.packages)]
    words += ["--device", image.device]
    if image.targets:
        words += ["--target", image.arch_list]
    if image.torch:
        words += ["--torch", image.torch]
    words += ["--python", f"{ENVIRONMENT}/bin/python"]
    if image.recipes:
        words += ["--recipes", "/recipes"]
    return shlex.join([*words, "--out", f"/{WHEELHOUSE}"])
