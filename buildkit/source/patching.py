"""A recipe's patches, of both forms, applied to an unpacked source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from buildkit.recipe.model import Patch
from buildkit.source.patches import apply_diff
from buildkit.source.rewriting import rewrite


@dataclass(frozen=True)
class Patched:
    """What became of a patch. ``done``: the source was changed; else it had no need of it."""

    patch: Patch
    done: bool
    where: str = ""
    """The files that a rewriting changed, for people."""

    def sentence(self) -> str:
        """For the summary of the build."""
        if not self.done:
            why = "found nothing to replace" if self.patch.rewrite else "all of it is in the source already"
            return f"the patch {self.patch.label} is needless here: {why} ({self.patch.reason})"
        return f"patched: {self.patch.label}{f': {self.where}' if self.where else ''}"


def apply_patch(tree: Path, patch: Patch, folder: Path) -> Patched:
    """Apply one patch of the recipe that lies in ``folder``. Raises PatchFailed where a diff does not fit."""
    if patch.rewrite is None:
        return Patched(patch, apply_diff(tree, folder / (patch.file or "")))
    changed = rewrite(tree, patch.rewrite)
    shown = ", ".join(f"{name} ({count})" for name, count in list(changed.items())[:5])
    more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
    return Patched(patch, bool(changed), shown + more)
