"""Of the shape of the real package: name and version stand in pyproject.toml only, which an old setuptools ignores."""

from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CUDAExtension

setup(
    ext_modules=[CUDAExtension("_nvdiffrast_c", ["csrc/module.cpp", "csrc/rasterize.cu"])],
    cmdclass={"build_ext": BuildExtension},
)
