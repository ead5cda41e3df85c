"""Which cells of a matrix an index serves, at which grade; which are missing, stale or without code for a target.

Of a wheel with a verdict the verdict is read; of any other one the few bytes that its device code is listed in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from packaging.utils import canonicalize_name
from packaging.version import Version

from buildkit.build.remote_file import NoRanges, TooMuch
from buildkit.build.remote_index import VERDICT_LIMIT, RemoteIndex
from buildkit.errors import NotOnIndex, SourceError
from buildkit.machine.arch import parse_targets
from buildkit.machine.target import Target
from buildkit.matrix.audit_fit import Named, misfit, newest_first, read_name
from buildkit.matrix.audit_look import Looked, look
from buildkit.matrix.audit_pages import NoPage, Offered, read_page
from buildkit.matrix.audit_places import places_of
from buildkit.matrix.audit_stale import Pinned, why_stale
from buildkit.matrix.cell import Cell
from buildkit.process import redact
from buildkit.verify.coverage import TargetRow
from buildkit.verify.verdict import GRADES, Verdict, read_verdict

Status = Literal["served", "below", "stale", "lacking", "unread", "missing"]
"""Best first. ``below``: its grade is less than the cell requires. ``unread``: the wheel is there, what it holds could
not be told."""
RANK = {status: number for number, status in enumerate(get_args(Status))}
LOOKED_INTO = 3
"""Wheels of one cell that are looked into, at most: several build tags of one version are rare."""


@dataclass(frozen=True)
class Finding:
    """What an index has for a cell. ``held`` are the targets whose machine code every unit has; ``evidence`` says where
    that was read: in a verdict, in the wheel, or nowhere. ``fetched`` are the bytes read of the wheel."""

    cell: Cell
    status: Status
    reasons: tuple[str, ...] = ()
    filename: str = ""
    url: str = ""
    sha256: str = ""
    grade: str = ""
    verdict_url: str = ""
    held: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    evidence: Literal["verdict", "wheel", "none"] = "none"
    complete: bool = True
    size: int = 0
    fetched: int = 0


@dataclass
class Audit:
    """The audit of one index. ``limit``: bytes that are read of a wheel, at most."""

    index: RemoteIndex
    pinned: Mapping[str, Pinned]
    """By the cell's id."""
    limit: int
    look_always: bool = False
    _pages: dict[str, tuple[Offered, ...] | None] = field(default_factory=dict)
    _looked: dict[str, Looked | str] = field(default_factory=dict)
    _verdicts: dict[str, Verdict | None] = field(default_factory=dict)

    def check(self) -> None:
        """Raise NotOnIndex, or what :meth:`RemoteIndex.page` raises, where no index is at the address."""
        url = self.index.url.partition("{")[0]
        if self.index.page(url.rstrip("/") + "/") is None:
            hint = "give a simple index (https://HOST/simple/), or the address of `cudabuild serve`"
            raise NotOnIndex(f"there is no index at {redact(url)}", evidence="HTTP 404", hint=hint)

    def of(self, cell: Cell) -> Finding:
        """What the index has for one cell. Raises IndexUnreachable and IndexDenied."""
        files = self._files(cell)
        named = {name: parsed for name in files if (parsed := read_name(name)) is not None}
        if not named:
            return Finding(cell, "missing", ("the index has no wheel of it",))
        fitting = {name: each for name, each in named.items() if not misfit(cell, each)}
        wanted = [name for name in _ordered(fitting) if not cell.version or _is(fitting[name], cell.version)]
        live = [name for name in wanted if not files[name].yanked]
        if not live:
            return _nothing(cell, fitting, named, yanked=bool(wanted), files=files)
        found = [self._judged(cell, files[name]) for name in live[:LOOKED_INTO]]
        return min(found, key=lambda each: RANK[each.status])

    def _files(self, cell: Cell) -> dict[str, Offered]:
        """What the pages list that may have it."""
        for group in places_of(self.index.url, cell, self.pinned[cell.id].projects):
            found = {each.filename: each for place in group for each in self._page(place) or ()}
            if found:
                return found
        return {}

    def _page(self, url: str) -> tuple[Offered, ...] | None:
        if url not in self._pages:
            answer = self.index.page(url)
            try:
                self._pages[url] = read_page(answer.url, answer.media_type, answer.content) if answer else None
            except NoPage as error:
                hint = "give a simple index (https://HOST/simple/), or the address of `cudabuild serve`"
                raise NotOnIndex(
                    f"{redact(url)} is no page of a simple index", evidence=str(error), hint=hint
                ) from None
        return self._pages[url]

    def _judged(self, cell: Cell, file: Offered) -> Finding:
        targets = parse_targets(cell.targets) if cell.device == "cuda" else ()
        verdict = self._verdict(file)
        looked = self._look(file, code=bool(targets) and (verdict is None or self.look_always))
        about = _told(cell, file, verdict, looked, targets)
        materials = looked.materials if isinstance(looked, Looked) else None
        stale = why_stale(self.pinned[cell.id], cell, verdict, materials)
        reasons = [*([f"it lacks {', '.join(about.lacking)}"] if about.lacking else []), *stale]
        status: Status = "served"
        if about.lacking:
            status = "lacking"
        elif isinstance(looked, str) and about.evidence == "none":
            status, reasons = "unread", [*reasons, looked]
        elif stale:
            status = "stale"
        elif _below(about.grade, cell.require):
            status, reasons = "below", [f"its proof is {about.grade}, {cell.require} is required"]
        if status == "served" and not about.complete:
            status = "unread"
            reasons = [f"only the first {self.limit >> 20} MiB of it were read, and what is there so far is right"]
        return Finding(**{**about.__dict__, "status": status, "reasons": tuple(reasons)})

    def _verdict(self, file: Offered) -> Verdict | None:
        """The proof beside a file, where it is of these very bytes."""
        if not file.verdict_url:
            return None
        if file.verdict_url not in self._verdicts:
            answer = self.index.page(file.verdict_url, limit=VERDICT_LIMIT)
            try:
                # What our index says of a file, with the verdict inside (docs/reference/index.md).
                verdict = read_verdict(json.loads(answer.content)["verdict"]) if answer else None
            except (ValueError, LookupError, TypeError, RecursionError):
                verdict = None
            same = verdict is not None and verdict.wheel_sha256 == file.sha256
            self._verdicts[file.verdict_url] = verdict if same else None
        return self._verdicts[file.verdict_url]

    def _look(self, file: Offered, *, code: bool) -> Looked | str:
        """What is in a wheel, or why that could not be told."""
        key = f"{file.url} {code}"
        if key not in self._looked:
            self._looked[key] = self._looked_anew(file, code=code)
        return self._looked[key]

    def _looked_anew(self, file: Offered, *, code: bool) -> Looked | str:
        try:
            return self.index.read(file.url, self.limit, lambda remote: look(remote, file.filename, code=code))
        except NoRanges:
            return "the server sends whole files only, so nobody looked into it"
        except TooMuch:
            return f"its list of files alone is larger than {self.limit >> 20} MiB"
        except SourceError as error:
            if error.exit_code == SourceError.exit_code and type(error) is not SourceError:
                raise
            return error.message


def _told(
    cell: Cell, file: Offered, verdict: Verdict | None, looked: Looked | str, targets: Sequence[Target]
) -> Finding:  # fmt: skip
    """What is known of a file's device code and proof, before it is judged."""
    common = Finding(
        cell,
        "served",
        filename=file.filename,
        url=redact(file.url),
        sha256=file.sha256,
        grade=verdict.grade if verdict else file.grade,
        verdict_url=redact(file.verdict_url),
        size=looked.size if isinstance(looked, Looked) else 0,
        fetched=looked.fetched if isinstance(looked, Looked) else 0,
    )
    if isinstance(looked, Looked) and looked.code is not None:
        code = looked.code
        lacking = code.lacking(targets) if code.units or code.complete else ()
        given = {"held": code.held(), "lacking": lacking, "evidence": "wheel", "complete": code.complete}
        return Finding(**{**common.__dict__, **given})
    if verdict is not None:
        rows = {str(row.target): row for row in verdict.rows}
        held = tuple(row.target for row in verdict.rows if row.sass)
        lacking = tuple(part for target in targets for part in _row_lacks(rows, target))
        return Finding(**{**common.__dict__, "held": held, "lacking": lacking, "evidence": "verdict"})
    return common


def _row_lacks(rows: Mapping[str, TargetRow], target: Target) -> list[str]:
    row = next((rows[text] for text in (str(target.with_ptx), str(target.without_ptx)) if text in rows), None)
    if row is None or not row.sass or row.lacking:
        return [f"sm_{target.number}"]
    return [f"PTX of {target.without_ptx}"] if target.ptx and not row.ptx else []


def _below(grade: str, require: str | None) -> bool:
    """An index that says nothing of proofs is not below anything."""
    return bool(grade and require and grade in GRADES and GRADES.index(grade) < [*GRADES].index(require))  # type: ignore[arg-type]


def _ordered(named: Mapping[str, Named]) -> list[str]:
    by_value = {id(each): name for name, each in named.items()}
    return [by_value[id(each)] for each in newest_first(named.values())]


def _is(named: Named, version: str) -> bool:
    return Version(named.version.public) == Version(Version(version).public)


def _nothing(
    cell: Cell, fitting: Mapping[str, Named], named: Mapping[str, Named], *, yanked: bool, files: Mapping[str, Offered]
) -> Finding:
    """No file of the version: what there is instead. An older version makes the cell stale."""
    if yanked:
        return Finding(cell, "missing", ("it is yanked",))
    others = [name for name in _ordered(fitting) if not files[name].yanked]
    older = [name for name in others if fitting[name].version < Version(cell.version)]
    if older:
        file, version = files[older[0]], fitting[older[0]].version.public
        reason = f"it is version {version}, {cell.version} is wanted"
        return Finding(
            cell, "stale", (reason,), file.filename, redact(file.url), file.sha256, file.grade, redact(file.verdict_url)
        )
    if others:
        return Finding(cell, "missing", (f"only {fitting[others[0]].version.public} is there",))
    why = sorted({misfit(cell, each) for each in named.values()})
    return Finding(cell, "missing", (f"of {len(named)} wheels none is for it: {'; '.join(why[:3])}",))


def project_names(names: Sequence[str]) -> tuple[str, ...]:
    """Normalised, each once."""
    return tuple(dict.fromkeys(canonicalize_name(name) for name in names))
