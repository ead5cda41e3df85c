"""Which Python is active, and what it says of itself."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from pathlib import Path

import pytest

from buildkit.errors import MachineError, UsageError
from buildkit.machine import identity, interpreter
from buildkit.machine.identity import Memo
from buildkit.machine.interpreter import active_executable, active_interpreter, read_interpreter

ENVIRON = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "SETTLED_NS", -(10**12))


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment without pip."""
    venv.create(tmp_path / "env", symlinks=True, with_pip=False)
    return tmp_path / "env"


def fake_prefix(folder: Path) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    return folder


def test_order(tmp_path: Path) -> None:
    typed, virtual, conda = (fake_prefix(tmp_path / name) for name in ("typed", "virtual", "conda"))
    cwd = tmp_path / "project"
    fake_prefix(cwd / ".venv")
    both = {"VIRTUAL_ENV": str(virtual), "CONDA_PREFIX": str(conda)}
    assert active_executable(typed, both, cwd) == typed / "bin" / "python"
    assert active_executable(Path("../typed/bin/python"), both, cwd).samefile(typed / "bin" / "python")
    assert active_executable(None, both, cwd) == virtual / "bin" / "python"
    assert active_executable(None, {"CONDA_PREFIX": str(conda)}, cwd) == conda / "bin" / "python"
    assert active_executable(None, {"CONDA_PREFIX": str(tmp_path / "no-python")}, cwd) == cwd / ".venv/bin/python"
    assert active_executable(None, {}, tmp_path) == Path(sys.executable)


def test_a_name_is_looked_up_on_path(tmp_path: Path) -> None:
    prefix = fake_prefix(tmp_path / "prefix")
    assert active_executable(Path("python"), {"PATH": f"{prefix}/bin"}, tmp_path) == prefix / "bin" / "python"


def test_what_is_no_python(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no Python there"):
        active_executable(Path("nowhere"), {"PATH": ""}, tmp_path)
    with pytest.raises(MachineError, match="no Python any more") as caught:
        active_executable(None, {"VIRTUAL_ENV": str(tmp_path / "gone")}, tmp_path)
    assert "unset VIRTUAL_ENV" in caught.value.hint


def test_this_python() -> None:
    found = active_interpreter(Path(sys.executable), ENVIRON, Path.cwd(), Memo(None))
    assert found.executable == Path(sys.executable)
    assert found.version == "{}.{}.{}".format(*sys.version_info[:3])
    assert found.abi.startswith(f"cp{sys.version_info[0]}{sys.version_info[1]}")
    assert found.platform == sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert found.machine == os.uname().machine
    assert Path(sysconfig.get_paths()["purelib"]) in found.site_packages
    assert found.has_headers is (found.include / "Python.h").is_file()


def test_environment_without_pip(environment: Path) -> None:
    found = active_interpreter(environment, ENVIRON, Path.cwd(), Memo(None))
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    assert found.prefix == environment
    assert found.site_packages == (environment / "lib" / name / "site-packages",)
    assert not found.externally_managed
    assert Path(sys.prefix) not in found.site_packages
    assert not list(environment.rglob("*.pyc"))


def test_asked_once_until_the_path_changes(
    environment: Path, tmp_path: Path, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def counting(executable: Path, script: str, environ: Mapping[str, str], cwd: Path) -> str:
        asked.append(executable)
        return real(executable, script, environ, cwd)

    real = interpreter._run
    monkeypatch.setattr(interpreter, "_run", counting)
    memo = Memo(tmp_path / "memo")
    python = environment / "bin" / "python"
    first = read_interpreter(python, ENVIRON, memo)
    assert read_interpreter(python, ENVIRON, memo) == first
    assert len(asked) == 1
    extra = tmp_path / "extra"
    extra.mkdir()
    (first.site_packages[0] / "extra.pth").write_text(f"{extra}\n", encoding="utf-8")
    assert read_interpreter(python, ENVIRON, memo).site_packages == (*first.site_packages, extra)
    with (environment / "pyvenv.cfg").open("a", encoding="utf-8") as stream:
        stream.write("# touched\n")
    read_interpreter(python, ENVIRON, memo)
    assert len(asked) == 3


def test_user_site_counts_unless_the_environment_is_closed(environment: Path, tmp_path: Path) -> None:
    base = tmp_path / "user"
    environ = {**ENVIRON, "PYTHONUSERBASE": str(base)}
    user = base / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    user.mkdir(parents=True)
    executable = read_interpreter(environment / "bin" / "python", environ, Memo(None)).base_executable
    assert user in read_interpreter(executable, environ, Memo(None)).site_packages
    assert user not in read_interpreter(executable, {**environ, "PYTHONNOUSERSITE": "1"}, Memo(None)).site_packages
    assert user not in read_interpreter(environment / "bin" / "python", environ, Memo(None)).site_packages


def test_variables_of_the_interpreter_do_not_mislead(environment: Path) -> None:
    environ = {**ENVIRON, "PYTHONHOME": "/nonexistent", "PYTHONPATH": "/nonexistent"}
    assert read_interpreter(environment / "bin" / "python", environ, Memo(None)).prefix == environment


def test_script_in_front_of_python(environment: Path, tmp_path: Path) -> None:
    shim = tmp_path / "shims" / "python"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {environment}/bin/python "$@"\n', encoding="utf-8")
    shim.chmod(0o755)
    assert active_interpreter(shim, ENVIRON, tmp_path, Memo(None)).executable == environment / "bin" / "python"


def test_python_that_does_not_run(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no such library >&2\nexit 127\n", encoding="utf-8")
    broken.chmod(0o755)
    with pytest.raises(MachineError, match="does not run") as caught:
        active_interpreter(broken, ENVIRON, tmp_path, Memo(None))
    assert caught.value.evidence == "no such library"
    broken.write_text("#!/bin/sh\necho 3.11\n", encoding="utf-8")
    with pytest.raises(MachineError, match="does not answer"):
        read_interpreter(broken, ENVIRON, Memo(None))


def test_the_question_prints_nothing_else(environment: Path) -> None:
    """On standard error would go warnings of what is deprecated in a newer Python."""
    done = subprocess.run(
        [environment / "bin" / "python", "-I", "-W", "always", "-c", interpreter._SCRIPT],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
