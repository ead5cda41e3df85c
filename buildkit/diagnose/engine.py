"""From a log to the causes it shows, the root cause first. Pure: text in, findings out."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from buildkit.diagnose.rule import Rule, rules
from buildkit.diagnose.text import Log

MOST_EVIDENCE = 3
"""Lines of a log that are shown for one cause."""
LONGEST_GROUP = 120
"""Characters of a log that are taken over into a sentence."""

_STEMS = (
    "rror", "atal", "ailed", "illed", "annot", "No ", "no ", "not ", "ould", "ndefined", "nsupported", "denied", "xceeded",
    "equire", "emory", "nknown", "issing", "ismatch", "FAILED", "UNKNOWN", "Unable", "unable",
)  # fmt: skip
"""What nearly every line that reports a failure holds: a few searches for these leave little to search in."""


@dataclass(frozen=True)
class Evidence:
    """A line of the log and its number, from 1."""

    line: int
    text: str


@dataclass(frozen=True)
class Finding:
    """A cause that the log shows. ``because_of`` is the rule whose finding brought it about, if one is here too."""

    rule: Rule
    cause: str
    hint: str
    evidence: tuple[Evidence, ...]
    because_of: str = ""


def findings(log: Log, known: Sequence[Rule] | None = None) -> list[Finding]:
    """What the log shows: causes before their consequences, then by rank, then by place. At most one a rule."""
    known = rules() if known is None else known
    lines = _candidates(log, known)
    found = [finding for rule in known if (finding := _find(rule, log, lines)) is not None]
    present = {finding.rule.id for finding in found}
    linked = [_linked(finding, present) for finding in found]
    return sorted(linked, key=lambda each: (bool(each.because_of), each.rule.rank, each.evidence[0].line))


class _Lines:
    """The lines in which a rule could find anything, each different one once, as a text of their own."""

    def __init__(self, log: Log, indices: Sequence[int]) -> None:
        first: dict[str, int] = {}
        texts = log.whole.split("\n")
        for index in indices:
            first.setdefault(texts[index], index)
        self._log = Log(list(first), range(len(first)))
        self._indices = list(first.values())
        self.texts = texts

    def holding(self, rule: Rule) -> list[int]:
        """The indices (in the log) of lines that hold one of the rule's texts, in their order."""
        found = {number for text in rule.text for number in _lines_with(text, self._log)}
        return [self._indices[number] for number in sorted(found)]


def _candidates(log: Log, known: Sequence[Rule]) -> _Lines:
    rest = {text for rule in known for text in rule.text if not any(stem in text for stem in _STEMS)}
    found = {index for text in (*_STEMS, *sorted(rest)) for index in _lines_with(text, log)}
    return _Lines(log, sorted(found))


def _lines_with(text: str, log: Log) -> Iterator[int]:
    """The index of each line that holds a text."""
    whole = log.whole
    position = whole.find(text)
    while position >= 0:
        index = log.at(position)
        yield index
        position = whole.find(text, log.end_of(index))


def _find(rule: Rule, log: Log, lines: _Lines) -> Finding | None:
    for index in lines.holding(rule):
        line = lines.texts[index]
        match = rule.pattern.search(line) if rule.pattern else None
        if (rule.pattern and match is None) or (rule.forbidden and rule.forbidden.search(line)):
            continue
        near = _near(rule, lines.texts, index)
        if near is None or (rule.anywhere and not any(text in log.whole for text in rule.anywhere)):
            continue
        shown = sorted({index, *near, *range(index + 1, min(index + 1 + rule.after, len(lines.texts)))})
        evidence = [Evidence(log.numbers[each], lines.texts[each]) for each in shown if lines.texts[each]]
        groups = match.groupdict() if match else {}
        return Finding(rule, _said(rule.cause, groups), _said(rule.hint, groups), tuple(evidence[:MOST_EVIDENCE]))
    return None


def _near(rule: Rule, lines: Sequence[str], index: int) -> list[int] | None:
    """For each pattern of ``near`` the nearest line; None where one is missing."""
    found = []
    around = range(max(0, index - rule.reach), min(len(lines), index + rule.reach + 1))
    for pattern in rule.near:
        place = min((each for each in around if pattern.search(lines[each])), key=lambda n: abs(n - index), default=None)
        if place is None:
            return None
        found.append(place)
    return found


def _said(sentence: str, groups: dict[str, str | None]) -> str:
    """The sentence with what the log says; the blanks around what it does not say are taken out."""
    if "{" not in sentence:
        return sentence
    values = defaultdict(str, {name: (value or "")[:LONGEST_GROUP] for name, value in groups.items()})
    return re.sub(r" +(?=[,:;)]|\.(?!\.)|$)|(?<=\() +| +(?= )", "", sentence.format_map(values)).strip()


def _linked(finding: Finding, present: set[str]) -> Finding:
    roots = [root for root in finding.rule.consequence_of if root in present]
    if not roots:
        return finding
    return Finding(finding.rule, finding.cause, finding.hint, finding.evidence, because_of=roots[0])
