"""Libraries of torch, CUDA and the driver: a wheel must not carry copies of them.

Two copies of torch's or CUDA's runtime in one process crash or silently do not see each other's state. The
names are those that ``auditwheel repair --exclude`` is given for torch extensions; a grafted copy carries a
short hash (``libcudart-1a2b3c4d.so.13``). An extension's own ``libtorch_voxels.so`` is none of them.
"""

from __future__ import annotations

import re

TORCH = (
    "torch",
    "torch_cpu",
    "torch_cuda",
    "torch_cuda_linalg",
    "torch_global_deps",
    "torch_nvshmem",
    "torch_python",
    "c10",
    "c10_cuda",
    "caffe2_nvrtc",
    "shm",
)
CUDA = (
    "cudart",
    "cublas",
    "cublasLt",
    "cudnn",
    "cudnn_[a-z_]+",
    "cudss",
    "cufft",
    "cufftw",
    "cufile",
    "cupti",
    "curand",
    "cusolver",
    "cusolverMg",
    "cusparse",
    "cusparseLt",
    "nccl",
    "npp[a-z]+",
    "nvblas",
    "nvfatbin",
    "nvJitLink",
    "nvjpeg",
    "nvrtc",
    "nvrtc-builtins",
    "nvshmem_host",
    "nvToolsExt",
)
DRIVER = ("cuda", "cudadebugger", "nvidia-[a-z0-9-]+", "nvcuvid", "nvoptix")


def _pattern(stems: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"lib({'|'.join(stems)})(-[0-9a-f]{{6,}})?\.so(\.[0-9.]+)?")


_FOREIGN = _pattern(TORCH + CUDA + DRIVER)
_DRIVER = _pattern(DRIVER)
_TORCH = _pattern(TORCH)


EXCLUSIONS = tuple("lib" + re.sub(r"\[.*?\]\+", "*", stem) + ".so*" for stem in TORCH + CUDA + DRIVER)
"""The same names as patterns of a shell, for programs that copy libraries into wheels."""


def is_grafted(name: str) -> bool:
    """Whether a file name (or soname) inside a wheel is a library of torch, CUDA or the driver."""
    return _FOREIGN.fullmatch(name) is not None


def is_driver_library(name: str) -> bool:
    """Whether a needed library comes with the GPU driver, and so may be absent on a build machine."""
    return _DRIVER.fullmatch(name) is not None


def is_torch_library(name: str) -> bool:
    """Whether a needed library is one of torch's own."""
    return _TORCH.fullmatch(name) is not None
