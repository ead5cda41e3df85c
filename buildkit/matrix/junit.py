"""A run of a matrix as JUnit XML, which CI systems show. Pure."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from buildkit.matrix.results import CellObject, RunObject

# What XML 1.0 cannot hold, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_text(state: RunObject) -> str:
    """A suite a recipe, a case a cell; a cell that failed is a failure, what was dropped or not run is skipped."""
    root = ElementTree.Element("testsuites", {"name": "cudabuild matrix", "time": f"{state.seconds:.3f}"})
    suites: dict[str, ElementTree.Element] = {}
    for cell in state.cells:
        name = f"{cell.recipe}=={cell.version}" if cell.version else cell.recipe
        if name not in suites:
            suites[name] = ElementTree.SubElement(root, "testsuite", {"name": _plain(name)})
        _case(suites[name], cell)
    if state.dropped:
        suites[""] = ElementTree.SubElement(root, "testsuite", {"name": "dropped"})
        for one in state.dropped:
            case = ElementTree.SubElement(suites[""], "testcase", {"classname": "dropped", "name": _plain(one.id)})
            ElementTree.SubElement(case, "skipped", {"message": _plain(f"{one.kind}: {one.reason}")})
    for suite in (root, *suites.values()):
        _count(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ElementTree.Element, cell: CellObject) -> None:
    time = f"{cell.seconds or 0.0:.3f}"
    case = ElementTree.SubElement(
        suite, "testcase", {"classname": suite.get("name", ""), "name": _plain(cell.id), "time": time}
    )
    if cell.error is not None:
        message = {"type": cell.error.kind, "message": _plain(cell.error.message)}
        failure = ElementTree.SubElement(case, "failure", message)
        failure.text = _plain("\n".join(part for part in (cell.error.evidence, cell.error.hint) if part))
    elif cell.status != "succeeded":
        ElementTree.SubElement(case, "skipped", {"message": "not run"})
    said = [f"{row.target}: {row.summary}" for row in cell.proven]
    if cell.status == "succeeded":
        from_store = "from a store" if cell.cache == "hit" else "built"
        said = [f"{from_store}, proven: {cell.grade}", *said, *([cell.wheel.filename] if cell.wheel else [])]
    if said:
        ElementTree.SubElement(case, "system-out").text = _plain("\n".join(said))


def _count(suite: ElementTree.Element) -> None:
    cases = list(suite.iter("testcase"))
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    suite.set("skipped", str(sum(case.find("skipped") is not None for case in cases)))
    suite.set("errors", "0")


def _plain(text: str) -> str:
    return _FORBIDDEN.sub("?", text)
