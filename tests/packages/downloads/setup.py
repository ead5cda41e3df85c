"""Downloads a header while it is built, unless it is there: nobody answers at that address."""

import urllib.request
from pathlib import Path

from setuptools import Extension, setup


def downloaded(url):
    folder = Path("build", "downloaded")
    folder.mkdir(parents=True, exist_ok=True)
    urllib.request.urlretrieve(url, folder / "answer.h")
    return str(folder)


INCLUDE = downloaded("http://127.0.0.1:9/answer.h")
setup(name="downloads", version="1.0", ext_modules=[Extension("downloads", ["csrc/module.c"], include_dirs=[INCLUDE])])
