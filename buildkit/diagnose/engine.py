"""From a log to the causes it shows, the root cause first. Pure: text in, findings out."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from buildkit.diagnose.rule import Rule, rules
from buildkit.diagnose.text import Log

MOST_EVIDENCE = 3
"""Lines of a log that are shown for one cause."""
MOST_CANDIDATES = 20_000
"""Lines that are looked at for one rule: more that hold its words are one message over and over."""
LONGEST_GROUP = 120
"""Characters of a log that are taken over into a sentence."""

_STEMS = (
    "rror", "atal", "ailed", "illed", "annot", "No ", "no ", "not ", "ould", "ndefined", "nsupported", "denied",
    "xceeded", "equire", "emory", "nknown", "issing", "ismatch", "FAILED", "UNKNOWN", "Unable", "unable",
)  # fmt: skip
"""What nearly every line that reports a failure holds: a few searches for these leave little to search in."""

_PASSING = re.compile(r"^-- |[Ww]arning: |\bnote: ")
"""What tells of things that a build went on without."""
_SOURCE = "raise "
"""How lines begin that a traceback quotes from a program: its message is not filled in yet."""


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
    line: int
    """The number of the line that the rule is about; others of the evidence stand near it."""
    because_of: str = ""


def findings(log: Log, known: Sequence[Rule] | None = None) -> list[Finding]:
    """What the log shows: causes before their consequences, then by rank, then by place. One a rule and a line."""
    known = rules() if known is None else known
    lines = _candidates(log, known)
    found = [finding for rule in known if (finding := _find(rule, log, lines)) is not None]
    present = {finding.rule.id for finding in found}
    linked = [_linked(finding, present) for finding in found]
    linked.sort(key=lambda each: (bool(each.because_of), each.rule.rank, each.line))
    first = {each.line: each for each in reversed(linked)}  # a line is told once: by the rule that knows it best
    return [each for each in linked if first[each.line] is each]


class _Lines:
    """The lines in which a rule could find anything, each different one once, as a text of their own."""

    def __init__(self, log: Log, indices: Sequence[int]) -> None:
        places: dict[str, list[int]] = {}
        texts = log.whole.split("\n")
        for index in indices:
            places.setdefault(texts[index], []).append(index)
        self._log = Log(list(places), range(len(places)))
        self._places = list(places.values())
        self.texts = texts

    def holding(self, rule: Rule) -> Iterator[int]:
        """The indices (in the log) of lines that hold one of the rule's texts.

        Of equal lines the first, and the others only for a rule that looks around the line.
        """
        found = {number for text in rule.text for number in self._log.holding(text)}
        for number in sorted(found)[:MOST_CANDIDATES]:
            yield from self._places[number] if rule.near else self._places[number][:1]


def _candidates(log: Log, known: Sequence[Rule]) -> _Lines:
    found = {index for stem in _STEMS for index in log.holding(stem)}
    rest = {text for rule in known for text in rule.text if not _has_stem(text)}
    # Most of a log are the commands of compilers, and what fails is not told there without one of the stems.
    places = [place for place, line in enumerate(log.lines) if not (" -c " in line and " -I" in line)]
    others = Log([log.lines[place] for place in places], places)
    found.update(places[index] for text in rest for index in others.holding(text))
    return _Lines(log, sorted(found))


@cache
def _has_stem(text: str) -> bool:
    """Of a rule's text, of which there are some hundreds."""
    return any(stem in text for stem in _STEMS)


def _find(rule: Rule, log: Log, lines: _Lines) -> Finding | None:
    for index in lines.holding(rule):
        line = lines.texts[index]
        if line.startswith(_SOURCE) or (not rule.warnings and _PASSING.search(line)):
            continue
        match = rule.pattern.search(line) if rule.pattern else None
        if (rule.pattern and match is None) or (rule.forbidden and rule.forbidden.search(line)):
            continue
        near = _near(rule, lines.texts, index)
        if near is None or (rule.anywhere and not any(text in log.whole for text in rule.anywhere)):
            continue
        shown = sorted({index, *near, *range(index + 1, min(index + 1 + rule.after, len(lines.texts)))})
        evidence = [Evidence(log.numbers[each], lines.texts[each]) for each in shown if lines.texts[each]]
        groups = match.groupdict() if match else {}
        return Finding(
            rule,
            _said(rule.cause, groups),
            _said(rule.hint, groups),
            tuple(evidence[:MOST_EVIDENCE]),
            log.numbers[index],
        )
    return None


def _near(rule: Rule, lines: Sequence[str], index: int) -> list[int] | None:
    """For each pattern of ``near`` the nearest line; None where one is missing."""
    found = []
    around = range(max(0, index - rule.reach), min(len(lines), index + rule.reach + 1))
    for pattern in rule.near:
        place = min(
            (each for each in around if pattern.search(lines[each])), key=lambda n: abs(n - index), default=None
        )
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
    return replace(finding, because_of=roots[0])
