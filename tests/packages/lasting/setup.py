"""A package that compiles for about half a minute: every tool of a build runs for seconds, so that it can be caught."""

from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CUDAExtension

setup(
    name="lasting",
    version="1.0",
    packages=["lasting"],
    ext_modules=[CUDAExtension("lasting._C", ["csrc/module.cpp", "csrc/one.cu", "csrc/two.cu", "csrc/three.cu"])],
    cmdclass={"build_ext": BuildExtension},
)
