"""``cudabuild build --detach``: the build goes on in the background, in a session of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildkit.cli.main import cause_of
from buildkit.cli.options import Asked, make_context
from buildkit.cli.output import SCHEMA, print_failure, print_json, say
from buildkit.cli.results import print_results, result_object
from buildkit.cli.terminal import reporter_for
from buildkit.errors import BuildFailed, CudabuildError, Interrupted, StoreError, Terminated, UsageError
from buildkit.progress import Silent

if TYPE_CHECKING:
    from buildkit.store.builds import BuildRecord, BuildRecords

_PATIENCE = 10.0
"""Seconds to wait for the plan, so that the answer has the key, and for what fails (or is in the store) at once."""
_PAUSE = 0.02
_SIGNALS: dict[int, type[CudabuildError]] = {
    signal.SIGINT: Interrupted, signal.SIGTERM: Terminated, signal.SIGHUP: Terminated,
}  # fmt: skip


@dataclass(frozen=True)
class Detached:
    """A build in the background: its id, its process, the file with its progress and output."""

    build: str
    pid: int
    log: Path

    @property
    def answer(self) -> Path:
        """Where the object of ``--json`` comes to lie."""
        return self.log.with_suffix(".json")


@dataclass(frozen=True)
class FirstWords:
    """What is known of it when the command returns: an object, and the exit code; ``ended``: it was that quick.

    ``error``: why it ended, where it could not say so itself. ``interrupted``: Ctrl-C while it was waited for.
    """

    value: dict[str, Any]
    code: int = 0
    ended: bool = False
    error: CudabuildError | None = None
    interrupted: bool = False


def build_detached(packages: tuple[str, ...], options: dict[str, Any]) -> int:
    """Start one build a package, and say how to follow and to end them; the first failure's exit code.

    After Ctrl-C no more are started; what was started runs on.
    """
    from buildkit.store.builds import BuildRecords

    if options["install_too"]:
        hint = "build it first; then `cudabuild install` takes it from the store"
        raise UsageError("--detach and --install exclude each other", hint=hint)
    places = make_context(Asked.read(options), Silent()).places
    records = BuildRecords(places.store)
    places.logs.mkdir(parents=True, exist_ok=True)
    every = []
    for package in packages:
        name = records.new_id()
        child = _start(name, places.logs / f"{name}.log", partial(run_recorded, name, package, options))
        words = _first_words(child, package, records)
        every.append(words)
        if not options["as_json"]:
            _tell(child, words)
        if words.interrupted:
            break
    if options["as_json"]:
        values = [words.value for words in every]
        print_json(values[0] if len(values) == 1 else {"schema": SCHEMA, "results": values})
    return next((words.code for words in every if words.code), 0)


def _start(name: str, log: Path, work: Callable[[], int]) -> Detached:
    """Fork: nothing is loaded yet that holds threads. The child never returns."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    child = Detached(name, 0, log)
    outputs = [os.open(path, flags, 0o666) for path in (child.answer, log)]
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = CudabuildError.exit_code
        try:
            os.setsid()  # a terminal that is closed is none of its business
            for number, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), *outputs)):
                os.dup2(descriptor, number)
            code = work()
        except BaseException as error:  # noqa: BLE001  (the last frame of this process)
            code = cause_of(error).exit_code
            with suppress(OSError, ValueError):  # a full disk takes no words: the exit code still tells
                traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            os._exit(code)
    for descriptor in outputs:
        os.close(descriptor)
    return Detached(name, pid, log)


def run_recorded(name: str, package: str, options: dict[str, Any]) -> int:
    """The build itself, in the child. What it says goes to its log, its answer to the file beside that."""
    from buildkit.build.pipeline import BuildResult, build
    from buildkit.build.recording import as_cancelled, begin, finish
    from buildkit.store.builds import BuildRecords

    with reporter_for(verbose=False) as reporter:
        asked = Asked.read(options)
        context = make_context(asked, reporter)
        records = BuildRecords(context.places.store)
        result = BuildResult(package, name)
        try:
            begin(records, result, log=context.places.logs / f"{name}.log")
            request = asked.request(package)
            result = build(request, asked.settings.targets, context, out=options["out"], identifier=name)
        except BaseException as error:  # noqa: BLE001  (nobody above could tell it to who asked)
            if not isinstance(error, (CudabuildError, OSError)):
                traceback.print_exc()  # goes to the log
            result.error = as_cancelled(cause_of(error), records)
        try:
            print_results([result], as_json=True)
        finally:
            with suppress(StoreError):  # the answer is what counts
                finish(records, name, result.error)
    return print_results([result], as_json=False)


def _first_words(child: Detached, package: str, records: BuildRecords) -> FirstWords:
    deadline = time.monotonic() + _PATIENCE
    record = None
    try:
        while not (record is not None and record.key) and time.monotonic() < deadline:
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                return _last_words(child, package, records, os.waitstatus_to_exitcode(status))
            time.sleep(_PAUSE)
            record = records.read_if_any(child.build)
    except Interrupted as error:  # it runs in a session of its own, and goes on
        return FirstWords(_running(child, record), error.exit_code, interrupted=True)
    return FirstWords(_running(child, record))


def _last_words(child: Detached, package: str, records: BuildRecords, code: int) -> FirstWords:
    """Of one that has ended: its own answer, or, where it could write none, a failure by its exit code."""
    from buildkit.build.pipeline import BuildResult

    with suppress(OSError, ValueError):
        value = json.loads(child.answer.read_text(encoding="utf-8"))
        if isinstance(value, dict) and code >= 0:
            return FirstWords(value, code, ended=True)
    error = _unsaid(child, records, code)
    value = result_object(BuildResult(package, child.build, log=child.log, error=error))
    return FirstWords(value, error.exit_code, ended=True, error=error)


def _unsaid(child: Detached, records: BuildRecords, code: int) -> CudabuildError:
    """The cause that goes with an exit code, or with a signal's negative number; as the record says, if it does."""
    from buildkit.cli.schema import causes

    log, hint = str(child.log), "read the log, then type it again: it goes on where it ended"
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        cause = _SIGNALS.get(-code, BuildFailed)
        return cause(f"the command of build {child.build} was killed by {name}", hint=hint, log=log)
    record = None
    with suppress(StoreError):
        record = records.read_if_any(child.build)
    same = [cause for cause in causes() if cause.exit_code == code]
    named = [cause for cause in same if record is not None and cause.kind == record.error]
    cause = next(iter(named + same), CudabuildError)
    return cause(f"build {child.build} ended with exit code {code} and could not write its answer", hint=hint, log=log)


def _running(child: Detached, record: BuildRecord | None) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "build": child.build,
        "recipe": record.recipe if record else None,
        "key": record.key if record else None,
        "status": "running",
        "log": str(child.log),
        "answer": str(child.answer),
    }


def _tell(child: Detached, words: FirstWords) -> None:
    if words.ended:  # it has said by itself how
        said = child.log.read_text(encoding="utf-8", errors="backslashreplace").rstrip("\n")
        if said:
            say(said)
        if words.error is not None:
            print_failure(words.error, as_json=False)
        return
    say(f"build {child.build} runs in the background")
    say(f"follow it: cudabuild log {child.build} --follow")
    say(f"end it:    cudabuild cancel {child.build}")
