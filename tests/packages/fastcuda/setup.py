"""A real CUDA extension that compiles in seconds: built by torch's BuildExtension, without torch's headers.

Importing torch takes as long again, so whoever only asks what the build requires is answered without it.
"""

import os
import sys

from setuptools import setup


def compiled(sources, macros):
    from torch.utils.cpp_extension import BuildExtension, CppExtension, CUDAExtension

    extension = (CUDAExtension if cuda else CppExtension)("fastcuda._C", sources, define_macros=macros)
    return {"ext_modules": [extension], "cmdclass": {"build_ext": BuildExtension}}


cuda = os.environ.get("FORCE_CUDA") == "1"
if not cuda:
    print("fastcuda: not compiling with CUDA")
sources = ["csrc/module.cpp"] + (["csrc/add.cu"] if cuda else [])
options = {} if sys.argv[1:] == ["egg_info"] else compiled(sources, [("WITH_CUDA", None)] if cuda else [])
setup(name="fastcuda", version="1.0", packages=["fastcuda"], **options)
