"""Windows around WSL2: how much memory it has, what its .wslconfig gives to WSL2, and what it could give.

Source: learn.microsoft.com/windows/wsl/wsl-config ("Main WSL settings"): memory is half of Windows' by default (older
builds: at most 8 GB), swap a quarter of it. What WSL2 got says little of what Windows has, so Windows itself is asked,
through its own programs, which WSL2 can start.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from buildkit.file_identity import identity_if_any
from buildkit.machine.cgroups import read_text
from buildkit.machine.identity import Memo
from buildkit.process import ProgramFailed, run

POWERSHELL = "mnt/c/Windows/System32/WindowsPowerShell/v1.0/powershell.exe"
QUESTION = "(Get-CimInstance Win32_ComputerSystem).TotalPhysicalMemory"

_GIB = 1 << 30
_LEAST_LEFT = 4  # GiB for Windows itself
_MEMORY = re.compile(r"^\s*memory\s*=\s*(\d+)\s*([KMGT])?B?\s*$", re.IGNORECASE | re.MULTILINE)
_FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": _GIB, "T": _GIB << 10}


@dataclass(frozen=True)
class Windows:
    """``memory``: all that Windows has (bytes; None: it did not tell); ``given``: what its .wslconfig says for WSL2."""

    memory: int | None
    given: int | None


def read_windows(environ: Mapping[str, str], memo: Memo, *, root: Path = Path("/"), patience: float) -> Windows:
    """What Windows and a .wslconfig of its users say, within ``patience`` seconds; what it told is remembered."""
    return Windows(_total_memory(environ, memo, root, patience), next(_given(root), None))


def wslconfig(memory: int) -> tuple[str, ...]:
    """The lines of a .wslconfig for a Windows with this much memory: three quarters, at least 4 GiB left to Windows."""
    total = round(memory / _GIB)
    most = max(1, min(total * 3 // 4, total - _LEAST_LEFT))
    return ("[wsl2]", f"memory={most}GB", f"swap={max(2, total // 4)}GB")


def given_by(lines: tuple[str, ...]) -> int:
    """Bytes that a .wslconfig gives to WSL2; 0 where it does not say."""
    found = _MEMORY.search("\n".join(lines))
    return _bytes(found) if found else 0


def _total_memory(environ: Mapping[str, str], memo: Memo, root: Path, patience: float) -> int | None:
    program = root / POWERSHELL
    identity = identity_if_any(program)
    if identity is None:
        return None
    known = memo.get("windows-memory", str(program), identity)
    if isinstance(known, int):
        return known
    words = [str(program), "-NoProfile", "-NonInteractive", "-Command", QUESTION]
    with contextlib.suppress(ProgramFailed, ValueError):
        told = int(run(words, env=dict(environ), timeout=patience).stdout.strip())
        memo.put("windows-memory", str(program), identity, told)
        return told
    return None


def _given(root: Path) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for file in sorted((root / "mnt/c/Users").glob("*/.wslconfig")):
            if given := given_by((read_text(file),)):
                yield given


def _bytes(found: re.Match[str]) -> int:
    return int(found[1]) * _FACTORS[(found[2] or "").upper()]
