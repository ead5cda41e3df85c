"""Toolkits: the places looked at, the layouts understood, the identity. A small script plays nvcc."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from buildkit.errors import IncompleteToolkit, NoToolkit
from buildkit.machine import identity
from buildkit.machine.identity import Memo
from buildkit.machine.toolkit import REQUIRED_HEADERS, find_toolkits, identity_files, read_toolkit, require_complete
from buildkit.machine.toolkit_layout import read_layout
from buildkit.machine.toolkit_search import toolkit_candidates

# Answers --version and --dryrun as nvcc does, and counts how often it is asked. $HERE as nvcc finds it: by argv[0].
NVCC = """#!/bin/sh
echo "$1" >> "{log}"
case "$1" in
--version) echo "Cuda compilation tools, release {release}, V{release}.88" ;;
--dryrun)
  HERE=$(dirname "$0")
  [ -f "$HERE/nvcc.profile" ] || exit 0
  exec >&2
  echo '#$ _NVVM_BRANCH_=nvvm'
  echo "#$ _HERE_=$HERE"
  echo "#$ TOP={top}"
  {extra}
  echo "#$ INCLUDES={includes}"
  echo '#$ gcc -D__CUDACC__ -I/elsewhere'
  ;;
esac
"""


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def toolkit_at(tmp_path: Path) -> Callable[..., Path]:
    """Makes a toolkit of scripts and empty headers; what nvcc was asked is in ``asked``."""

    def make(root: Path, *, release: str = "13.0", headers: tuple[str, ...] = REQUIRED_HEADERS) -> Path:
        write_program(
            root / "bin" / "nvcc",
            NVCC.format(
                log=tmp_path / "asked",
                release=release,
                top="$HERE/..",
                extra='echo "#$ CICC_PATH=$HERE/../nvvm/bin"; echo "#$ NVVMIR_LIBRARY_DIR=$HERE/../nvvm/libdevice"',
                includes=r"\"-I$HERE/..//include\"  ",
            ),
        )
        for name in ("bin/nvcc.profile", "bin/ptxas", "nvvm/bin/cicc", "nvvm/libdevice/libdevice.10.bc"):
            write_program(root / name, name)
        for name in headers:
            folder = "include/cccl" if name.split("/")[0] in ("cub", "thrust", "cuda", "nv") else "include"
            write_program(root / folder / name, "")
        write_program(root / "lib64" / "libcudart_static.a", "")
        return root

    return make


def asked(tmp_path: Path) -> list[str]:
    return (tmp_path / "asked").read_text(encoding="utf-8").split()


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "SETTLED_NS", -(10**12))


def test_order_of_places(tmp_path: Path) -> None:
    for name in ("usr/local/cuda-12.8", "usr/local/cuda-13.0", "usr/local/cuda", "on-path", "conda", "usr"):
        write_program(tmp_path / name / "bin" / "nvcc", "")
    environ = {
        "CUDA_PATH": "/cuda-path",
        "CUDA_HOME": "/cuda-home",
        "PATH": f"relative:{tmp_path}/on-path/bin:{tmp_path}/empty",
        "EBROOTCUDA": "/modules/CUDA",
        "CONDA_PREFIX": str(tmp_path / "conda"),
    }
    found = toolkit_candidates(environ, Path("/typed"), root=tmp_path)
    assert [str(candidate.path).removeprefix(str(tmp_path)) for candidate in found] == [
        "/typed",
        "/cuda-home",
        "/cuda-path",
        "/on-path/bin/nvcc",
        "/usr/local/cuda",
        "/usr/local/cuda-13.0",
        "/usr/local/cuda-12.8",
        "/modules/CUDA",
        "/conda",
        "/usr/bin/nvcc",
    ]
    assert [candidate.demanded for candidate in found] == [True] + 9 * [False]


def test_asked_once_and_identity_follows_content(
    tmp_path: Path, toolkit_at: Callable[..., Path], settled: None
) -> None:
    root = toolkit_at(tmp_path / "cuda")
    memo = Memo(tmp_path / "memo")
    first = read_toolkit(root, "--cuda-home", memo)
    assert (first.root, first.release, first.version, first.missing) == (root, "13.0", "13.0.88", ())
    assert first.include == (root / "include", root / "include" / "cccl")
    assert first.library == (root / "lib64",)
    assert read_toolkit(root, "--cuda-home", memo) == first
    assert asked(tmp_path) == ["--dryrun", "--version"]
    for part in ("bin/ptxas", "nvvm/bin/cicc", "nvvm/libdevice/libdevice.10.bc", "include/cuda_runtime_api.h"):
        before = read_toolkit(root, "", memo).identity
        file = root / part
        status = file.stat()
        time.sleep(0.01)
        file.write_bytes(bytes(byte ^ 1 for byte in file.read_bytes()) or b"x")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert read_toolkit(root, "", memo).identity != before, part


def test_identity_does_not_depend_on_the_place(tmp_path: Path, toolkit_at: Callable[..., Path]) -> None:
    one, other = (toolkit_at(tmp_path / name) for name in ("one", "other"))
    memo = Memo(None)
    assert read_toolkit(one, "", memo).identity == read_toolkit(other, "", memo).identity
    assert identity_files(read_layout(one / "bin" / "nvcc", memo)).keys() >= {"nvcc", "cicc", "libdevice", "nvlink"}


def test_wrapper_and_link_lead_to_the_real_root(tmp_path: Path, toolkit_at: Callable[..., Path]) -> None:
    root = toolkit_at(tmp_path / "cuda-13.0")
    (tmp_path / "cuda").symlink_to("cuda-13.0")
    write_program(tmp_path / "bin" / "nvcc", f'#!/bin/sh\nexec {tmp_path}/cuda/bin/nvcc "$@"\n')
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "nvcc").symlink_to(root / "bin" / "nvcc")
    for nvcc in (tmp_path / "bin" / "nvcc", tmp_path / "links" / "nvcc"):
        found = read_toolkit(nvcc, "PATH", Memo(None))
        assert found.root == root
        assert found.nvcc.resolve() == root / "bin" / "nvcc"
    environ = {"PATH": f"{tmp_path}/bin:{tmp_path}/links:/usr/bin:/bin", "CUDA_HOME": str(root)}
    assert [toolkit.origin for toolkit in find_toolkits(environ, None, Memo(None), root=tmp_path)] == ["CUDA_HOME"]


def test_a_wrapper_switched_to_another_toolkit_is_noticed(
    tmp_path: Path, toolkit_at: Callable[..., Path], settled: None
) -> None:
    toolkit_at(tmp_path / "cuda-13.0")
    toolkit_at(tmp_path / "cuda-13.1", release="13.1")
    link = tmp_path / "cuda"
    link.symlink_to("cuda-13.0")
    wrapper = tmp_path / "bin" / "nvcc"
    write_program(wrapper, f'#!/bin/sh\nexec {link}/bin/nvcc "$@"\n')
    memo = Memo(tmp_path / "memo")
    assert read_toolkit(wrapper, "PATH", memo).release == "13.0"
    link.unlink()
    link.symlink_to("cuda-13.1")
    assert read_toolkit(wrapper, "PATH", memo).release == "13.1"


def test_missing_headers_are_named(tmp_path: Path, toolkit_at: Callable[..., Path]) -> None:
    headers = tuple(name for name in REQUIRED_HEADERS if not name.startswith("cus"))
    toolkit = read_toolkit(toolkit_at(tmp_path / "cuda", headers=headers), "PATH", Memo(None))
    assert toolkit.missing == ("cusparse.h", "cusolverDn.h")
    with pytest.raises(IncompleteToolkit, match=r"cusparse\.h, cusolverDn\.h") as caught:
        require_complete(toolkit)
    assert "cuda-libraries-dev-13-0" in caught.value.hint


def test_debian_layout(tmp_path: Path) -> None:
    """/usr/bin/nvcc execs /usr/lib/nvidia-cuda-toolkit/bin/nvcc, whose profile names TOP=/usr."""
    usr, own = tmp_path / "usr", tmp_path / "usr/lib/nvidia-cuda-toolkit"
    script = NVCC.format(
        log=tmp_path / "asked",
        release="12.4",
        top=usr,
        extra=f'echo "#$ NVVMIR_LIBRARY_DIR={own}/libdevice"; echo "#$ PATH={own}/bin:$PATH"',
        includes=r"\"-I" + str(usr) + r"/include\"",
    )
    write_program(own / "bin" / "nvcc", script)
    for name in ("bin/nvcc.profile", "bin/cicc", "libdevice/libdevice.10.bc"):
        write_program(own / name, "")
    write_program(usr / "bin" / "nvcc", f'#!/bin/sh\nexec {own}/bin/nvcc "$@"\n')
    write_program(usr / "bin" / "ptxas", "")
    for name in ("include/stdio.h", "include/cuda_runtime.h", f"lib/{os.uname().machine}-linux-gnu/libcudart.so"):
        write_program(usr / name, "")
    toolkit = find_toolkits({"PATH": "/usr/bin:/bin"}, None, Memo(None), root=tmp_path)[-1]
    assert (toolkit.root, toolkit.release, toolkit.origin) == (usr, "12.4", "the distribution's package")
    assert toolkit.layout.shared
    assert toolkit.layout.cicc == own / "bin"
    assert toolkit.layout.libdevice == own / "libdevice"
    assert toolkit.library == (usr / f"lib/{os.uname().machine}-linux-gnu",)
    assert "cuda_runtime.h" not in toolkit.missing


def test_conda_layout(tmp_path: Path, toolkit_at: Callable[..., Path]) -> None:
    """Headers and libraries under targets/, in a prefix that holds other packages too."""
    root = toolkit_at(tmp_path / "env", headers=())
    target = root / "targets" / {"aarch64": "sbsa-linux"}.get(os.uname().machine, f"{os.uname().machine}-linux")
    for name in (*(f"include/{header}" for header in REQUIRED_HEADERS), "lib/libcudart.so"):
        write_program(target / name, "")
    (root / "conda-meta").mkdir()
    toolkit = find_toolkits({"CONDA_PREFIX": str(root), "PATH": "/usr/bin:/bin"}, None, Memo(None), root=tmp_path)[0]
    assert toolkit.missing == ()
    assert toolkit.include[0] == target / "include"
    assert toolkit.library[0] == target / "lib"
    assert toolkit.layout.shared


def test_typed_home_without_a_toolkit_is_refused_and_a_variable_is_passed_over(tmp_path: Path) -> None:
    with pytest.raises(NoToolkit, match="no CUDA compiler"):
        find_toolkits({}, tmp_path, Memo(None), root=tmp_path)
    notes: list[str] = []
    assert find_toolkits({"CUDA_HOME": str(tmp_path)}, None, Memo(None), root=tmp_path, notes=notes) == []
    assert notes == [f"CUDA_HOME: no CUDA compiler at {tmp_path}"]


def test_nvcc_that_does_not_run_shows_why(tmp_path: Path) -> None:
    write_program(tmp_path / "bin" / "nvcc", "#!/bin/sh\necho broken libc >&2\nexit 1\n")
    with pytest.raises(NoToolkit, match="does not run") as caught:
        read_toolkit(tmp_path, "--cuda-home", Memo(None))
    assert caught.value.evidence == "broken libc"


def test_flags_for_builds_do_not_reach_the_question(
    tmp_path: Path, toolkit_at: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = toolkit_at(tmp_path / "cuda")
    script = (root / "bin" / "nvcc").read_text(encoding="utf-8")
    write_program(root / "bin" / "nvcc", script.replace("#!/bin/sh", "#!/bin/sh\n[ -z $NVCC_PREPEND_FLAGS ] || exit 3"))
    monkeypatch.setenv("NVCC_PREPEND_FLAGS", "--bad")
    assert read_toolkit(root, "", Memo(None)).release == "13.0"


def test_a_folder_on_path_that_may_not_be_looked_into_is_passed_over(tmp_path: Path) -> None:
    """Seen with another user's ~/.cargo/bin on PATH: asking for nvcc there raises PermissionError in pathlib."""
    closed = tmp_path / "closed"
    (closed / "bin").mkdir(parents=True)
    closed.chmod(0)
    child = os.fork()
    if child == 0:  # as an ordinary user: root may look everywhere
        code = 1
        try:
            if os.getuid() == 0:
                os.setuid(65534)
            code = len(toolkit_candidates({"PATH": str(closed / "bin")}, None, root=Path("/nonexistent")))
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    closed.chmod(0o755)
    assert os.waitstatus_to_exitcode(status) == 0
