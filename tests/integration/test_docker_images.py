"""Images that are built for real, and Dockerfiles that the linter of this trade accepts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from images import IMAGES

from buildkit.docker.texts import texts

HADOLINT = str(Path(sys.executable).with_name("hadolint"))


def test_hadolint_finds_nothing(tmp_path: Path) -> None:
    """In every instruction that there is: a file takes a fifth of a second, so each is looked at once."""
    seen: set[str] = set()
    files: list[str] = []
    for number, image in enumerate(IMAGES):
        text = texts(image)[0].text
        parts = set(text.split("\n\n"))
        if not parts <= seen:
            seen |= parts
            files.append(str(tmp_path / f"Dockerfile.{number}"))
            Path(files[-1]).write_text(text, encoding="utf-8")
    assert len(files) > 10
    done = subprocess.run([HADOLINT, "--no-color", *files], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN pip install numpy && sudo true\n", encoding="utf-8")
    command = [HADOLINT, "--no-color", str(tmp_path / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert {"DL3006", "DL3013", "DL3004"} <= set(re.findall(r"DL\d+", done.stdout))
    assert done.returncode == 1
