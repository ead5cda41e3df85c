"""``doctor --bundle FILE``: what a bug report needs, in one archive, without what says who and where."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit import __version__
from buildkit.build.doctor.redact import Redactor, redactor_for
from buildkit.cli.doctor_page import doctor_lines
from buildkit.cli.doctor_schema import DoctorObject
from buildkit.errors import StoreError
from buildkit.process import SECRET_NAME
from buildkit.report.canvas import text_of
from buildkit.store.builds import BuildRecords
from buildkit.store.disk import disk_causes

if TYPE_CHECKING:
    from buildkit.build.context import Context

MOST_LOG = 1 << 20
"""Bytes of the last build's log that go along: its end."""

_TELLING = re.compile(
    r"(CUDA|CUDABUILD|NVCC|NVIDIA|TORCH|CONDA|VIRTUAL|PIP|UV|CMAKE|SKBUILD|MAX|OMP|LD|NINJA)_\w*|"
    r"SLURM_(CPUS|MEM|GPUS|JOB_ID|JOB_GPUS|NTASKS|NNODES|TASKS)\w*|CUDACXX|CUDAARCHS|"
    r"PATH|CC|CXX|CFLAGS|CXXFLAGS|LDFLAGS|LANG|LC_ALL|SHELL|TERM|WSL_DISTRO_NAME|container"
)
"""Variables that bear on builds; no other is looked at."""


def write_bundle(file: Path, found: DoctorObject, context: Context) -> None:
    """Write the archive, which is not there yet. StoreError where it cannot be written."""
    redactor = _redactor(context)
    texts = {
        "doctor.json": json.dumps(found.model_dump(mode="json", by_alias=True), indent=2, ensure_ascii=False),
        "doctor.txt": "\n".join(text_of(line) for line in doctor_lines(found)),
        "environment.txt": environment_text(context.environ),
        "version.txt": f"cudabuild {__version__}",
        **_last_build(context),
    }
    with (
        disk_causes(file.parent, hint="choose another folder"),
        zipfile.ZipFile(file, "x", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name, text in texts.items():
            archive.writestr(name, redactor.clean(text) + "\n")


def environment_text(environ: Mapping[str, str]) -> str:
    """``NAME=value`` lines of the variables that bear on builds; values of those named like secrets are left out."""
    told = {name: environ[name] for name in sorted(environ) if _TELLING.fullmatch(name)}
    return "\n".join(f"{name}={'***' if SECRET_NAME.search(name) else value}" for name, value in told.items())


def _redactor(context: Context) -> Redactor:
    settings = context.index
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = ""
    return redactor_for(
        context.environ,
        user=user,
        home=str(Path("~").expanduser()),
        host=socket.gethostname(),
        urls=[*settings.indexes, *settings.find_links, *([settings.proxy] if settings.proxy else [])],
    )


def _last_build(context: Context) -> dict[str, str]:
    """The record and the end of the log of the last build, where there is one."""
    try:
        records = BuildRecords(context.places.store).newest_first()
    except StoreError:
        return {}
    if not records:
        return {}
    record = records[0]
    texts = {"build.json": record.model_dump_json(by_alias=True, indent=1, exclude={"process"})}
    log = Path(record.log) if record.log else None
    if log is not None and log.is_file():
        with log.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - MOST_LOG))
            texts["build.log"] = stream.read().decode("utf-8", "replace")
    return texts
