"""``cudabuild build --detach``: the build goes on in the background, in a session of its own."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildkit.cli.options import Asked, make_context
from buildkit.cli.output import SCHEMA, print_json, say
from buildkit.cli.results import print_results
from buildkit.cli.terminal import reporter_for
from buildkit.errors import CudabuildError, Interrupted, UsageError
from buildkit.progress import Silent

if TYPE_CHECKING:
    from buildkit.store.builds import BuildRecord, BuildRecords

_PATIENCE = 10.0
"""Seconds to wait for the plan, so that the answer has the key, and for what fails (or is in the store) at once."""
_PAUSE = 0.02


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
    """What is known of it when the command returns: an object, and the exit code; ``ended``: it was that quick."""

    value: dict[str, Any]
    code: int = 0
    ended: bool = False


def build_detached(packages: tuple[str, ...], options: dict[str, Any]) -> int:
    """Start one build a package, and say how to follow and to end them; the first failure's exit code."""
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
        child = _start(name, places.logs / f"{name}.log", partial(_run, name, package, options))
        words = _first_words(child, records)
        every.append(words)
        if not options["as_json"]:
            _tell(child, words)
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
        code = 1
        try:
            os.setsid()  # a terminal that is closed is none of its business
            for number, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), *outputs)):
                os.dup2(descriptor, number)
            code = work()
        except BaseException:  # noqa: BLE001  (the last frame of this process)
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    for descriptor in outputs:
        os.close(descriptor)
    return Detached(name, pid, log)


def _run(name: str, package: str, options: dict[str, Any]) -> int:
    """The build itself, in the child. What it says goes to its log, its answer to the file beside that."""
    from buildkit.build.pipeline import BuildResult, build
    from buildkit.build.recording import begin, finish
    from buildkit.store.builds import BuildRecords

    with reporter_for(verbose=False) as reporter:
        asked = Asked.read(options)
        context = make_context(asked, reporter)
        records = BuildRecords(context.places.store)
        result = BuildResult(package, name)
        begin(records, result, log=context.places.logs / f"{name}.log")
        try:
            request = asked.request(package)
            result = build(request, asked.settings.targets, context, out=options["out"], identifier=name)
        except CudabuildError as error:
            result.error = error
        except BaseException as error:
            finish(records, name, error)
            raise
        print_results([result], as_json=True)
        finish(records, name, result.error)
    return print_results([result], as_json=False)


def _first_words(child: Detached, records: BuildRecords) -> FirstWords:
    deadline = time.monotonic() + _PATIENCE
    record = None
    try:
        while not (record is not None and record.key) and time.monotonic() < deadline:
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                text = child.answer.read_text(encoding="utf-8")
                value = json.loads(text) if text else _running(child, None)
                return FirstWords(value, os.waitstatus_to_exitcode(status), ended=True)
            time.sleep(_PAUSE)
            record = records.read_if_any(child.build)
    except Interrupted:
        pass  # it runs in a session of its own, and goes on
    return FirstWords(_running(child, record))


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
        say(child.log.read_text(encoding="utf-8", errors="backslashreplace").rstrip("\n"))
        return
    say(f"build {child.build} runs in the background")
    say(f"follow it: cudabuild log {child.build} --follow")
    say(f"end it:    cudabuild cancel {child.build}")
