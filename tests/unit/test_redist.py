"""Manifests of NVIDIA's archives: what is taken of them, and what is refused. The first is cut from that of 12.8.2."""

from __future__ import annotations

import json
from typing import Any

import pytest

from buildkit.errors import NotOnIndex, NoToolkit, SourceError
from buildkit.source.redist import COMPONENTS, left_out, platform_of, read_parts

NVCC: dict[str, Any] = {
    "name": "CUDA NVCC",
    "license": "CUDA Toolkit",
    "license_path": "cuda_nvcc/LICENSE.txt",
    "version": "12.8.93",
    "linux-x86_64": {
        "relative_path": "cuda_nvcc/linux-x86_64/cuda_nvcc-linux-x86_64-12.8.93-archive.tar.xz",
        "sha256": "9961b3484b6b71314063709a4f9529654f96782ad39e72bf1e00f070db8210d3",
        "md5": "5d7d11d3c8713fe8f19a2228b2b2b4bf",
        "size": "79015464",
    },
    "windows-x86_64": {"relative_path": "cuda_nvcc/windows-x86_64/cuda_nvcc.zip", "sha256": "", "size": ""},
}
MANIFEST = {
    "release_date": "2026-04-21",
    "release_label": "12.8.2",
    "release_product": "cuda",
    "cuda_compat": {"name": "CUDA compat L4T", "version": "12.8", "linux-aarch64": {}},
    "nsight_compute": {"name": "Nsight Compute", "version": "2025.1", "linux-x86_64": {"what": "ever"}},
    "libcudla": {"name": "cuDLA", "version": "12.8.90", "linux-aarch64": {}},
    "cuda_nvcc": NVCC,
}


def parts(manifest: object, platform: str = "linux-x86_64") -> object:
    return read_parts(json.dumps(manifest).encode(), platform, "https://mirror.example/redistrib_12.8.2.json")


def test_only_what_an_extension_needs_for_this_platform() -> None:
    (part,) = read_parts(json.dumps(MANIFEST).encode(), "linux-x86_64", "x")
    assert (part.component, part.title, part.version, part.size) == ("cuda_nvcc", "CUDA NVCC", "12.8.93", 79015464)
    assert part.filename == "cuda_nvcc-linux-x86_64-12.8.93-archive.tar.xz"
    assert {"cuda_nvcc", "cuda_cudart", "cuda_cccl", "libcublas", "libcusparse", "libcusolver"} <= set(COMPONENTS)


def test_no_compiler_for_the_platform() -> None:
    with pytest.raises(NotOnIndex, match="linux-sbsa"):
        parts(MANIFEST, "linux-sbsa")


@pytest.mark.parametrize(
    "path",
    [
        "../cuda_nvcc.tar.xz",
        "cuda_nvcc/../../x.tar.xz",
        "/etc/passwd",
        "https://elsewhere.example/x.tar.xz",
        "a//b",
        "",
        "a/.hidden",
        "a/b?c",
        "a/b\n",
    ],
)
def test_a_path_leads_below_the_manifests_folder(path: str) -> None:
    entry = {**NVCC["linux-x86_64"], "relative_path": path}
    with pytest.raises(SourceError, match="is no manifest") as caught:
        parts({"cuda_nvcc": {**NVCC, "linux-x86_64": entry}})
    said = f"cuda_nvcc.linux-x86_64.relative_path: {path!r} is not a plain path below the manifest's folder"
    assert caught.value.evidence == said


@pytest.mark.parametrize(
    ("values", "evidence"),
    [
        (float("nan"), "cuda_nvcc: Input should be a valid dictionary"),
        ({"version": 12}, "cuda_nvcc.version: "),
        ({"linux-x86_64": {"relative_path": "a"}}, "cuda_nvcc.linux-x86_64.sha256: Field required"),
        ({"linux-x86_64": []}, "cuda_nvcc.linux-x86_64: "),
        (
            {"linux-x86_64": {**NVCC["linux-x86_64"], "sha256": "abc"}},
            "cuda_nvcc.linux-x86_64.sha256: 'abc' is not a SHA-256: 64 hexadecimal digits",
        ),
    ],
)
def test_the_component_that_is_not_told_rightly_is_named(values: object, evidence: str) -> None:
    with pytest.raises(SourceError, match="is no manifest") as caught:
        parts({"cuda_nvcc": values})
    assert caught.value.evidence.startswith(evidence)


def test_a_hash_in_capitals_is_the_same_hash() -> None:
    entry: dict[str, str] = NVCC["linux-x86_64"]
    loud = {**NVCC, "linux-x86_64": {**entry, "sha256": entry["sha256"].upper()}}
    assert parts({"cuda_nvcc": loud}) == parts({"cuda_nvcc": NVCC})


@pytest.mark.parametrize("change", [{"sha256": "abc"}, {"sha256": None}, {"size": "many"}, {"size": "-1"}])
def test_what_is_not_told_rightly_is_refused(change: dict[str, object]) -> None:
    entry = {**NVCC["linux-x86_64"], **change}
    with pytest.raises(SourceError, match="is no manifest"):
        parts({"cuda_nvcc": {**NVCC, "linux-x86_64": entry}})


@pytest.mark.parametrize(
    ("component", "name", "away"),
    [
        ("libcublas", "lib/libcublasLt_static.a", True),
        ("cuda_nvcc", "lib/libnvptxcompiler_static.a", True),
        ("cuda_nvrtc", "lib/stubs/libnvrtc.so", False),
        ("libcublas", "lib/libcublas.so.12.8.5.5", False),
        ("cuda_cudart", "lib/libcudart_static.a", False),
        ("cuda_cudart", "lib/libcudadevrt.a", False),
        ("cuda_cccl", "include/cub/lib.a", False),
    ],
)
def test_static_libraries_are_left_out_but_for_the_runtimes(component: str, name: str, away: bool) -> None:
    assert left_out(component, name) is away


def test_platforms() -> None:
    assert (platform_of("x86_64"), platform_of("aarch64")) == ("linux-x86_64", "linux-sbsa")
    with pytest.raises(NoToolkit):
        platform_of("riscv64")
