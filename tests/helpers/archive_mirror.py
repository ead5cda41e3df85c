"""A server of small archives in the layout of NVIDIA's redistributable ones; it can cut connections and lie."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import random
import re
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from buildkit.source.redist import platform_of

# Answers as nvcc does; where its profile is not beside it, it knows nothing of a root.
NVCC = """#!/bin/sh
case "$1" in
--version) echo "Cuda compilation tools, release {release}, V{release}.93" ;;
--dryrun)
  HERE=$(dirname "$0")
  [ -f "$HERE/nvcc.profile" ] || exit 0
  exec >&2
  echo "#$ _HERE_=$HERE"
  echo "#$ _TARGET_DIR_="
  echo "#$ TOP=$HERE/.."
  echo "#$ CICC_PATH=$HERE/../nvvm/bin"
  echo "#$ NVVMIR_LIBRARY_DIR=$HERE/../nvvm/libdevice"
  echo "#$ INCLUDES=\\"-I$HERE/../include\\"  "
  echo "#$ LIBRARIES= \\"-L$HERE/../lib64/stubs\\" \\"-L$HERE/../lib64\\""
  ;;
esac
"""
PROFILE = 'TOP = $(_HERE_)/..\nINCLUDES += "-I$(TOP)/$(_TARGET_DIR_)/include" $(_SPACE_)\n'
Content = Mapping[str, "str | bytes | None"]
"""Files of an archive by their path in its folder; None makes a link ``X.so`` to ``X.so.1`` beside it."""


def components(release: str) -> dict[str, dict[str, str | bytes | None]]:
    """What the archives of a release hold: enough to be a toolkit, each as in NVIDIA's."""
    return {
        "cuda_nvcc": {
            "bin/nvcc": NVCC.format(release=release),
            "bin/nvcc.profile": PROFILE,
            "bin/ptxas": "#!/bin/sh\n",
            "nvvm/bin/cicc": "#!/bin/sh\n",
            "nvvm/libdevice/libdevice.10.bc": "BC",
            "include/crt/host_config.h": "",
            "include/crt/host_runtime.h": "",
            "lib/libnvptxcompiler_static.a": "!<arch>\n",
        },
        "cuda_cudart": {
            **{f"include/{name}": f"// {name}\n" for name in ("cuda.h", "cuda_runtime.h", "cuda_runtime_api.h")},
            **{f"include/{name}": f"// {name}\n" for name in ("cuda_fp16.h", "cuda_bf16.h", "library_types.h")},
            "lib/libcudart.so": None,
            "lib/libcudart.so.1": "ELF",
            "lib/libcudart_static.a": "!<arch>\n",
            "lib/stubs/libcuda.so": "ELF",
        },
        "cuda_cccl": dict.fromkeys(
            (f"include/{name}" for name in ("thrust/complex.h", "cub/cub.cuh", "cuda/std/functional", "nv/target")), ""
        ),
        "libcublas": {
            "include/cublas_v2.h": "",
            "include/cublasLt.h": "",
            "lib/libcublas.so": None,
            "lib/libcublas.so.1": random.Random(1).randbytes(30_000),  # so that a connection can be cut within it
            "lib/libcublas_static.a": "!<arch>\n",
        },
        "libcusparse": {"include/cusparse.h": ""},
        "libcusolver": {"include/cusolverDn.h": ""},
    }


def archive_of(folder: str, content: Content) -> bytes:
    """A ``.tar.xz`` that holds one folder; a name with ``..`` in it stays as it is."""
    return _archive_of(folder, tuple(content.items()))


@cache
def _archive_of(folder: str, content: tuple[tuple[str, str | bytes | None], ...]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz", preset=0) as tar:
        for name, data in (("LICENSE", f"licence of {folder}\n"), *content):
            info = tarfile.TarInfo(f"{folder}/{name}")
            if data is None:
                info.type, info.linkname = tarfile.SYMTYPE, f"{name.rpartition('/')[2]}.1"
                tar.addfile(info)
                continue
            raw = data.encode() if isinstance(data, str) else data
            info.size, info.mode = len(raw), 0o755 if raw.startswith(b"#!") else 0o644
            tar.addfile(info, io.BytesIO(raw))
    return buffer.getvalue()


@dataclass
class Mirror:
    """What is served, by path; and how it misbehaves.

    ``cut`` has the bytes after which the connection for a path is cut, once each; ``statuses`` what is answered
    instead, once each. ``together``: that many requests for archives must be open at once before any is answered.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, list[int]] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    ranges: bool = True
    together: threading.Barrier | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range header of every request, in order."""
    _archives: int = 0
    _counting: threading.Lock = field(default_factory=threading.Lock)

    def publish(
        self,
        version: str = "12.8.1",
        content: Mapping[str, Content | bytes] | None = None,
        said: Mapping[str, str] | None = None,
    ) -> None:
        """Serve a version's manifest and archives; bytes in ``content`` are an archive as it is.

        ``said``: hashes that the manifest has wrong, by component.
        """
        key = platform_of(platform.machine())
        manifest: dict[str, object] = {"release_date": "2025-02-20", "release_label": version}
        for name, files in (content or components(version.rpartition(".")[0])).items():
            folder = f"{name}-{key}-{version}-archive"
            path = f"{name}/{key}/{folder}.tar.xz"
            data = self.files[f"/{path}"] = files if isinstance(files, bytes) else archive_of(folder, files)
            sha256 = (said or {}).get(name) or hashlib.sha256(data).hexdigest()
            entry = {"relative_path": path, "sha256": sha256, "md5": "0" * 32, "size": str(len(data))}
            manifest[name] = {"name": name.upper(), "license": "CUDA Toolkit", "version": version, key: entry}
        self.files[f"/redistrib_{version}.json"] = json.dumps(manifest, indent=4).encode()

    def path(self, component: str, version: str = "12.8.1") -> str:
        """Where an archive is."""
        return next(path for path in self.files if path.startswith(f"/{component}/") and f"-{version}-" in path)

    def is_early(self, path: str) -> bool:
        """Whether a request is one of the first for archives: of those, as many as shall come together."""
        with self._counting:
            self._archives += path.endswith(".xz")
            return path.endswith(".xz") and self.together is not None and self._archives <= self.together.parties

    def ranges_of(self, path: str) -> list[str | None]:
        """The Range headers of the requests for a path, in order."""
        return [asked for name, asked in self.asked if name == path]


class _Handler(BaseHTTPRequestHandler):
    mirror: Mirror

    def do_GET(self) -> None:
        mirror, wanted = self.mirror, self.headers.get("Range")
        mirror.asked.append((self.path, wanted))
        if mirror.together is not None and mirror.is_early(self.path):
            mirror.together.wait(timeout=20)
        body = mirror.files.get(self.path)
        planned = mirror.statuses.get(self.path)
        if body is None or planned:
            self.send_error(planned.pop(0) if planned else 404)
            return
        offset = int(re.findall(r"\d+", wanted)[0]) if wanted and mirror.ranges else 0
        if offset >= len(body) and offset:
            self.send_error(416)
            return
        self.send_response(206 if offset else 200)
        if offset:
            self.send_header("Content-Range", f"bytes {offset}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - offset))
        self.end_headers()
        cuts = mirror.cut.get(self.path)
        self.wfile.write(body[offset:][: cuts.pop(0) if cuts else None])

    def log_message(self, *_arguments: object) -> None:
        """Quiet."""


@contextmanager
def serving() -> Iterator[Mirror]:
    """A mirror that listens on this machine while the block runs."""
    mirror = Mirror()
    handler = type("Handler", (_Handler,), {"mirror": mirror})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    mirror.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield mirror
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
