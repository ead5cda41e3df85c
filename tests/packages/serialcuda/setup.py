"""Compiled one file after the other, with the same sources in two modules under other defines: as the torch-* packages are."""

import os

from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CppExtension, CUDAExtension

CUDA = os.environ.get("FORCE_CUDA") == "1"


def extension(name, kind, *more):
    macros = [("MODULE", f"_{name}"), *([("WITH_CUDA", None)] if name == "cuda" else [])]
    return kind(f"serialcuda._{name}", ["csrc/module.cpp", "csrc/where.cpp", *more], define_macros=macros)


setup(
    name="serialcuda",
    version="1.0",
    packages=["serialcuda"],
    ext_modules=[
        extension("cpu", CppExtension),
        *([extension("cuda", CUDAExtension, "csrc/cuda/where_cuda.cu")] if CUDA else []),
    ],
    cmdclass={"build_ext": BuildExtension.with_options(use_ninja=False)},
)
