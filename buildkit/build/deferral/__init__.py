"""Compiling in parallel what a backend compiles one file after the other. It runs inside the backend's process.

The standard library only, and nothing else of buildkit: the Python that it runs in is the build environment's.
"""
