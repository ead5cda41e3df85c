"""What doctor is asked about: a package, as far as can be told without fetching anything, or any package at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.machine.solver.host import Project

if TYPE_CHECKING:
    from buildkit.recipe.model import Patch, SystemSection

ANY = "RECIPE"
"""What stands for a package's name in commands where none was named."""

MEMORY_PER_UNIT = 2_684_354_560
"""Bytes that one compilation takes where no recipe says: a recipe's own default."""

_STANDARD = re.compile(r"\+\+(\w+)")
_DRAFTS = {"1y": 14, "1z": 17, "2a": 20, "2b": 23}


@dataclass(frozen=True)
class Subject:
    """``name`` as it stands in a command. ``standards`` are the C++ standards that its setup.py writes down."""

    name: str = ANY
    torch: bool = True
    project: Project = "setuptools"
    memory_per_unit: int = MEMORY_PER_UNIT
    system: SystemSection | None = None
    standards: tuple[str, ...] = ()
    patches: tuple[Patch, ...] = ()
    folder: Path | None = None
    version: str = ""
    notes: tuple[str, ...] = ()

    @property
    def is_named(self) -> bool:
        """Whether it is about one package."""
        return self.name != ANY

    def cxx(self, values: Mapping[str, str]) -> int | None:
        """The newest C++ standard that its setup.py writes down, after the patches that apply under these values."""
        from buildkit.recipe.conditions import may_apply

        texts = list(self.standards)
        known = {**values, **({"version": self.version} if self.version else {})}
        for patch in self.patches:
            if not may_apply(patch.when, known):
                continue
            if patch.rewrite is not None:
                plain = patch.rewrite.replace.replace("\\", r"\\")
                texts = [re.sub(patch.rewrite.find, plain, text) for text in texts]
            elif self._sets_standard(patch):
                return None
        return max((number for text in texts if (number := _number(text)) is not None), default=None)

    def _sets_standard(self, patch: Patch) -> bool:
        file = self.folder / patch.file if self.folder is not None and patch.file else None
        return file is not None and "std=" in file.read_text("utf-8", errors="replace")


def _number(standard: str) -> int | None:
    """17 of ``-std=c++17``."""
    found = _STANDARD.search(standard)
    if found is None:
        return None
    return int(found[1]) if found[1].isdigit() else _DRAFTS.get(found[1])
