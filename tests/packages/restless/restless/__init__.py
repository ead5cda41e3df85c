"""A C extension without torch and without CUDA, built in two seconds: for tests of installing."""

from restless._c import answer

__all__ = ["answer"]
