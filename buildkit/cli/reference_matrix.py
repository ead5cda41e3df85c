"""What the page on matrices holds that is made from models: the file's tables, the objects of its commands. Pure."""

from __future__ import annotations

from pydantic import BaseModel

from buildkit.cli.matrix_audit_schema import AuditedObject, AuditObject
from buildkit.cli.matrix_schema import OutlookObject, ShowObject, TotalsObject
from buildkit.cli.reference_tables import tables
from buildkit.matrix.github_settings import GithubSettings, Publish
from buildkit.matrix.model import Axes, Exclude, Matrix, Override
from buildkit.matrix.results import (
    AttemptObject,
    CellErrorObject,
    CellObject,
    CellWheelObject,
    CountsObject,
    DroppedObject,
    ProvenObject,
    RunObject,
)

_SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("`[matrix]`", Matrix),
    ("`[[matrix.include]]`", Axes),
    ("`[[matrix.exclude]]`", Exclude),
    ("`[[matrix.override]]`", Override),
    ("`[matrix.github]`", GithubSettings),
    ("`[matrix.github.publish]`", Publish),
    ("The object of `matrix show`", ShowObject),
    ("`totals`", TotalsObject),
    ("`cells` of `matrix show`", OutlookObject),
    ("`dropped`", DroppedObject),
    ("The object of `matrix run` and `matrix status`", RunObject),
    ("`counts`", CountsObject),
    ("`cells`", CellObject),
    ("`cells.attempts`", AttemptObject),
    ("`cells.wheel`", CellWheelObject),
    ("`cells.proven`", ProvenObject),
    ("`cells.error`", CellErrorObject),
    ("The object of `matrix audit`", AuditObject),
    ("`cells` of `matrix audit`", AuditedObject),
)


def matrix_text() -> str:
    """A table for each."""
    return tables(_SECTIONS)
