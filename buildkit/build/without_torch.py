"""Packages that know nothing of torch (``[build] torch = false``): their toolkit, their targets, their key.

The toolkit is the one that a package beside torch would get here, so that both have the same compiler.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from buildkit.build.borrow import NO_LOAN
from buildkit.build.context import Context
from buildkit.build.cuda_names import HEADER
from buildkit.build.survey import Machine, Survey, with_targets
from buildkit.build.toolkit_choice import ToolkitChoice, choose_toolkit
from buildkit.build.toolkits import toolkits_here
from buildkit.machine import compat
from buildkit.machine.identity import Memo, hash_file, identity_or_none, is_settled
from buildkit.machine.installable import WHEEL_MAJORS
from buildkit.machine.toolkit import Toolkit
from buildkit.machine.torch_identity import NO_TORCH, identify_torch
from buildkit.plan.request import Request


def survey_without_torch(
    request: Request, configured: Sequence[str] | None, machine: Machine, context: Context
) -> Survey:
    """Toolkit and targets for a request; ``configured`` is None for a CPU build."""
    if configured is None:
        return Survey(machine, NO_TORCH, NO_LOAN, None)
    toolkit = choose_toolkit(request, _cuda_release(request, machine, context), machine, context)
    return with_targets(Survey(machine, NO_TORCH, NO_LOAN, toolkit), toolkit, request, configured, context)


def _cuda_release(request: Request, machine: Machine, context: Context) -> str:
    """The toolkit that was named, the CUDA of the torch that was named or is active, a toolkit here, or wheels."""
    here = toolkits_here(request.cuda_home, context)
    if request.cuda_home is not None and here:
        return here[0].release
    named = compat.cuda_of_torch(request.torch) if request.torch not in {None, "active"} else None
    active = identify_torch(machine.python.site_packages) if named is None else None
    told = named or (active.cuda if active is not None else None)
    return told or (here[0].release if here else f"{WHEEL_MAJORS[-1]}.0")


def headers_sha256(choice: ToolkitChoice, memo: Memo) -> str:
    """The content of every header of a toolkit, and of those that fill its gaps.

    The toolkit's own identity holds the headers that tell its version; here the others count too, so that a
    damaged one is not taken for the sound one. Remembered by the identities of all of them.
    """
    files = [
        (f"{number}/{name}", path)
        for number, toolkit in enumerate((choice.toolkit, *choice.fill))
        for name, path in sorted(_headers(toolkit))
    ]
    seen = [(name, identity_or_none(path)) for name, path in files]
    told = hashlib.sha256(repr(seen).encode()).hexdigest()
    known = memo.get("toolkit-headers", str(choice.toolkit.nvcc), told)
    if isinstance(known, str):
        return known
    digest = hashlib.sha256()
    for (name, path), (_name, identity) in zip(files, seen, strict=True):
        content = hash_file(path) if identity is not None else "missing"
        digest.update(f"{name}\0{content}\n".encode())
    if is_settled(identity for _name, identity in seen):
        memo.put("toolkit-headers", str(choice.toolkit.nvcc), told, digest.hexdigest())
    return digest.hexdigest()


def _headers(toolkit: Toolkit) -> Iterator[tuple[str, Path]]:
    """Name and path of each header; folders that are links are gone into, each real folder once."""
    passed: set[str] = set()
    for number, include in enumerate(toolkit.include):
        for top, folders, names in os.walk(include, followlinks=True):
            if top == str(include) and toolkit.layout.shared:
                for listed in (folders, names):
                    listed[:] = [name for name in listed if HEADER.fullmatch(name)]
            folders.sort()  # which of two links to one folder comes first must not depend on the file system
            real = os.path.realpath(top)
            if real in passed:
                folders.clear()
                continue
            passed.add(real)
            relative = Path(top).relative_to(include)
            yield from ((f"{number}/{relative / name}", Path(top, name)) for name in names)
