"""Stands between Python and a person's own program: ``python [options] app_script.py ANSWER KIND WHAT [arguments]``.

KIND is ``script``, ``module`` or ``code``, as after ``python``, ``python -m`` and ``python -c``. The program is run as
Python itself would run it. Once it has imported torch and torch starts CUDA, kernels are recorded by CUPTI (through
torch.profiler) until it ends, or until it starts a profiler of its own. ANSWER is a JSON file: the kernels by name, or
why there are none. Whatever goes wrong in recording, the program is not to notice. Standard library only.
"""

from __future__ import annotations

import atexit
import importlib.abc
import importlib.machinery
import json
import os
import runpy
import sys
import threading
import types
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COPIES = ("Memcpy ", "Memset ")
"""What else runs on a GPU; the same as in probe_script.py, which this file, alone in a person's process, cannot ask."""


class Recorder:
    """Records from CUDA's start in this process to its end."""

    def __init__(self, answer: str) -> None:
        """``state`` says why nothing was recorded, or ``works``."""
        self.answer = os.path.abspath(answer)  # noqa: PTH100 - the program may change its folder
        self.process = os.getpid()
        self.kernels: Counter[str] = Counter()
        self.state = "the program did not import torch"
        self._profile: Any = None
        self._torch: Any = None

    def attach(self, torch: Any) -> None:
        """Torch is imported: begin when it starts CUDA."""
        self._torch = torch
        self.state = "torch did not start CUDA in the program's first process"
        try:
            torch.cuda._lazy_call(self.start)  # there is no public hook for the start of CUDA
            self._yield_to(torch.autograd.profiler.profile)
        except Exception as error:  # noqa: BLE001 - another torch may have neither
            self.state = f"this torch cannot be hooked into: {error}"

    def start(self) -> None:
        """Torch has started CUDA."""
        if os.getpid() != self.process:
            return
        if threading.current_thread() is not threading.main_thread():
            self.state = "torch started CUDA outside the main thread, where torch.profiler does not see the others"
            return
        try:
            from torch import profiler

            profile = profiler.profile(activities=[profiler.ProfilerActivity.CUDA])
            profile.start()
            self._profile, self.state = profile, "works"
        except Exception as error:  # noqa: BLE001 - a program without a recorder is still a test
            self.state = f"torch.profiler does not start: {error}"

    def stop(self) -> None:
        """Count what was recorded."""
        if self._profile is None or os.getpid() != self.process:
            return
        profile, self._profile = self._profile, None
        try:
            profile.stop()
            cuda = self._torch.autograd.DeviceType.CUDA
            names = [event.name for event in profile.events() if event.device_type == cuda]
            self.kernels.update(name for name in names if not name.startswith(COPIES))
        except Exception as error:  # noqa: BLE001 - a GPU that is in error lets nothing be recorded
            self.state = f"torch.profiler failed at the end: {error}"

    def finish(self) -> None:
        """Write the answer; the last thing that this process does."""
        if os.getpid() != self.process:
            return
        self.stop()
        partial = Path(self.answer + ".part")
        partial.write_text(json.dumps({"recorder": self.state, "kernels": dict(self.kernels)}), encoding="utf-8")
        partial.replace(self.answer)

    def _yield_to(self, profiler: Any) -> None:
        """Two profilers cannot run at a time: the program's own comes first."""
        prepare = profiler._prepare_trace

        def prepare_trace(other: Any) -> Any:
            if self._profile is not None and other is not getattr(self._profile, "profiler", None):
                self.stop()
                self.state = "works, until the program started a profiler of its own"
            return prepare(other)

        profiler._prepare_trace = prepare_trace


class AfterTorch(importlib.abc.MetaPathFinder):
    """Finds torch as Python would, and calls the recorder when its import is through."""

    def __init__(self, recorder: Recorder) -> None:
        """One use only."""
        self.recorder = recorder

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """None for everything but torch."""
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: types.ModuleType) -> None:
                execute(module)
                self.recorder.attach(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def run(kind: str, what: str) -> None:
    """The program, with ``sys.argv`` and ``sys.path`` as it would find them without this file."""
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        here = os.path.dirname(os.path.realpath(what)) if kind == "script" else ""  # noqa: PTH120
        sys.path[0] = here if kind != "module" else os.getcwd()  # noqa: PTH109
    if kind == "script":
        runpy.run_path(what, run_name="__main__")
    elif kind == "module":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module
        exec(compile(what, "<string>", "exec"), module.__dict__)  # noqa: S102 - the person's own words


def main() -> None:
    """Take this file's own words away and run the program."""
    _, answer, kind, what, *arguments = sys.argv
    recorder = Recorder(answer)
    atexit.register(recorder.finish)
    sys.meta_path.insert(0, AfterTorch(recorder))
    sys.argv = [{"script": what, "module": "-m", "code": "-c"}[kind], *arguments]
    run(kind, what)


if __name__ == "__main__":
    main()
