"""Images without an engine: a base by debootstrap, builds by buildah in a chroot, and what is in their layers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BASE = "localhost/debian-with-python"
INCLUDED = ("python3", "python3-venv")


@dataclass(frozen=True)
class Buildah:
    """buildah with a storage of its own, below ``root``."""

    root: Path

    def run(self, *words: str, check: bool = True, timeout: float = 600.0) -> subprocess.CompletedProcess[str]:
        """One command; both streams in ``stdout``."""
        (self.root / "tmp").mkdir(parents=True, exist_ok=True)
        command = ["buildah", "--root", str(self.root / "storage"), "--runroot", str(self.root / "run"), *words]
        environment = {**os.environ, "TMPDIR": str(self.root / "tmp")}  # where its cache mounts lie, too
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout,
            check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
        return done

    def build(
        self, context: Path, name: str, *, secrets: Mapping[str, Path] | None = None, arguments: Sequence[str] = (),
        volumes: Sequence[str] = (), check: bool = True, timeout: float = 600.0,
    ) -> str:  # fmt: skip
        """Build a context's Dockerfile as ``name``, each instruction a layer; returns the log."""
        words = ["build", "--isolation", "chroot", "--network", "host", "--layers", "--tag", name]
        words += [f"--secret=id={id_},src={file}" for id_, file in (secrets or {}).items()]
        words += [word for argument in arguments for word in ("--build-arg", argument)]
        words += [f"--volume={folder}:{folder}:ro" for folder in volumes]
        return self.run(*words, str(context), check=check, timeout=timeout).stdout

    def run_in(self, image: str, *command: str) -> str:
        """What a command prints in a container of the image."""
        container = self.run("from", "--pull-never", image).stdout.split()[-1]
        try:
            return self.run("run", "--isolation", "chroot", container, "--", *command).stdout
        finally:
            self.run("rm", container)

    def has(self, image: str) -> bool:
        """Whether the storage has an image of this name."""
        return self.run("inspect", "--type", "image", image, check=False).returncode == 0

    def exported(self, image: str, folder: Path) -> Path:
        """The image as a folder of its layers' tars, its configuration and its manifest."""
        self.run("push", "--disable-compression", image, f"dir:{folder}")
        return folder


def make_base(buildah: Buildah) -> str:
    """The base image: this machine's Debian (or Ubuntu) with Python, made once by debootstrap's first stage.

    The maintainer scripts of its second stage take longer than all else here, and nothing in these images needs what
    they do: packages that the first stage only fetches are unpacked beside the others.
    """
    if not buildah.has(BASE):
        container = buildah.run("from", "scratch").stdout.split()[-1]
        root = Path(buildah.run("mount", container).stdout.split()[-1])
        suite, mirror = _distribution()
        command = ["debootstrap", "--foreign", "--variant=minbase", f"--include={','.join(INCLUDED)}"]
        subprocess.run([*command, suite, str(root), mirror], check=True, stdout=subprocess.DEVNULL)
        for name in (root / "debootstrap/base").read_text(encoding="utf-8").split():
            (package,) = (root / "var/cache/apt/archives").glob(f"{name}_*.deb")
            files = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(package)], check=True, capture_output=True).stdout
            # /lib stays the link to /usr/lib that it is, also where a package still has files below /lib.
            unpack = ["tar", "--extract", "--keep-directory-symlink", "--directory", str(root)]
            subprocess.run(unpack, input=files, check=True)
        for folder in ("var/cache/apt/archives", "debootstrap", "usr/share/doc", "usr/share/locale", "usr/share/man"):
            shutil.rmtree(root / folder, ignore_errors=True)
        if (root / "proc").is_symlink():  # where debootstrap may not mount there, such as in a container
            (root / "proc").unlink()
            (root / "proc").mkdir()
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n", encoding="utf-8")
        (root / "etc/group").write_text("root:x:0:\n", encoding="utf-8")
        buildah.run("umount", container)
        buildah.run("commit", "--quiet", "--rm", container, BASE)
    return BASE


def _distribution() -> tuple[str, str]:
    """The release that runs here and the mirror that apt is configured with for it."""
    command = ["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI) $(ORIGIN)", "Created-By: Packages"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    here = next(line.partition("=")[2] for line in lines if line.startswith("VERSION_CODENAME="))
    mirror = next(words[1] for line in listed if (words := line.split()) and words[0] == here)
    return here, mirror


def layers(exported: Path) -> Iterator[tuple[str, bytes]]:
    """Every file in every layer of an exported image, by name; the configuration with its history, too."""
    manifest = json.loads((exported / "manifest.json").read_text(encoding="utf-8"))
    configuration = manifest["config"]["digest"].removeprefix("sha256:")
    yield "configuration", (exported / configuration).read_bytes()
    for layer in manifest["layers"]:
        with tarfile.open(exported / layer["digest"].removeprefix("sha256:"), "r:*") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                yield member.name, b"" if file is None else file.read()


def holding(exported: Path, *texts: str) -> dict[str, list[str]]:
    """For each text the names of what holds it in an exported image: in its bytes, or in its name."""
    found: dict[str, list[str]] = {text: [] for text in texts}
    for name, data in layers(exported):
        for text, names in found.items():
            if text.encode() in data or text in name:
                names.append(name)
    return found
