"""Calls the driver itself, and so is linked to libcuda, which machines without a GPU have not got."""

from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CUDAExtension

setup(
    name="usesdriver",
    version="1.0",
    ext_modules=[CUDAExtension("usesdriver", ["csrc/module.cpp", "csrc/kernel.cu"], libraries=["cuda"])],
    cmdclass={"build_ext": BuildExtension},
)
