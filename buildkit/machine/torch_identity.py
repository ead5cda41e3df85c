"""Which torch lies in a site folder, read without importing it.

``torch/version.py`` is parsed, never run. The metadata is not asked: it says 2.13.0 where version.py says
2.13.0+cu130. What was installed is told by its RECORD, which holds the hash of every file of the wheel.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from buildkit.errors import NoTorch
from buildkit.machine.identity import identity_or_none

_OWN_ROW = re.compile(rb"__pycache__/|\.dist-info/(INSTALLER|REQUESTED|RECORD|direct_url\.json|uv_[a-z_]+\.json),")
_REINSTALL = "install torch again into that environment"


@dataclass(frozen=True)
class TorchIdentity:
    """``version`` "2.13.0+cu130", ``cuda`` "13.0" (None: built without), ``hip`` the ROCm release or None.

    ``location`` is the folder that holds ``torch/``. ``record_sha256`` changes when another torch is installed;
    for one without a RECORD (conda's, or an editable one) it stands for version.py and the libraries' identities.
    """

    version: str
    cuda: str | None
    git_version: str
    record_sha256: str
    location: Path
    hip: str | None

    @property
    def present(self) -> bool:
        """False for :data:`NO_TORCH` only."""
        return self.version != ""


NO_TORCH = TorchIdentity("", None, "", "", Path("/nonexistent"), None)
"""In torch's place where a package is built without it."""


def identify_torch(site_packages: Sequence[Path]) -> TorchIdentity | None:
    """The torch that ``import torch`` would find in these folders, in their order; None if there is none.

    NoTorch if what is there is damaged.
    """
    location = next((folder for folder in site_packages if (folder / "torch" / "version.py").is_file()), None)
    if location is None:
        return None
    file = location / "torch" / "version.py"
    values = _assigned(file)
    version = values.get("__version__")
    if not isinstance(version, str):
        raise NoTorch(
            f"the torch in {location} does not tell its version", evidence=f"no __version__ in {file}", hint=_REINSTALL
        )
    return TorchIdentity(
        version=version,
        cuda=_text(values.get("cuda")),
        git_version=_text(values.get("git_version")) or "",
        record_sha256=_record_hash(location, site_packages),
        location=location,
        hip=_text(values.get("hip")) or _text(values.get("rocm")),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _assigned(file: Path) -> dict[str, object]:
    """The constants that a module assigns to names at its top level."""
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except (OSError, SyntaxError, ValueError) as error:
        raise NoTorch(f"{file} cannot be read", evidence=str(error), hint=_REINSTALL) from error
    values: dict[str, object] = {}
    for statement in tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        constant = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
        if isinstance(constant, ast.Constant):
            values |= {target.id: constant.value for target in targets if isinstance(target, ast.Name)}
    return values


def _record_hash(location: Path, site_packages: Sequence[Path]) -> str:
    torch = location / "torch"
    libraries = sorted([*(torch / "lib").glob("*.so*"), *torch.glob("_C*.so")])
    digest = hashlib.sha256((torch / "version.py").read_bytes())
    rows = next(filter(None, map(_installed_rows, _records([location, *site_packages]))), None)
    for row in rows or ():
        digest.update(row)
    for library in libraries:
        # The rows hold the libraries' hashes; the size catches one that was replaced without telling RECORD.
        state = library.stat().st_size if rows else identity_or_none(library)
        digest.update(f"{library.relative_to(torch)} {state}\n".encode())
    return digest.hexdigest()


def _records(folders: Iterable[Path]) -> list[Path]:
    return [record for folder in dict.fromkeys(folders) for record in sorted(folder.glob("torch-*.dist-info/RECORD"))]


def _installed_rows(record: Path) -> list[bytes] | None:
    """RECORD's rows, sorted, without those that differ from one installation of the same wheel to the next.

    Left out: scripts (their first line names the environment), byte code and the installer's own notes. None if
    it does not name torch's files (an editable install, or a folder that an uninstalled version left behind).
    """
    rows = sorted(line.strip() + b"\n" for line in record.read_bytes().splitlines())
    kept = [row for row in rows if not row.startswith((b"..", b"/")) and not _OWN_ROW.search(row)]
    return kept if any(row.startswith(b"torch/version.py,sha256=") for row in kept) else None
