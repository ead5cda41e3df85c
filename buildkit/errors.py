"""One class per cause a user can meet: a kind, an exit code, a message, evidence and the next step.

The exit codes are an interface (see docs/reference/exit-codes.md). ``kind`` is what ``--json`` prints and
what scripts match on; it never changes once released.
"""

from __future__ import annotations

from buildkit.input_errors import (
    BadTarget,
    CommitMissing,
    ConfigError,
    CudabuildError,
    HashMismatch,
    IndexUnreachable,
    MissingExtra,
    NoCpuForm,
    NotCached,
    NotOnIndex,
    NotRedistributable,
    PatchFailed,
    RecipeError,
    SourceError,
    TargetsDisagree,
    UnknownRecipe,
    UnsafeArchive,
    UsageError,
)

__all__ = [
    "BadTarget",
    "CommitMissing",
    "ConfigError",
    "CudabuildError",
    "HashMismatch",
    "IndexUnreachable",
    "MissingExtra",
    "NoCpuForm",
    "NotCached",
    "NotOnIndex",
    "NotRedistributable",
    "PatchFailed",
    "RecipeError",
    "SourceError",
    "TargetsDisagree",
    "UnknownRecipe",
    "UnsafeArchive",
    "UsageError",
]
"""What comes from elsewhere; all classes below are this module's own."""

# 5: this machine cannot build it


class MachineError(CudabuildError):
    """This machine, as it is, cannot build what was asked for."""

    kind = "machine"
    exit_code = 5


class NoTarget(MachineError):
    """No GPU is visible and no target was given."""

    kind = "no-target"


class UnsupportedTarget(MachineError):
    """The toolkit or the torch here cannot make code for a target."""

    kind = "unsupported-target"


class NoToolkit(MachineError):
    """No CUDA toolkit that fits torch, here or as wheels."""

    kind = "no-toolkit"


class NoCudaCode(MachineError):
    """CUDA was asked for, and the package (built without a recipe) has no CUDA code at all."""

    kind = "no-cuda-code"


class IncompleteToolkit(MachineError):
    """The toolkit lacks headers that torch's own headers include."""

    kind = "incomplete-toolkit"


class NoCompiler(MachineError):
    """No C++ compiler, or one that nvcc refuses."""

    kind = "no-compiler"


class MissingHeaders(MachineError):
    """System headers or Python's own headers are missing."""

    kind = "missing-headers"


class NoTorch(MachineError):
    """No torch here, and none could be installed for this Python."""

    kind = "no-torch"


class TorchMismatch(MachineError):
    """The torch that came is another one than the one asked for, or does not fit the toolkit."""

    kind = "torch-mismatch"


class DependencyConflict(MachineError):
    """Two requirements that cannot both be met; the message names both sides."""

    kind = "dependency-conflict"


class TooLittleMemory(MachineError):
    """The memory budget is below what one compilation needs."""

    kind = "too-little-memory"


class EnvironmentChanged(MachineError):
    """A shared environment or toolkit no longer is what was recorded of it."""

    kind = "environment-changed"


class CanaryFailed(MachineError):
    """The small kernel that is built before a package does not build, or computes wrongly: it is the toolchain."""

    kind = "canary-failed"


class NoContainment(MachineError):
    """The containment that CUDABUILD_CONTAINMENT insists on is not permitted here."""

    kind = "no-containment"


# 6, 7, 8: the build


class BuildFailed(CudabuildError):
    """The backend or a compiler failed."""

    kind = "build-failed"
    exit_code = 6


class BadBackendAnswer(BuildFailed):
    """The backend named something that is not a wheel of this package in its output folder."""

    kind = "bad-backend-answer"


class OutOfMemory(CudabuildError):
    """The build was ended for lack of memory."""

    kind = "out-of-memory"
    exit_code = 7


class TimedOut(CudabuildError):
    """The wall clock ran out."""

    kind = "timeout"
    exit_code = 8


class Stalled(TimedOut):
    """Nothing was printed and no processor time used for the stall timeout."""

    kind = "stalled"


# 9: verification


class VerificationFailed(CudabuildError):
    """The wheel exists and does not hold what it promises."""

    kind = "verification-failed"
    exit_code = 9


class CpuOnlyWheel(VerificationFailed):
    """CUDA was asked for and the wheel holds no device code."""

    kind = "cpu-only-wheel"


class MissingTargets(VerificationFailed):
    """Device code is there, but not for every target in every unit."""

    kind = "missing-targets"


class UnsafeWheel(VerificationFailed):
    """The wheel would write outside its folder, or its RECORD lies."""

    kind = "unsafe-wheel"


class ImportFailed(VerificationFailed):
    """The wheel does not import in a clean environment."""

    kind = "import-failed"


class ProbeFailed(VerificationFailed):
    """The recipe's probe got a wrong value, crashed, or used more time or memory than it may."""

    kind = "probe-failed"


class BelowRequirement(VerificationFailed):
    """The grade reached is below ``--require``."""

    kind = "below-requirement"


# 10: store or index


class StoreError(CudabuildError):
    """The cache cannot be read or written."""

    kind = "store"
    exit_code = 10


class ReadOnlyCache(StoreError):
    """The cache folder is not writable."""

    kind = "read-only-cache"


class DiskFull(StoreError):
    """No space left on the device that the cache is on."""

    kind = "disk-full"


class NoSuchBuild(StoreError):
    """No build of this id, key or wheel is recorded here."""

    kind = "no-such-build"


class IndexDenied(StoreError):
    """The index knows no such token, or the token may not do this."""

    kind = "index-denied"


class IndexRefused(StoreError):
    """The index does not take what it was sent; it says why."""

    kind = "index-refused"


class CannotCancel(StoreError):
    """The build is not running, not here, not this user's, or not the only one that is meant: nothing is cancelled."""

    kind = "cannot-cancel"


class CannotServe(StoreError):
    """It cannot be served: the address is taken or not this machine's, the certificate or database cannot be used."""

    kind = "cannot-serve"


# 130, 143


class Interrupted(CudabuildError):
    """Ctrl-C."""

    kind = "interrupted"
    exit_code = 130


class Terminated(CudabuildError):
    """SIGTERM or SIGHUP."""

    kind = "terminated"
    exit_code = 143


class Cancelled(Terminated):
    """Ended by `cudabuild cancel`."""

    kind = "cancelled"
