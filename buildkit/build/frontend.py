"""The PEP 517 frontend: pypa/build's ProjectBuilder, with the guard where its subprocess runner sits."""

from __future__ import annotations

import errno
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from buildkit.build.deferral import start
from buildkit.errors import (
    BadBackendAnswer,
    BuildFailed,
    CudabuildError,
    Stalled,
    TimedOut,
)
from buildkit.guard.supervise import GuardInterrupted, GuardTerminated, Outcome, Sample, run_guarded
from buildkit.process import environment_difference, quoted

if TYPE_CHECKING:
    from build import ProjectBuilder


_LOG = "see the log of this build: cudabuild log last"


@dataclass
class GuardReport:
    """What the guard saw over all hooks of one build. Bytes and seconds."""

    peak_memory: int = 0
    containment: str = ""
    isolation: str = ""
    survivors: int = 0
    units: int = 0
    """Compilations that ninja announced; 0 where the build says nothing of the kind."""
    seconds: float = 0.0
    returncode: int = 0
    """Of the last hook; negative for a signal."""

    def add(self, outcome: Outcome) -> None:
        """Fold one hook's outcome in."""
        self.peak_memory = max(self.peak_memory, outcome.peak_memory)
        self.containment, self.isolation = outcome.containment, outcome.isolation
        self.survivors += outcome.survivors
        self.returncode = outcome.returncode
        self.seconds += outcome.seconds


@dataclass
class Frontend:
    """Runs the hooks of one source tree, each under the guard, all before one deadline."""

    source: Path
    python: Path
    environment: Mapping[str, str]
    log: BinaryIO
    scratch: Path
    """The private TMPDIR: emptied afterwards, also when cudabuild itself is killed."""
    writable: Sequence[Path]
    protected: Sequence[Path]
    timeout: float
    stall: float | None
    on_line: Callable[[str], None]
    on_sample: Callable[[Sample], None]
    report: GuardReport = field(default_factory=GuardReport)
    started: float | None = None
    defer: bool = False
    """Whether files that the backend compiles one after the other are compiled side by side."""
    on_hold: Callable[[], bool] = lambda: False
    """Whether the build waits for memory that other builds hold: then it is not stalled."""
    hidden: Sequence[Path] = ()
    """Folders that the backend finds empty where it is isolated."""

    def requirements(self, config_settings: Mapping[str, str | list[str] | bool]) -> list[str]:
        """What the backend asks for beside build-system.requires (``get_requires_for_build_wheel``)."""
        from packaging.requirements import InvalidRequirement, Requirement

        with self._backend_errors(), self._scratch_as_default():
            asked = list(self._builder().get_requires_for_build("wheel", _settings(config_settings)))
            try:
                return sorted(text for text in asked if Requirement(text))
            except (TypeError, InvalidRequirement) as error:
                raise _no_answer("a list of requirements", error) from error

    def build_wheel(self, output: Path, config_settings: Mapping[str, str | list[str] | bool]) -> str:
        """Build; returns the backend's answer as it gave it: the name of a wheel in ``output``, not yet believed."""
        with self._backend_errors(), self._scratch_as_default():
            folder = str(output.absolute())
            # pypa/build joins the answer to the folder: what is left is the answer as the backend gave it.
            try:
                answer = self._builder().build("wheel", folder, _settings(config_settings))
            except TypeError as error:
                raise _no_answer("the name of a wheel", error) from error
            return str(answer).removeprefix(f"{folder}/")

    def _builder(self) -> ProjectBuilder:
        from build import ProjectBuilder

        return ProjectBuilder(self.source, python_executable=str(self.python), runner=self._run_hook)

    def _run_hook(
        self, cmd: Sequence[str], cwd: str | None = None, extra_environ: Mapping[str, str] | None = None
    ) -> None:
        command = list(cmd)
        if self.defer and "build_wheel" in command:
            command.insert(1, str(start.__file__))
        if self.started is None:
            self.started = time.monotonic()
        environment = {**self.environment, **(extra_environ or {})}
        self.log.write(f"$ {quoted(command)}\n".encode())
        self.log.writelines(f"  {row}\n".encode() for row in environment_difference({}, environment))
        self.log.flush()
        try:
            outcome = run_guarded(
                command,
                cwd=Path(cwd or self.source),
                env=environment,
                log=self.log,
                deadline=self.started + self.timeout,
                stall=self.stall,
                writable=self.writable,
                protected=self.protected,
                scratch=self.scratch,
                on_line=self.on_line,
                on_sample=self.on_sample,
                on_hold=self.on_hold,
                hidden=self.hidden,
            )
        except (GuardInterrupted, GuardTerminated) as ended:
            self.report.add(ended.outcome)
            raise
        self.report.add(outcome)
        self._judge(outcome, command)

    def _judge(self, outcome: Outcome, command: Sequence[str]) -> None:
        if outcome.reason == "timeout":
            raise TimedOut(
                f"the build was ended after {self.timeout:g} s; nothing it started is left running",
                hint="give it more time: --timeout 2h",
            )
        if outcome.reason == "stalled":
            raise Stalled(
                f"the build printed nothing and used no processor time for {self.stall or 0:g} s, and was ended",
                hint="give it more patience: --stall-timeout 30m, or look at the log",
            )
        if outcome.returncode != 0:
            raise BuildFailed(f"the build backend ended with exit status {outcome.returncode} ({quoted(command[:1])})")

    @contextmanager
    def _backend_errors(self) -> Iterator[None]:
        from build import BuildBackendException, BuildException, BuildSystemTableValidationError

        try:
            # pypa/build says a backend's warnings once more; they are in the log already.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except BuildBackendException as error:
            disk = getattr(error.exception, "errno", None) in {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
            if isinstance(error.exception, CudabuildError) or disk:
                raise error.exception from None  # a full disk under the log is no fault of the backend
            raise BadBackendAnswer(f"the build backend gave no usable answer: {error}", hint=_LOG) from error
        except (BuildException, BuildSystemTableValidationError) as error:
            raise BuildFailed(f"this source is not a project that can be built: {error}") from error

    @contextmanager
    def _scratch_as_default(self) -> Iterator[None]:
        """pyproject-hooks exchanges files with the backend in the default temporary folder: use the build's."""
        before = tempfile.tempdir
        tempfile.tempdir = str(self.scratch)
        try:
            yield
        finally:
            tempfile.tempdir = before


def _no_answer(expected: str, error: Exception) -> BadBackendAnswer:
    return BadBackendAnswer(f"the build backend did not answer with {expected}", evidence=str(error), hint=_LOG)


def _settings(config_settings: Mapping[str, str | list[str] | bool]) -> dict[str, str | list[str]] | None:
    """As pypa/build takes them: texts and lists of texts; none at all is None."""
    return {k: str(v).lower() if isinstance(v, bool) else v for k, v in config_settings.items()} or None
