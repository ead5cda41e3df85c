"""Give a wheel its final bytes: local version, torch pin, build facts, reproducible archive.

This happens before the audit, so that what is proven, hashed, stored and handed out is one and the same file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from zipfile import ZipFile

from buildkit.build.label import cuda_of_torch, local_label, torch_pin, with_local
from buildkit.build.metadata import rewrite
from buildkit.build.reproducible import Content, write_wheel
from buildkit.build.sbom import OF_AUDITWHEEL, SBOM_FILE
from buildkit.machine.arch import Target
from buildkit.machine.variants import variant_targets
from buildkit.store.rebuilds import tagged_filename
from buildkit.verify.record import SIGNATURES
from buildkit.verify.wheel import WheelFile, open_wheel

FACTS_FILE = "cudabuild.json"


def finalise(
    src_wheel: Path,
    out_dir: Path,
    *,
    torch_version: str,
    targets: Sequence[Target],
    device: Literal["cuda", "cpu"],
    cuda: str | None = None,
    variant: Sequence[Target] | None = None,
    requires: Sequence[str] = (),
    platforms: Sequence[str] = (),
    build_facts: Mapping[str, Any] | None = None,
    bill: Callable[[str, str], bytes] | None = None,
) -> Path:
    """Write the final wheel into ``out_dir`` and return its path; the same input gives the same bytes.

    ``torch_version`` is torch's own (``2.13.0+cu130``; empty for a package without torch, which gets no pin),
    ``cuda`` its CUDA release (default: what that version names); ``variant`` the declared target set (default: the
    table's for that CUDA, none without torch). ``requires`` are added to the wheel's own. ``platforms`` take the place
    of the tag ``linux_*``. ``build_facts`` go into the dist-info as JSON, and so does what ``bill`` answers to the name
    and the version (the SBOM): they must not hold times or paths, or the bytes would differ.
    Raises :class:`UnsafeWheel` for a wheel that does not open safely.
    """
    wheel = open_wheel(src_wheel)
    cuda = cuda or cuda_of_torch(torch_version)
    if variant is None:
        variant = variant_targets(cuda) if torch_version else ()
    label = local_label(torch_version=torch_version, cuda=cuda, targets=targets, variant=variant, device=device)
    version = with_local(wheel.version, label)
    stem = f"{distribution_stem(wheel)}-{version}"
    metadata = rewrite(wheel.metadata, version=version, torch_pin=torch_pin(torch_version), requires=requires)
    target = out_dir / final_filename(src_wheel.name, version, platforms)
    with ZipFile(src_wheel) as source:
        contents = _contents(wheel, source, stem)
        contents[f"{stem}.dist-info/METADATA"] = Content(metadata.encode("utf-8"))
        contents[f"{stem}.dist-info/WHEEL"] = Content(_tagged(source.read(f"{wheel.dist_info}/WHEEL"), platforms))
        if build_facts is not None:
            facts = json.dumps(build_facts, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
            contents[f"{stem}.dist-info/{FACTS_FILE}"] = Content(facts.encode("utf-8"))
        if bill is not None:
            contents.pop(f"{stem}.dist-info/{OF_AUDITWHEEL}", None)
            contents[f"{stem}.dist-info/{SBOM_FILE}"] = Content(bill(wheel.name, version))
        write_wheel(target, contents, f"{stem}.dist-info", source)
    return target


def distribution_stem(wheel: WheelFile) -> str:
    """The distribution's name as its dist-info folder spells it (``fast_voxels``)."""
    return wheel.dist_info.removesuffix(".dist-info").rsplit("-", 1)[0]


def final_filename(filename: str, version: str, platforms: Sequence[str] = ()) -> str:
    """The file name with another version, and with ``platforms`` for ``linux_*``; the rest stays as it was."""
    name, _version, *middle, tags = filename.removesuffix(".whl").split("-")
    return "-".join([name, version, *middle, ".".join(_platforms(tags.split("."), platforms))]) + ".whl"


def _platforms(tags: Sequence[str], platforms: Sequence[str]) -> list[str]:
    """The platform tags sorted, as a compressed tag set should be, with ``platforms`` for ``linux_*``."""
    other = [tag for tag in tags if not (platforms and tag.startswith("linux_"))]
    return sorted({*other, *(platforms if len(other) < len(tags) else ())})


def _tagged(wheel: bytes, platforms: Sequence[str]) -> bytes:
    """WHEEL with its tags for ``platforms`` where they are for ``linux_*``; its other lines stay as they are."""
    lines = []
    for line in wheel.decode("utf-8").splitlines():
        key, _, tag = line.partition(":")
        if key.lower() == "tag":
            python, abi, platform = tag.strip().split("-")
            lines += [f"Tag: {python}-{abi}-{each}" for each in _platforms([platform], platforms)]
        else:
            lines.append(line)
    return "\n".join([*lines, ""]).encode("utf-8")


def with_build_tag(final: Path, build: str) -> Path:
    """A final wheel again beside it, with this build tag (or none) in its name, in WHEEL and so in RECORD."""
    wheel = open_wheel(final)
    stem = wheel.dist_info.removesuffix(".dist-info")
    target = final.with_name(tagged_filename(final.name, build))
    with ZipFile(final) as source:
        contents = _contents(wheel, source, stem)
        lines = source.read(f"{stem}.dist-info/WHEEL").decode("utf-8").rstrip().split("\n")
        kept = [line for line in lines if not line.lower().startswith("build:")]
        text = "\n".join([*kept, *([f"Build: {build}"] if build else [])]) + "\n"
        contents[f"{stem}.dist-info/WHEEL"] = Content(text.encode("utf-8"))
        write_wheel(target, contents, f"{stem}.dist-info", source)
    return target


def _contents(wheel: WheelFile, source: ZipFile, stem: str) -> dict[str, Content]:
    """Every member under its new name, RECORD and signatures (of a RECORD that will not exist) left out."""
    old = wheel.dist_info.removesuffix(".dist-info")
    dropped = {f"{wheel.dist_info}/{name}" for name in ("RECORD", *SIGNATURES)}
    contents: dict[str, Content] = {}
    for member in wheel.members:
        if member in dropped:
            continue
        top, _, rest = member.partition("/")
        renamed = {f"{old}.dist-info": f"{stem}.dist-info", f"{old}.data": f"{stem}.data"}.get(top)
        executable = bool((source.getinfo(member).external_attr >> 16) & 0o111)
        contents[f"{renamed}/{rest}" if renamed else member] = Content(member=member, executable=executable)
    return contents
