"""Run inside the clean environment: ``python -I import_script.py REQUEST ANSWER`` (two paths of JSON files).

Imports torch (unless the package is one without it), then each module, then resolves each proof of CUDA. The
answer is written anew after every step, to a file: whatever a package prints, and however hard it dies, what was
reached is known. Standard library only, and nothing newer than Python 3.8.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import sysconfig
import traceback
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any


class Answer:
    """What was reached, on disk after every change."""

    def __init__(self, path: str) -> None:
        """Begin with nothing reached."""
        self.path = path
        self.facts: dict[str, Any] = {
            "step": "start",
            "done": False,
            "torch": None,
            "modules": {},
            "proofs": {},
            "missing_proofs": {},
            "foreign": {},
            "error": None,
        }

    def set(self, **facts: Any) -> None:
        """Record facts; the file is replaced, never half written."""
        self.facts.update(facts)
        partial = self.path + ".part"
        with Path(partial).open("w", encoding="utf-8") as stream:
            json.dump(self.facts, stream)
        Path(partial).replace(self.path)


def site_folders() -> list[str]:
    """The real paths of this environment's site-packages folders."""
    return [os.path.realpath(sysconfig.get_path(name)) for name in ("purelib", "platlib")]


def place_of(module: ModuleType) -> str | None:
    """The file of a module, or the first folder of a namespace package; None for a built-in one."""
    if getattr(module, "__file__", None):
        return os.path.realpath(str(module.__file__))
    return next((os.path.realpath(folder) for folder in getattr(module, "__path__", ())), None)


def inside(place: str) -> str | None:
    """The path below site-packages; None for a place outside."""
    for folder in site_folders():
        if place.startswith(folder + os.sep):
            return os.path.relpath(place, folder)
    return None


def import_modules(answer: Answer, names: list[str]) -> None:
    """Import each module and record where it came from."""
    for name in names:
        answer.set(step="import " + name)
        place = place_of(importlib.import_module(name))
        below = inside(place) if place else None
        if below is None:
            answer.set(foreign={**answer.facts["foreign"], name: str(place)})
        else:
            answer.set(modules={**answer.facts["modules"], name: below})


def resolve(answer: Answer, proof: str) -> None:
    """Resolve ``module:attribute.path``; a missing module of that name or attribute is recorded, not raised."""
    answer.set(step="resolve " + proof)
    module, _, path = proof.partition(":")
    try:
        value = importlib.import_module(module)
        for attribute in path.split("."):
            value = getattr(value, attribute)
    except ModuleNotFoundError as error:
        if not (error.name and (module + ".").startswith(error.name + ".")):
            raise
        answer.set(missing_proofs={**answer.facts["missing_proofs"], proof: str(error)})
    except AttributeError as error:
        answer.set(missing_proofs={**answer.facts["missing_proofs"], proof: str(error)})
    else:
        found = "proofs" if value is not None else "missing_proofs"
        answer.set(**{found: {**answer.facts[found], proof: type(value).__name__}})


def main() -> None:
    """Do what the request asks, step by step."""
    with Path(sys.argv[1]).open(encoding="utf-8") as stream:
        request = json.load(stream)
    answer = Answer(sys.argv[2])

    def unhandled(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        last = traceback.format_exception_only(kind, error)[-1].strip()
        answer.set(error={"type": kind.__name__, "message": str(error), "line": last})
        sys.__excepthook__(kind, error, trace)

    sys.excepthook = unhandled
    if request["torch"]:
        answer.set(step="import torch")
        torch = importlib.import_module("torch")
        answer.set(torch=str(torch.__version__))
    import_modules(answer, request["imports"])
    for proof in request["cuda_proof"]:
        resolve(answer, proof)
    answer.set(step="exit", done=True)


if __name__ == "__main__":
    main()
