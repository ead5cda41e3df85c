"""Does a wheel import in a clean environment, and does it show there what it was built for?"""

from __future__ import annotations

import json
import re
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from buildkit import process
from buildkit.errors import CpuOnlyWheel, ImportFailed
from buildkit.verify.grafted import is_driver_library

_SCRIPT = Path(__file__).with_name("import_script.py")
_SYMBOL = re.compile(r"undefined symbol: (?P<name>[^\s,]+)")
_LIBRARY = re.compile(r"(?P<name>\S+\.so[.0-9]*): cannot open shared object file")
_NO_DRIVER = re.compile(
    r"Found no NVIDIA driver|No CUDA GPUs are available|no CUDA-capable device is detected"
    r"|CUDA driver version is insufficient|CUDA driver initialization failed"
)


@dataclass(frozen=True)
class ImportEvidence:
    """What the imports showed.

    ``modules`` maps each imported module to its file below site-packages, ``proofs`` each entry of
    ``cuda_proof`` to the type found there; ``detail`` says why nothing was executed, where that is so.
    """

    outcome: Literal["passed", "not-executed"]
    detail: str
    torch: str
    modules: dict[str, str]
    proofs: dict[str, str]
    seconds: float

    def evidence(self) -> dict[str, Any]:
        """What the verdict records."""
        return {"torch": self.torch, "modules": self.modules, "cuda_proof": self.proofs}


def import_command(
    python: Path, request: Path, answer: Path, env: Mapping[str, str], script: Path = _SCRIPT
) -> list[str]:
    """The command for the clean environment's Python: the script, and where it reads and writes.

    ``-I`` keeps the caller's PYTHON* variables and folder out; a byte-code prefix is therefore an option, and
    without one none is written: the packages that are imported may be a person's, or shared.
    """
    prefix = env.get("PYTHONPYCACHEPREFIX")
    options = ["-X", f"pycache_prefix={prefix}"] if prefix else ["-B"]
    return [str(python), "-I", "-X", "faulthandler", *options, str(script), str(request), str(answer)]


def run_imports(
    python: Path,
    *,
    imports: Sequence[str],
    cuda_proof: Sequence[str],
    env: Mapping[str, str],
    timeout: float,
    device: Literal["cuda", "cpu"],
    scratch: Path | None = None,
    torch: bool = True,
    elsewhere: Sequence[Path] = (),
) -> ImportEvidence:
    """Import torch, then each module, in the environment of ``python``, and resolve the proofs of CUDA.

    ``env`` is the whole environment of the process, ``timeout`` in seconds, ``scratch`` the folder for the
    empty working folder (default: the temporary one). With device ``cpu`` nothing of CUDA is asked for, without
    ``torch`` nothing of torch. Raises
    :class:`ImportFailed`, or :class:`CpuOnlyWheel` when a proof is missing. Where only the GPU driver is missing
    the outcome is ``not-executed``. ``elsewhere`` are folders beside site-packages that modules may come from.
    """
    proofs = list(cuda_proof) if device == "cuda" else []
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="imports-", dir=scratch) as folder:
        request, answer, empty = (Path(folder) / name for name in ("request.json", "answer.json", "empty"))
        empty.mkdir()
        asked = {"torch": torch, "imports": list(imports), "cuda_proof": proofs}
        request.write_text(json.dumps(asked), encoding="utf-8")
        command = import_command(python, request, answer, env)
        try:
            done = process.run(command, env=env, cwd=empty, timeout=timeout, check=False)
        except process.ProgramTimedOut as error:
            facts = read_answer(answer)
            raise ImportFailed(
                f"{facts['step']} did not end within {timeout:g} s in a clean environment",
                evidence=error.evidence,
                hint=_hint(facts),
            ) from error
        facts = allowing(read_answer(answer), elsewhere)
    return judge_imports(facts, done.returncode, done.stderr, seconds=time.monotonic() - started)


def read_answer(path: Path) -> dict[str, Any]:
    """What the script reached; where it wrote nothing, the step is the interpreter's own start."""
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        answer = {}
    defaults = {"step": "the start of Python", "done": False, "torch": None, "error": None}
    empty: dict[str, Any] = {"modules": {}, "proofs": {}, "missing_proofs": {}, "foreign": {}}
    return {**defaults, **empty, **(answer if isinstance(answer, dict) else {})}


def allowing(facts: Mapping[str, Any], elsewhere: Sequence[Path]) -> dict[str, Any]:
    """The answer, with modules from these folders (real paths) counted as the environment's own."""
    ours = {
        name: place
        for name, place in facts["foreign"].items()
        if any(Path(place).is_relative_to(folder.resolve()) for folder in elsewhere)
    }
    foreign = {name: place for name, place in facts["foreign"].items() if name not in ours}
    return {**facts, "foreign": foreign, "modules": {**facts["modules"], **ours}}


def judge_imports(facts: Mapping[str, Any], returncode: int, stderr: str, *, seconds: float) -> ImportEvidence:
    """Turn what the script reached into evidence or a cause. Pure."""
    error = facts["error"]
    if error is not None:
        if no_driver := driver_absent(error["message"]):
            return _evidence(facts, "not-executed", f"not possible here: no driver ({no_driver})", seconds)
        raise ImportFailed(
            f"{facts['step']} failed in a clean environment: {missing_thing(error['message']) or error['line']}",
            evidence=error["line"],
            hint=_hint(facts),
        )
    if not facts["done"] or returncode != 0:
        raise ImportFailed(
            f"Python {how_it_ended(returncode)} during {facts['step']} in a clean environment",
            evidence=_fatal_line(stderr),
            hint=_hint(facts),
        )
    for name, place in facts["foreign"].items():
        raise ImportFailed(f"{name} was not imported from the clean environment but from {place}", evidence=place)
    for proof, why in facts["missing_proofs"].items():
        raise CpuOnlyWheel(
            f"CPU-only wheel: it imports, but {proof} is not there, which a build with CUDA has",
            evidence=why,
            hint="see the log of this build: cudabuild log last",
        )
    return _evidence(facts, "passed", "", seconds)


def missing_thing(message: str) -> str:
    """``undefined symbol NAME`` or ``library NAME is missing`` from the dynamic linker's message, else nothing."""
    if symbol := _SYMBOL.search(message):
        return f"undefined symbol {symbol['name']}"
    if library := _LIBRARY.search(message):
        return f"library {library['name']} is missing"
    return ""


def driver_absent(message: str) -> str:
    """What shows that only the GPU driver is missing: a library of it, or CUDA's own words; else nothing."""
    library = _LIBRARY.search(message)
    if library and is_driver_library(library["name"]):
        return library["name"]
    words = _NO_DRIVER.search(message)
    return words[0] if words else ""


def _evidence(
    facts: Mapping[str, Any], outcome: Literal["passed", "not-executed"], detail: str, seconds: float
) -> ImportEvidence:
    torch = str(facts["torch"] or "none")
    return ImportEvidence(outcome, detail, torch, dict(facts["modules"]), dict(facts["proofs"]), seconds)


def how_it_ended(returncode: int) -> str:
    """``ended with exit status 1``, ``died of SIGSEGV``."""
    if returncode >= 0:
        return f"ended with exit status {returncode}"
    try:
        return f"died of {signal.Signals(-returncode).name}"
    except ValueError:
        return f"died of signal {-returncode}"


def _fatal_line(stderr: str) -> str:
    fatal = next((line.strip() for line in stderr.splitlines() if line.startswith("Fatal Python error")), "")
    return fatal or process.last_line(stderr)


def _hint(facts: Mapping[str, Any]) -> str:
    if facts["step"] == "import torch":
        return "torch itself does not import there: cudabuild doctor"
    return "see the log of this build: cudabuild log last"
