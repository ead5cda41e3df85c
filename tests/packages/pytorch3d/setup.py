"""Of the shape of the real package: no pyproject.toml, its own switches, a fixed standard, flags split on blanks."""

import os

import torch
from setuptools import find_packages, setup
from torch.utils.cpp_extension import CUDA_HOME, BuildExtension, CppExtension, CUDAExtension

forced = os.getenv("FORCE_CUDA", "0") == "1"
without = os.getenv("PYTORCH3D_FORCE_NO_CUDA", "0") == "1"
sources = ["pytorch3d/csrc/ext.cpp"]
arguments = {"cxx": ["-std=c++17"]}
macros = []
extension = CppExtension
if not without and ((torch.cuda.is_available() and CUDA_HOME is not None) or forced):
    extension = CUDAExtension
    sources += ["pytorch3d/csrc/define.cu", "pytorch3d/csrc/launch.cu"]
    macros += [("WITH_CUDA", None)]
    nvcc = ["-std=c++17"]
    if os.getenv("NVCC_FLAGS"):
        nvcc.extend(os.environ["NVCC_FLAGS"].split(" "))
    arguments["nvcc"] = nvcc

setup(
    name="pytorch3d",
    version="0.7.9",
    packages=find_packages(include=["pytorch3d", "pytorch3d.*"]),
    ext_modules=[extension("pytorch3d._C", sources, define_macros=macros, extra_compile_args=arguments)],
    cmdclass={"build_ext": BuildExtension},
)
