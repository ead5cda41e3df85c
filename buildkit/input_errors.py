"""What all causes have in common; and those that lie in what was asked for: words, recipe, settings, source (2 to 4).

Everybody imports them from ``buildkit.errors``.
"""

from __future__ import annotations

from typing import ClassVar


class CudabuildError(Exception):
    """Base of every cause. ``evidence`` is the line that shows it, ``hint`` the next command to type."""

    kind: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    rule: str = ""
    """Id of the rule that named the cause from a log, if one did (docs/reference/explain.md)."""

    def __init__(self, message: str, *, evidence: str = "", hint: str = "", log: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.evidence = evidence
        self.hint = hint
        self.log = log


# 2: usage


class UsageError(CudabuildError):
    """What was typed cannot be understood."""

    kind = "usage"
    exit_code = 2


class BadTarget(UsageError):
    """A target that does not parse, or a name with several meanings."""

    kind = "bad-target"


class TargetsDisagree(UsageError):
    """An exported TORCH_CUDA_ARCH_LIST misses the GPU that is visible here."""

    kind = "targets-disagree"


# 3: recipe or configuration


class RecipeError(CudabuildError):
    """A recipe that does not parse or does not hold together; the message is located (file, key)."""

    kind = "recipe"
    exit_code = 3


class UnknownRecipe(RecipeError):
    """No recipe of this name; the hint names the nearest ones."""

    kind = "unknown-recipe"


class NoCpuForm(RecipeError):
    """A build for the CPU of a package whose recipe has none."""

    kind = "no-cpu-form"


class NotRedistributable(RecipeError):
    """The package's licence does not let its wheels be passed on without checking."""

    kind = "not-redistributable"


class ConfigError(RecipeError):
    """The configuration file or a CUDABUILD_* variable does not parse."""

    kind = "configuration"


class MissingExtra(RecipeError):
    """A part of cudabuild that is installed on request only is not installed."""

    kind = "missing-extra"


# 4: source


class SourceError(CudabuildError):
    """The source could not be had, or is not what was promised."""

    kind = "source"
    exit_code = 4


class IndexUnreachable(SourceError):
    """The package index (or git host) did not answer."""

    kind = "index-unreachable"


class ServerUnreachable(SourceError):
    """The server that was to build did not answer, or cannot now."""

    kind = "server-unreachable"


class ServerMismatch(SourceError):
    """What answers is no server of cudabuild, or one whose answers this version does not understand."""

    kind = "server-mismatch"


class NotOnIndex(SourceError):
    """The index answers, but has no such file."""

    kind = "not-on-index"


class HashMismatch(SourceError):
    """The bytes are not the ones the recipe names."""

    kind = "hash-mismatch"


class UnsafeArchive(SourceError):
    """An archive member would leave its folder, or is a device."""

    kind = "unsafe-archive"


class CommitMissing(SourceError):
    """The repository does not hold the commit that the recipe pins."""

    kind = "commit-missing"


class PatchFailed(SourceError):
    """A patch does not apply; the message names file and hunk."""

    kind = "patch-failed"


class NotCached(SourceError):
    """``--offline``, and something needed is not in the cache."""

    kind = "not-cached"
