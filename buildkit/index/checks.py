"""Is a wheel what its name says? Asked before it is published, and by an index before it takes one.

Nothing of the wheel is run. What it says of itself (file name, metadata, ``cudabuild.json``) has to agree with itself
and with the device code that it holds; what an index then shows of it is what was found, not what was claimed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zipfile import ZipFile

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from buildkit.errors import VerificationFailed
from buildkit.machine.target import Target, read_notation
from buildkit.machine.variants import variant_labels, variant_targets
from buildkit.store.model import first_line, utc_now
from buildkit.store.release import Release
from buildkit.verify.device_code import ObjectCode, find_cuobjdump, inspect_object
from buildkit.verify.grafted import is_grafted
from buildkit.verify.judge import judge_device_code
from buildkit.verify.wheel import WheelFile, open_wheel
from buildkit.verify.zip_structure import read_whole

FACTS_FILE = "cudabuild.json"
FOREIGN = ("torch", "torchgen", "functorch", "nvidia")
"""Modules that no wheel but torch's and NVIDIA's own brings."""
_CHUNK = 1 << 20
_CUDA_LABEL = re.compile(r"cu(?P<major>\d{2})(?P<minor>\d)")
_BUILT_BY_OTHERS = "build it with `cudabuild build`, which writes that into the wheel"


class Facts(BaseModel):
    """What cudabuild wrote into the wheel about its making; a later cudabuild may have written more."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_: Literal[1] = Field(alias="schema")
    recipe: str = ""
    device: Literal["cuda", "cpu"]
    targets: tuple[str, ...] = ()
    torch: str | None = None
    toolkit: str | None = None
    licence: str = ""


@dataclass(frozen=True)
class Checked:
    """A wheel that is what it says."""

    wheel: WheelFile
    facts: Facts
    cuda: str
    """The CUDA release, as ``13.0``; empty for the CPU."""
    targets: tuple[str, ...]
    """What every unit of device code holds; empty for the CPU."""

    @property
    def linux_tag(self) -> str:
        """The platform tag that promises nothing about the C library (``linux_x86_64``); empty where there is none."""
        platforms = [platform for tag in self.wheel.tags for platform in tag.rsplit("-", 1)[1].split(".")]
        return next((platform for platform in platforms if platform.startswith("linux_")), "")


def check_wheel(path: Path, folder: Path, *, cuobjdump: Path | None = None) -> Checked:
    """Check all of a wheel; its shared objects are unpacked into the empty ``folder``.

    Raises VerificationFailed's family, which say what disagrees with what.
    """
    wheel = open_wheel(path, foreign=FOREIGN)
    facts = read_facts(wheel)
    targets = _claimed(wheel, facts)
    cuda = _cuda(wheel, facts)
    _check_local_version(wheel, facts, targets, cuda)
    _check_torch_pin(wheel, facts)
    objects = _device_code(wheel, folder, cuobjdump or find_cuobjdump())
    if facts.device == "cpu":
        holding = next((entry.path for entry in objects if entry.units), "")
        if holding:
            raise _disagree(wheel, f"says that it is for the CPU, and {holding} holds device code")
        return Checked(wheel, facts, "", ())
    evidence = judge_device_code(objects, targets)
    return Checked(wheel, facts, cuda, tuple(evidence["targets"]))


def read_facts(wheel: WheelFile) -> Facts:
    """What the wheel says of its making. Raises VerificationFailed where it says nothing, or nothing that holds."""
    member = f"{wheel.dist_info}/{FACTS_FILE}"
    try:
        with ZipFile(wheel.path) as archive:
            data = read_whole(archive, member, wheel.path.name)
        return Facts.model_validate_json(data)
    except KeyError:
        message = f"{wheel.path.name} does not say which torch, CUDA and targets it was made for"
        raise VerificationFailed(message, evidence=f"there is no {member}", hint=_BUILT_BY_OTHERS) from None
    except ValidationError as error:
        raise VerificationFailed(
            f"{wheel.path.name}: {member} is not what cudabuild writes",
            evidence=first_line(error),
            hint=_BUILT_BY_OTHERS,
        ) from None


def release_of(
    checked: Checked, *, sha256: str, size: int, by: str, redistributable: bool, origin: Literal["upload", "import"]
) -> Release:
    """The release that a checked wheel makes, under the name of its file."""
    wheel, facts = checked.wheel, checked.facts
    return Release(
        filename=wheel.path.name,
        sha256=sha256,
        size=size,
        project=wheel.name,
        version=wheel.version,
        created=utc_now(),
        metadata_sha256=hashlib.sha256(wheel.metadata.encode("utf-8")).hexdigest(),
        requires_python=_header(wheel.metadata, "requires_python"),
        torch=facts.torch or "",
        cuda=checked.cuda,
        device=facts.device,
        targets=checked.targets,
        python=wheel.path.name.removesuffix(".whl").split("-")[-3],
        origin=origin,
        by=by,
        license=facts.licence,
        redistributable=redistributable,
    )


def _header(metadata: str, name: str) -> str:
    from packaging.metadata import parse_email

    raw: dict[str, Any] = dict(parse_email(metadata)[0])
    return str(raw.get(name, ""))


def _disagree(wheel: WheelFile, why: str, evidence: str = "") -> VerificationFailed:
    return VerificationFailed(
        f"{wheel.path.name} {why}", evidence=evidence, hint="build it again; do not rename wheels"
    )


def _claimed(wheel: WheelFile, facts: Facts) -> tuple[Target, ...]:
    found = [(text, read_notation(text)) for text in facts.targets]
    wrong = [text for text, target in found if target is None]
    targets = tuple(target for _, target in found if target is not None)
    if wrong or (facts.device == "cuda") != bool(targets):
        raise _disagree(wheel, f"names targets that do not fit ({facts.device})", evidence=", ".join(facts.targets))
    return targets


def _cuda(wheel: WheelFile, facts: Facts) -> str:
    """The CUDA release that the local version names, which torch's own version and the toolkit may not contradict."""
    if facts.device == "cpu":
        return ""
    parts = (wheel.version.partition("+")[2]).split(".")
    named = _cuda_in(parts)
    torch = _cuda_in((facts.torch or "").partition("+")[2].split("."))
    if torch and named not in ("", torch):
        raise _disagree(wheel, "names another CUDA than the torch that it was made for", evidence=facts.torch or "")
    cuda = named or torch
    if facts.toolkit and facts.toolkit.partition(".")[0] != cuda.partition(".")[0]:
        raise _disagree(wheel, "names another CUDA than the toolkit that made it", evidence=f"CUDA {facts.toolkit}")
    return cuda


def _cuda_in(labels: Sequence[str]) -> str:
    found = next((match for label in labels if (match := _CUDA_LABEL.fullmatch(label))), None)
    return f"{found['major']}.{found['minor']}" if found else ""


def _check_local_version(wheel: WheelFile, facts: Facts, targets: Sequence[Target], cuda: str) -> None:
    from packaging.version import InvalidVersion

    try:
        labels = variant_labels(
            torch_version=facts.torch or "",
            cuda=cuda or None,
            targets=targets,
            variant=variant_targets(cuda) if facts.torch and cuda else (),
            device=facts.device,
        )
    except InvalidVersion as error:
        raise _disagree(wheel, "was made for a torch whose version does not parse", evidence=str(error)) from None
    local, wanted = wheel.version.partition("+")[2], ".".join(labels)
    if local != wanted and not local.endswith(f".{wanted}"):
        why = f"has the local version {local!r}, and its contents were made as {wanted!r}"
        raise _disagree(wheel, why, evidence=json.dumps(facts.model_dump(exclude={"schema_"})))


def _check_torch_pin(wheel: WheelFile, facts: Facts) -> None:
    """Its requirement on torch, if it has one, takes the torch that it was made for."""
    from packaging.metadata import parse_email
    from packaging.requirements import Requirement
    from packaging.version import Version

    requires = [Requirement(text) for text in parse_email(wheel.metadata)[0].get("requires_dist", ())]
    pins = [each for each in requires if each.name.lower() == "torch" and each.marker is None]
    if facts.torch is None:
        return
    public = Version(facts.torch).public
    if not pins or not all(each.specifier.contains(public, prereleases=True) for each in pins):
        why = f"was made for torch {facts.torch}, which its own requirements do not ask for"
        raise _disagree(wheel, why, evidence="; ".join(map(str, pins)) or "it does not require torch")


def _device_code(wheel: WheelFile, folder: Path, cuobjdump: Path) -> list[ObjectCode]:
    """The device code of every shared object, which are unpacked one after the other."""
    found: list[ObjectCode] = []
    with ZipFile(wheel.path) as archive:
        for member in wheel.members:
            name = member.rpartition("/")[2]
            with archive.open(member) as source:
                head = source.read(4)
                if head != b"\x7fELF":
                    continue
                if is_grafted(name):
                    raise _disagree(wheel, "carries a copy of one of torch's or CUDA's own libraries", evidence=member)
                target = folder / "object"
                with target.open("wb") as sink:
                    sink.write(head)
                    while chunk := source.read(_CHUNK):
                        sink.write(chunk)
            found.append(_inspected(wheel, target, member, cuobjdump))
            target.unlink()
    return found


def _inspected(wheel: WheelFile, path: Path, member: str, cuobjdump: Path) -> ObjectCode:
    try:
        return inspect_object(path, member, cuobjdump)
    except VerificationFailed as error:
        raise _disagree(wheel, f"holds a shared object that cannot be read: {member}", error.evidence) from error
    except Exception as error:  # a stranger's bytes make a reader of ELF files fail in any way
        raise _disagree(wheel, f"holds a shared object that cannot be read: {member}", type(error).__name__) from error
