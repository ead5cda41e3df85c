"""A real CUDA extension that compiles in seconds: built by torch's BuildExtension, without torch's headers."""

import os

from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CppExtension, CUDAExtension

cuda = os.environ.get("FORCE_CUDA") == "1"
sources = ["csrc/module.cpp"] + (["csrc/add.cu"] if cuda else [])
if not cuda:
    print("fastcuda: not compiling with CUDA")
extension = (CUDAExtension if cuda else CppExtension)(
    "fastcuda._C", sources, define_macros=[("WITH_CUDA", None)] if cuda else []
)
setup(
    name="fastcuda",
    version="1.0",
    packages=["fastcuda"],
    ext_modules=[extension],
    cmdclass={"build_ext": BuildExtension},
)
