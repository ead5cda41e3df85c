"""Imports in a clean environment: a real interpreter, and packages that behave badly in each way."""

from __future__ import annotations

import os
import sys
import venv
from pathlib import Path
from typing import Any, Literal

import pytest

from buildkit.errors import CpuOnlyWheel, ImportFailed
from buildkit.verify.imports import (
    ImportEvidence,
    driver_absent,
    import_command,
    judge_imports,
    missing_thing,
    read_answer,
    run_imports,
)

PACKAGES = {
    "torch": "__version__ = '2.13.0+cu130'\nclass ops:\n    class pack:\n        cuda = 1\n",
    "good": "print('{\"noise\": true}')\nfrom good import inner\ndef cuda_kernel(): ...\nabsent = None\n",
    "good.inner": "class Deep:\n    attribute = 7\n",
    "quits": "import sys\nsys.exit(0)\n",
    "raises": "raise RuntimeError('two\\nlines')\n",
    "needs": "import absent_requirement\n",
    "symbol": "raise ImportError('/x/_C.so: undefined symbol: _ZN3c106detail')\n",
    "library": "raise ImportError('libfoo.so.3: cannot open shared object file: No such file or directory')\n",
    "driver": "raise ImportError('libcuda.so.1: cannot open shared object file: No such file or directory')\n",
    "gpu": "raise RuntimeError('Found no NVIDIA driver on your system.')\n",
    "crash": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n",
    "sleeps": "import time\ntime.sleep(60)\n",
    "late": "import atexit, os\natexit.register(lambda: os._exit(3))\n",
    "shadow": "",
}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean environment")
    venv.create(folder / "env", symlinks=True)
    site = next((folder / "env" / "lib").glob("python*/site-packages"))
    for name, text in PACKAGES.items():
        parts = name.split(".")
        place = site.joinpath(*parts[:-1], parts[-1] + ".py") if len(parts) > 1 else site / name / "__init__.py"
        place.parent.mkdir(exist_ok=True)
        place.write_text(text)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "outside.py").write_text("")
    (site / "elsewhere.pth").write_text(f"{elsewhere}\n")
    return folder / "env" / "bin" / "python"


def imports(
    python: Path,
    *modules: str,
    proof: tuple[str, ...] = (),
    device: Literal["cuda", "cpu"] = "cuda",
    timeout: float = 60.0,
    **env: str,
) -> ImportEvidence:
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **env}
    return run_imports(python, imports=modules, cuda_proof=proof, env=environment, timeout=timeout, device=device)


def test_what_imports_is_recorded_with_its_place(python: Path) -> None:
    found = imports(python, "good", proof=("good:cuda_kernel", "good.inner:Deep.attribute", "torch:ops.pack.cuda"))
    assert (found.outcome, found.detail, found.torch) == ("passed", "", "2.13.0+cu130")
    assert found.modules == {"good": "good/__init__.py"}
    assert found.proofs == {
        "good:cuda_kernel": "function",
        "good.inner:Deep.attribute": "int",
        "torch:ops.pack.cuda": "int",
    }
    assert found.evidence()["cuda_proof"] == found.proofs


MISSING = ("good:cuda", "good:inner.Deep.x", "good:absent", "good._cuda:x", "good.inner.x.y:z", "gone:x")


@pytest.mark.parametrize("proof", MISSING)
def test_a_missing_proof_is_a_cpu_only_wheel(python: Path, proof: str) -> None:
    with pytest.raises(CpuOnlyWheel) as caught:
        imports(python, "good", proof=(proof,))
    assert proof in caught.value.message
    assert caught.value.exit_code == 9


def test_a_cpu_build_needs_no_proof(python: Path) -> None:
    found = imports(python, "good", proof=MISSING, device="cpu")
    assert (found.outcome, found.proofs) == ("passed", {})


def test_a_proof_whose_own_import_fails_is_an_import_failure(python: Path) -> None:
    with pytest.raises(ImportFailed, match="absent_requirement"):
        imports(python, proof=("needs:x",))


@pytest.mark.parametrize(
    ("module", "message", "evidence"),
    [
        ("symbol", "import symbol failed .*undefined symbol _ZN3c106detail", "_ZN3c106detail"),
        ("library", r"library libfoo\.so\.3 is missing", "libfoo.so.3"),
        ("needs", "absent_requirement", "ModuleNotFoundError: No module named 'absent_requirement'"),
        ("raises", "import raises failed", "RuntimeError: two"),
        ("nowhere", "import nowhere failed", "No module named 'nowhere'"),
        ("quits", "exit status 0 during import quits", ""),
        ("crash", "died of SIGSEGV during import crash", "Fatal Python error: Segmentation fault"),
        ("late", "exit status 3 during exit", ""),
        ("outside", "not imported from the clean environment but from .*elsewhere", "outside.py"),
    ],
)
def test_every_way_to_fail_has_its_words(python: Path, module: str, message: str, evidence: str) -> None:
    with pytest.raises(ImportFailed, match=message) as caught:
        imports(python, module)
    assert evidence in caught.value.evidence
    assert caught.value.exit_code == 9


@pytest.mark.parametrize(("module", "shown"), [("driver", "libcuda.so.1"), ("gpu", "Found no NVIDIA driver")])
def test_without_a_driver_the_import_is_not_possible_here(python: Path, module: str, shown: str) -> None:
    found = imports(python, "good", module)
    assert (found.outcome, found.detail) == ("not-executed", f"not possible here: no driver ({shown})")
    assert list(found.modules) == ["good"]


def test_an_import_that_does_not_end_is_ended(python: Path) -> None:
    with pytest.raises(ImportFailed, match=r"import sleeps did not end within 2 s"):
        imports(python, "sleeps", timeout=2.0)


def test_neither_the_callers_folder_nor_its_variables_get_in(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shadow.py").write_text("raise RuntimeError('from the wrong place')")
    monkeypatch.chdir(tmp_path)
    found = imports(python, "shadow", PYTHONPATH=str(tmp_path), PYTHONSTARTUP="x", PYTHONHOME="/nowhere")
    assert found.modules == {"shadow": "shadow/__init__.py"}


def test_byte_code_goes_where_it_is_told(python: Path, tmp_path: Path) -> None:
    imports(python, "good", PYTHONPYCACHEPREFIX=str(tmp_path / "cache"))
    assert list((tmp_path / "cache").rglob("good/inner*.pyc"))
    without = import_command(python, Path("r"), Path("a"), {})
    assert "-B" in without
    assert not any("pycache_prefix" in word for word in without)


def test_no_folder_is_left(python: Path, tmp_path: Path) -> None:
    run_imports(python, imports=["good"], cuda_proof=(), env={}, timeout=60, device="cuda", scratch=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_interpreter_that_does_not_start_is_an_import_failure(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'error while loading libpython' >&2\nexit 127\n")
    broken.chmod(0o755)
    with pytest.raises(ImportFailed, match="during the start of Python") as caught:
        imports(broken)
    assert caught.value.evidence == "error while loading libpython"


def test_an_answer_of_another_kind_is_no_answer(tmp_path: Path) -> None:
    (tmp_path / "answer").write_text("[1]")
    assert read_answer(tmp_path / "answer")["done"] is False
    (tmp_path / "answer").write_text('{"done"')
    assert read_answer(tmp_path / "answer")["step"] == "the start of Python"


def test_a_torch_that_does_not_import_is_said_to_be_torch() -> None:
    error = {
        "type": "ImportError",
        "message": "libcudnn.so.9: cannot open shared object file",
        "line": "ImportError: x",
    }
    facts: dict[str, Any] = {**read_answer(Path("/nonexistent")), "step": "import torch", "error": error}
    with pytest.raises(ImportFailed, match=r"import torch failed .*libcudnn\.so\.9") as caught:
        judge_imports(facts, 1, "", seconds=1.0)
    assert "torch itself" in caught.value.hint


def test_messages_of_the_dynamic_linker() -> None:
    assert missing_thing("x.so: undefined symbol: foo, version BAR_1") == "undefined symbol foo"
    assert missing_thing("something else") == ""
    assert driver_absent("libcudart.so.13: cannot open shared object file: x") == ""
    assert driver_absent("libnvidia-ml.so.1: cannot open shared object file: x") == "libnvidia-ml.so.1"


def test_the_script_runs_on_the_oldest_python_of_the_torches_here() -> None:
    """It is run by other Pythons than this one: nothing in it may need a newer grammar or library."""
    import ast

    text = Path(sys.modules["buildkit.verify.imports"].__file__ or "").with_name("import_script.py").read_text()
    ast.parse(text, feature_version=(3, 8))
