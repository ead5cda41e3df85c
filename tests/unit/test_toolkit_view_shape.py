"""The shape of a toolkit's view, from toolkits of empty files in several layouts."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from buildkit.build.cuda_names import HEADER, LIBRARY, TOOL
from buildkit.build.driver_stub import driver_names
from buildkit.build.toolkit_view import make_view, unversioned
from buildkit.machine.toolkit import Toolkit
from buildkit.machine.toolkit_layout import Layout

PROFILE = 'TOP = $(_HERE_)/..\nINCLUDES += "-I$(TOP)/$(_TARGET_DIR_)/include" $(_SPACE_)\n'
CORE = ("include/cccl/thrust/complex.h", "include/cccl/cub/cub.cuh", "include/cccl/cuda/std/functional")


def make_toolkit(root: Path, *names: str, shared: bool = False, profile: str = PROFILE) -> Toolkit:
    """A toolkit of empty files at ``root`` in NVIDIA's layout."""
    for name in ("bin/nvcc", "bin/crt/link.stub", "nvvm/bin/cicc", "nvvm/libdevice/libdevice.10.bc", *names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(str(root), encoding="utf-8")
    (root / "bin" / "nvcc.profile").write_text(profile, encoding="utf-8")
    include = tuple(folder for folder in (root / "include", root / "include" / "cccl") if folder.is_dir())
    library = tuple(folder for folder in (root / "lib",) if folder.is_dir())
    layout = Layout(
        nvcc=root / "bin" / "nvcc",
        root=root,
        binaries=(root / "bin",),
        cicc=root / "nvvm" / "bin",
        libdevice=root / "nvvm" / "libdevice",
        include=include,
        library=library,
        shared=shared,
    )
    return Toolkit(root, "13.0", "13.0.88", "test", include, library, "identity", (), layout)


def shape(view: Path) -> dict[str, str]:
    """Every link and file of the view, links by where they lead."""
    return {
        str(path.relative_to(view)): str(path.readlink()) if path.is_symlink() else "file"
        for path in sorted(view.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def test_real_folders_of_links(tmp_path: Path) -> None:
    root = tmp_path / "tk"
    toolkit = make_toolkit(root, "bin/ptxas", "include/cuda.h", "include/crt/host_config.h", "lib/libcudart.so.13")
    view = make_view(toolkit, [], tmp_path / "view")
    assert shape(view) == {
        "bin/crt/link.stub": f"{root}/bin/crt/link.stub",
        "bin/nvcc": f"{root}/bin/nvcc",
        "bin/nvcc.profile": f"{root}/bin/nvcc.profile",
        "bin/ptxas": f"{root}/bin/ptxas",
        "include/crt": f"{root}/include/crt",
        "include/cuda.h": f"{root}/include/cuda.h",
        "lib": "lib64",
        "lib64/libcudart.so": "libcudart.so.13",
        "lib64/libcudart.so.13": f"{root}/lib/libcudart.so.13",
        "nvvm/bin/cicc": f"{root}/nvvm/bin/cicc",
        "nvvm/libdevice/libdevice.10.bc": f"{root}/nvvm/libdevice/libdevice.10.bc",
    }
    assert not any((view / name).is_symlink() for name in ("bin", "include", "lib64", "nvvm", "nvvm/bin"))


def test_what_is_missing_comes_from_the_next_toolkit(tmp_path: Path) -> None:
    partial = make_toolkit(tmp_path / "partial", "include/cuda.h", "lib/libcudart.so.13", *CORE)
    wheels = make_toolkit(
        tmp_path / "wheels",
        "include/cuda.h",
        "include/cusparse.h",
        "lib/libcudart.so.13",
        "lib/libcusparse.so.12",
        *CORE,
    )
    view = make_view(partial, [wheels], tmp_path / "view")
    found = shape(view)
    assert found["include/cuda.h"] == f"{tmp_path}/partial/include/cuda.h"
    assert found["include/cusparse.h"] == f"{tmp_path}/wheels/include/cusparse.h"
    assert found["include/cccl/cub"] == f"{tmp_path}/partial/include/cccl/cub"
    assert found["lib64/libcudart.so.13"].startswith(f"{tmp_path}/partial")
    assert found["lib64/libcusparse.so"] == "libcusparse.so.12"
    assert not [name for name, target in found.items() if name.startswith("bin/") and "wheels" in target]


def test_core_libraries_come_from_one_toolkit(tmp_path: Path) -> None:
    """thrust without cub is of no use, and must not be mixed with another release's cub."""
    partial = make_toolkit(tmp_path / "partial", "include/thrust/complex.h", "include/cuda.h")
    wheels = make_toolkit(tmp_path / "wheels", "include/nv/target", *CORE)
    found = shape(make_view(partial, [wheels], tmp_path / "view"))
    assert "include/thrust" not in found
    assert found["include/cccl/thrust"] == f"{tmp_path}/wheels/include/cccl/thrust"
    assert found["include/nv"] == f"{tmp_path}/wheels/include/nv"


def test_left_as_it_is_when_the_same_and_replaced_when_not(tmp_path: Path) -> None:
    root = tmp_path / "tk"
    toolkit = make_toolkit(root, "include/cuda.h")
    view = make_view(toolkit, [], tmp_path / "view")
    inode = view.stat().st_ino
    assert make_view(toolkit, [], view).stat().st_ino == inode
    (view / "include" / "cuda.h").unlink()
    (view / "include" / "cuda.h").write_text("planted", encoding="utf-8")
    assert make_view(toolkit, [], view).stat().st_ino != inode
    assert (view / "include" / "cuda.h").is_symlink()
    (view / "include" / "added.h").write_text("planted", encoding="utf-8")
    make_view(toolkit, [], view)
    assert not (view / "include" / "added.h").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tk", "view"]


def test_shared_folders_give_only_what_is_cudas(tmp_path: Path) -> None:
    toolkit = make_toolkit(
        tmp_path / "usr",
        *("bin/ls", "bin/gcc", "bin/ptxas", "include/stdio.h", "include/curses.h", "include/cuda_runtime.h"),
        *("include/nv/target", "lib/libc.so.6", "lib/libcurl.so.4", "lib/libcudart.so.12"),
        shared=True,
        profile="TOP = /usr\n",
    )
    found = shape(make_view(toolkit, [], tmp_path / "view"))
    assert {name for name in found if name.startswith("bin/")} == {
        "bin/crt/link.stub",
        "bin/nvcc",
        "bin/nvcc.profile",
        "bin/ptxas",
    }
    assert {name for name in found if name.startswith("include/")} == {"include/cuda_runtime.h"}
    assert {name for name in found if name.startswith("lib64/")} == {"lib64/libcudart.so", "lib64/libcudart.so.12"}


def test_profile_that_names_other_folders_is_replaced(tmp_path: Path) -> None:
    toolkit = make_toolkit(tmp_path / "tk", profile="TOP = /usr\n")
    profile = make_view(toolkit, [], tmp_path / "view") / "bin" / "nvcc.profile"
    assert not profile.is_symlink()
    assert "$(_HERE_)/.." in profile.read_text(encoding="utf-8")


def test_debians_parts_are_gathered(tmp_path: Path) -> None:
    toolkit = make_toolkit(tmp_path / "usr", shared=True)
    own = make_toolkit(tmp_path / "own", "bin/cicc", "bin/gcc").root
    layout = dataclasses.replace(toolkit.layout, binaries=(own / "bin", tmp_path / "usr" / "bin"), cicc=own / "bin")
    found = shape(make_view(dataclasses.replace(toolkit, layout=layout), [], tmp_path / "view"))
    assert found["nvvm/bin/cicc"] == f"{own}/bin/cicc"
    assert found["bin/nvcc"] == f"{own}/bin/nvcc"
    assert "bin/gcc" not in found


def test_newest_library_gets_the_plain_name() -> None:
    names = ["libcudart.so.9", "libcudart.so.13.0.88", "libcudart.so.13", "libnvrtc-builtins.so.13.0", "libx.a"]
    assert unversioned(names) == {
        "libcudart.so": "libcudart.so.13.0.88",
        "libnvrtc-builtins.so": "libnvrtc-builtins.so.13.0",
    }


def test_driver_names() -> None:
    header = """
#define cuMemAlloc                          cuMemAlloc_v2
    #define cuMemcpy                        __CUDA_API_PTDS(cuMemcpy)
    #define cuStreamQuery                   __CUDA_API_PTSZ(cuStreamQuery)
#define CUDA_VERSION 13000
CUresult CUDAAPI cuInit(unsigned int Flags);
CUresult CUDAAPI cuMemAlloc(CUdeviceptr *dptr, size_t bytesize);
typedef void (CUDA_CB *CUhostFn)(void *userData);
"""
    assert driver_names(header) == ["cuInit", "cuMemAlloc", "cuMemAlloc_v2", "cuMemcpy", "cuStreamQuery"]


@pytest.mark.parametrize(
    ("pattern", "ours", "others"),
    [
        (TOOL, "nvcc nvcc.profile cudafe++ ptxas __nvcc_device_query cuobjdump", "gcc g++ curl nvidia-smi cups nvim"),
        (
            HEADER,
            """cuda.h cublasLt.h cuComplex.h nvrtc.h nvtx3 nv crt cccl cub thrust cooperative_groups.h npp.h mma.h
            vector_types.h device_types.h driver_types.h host_defines.h surface_indirect_functions.h""",
            "curses.h curl stdio.h nvme.h device.h cups.h math.h thrift crypt.h",
        ),
        (LIBRARY, "libcudart.so.13 libcublas.so libnvrtc.so libculibos.a libnppc.so", "libcurl.so libc.so libnvme.so"),
    ],
)
def test_names(pattern: re.Pattern[str], ours: str, others: str) -> None:
    assert [name for name in ours.split() if not pattern.fullmatch(name)] == []
    assert [name for name in others.split() if pattern.fullmatch(name)] == []


def test_a_shim_stands_in_front_of_nvcc(tmp_path: Path) -> None:
    toolkit = make_toolkit(tmp_path / "tk", "bin/ptxas")
    shim = tmp_path / "shim"
    shim.write_bytes(b"a program")
    view = make_view(toolkit, [], tmp_path / "view", shim=shim)
    without = shape(make_view(toolkit, [], tmp_path / "without"))
    real = f"{tmp_path}/tk/bin/nvcc"
    assert shape(view) == {**without, "bin/nvcc": "file", "bin/.cudabuild/nvcc": real}
    assert (view / "bin" / "nvcc").read_bytes() == b"a program"
    assert (view / "bin" / "nvcc").stat().st_mode & 0o777 == 0o755
    inode = view.stat().st_ino
    assert make_view(toolkit, [], view, shim=shim).stat().st_ino == inode
    shim.write_bytes(b"another")
    assert make_view(toolkit, [], view, shim=shim).stat().st_ino != inode
