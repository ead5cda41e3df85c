"""Provokes the failures that the rules of diagnosis know, with real tools, and keeps what these print.

    python tests/provoke/run.py [RULE ...] [--set cheap] [--torch SITE_PACKAGES] [--cuda TOOLKIT] [--locales FOLDER]

Each ``*.sh`` beside this file is a set of cases: a header ``### RULE [VARIANT]``, then the lines for bash. A case runs
in an empty folder, without the person's settings, and what it prints is written to ``tests/unit/data/logs/RULE.log``
(or ``RULE.VARIANT.log``), with paths and hosts of this machine rewritten to ``/build``, ``/usr`` and ``index.example``.
Linux, as root: some cases mount a file system of their own, in a namespace. Not a test: pytest does not collect it.

Sets: ``cheap`` takes g++, git and strace; ``pip`` openssl and an index (whichever pip is configured with); ``cuda`` a
whole toolkit and torch; ``locales`` the translations of gcc, binutils, bash and glibc, unpacked into a folder.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from buildkit.diagnose.engine import findings
from buildkit.diagnose.text import read_log

HERE = Path(__file__).parent
LOGS = HERE.parents[1] / "tests" / "unit" / "data" / "logs"
LONGEST = 120.0
"""Seconds for one case."""
MOST_BYTES = 1 << 20
KEPT_LINES = 150
"""Of a longer log its first and last half of this are kept."""


@dataclass(frozen=True)
class Case:
    """A failure: which rule must know it, and how it is brought about."""

    rule: str
    variant: str
    script: str

    @property
    def log(self) -> Path:
        """Where what it prints is kept."""
        return LOGS / ".".join(part for part in (self.rule, self.variant, "log") if part)


def cases(path: Path) -> Iterator[Case]:
    """The cases of one set."""
    for block in re.split(r"^### ", path.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        head, _, script = block.partition("\n")
        rule, _, variant = head.strip().partition(" ")
        yield Case(rule, variant.strip(), script)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases that are asked for; 1 if one of them is not known as what it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rule", nargs="*")
    parser.add_argument("--set", dest="sets", action="append", choices=sorted(path.stem for path in HERE.glob("*.sh")))
    parser.add_argument("--torch", type=Path, help="site-packages that holds a torch with CUDA")
    parser.add_argument("--cuda", type=Path, help="a whole CUDA toolkit")
    parser.add_argument("--locales", type=Path, help="a folder with usr/share/locale")
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    asked = parser.parse_args(arguments)
    every = [
        case for path in sorted(HERE.glob("*.sh")) if path.stem in (asked.sets or [path.stem]) for case in cases(path)
    ]
    chosen = [case for case in every if not asked.rule or case.rule in asked.rule]
    wrong = 0
    for case in chosen:
        text = provoke(case, {"TORCH": asked.torch, "CUDA": asked.cuda, "LOCALES": asked.locales})
        found = [finding.rule.id for finding in findings(read_log(text))]
        right = found[:1] == [case.rule]
        wrong += not right
        sys.stdout.write(f"{'ok  ' if right else 'WRONG'} {case.log.name}: {found or 'nothing'}\n")
        if asked.dry:
            sys.stdout.write(text)
        elif text.strip():
            case.log.parent.mkdir(parents=True, exist_ok=True)
            case.log.write_text(text, "utf-8")
    return 1 if wrong else 0


def provoke(case: Case, given: dict[str, Path | None]) -> str:
    """Run one case; what it printed, without this machine's paths and hosts."""
    folder = Path(tempfile.mkdtemp(prefix="provoke-"))
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": str(folder / "home"),
        "LC_ALL": "C.UTF-8",
        "PY": sys.executable,
        "BASE": f"{sys.base_prefix}/bin/python3",
        "PIP_NO_INPUT": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        **{name: str(path.resolve()) for name, path in given.items() if path is not None},
        **{name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "REQUESTS_"))},
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_RETRIES": "0",
    }
    (folder / "home").mkdir()
    command = ["bash", "-c", (HERE / "prelude.bash").read_text("utf-8") + case.script]
    with tempfile.TemporaryFile() as printed:
        bash = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=printed, start_new_session=True
        )
        try:
            bash.wait(LONGEST)
        except subprocess.TimeoutExpired:
            os.killpg(bash.pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
            bash.wait()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        printed.seek(0)
        text = printed.read(MOST_BYTES).decode("utf-8", "backslashreplace")
    return rewritten(text, str(folder), environment)


def rewritten(text: str, folder: str, environment: dict[str, str]) -> str:
    """The text as it would be on a machine whose paths and hosts say nothing."""
    places = {
        folder: "/build",
        environment.get("TORCH"): "/venv/lib/python3.11/site-packages",
        environment.get("CUDA"): "/usr/local/cuda",
        sys.prefix: "/venv",
        sys.base_prefix: "/usr",
        str(HERE.parents[1]): "/home/me/cudabuild",
        str(Path.home()): "/home/me",
    }
    for place, name in sorted(places.items(), key=lambda item: len(item[0] or ""), reverse=True):
        text = text.replace(place, name) if place else text
    ours = r"(https?|file)://(?!github\.com|docs\.|pip\.|packaging\.|www\.gnu)[^\s/'\")]*"
    text = re.sub(ours, r"\1://index.example", text)
    text = re.sub(r"(host=)?'?(?:127\.0\.0\.1|localhost)'?(?:[:,] ?(?:port=)?\d+)?", r"\1index.example", text)
    text = re.sub(r"(?m)^Looking in (?:indexes|links): .*\n", "", text)
    text = re.sub(r"/tmp/(?!pip-)\w*\d\w*|/tmp/cc\w{6}", "/tmp/x", text)
    lines = text.splitlines(keepends=True)
    half = KEPT_LINES // 2
    return text if len(lines) <= KEPT_LINES else "".join([*lines[:half], "[...]\n", *lines[-half:]])


if __name__ == "__main__":
    sys.exit(main())
