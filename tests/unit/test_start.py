"""An answer from a receipt behaves like any other command: when its output is closed, full, or read by nobody."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from buildkit.store import receipt

SCRIPT = """
import hashlib, sys
from pathlib import Path
from buildkit.cli import start
from buildkit.file_identity import identity_if_any
from buildkit.store import receipt
folder, words = Path(sys.argv[1]), sys.argv[2:]
wheel = folder / "x-1.0-py3-none-any.whl"
answer = {"wheel": {"path": str(wheel), "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest()}, "cache": "hit",
          "recipe": "x", "version": "1.0", "notes": [], "install": "pip install x", "seconds": 9.0,
          "verdict": {"grade": "imported", "stages": []}}
witness = str(folder / "witness")
seen = {witness: identity_if_any(witness)}
receipt.write(start.receipt_file(words), seen, receipt.facts_of_machine(), wheel, answer)
if (folder / "then").exists():
    (folder / "then").rename(folder / "witness")
sys.exit(start.main(words))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a wheel and a file that the answer depends on."""
    (tmp_path / "x-1.0-py3-none-any.whl").write_bytes(b"wheel")
    (tmp_path / "witness").write_text("as it was")
    return tmp_path


def run(place: Path, *words: str, shell: str = "") -> subprocess.CompletedProcess[bytes]:
    """Leave a receipt for these words, then run them (through the shell's redirection, where one is given)."""
    environment = {**os.environ, "CUDABUILD_CACHE": str(place / "cache"), "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", SCRIPT, str(place), *words]
    line = ["bash", "-c", f'set -o pipefail; "$@" {shell}', "bash", *command]
    return subprocess.run(line, env=environment, cwd=place, capture_output=True, check=False)


def test_the_answer_is_the_one_that_was_left(place: Path) -> None:
    done = run(place, "x", "--json")
    value = json.loads(done.stdout)
    assert (done.returncode, value["cache"], value["recipe"]) == (0, "hit", "x")
    assert value["seconds"] < 9


@pytest.mark.parametrize(("shell", "code"), [("| true", 141), ("> /dev/full", 10), (">&-", 0)])
def test_an_output_that_takes_nothing_ends_with_the_same_codes_as_elsewhere(place: Path, shell: str, code: int) -> None:
    done = run(place, "x", "--json", shell=shell)
    assert b"Traceback" not in done.stderr
    # A pipe's reader may be slow to go: then everything was written and nothing is wrong.
    assert done.returncode in {code, 0} if shell == "| true" else done.returncode == code


def test_a_witness_that_changed_makes_the_receipt_worthless(place: Path) -> None:
    (place / "then").write_text("as it is now")
    done = run(place, "x", "--json")
    assert done.returncode == 3  # the whole way is gone: there is no recipe x
    assert json.loads(done.stdout)["error"]["kind"] == "unknown-recipe"


def test_a_flipped_byte_in_the_wheel_makes_the_receipt_worthless(tmp_path: Path) -> None:
    wheel = tmp_path / "x-1.0-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    answer = {"wheel": {"path": str(wheel), "sha256": hashlib.sha256(b"wheel").hexdigest()}}
    file = tmp_path / "receipts" / "r.json"
    receipt.write(file, {}, {"a": "b"}, wheel, answer)
    assert receipt.read(file, {"a": "b"}) == answer
    assert receipt.read(file, {"a": "c"}) is None
    before = wheel.stat()
    wheel.write_bytes(b"whexl")
    os.utime(wheel, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert receipt.read(file, {"a": "b"}) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 2}', '{"schema": 1, "answer": {}}', "null"])
def test_a_receipt_that_is_not_as_expected_is_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "r.json"
    file.write_text(text)
    assert receipt.read(file, {}) is None


def test_a_new_terminal_has_the_same_receipt_and_another_setting_has_another() -> None:
    def name(**more: str) -> str:
        return receipt.name_of(["diso"], {"HOME": "/h", **more}, "/work", "p")

    assert name(SSH_TTY="/dev/pts/3", XDG_SESSION_ID="7", INVOCATION_ID="1f") == name()
    assert len({name(), name(CFLAGS="-O3"), name(PIP_INDEX_URL="https://index.example")}) == 3


EARLY = """
import sys

class Early:
    def find_spec(self, name, path, target=None):
        if name == "buildkit.cli.main":
            sys.meta_path.remove(self)
            raise KeyboardInterrupt

sys.meta_path.insert(0, Early())
from buildkit.cli import start
sys.exit(start.main(["recipes", "list"]))
"""


def test_an_interrupt_while_modules_are_loaded_is_no_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", EARLY], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert "interrupted" in done.stderr
    assert "Traceback" not in done.stderr
