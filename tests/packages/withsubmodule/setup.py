"""Needs a header that lies in a submodule."""

from setuptools import Extension, setup

setup(
    name="withsubmodule",
    version="1.0",
    ext_modules=[Extension("withsubmodule", ["csrc/module.c"], include_dirs=["third_party/answer"])],
)
