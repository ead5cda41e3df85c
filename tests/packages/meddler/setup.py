"""A CUDA extension whose setup.py tries to write where it should not, and prints how each try ended.

``MEDDLE`` narrows it to the tries whose names are listed, separated by blanks.
"""

import os
import pwd
import sys
import sysconfig
from pathlib import Path

import torch
from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CUDAExtension

TORCH = Path(torch.__file__).parent
SITE = Path(sysconfig.get_paths()["purelib"])
TOOLKIT = Path(os.environ["CUDA_HOME"])
HOME = Path(pwd.getpwuid(os.getuid()).pw_dir)
CACHE = next(folder for folder in Path(sys.prefix).parents if (folder / "store").is_dir())
TRIES = {
    "torch-new": (TORCH / "meddled.py", "w"),
    "torch-changed": (TORCH / "version.py", "a"),
    "torch-real": (Path(os.path.realpath(TORCH / "version.py")), "a"),
    "environment-new": (SITE / "meddled.py", "w"),
    "environment-changed": (SITE / "setuptools" / "__init__.py", "a"),
    "toolkit-new": (TOOLKIT / "include" / "meddled.h", "w"),
    "toolkit-real": (Path(os.path.realpath(TOOLKIT / "include" / "cuda.h")), "a"),
    "settings-distutils": (HOME / ".pydistutils.cfg", "a"),
    "settings-pip": (HOME / ".config" / "pip" / "pip.conf", "a"),
    "store": (CACHE / "store" / "meddled", "w"),
    "pycache": (CACHE / "pycache" / "meddled", "w"),
}

if "bdist_wheel" in sys.argv:
    for name in os.environ.get("MEDDLE", " ".join(TRIES)).split():
        path, mode = TRIES[name]
        try:
            with open(path, mode) as file:
                file.write("# meddled\n")
            print(f"meddled: {name}: wrote {path}")
        except OSError as error:
            print(f"meddled: {name}: refused {error.strerror}")

setup(
    name="meddler",
    version="1.0",
    py_modules=[],
    ext_modules=[CUDAExtension("meddler", ["csrc/module.cpp", "csrc/twice.cu"])],
    cmdclass={"build_ext": BuildExtension},
)
