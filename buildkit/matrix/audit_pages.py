"""A project's page of a simple repository (PEP 503, 691): wheels, and beside each what an index of ours says. Pure.

Installers take the same pages; what is read here and not there is a grade and the address of a verdict.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

JSON_TYPES = frozenset({"application/vnd.pypi.simple.v1+json", "application/json"})
VERDICT = ".verdict.json"


@dataclass(frozen=True)
class Offered:
    """A wheel on a page. ``grade`` and ``verdict_url`` are empty where the index says nothing of a proof."""

    filename: str
    url: str
    sha256: str = ""
    yanked: bool = False
    grade: str = ""
    verdict_url: str = ""


class NoPage(ValueError):
    """The answer is no page of a simple repository; the text says why."""


def read_page(url: str, media_type: str, content: bytes) -> tuple[Offered, ...]:
    """The wheels of a project's page that came from ``url``, in its order. Raises NoPage."""
    if media_type in JSON_TYPES or media_type.endswith("+json"):
        return _from_json(url, content)
    if "html" not in media_type:
        raise NoPage(f"it is {media_type or 'of no type'}")
    return _from_html(url, content.decode("utf-8", "replace"))


def _from_json(url: str, content: bytes) -> tuple[Offered, ...]:
    try:
        files = json.loads(content)["files"]
        return tuple(_offered(url, entry) for entry in files if str(entry["filename"]).endswith(".whl"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise NoPage(f"its JSON is no project's ({type(error).__name__})") from None


def _offered(url: str, entry: dict[str, object]) -> Offered:
    ours = entry.get("_cudabuild")
    own = ours if isinstance(ours, dict) else {}
    hashes = entry.get("hashes")
    verdict = own.get("verdict")
    return Offered(
        str(entry["filename"]),
        urljoin(url, str(entry["url"])),
        str(hashes.get("sha256", "")) if isinstance(hashes, dict) else "",
        bool(entry.get("yanked")),
        str(own.get("grade") or ""),
        urljoin(url, str(verdict)) if verdict else "",
    )


def _from_html(url: str, text: str) -> tuple[Offered, ...]:
    parser = _Anchors()
    parser.feed(text)
    base = urljoin(url, parser.base)
    proofs = {
        urljoin(base, href).removesuffix(VERDICT): said for href, said, _ in parser.links if href.endswith(VERDICT)
    }
    found = []
    for href, _, yanked in parser.links:
        address, fragment = urldefrag(urljoin(base, href))
        filename = unquote(urlsplit(address).path.rpartition("/")[2])
        if filename.endswith(".whl"):
            grade = proofs.get(address)
            sha256 = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else ""
            proof = f"{address}{VERDICT}" if grade is not None else ""
            found.append(Offered(filename, address, sha256, yanked, grade or "", proof))
    return tuple(found)


class _Anchors(HTMLParser):
    """Every link: its address, its text, whether it is marked as yanked."""

    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.links: list[tuple[str, str, bool]] = []
        self._open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Links and the page's base."""
        given = dict(attrs)
        href = given.get("href")
        if tag == "base" and href and not self.base:
            self.base = href
        if tag == "a" and href:
            self.links.append((href, "", "data-yanked" in given))
            self._open = True

    def handle_endtag(self, tag: str) -> None:
        """The end of a link's text."""
        self._open = self._open and tag != "a"

    def handle_data(self, data: str) -> None:
        """A link's text."""
        if self._open:
            href, said, yanked = self.links[-1]
            self.links[-1] = (href, said + data.strip(), yanked)
