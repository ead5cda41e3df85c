"""A CUDA toolkit: which release it is, what it lacks, and an identity that changes when its programs do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from buildkit.errors import IncompleteToolkit, NoToolkit
from buildkit.machine.identity import Memo, combined_sha256
from buildkit.machine.toolkit_layout import Layout, find_nvcc, read_layout, read_version
from buildkit.machine.toolkit_search import Candidate, toolkit_candidates

# What torch's public headers pull in, read off torch 2.13: ATen/cuda/CUDAContextLight.h (cusparse, cublas_v2,
# cublasLt, cusolverDn), c10/cuda/*.h (cuda, cuda_runtime*), c10/util's half and bfloat16 (cuda_fp16, cuda_bf16),
# torch/headeronly/util/complex.h (thrust/complex), ATen/cuda/cub.cuh (cub, cuda/std).
# curand and cufft headers are included by ATen/native/ only, which extensions rarely touch: not required.
REQUIRED_HEADERS = (
    "cuda.h",
    "cuda_runtime.h",
    "cuda_runtime_api.h",
    "cuda_fp16.h",
    "cuda_bf16.h",
    "library_types.h",
    "crt/host_config.h",
    "crt/host_runtime.h",
    "thrust/complex.h",
    "cub/cub.cuh",
    "cuda/std/functional",
    "nv/target",
    "cusparse.h",
    "cublas_v2.h",
    "cublasLt.h",
    "cusolverDn.h",
)
# Headers that carry the version of what they belong to.
_VERSION_HEADERS = (
    "cub/version.cuh",
    "thrust/version.h",
    "cuda/std/__cccl/version.h",
    "cublas_api.h",
    "cusolver_common.h",
    "crt/common_functions.h",
    "crt/device_functions.h",
    "crt/math_functions.hpp",
)
_TOOLS = (
    "nvcc",
    "nvcc.profile",
    "cudafe++",
    "ptxas",
    "fatbinary",
    "nvlink",
    "bin2c",
    "crt/link.stub",
    "crt/prelink.stub",
)
_LIBRARIES = ("libcudart_static.a", "libcudadevrt.a", "libculibos.a", "libcudart.so")


@dataclass(frozen=True)
class Toolkit:
    """An nvcc with headers and libraries.

    ``release`` is "13.0", ``version`` nvcc's own "13.0.88", ``origin`` how it was found, ``identity`` a SHA-256
    over the contents of its programs, runtime libraries and main headers, ``missing`` the required headers it lacks.
    """

    root: Path
    release: str
    version: str
    origin: str
    include: tuple[Path, ...]
    library: tuple[Path, ...]
    identity: str
    missing: tuple[str, ...]
    layout: Layout

    @property
    def nvcc(self) -> Path:
        """The real nvcc, no wrapper."""
        return self.layout.nvcc

    @property
    def has_runtime(self) -> bool:
        """Whether there is a CUDA runtime to link with."""
        return any(_find(self.library, name) for name in ("libcudart.so", "libcudart_static.a"))

    @property
    def major(self) -> int:
        """13 for release 13.0."""
        return int(self.release.split(".", maxsplit=1)[0])


def read_toolkit(nvcc_or_root: Path, origin: str, memo: Memo, environ: Mapping[str, str] | None = None) -> Toolkit:
    """The toolkit that this nvcc, or the nvcc under this root, belongs to.

    Runs at most one ``nvcc --version`` and one ``nvcc --dryrun``, both remembered. NoToolkit if it does not run.
    """
    return _toolkit(read_layout(find_nvcc(nvcc_or_root), memo, environ), origin, memo)


def _toolkit(layout: Layout, origin: str, memo: Memo, *, hashed: bool = True) -> Toolkit:
    release, version = read_version(layout.nvcc, memo)
    files = identity_files(layout)
    return Toolkit(
        root=layout.root,
        release=release,
        version=version,
        origin=origin,
        include=layout.include,
        library=layout.library,
        identity=combined_sha256(files, memo, key=str(layout.nvcc)) if hashed else "",
        missing=tuple(name for name in REQUIRED_HEADERS if not files[f"include/{name}"].is_absolute()),
        layout=layout,
    )


def find_toolkits(
    environ: Mapping[str, str],
    cuda_home: Path | None,
    memo: Memo,
    *,
    root: Path = Path("/"),
    notes: list[str] | None = None,
) -> list[Toolkit]:
    """Every toolkit on this machine, the preferred one first, each once.

    A ``--cuda-home`` that holds none is an error (NoToolkit); other places that hold none are passed over,
    and said in ``notes``.
    """
    return [_toolkit(layout, origin, memo) for layout, origin in _layouts(environ, cuda_home, memo, root, notes)]


def look_at_toolkits(
    environ: Mapping[str, str], memo: Memo, *, root: Path = Path("/"), notes: list[str] | None = None
) -> list[Toolkit]:
    """The same without their identities, for who only looks: nothing is hashed."""
    found = _layouts(environ, None, memo, root, notes)
    return [_toolkit(layout, origin, memo, hashed=False) for layout, origin in found]


def _layouts(
    environ: Mapping[str, str], cuda_home: Path | None, memo: Memo, root: Path, notes: list[str] | None
) -> list[tuple[Layout, str]]:
    """Each toolkit's layout and how it was found."""
    found: dict[str, tuple[Layout, str]] = {}
    for candidate in toolkit_candidates(environ, cuda_home, root=root):
        layout = _layout_at(candidate, memo, environ, [] if notes is None else notes)
        if layout is not None:
            found.setdefault(os.path.realpath(layout.nvcc), (layout, candidate.origin))
    return list(found.values())


def _layout_at(candidate: Candidate, memo: Memo, environ: Mapping[str, str], notes: list[str]) -> Layout | None:
    try:
        layout = read_layout(find_nvcc(candidate.path), memo, environ)
        read_version(layout.nvcc, memo)
    except NoToolkit as error:
        if candidate.demanded:
            raise
        notes.append(f"{candidate.origin}: {error.message}")
        return None
    return layout


def require_complete(toolkit: Toolkit) -> None:
    """IncompleteToolkit, naming the headers, if the toolkit lacks any that torch's own headers include."""
    if toolkit.missing:
        raise IncompleteToolkit(
            f"the CUDA {toolkit.release} toolkit at {toolkit.root} lacks headers that torch's headers include: "
            + ", ".join(toolkit.missing),
            evidence=f"looked in {', '.join(map(str, toolkit.include)) or 'no include folder at all'}",
            hint=f"sudo apt-get install cuda-libraries-dev-{toolkit.release.replace('.', '-')}   # of NVIDIA's",
        )


def identity_files(layout: Layout) -> dict[str, Path]:
    """The files whose content tells one toolkit from another, by a name that does not depend on its place.

    The path of a header or library that the toolkit lacks is its bare name.
    """
    files = {name: layout.tool(name) for name in _TOOLS}
    files["cicc"] = layout.cicc / "cicc"
    files["libdevice"] = layout.libdevice / "libdevice.10.bc"
    files |= {name: _find(layout.library, name) or Path(name) for name in _LIBRARIES}
    headers = (*REQUIRED_HEADERS, *_VERSION_HEADERS)
    return files | {f"include/{name}": _find(layout.include, name) or Path(name) for name in headers}


def _find(folders: tuple[Path, ...], name: str) -> Path | None:
    return next((folder / name for folder in folders if (folder / name).is_file()), None)
