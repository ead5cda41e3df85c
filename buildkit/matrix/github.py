"""A workflow of GitHub Actions that builds, proves and publishes the cells of a matrix. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from buildkit.matrix.cell import Cell
from buildkit.matrix.github_cells import SystemPackages, build_rows, chunks, proof_rows
from buildkit.matrix.github_data import Action, actions
from buildkit.matrix.github_jobs import build_job, left_job, prove_job, publish_job
from buildkit.matrix.github_settings import GithubSettings

MARK = "Written by `cudabuild matrix github`"
_USES = re.compile(r"^(?P<line>\s*(?:- )?uses: (?P<name>[\w.-]+/[\w.-]+)(?:/[\w.-]+)?@(?P<commit>[0-9a-f]{40}))$", re.M)


def matrices(cells: Sequence[Cell], settings: GithubSettings, system: SystemPackages) -> dict[str, Any]:
    """What `--print-matrix` prints: the rows of build and proof jobs, as ``strategy.matrix`` takes them."""
    return {
        "schema": 1,
        "build": {"include": build_rows(cells, settings, system)},
        "prove": {"include": proof_rows(cells, settings)},
    }


def workflow(cells: Sequence[Cell], settings: GithubSettings, system: SystemPackages) -> dict[str, Any]:
    """The workflow as a value. Raises ConfigError for what GitHub has no image or runner for."""
    jobs = _build_jobs(cells, settings, system)
    built = [name for name in jobs if not name.startswith("left")]
    proofs = {
        f"prove{_number(number)}": prove_job(rows, settings, needs=built)
        for number, rows in enumerate(chunks(proof_rows(cells, settings)))
    }
    jobs |= proofs
    if settings.publish:
        jobs["publish"] = publish_job(settings.publish, settings, needs=built, proofs=list(proofs))
    return {
        "name": "wheels",
        "on": _triggers(settings),
        # Nothing but what a job asks for.
        "permissions": {},
        # One run at a time for a branch, and none is ended for a newer one: that would throw hours away.
        "concurrency": {"group": "wheels-${{ github.ref }}", "cancel-in-progress": False},
        "defaults": {"run": {"shell": "bash"}},
        "jobs": jobs,
    }


def _build_jobs(cells: Sequence[Cell], settings: GithubSettings, system: SystemPackages) -> dict[str, Any]:
    """The first round, a job for each matrix that GitHub takes; then, round by round, what is left."""
    jobs = {
        f"build{_number(number)}": build_job({"include": rows}, settings, 1)
        for number, rows in enumerate(chunks(build_rows(cells, settings, system)))
    }
    before = list(jobs)
    for number in range(2, settings.rounds + 1):
        left, name = f"left-{number - 1}", f"build-round-{number}"
        jobs[left] = left_job(number - 1, needs=before)
        jobs[name] = build_job(f"${{{{ fromJSON(needs.{left}.outputs.cells) }}}}", settings, number, after=left)
        before = [name]
    return jobs


def _number(number: int) -> str:
    return f"-part-{number + 1}" if number else ""


def _triggers(settings: GithubSettings) -> dict[str, Any]:
    asked = {"description": "Publish what was built", "type": "boolean", "default": False}
    triggers: dict[str, Any] = {"workflow_dispatch": {"inputs": {"publish": asked}} if settings.publish else {}}
    if settings.schedule:
        triggers["schedule"] = [{"cron": settings.schedule}]
    if settings.tags:
        triggers["push"] = {"tags": list(settings.tags)}
    return triggers


def workflow_text(value: dict[str, Any], source: str) -> str:
    """The workflow as YAML, the same text for the same value; ``source`` is the file that it was made from."""
    import yaml

    class Writer(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
            return True

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
            super().increase_indent(flow, False)

    def text(writer: Any, data: str) -> Any:
        return writer.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)

    Writer.add_representer(str, text)
    body = yaml.dump(value, Dumper=Writer, sort_keys=False, width=1000, allow_unicode=True)
    return f"{_head(source)}{_USES.sub(_with_release, body)}"


def _head(source: str) -> str:
    lines = [f"# {MARK} from {' '.join(source.split())}: do not edit, run it again (--out this file)."]
    lines += [f"# {each.name} {each.release}: this commit was not confirmed." for each in _unconfirmed()]
    return "\n".join(lines) + "\n"


def _unconfirmed() -> list[Action]:
    return [each for each in actions() if not each.confirmed]


def _with_release(match: re.Match[str]) -> str:
    """The release as a comment behind the commit, where people and Dependabot look for it."""
    release = next(each.release for each in actions() if each.commit == match["commit"])
    return f"{match['line']} # {release}"
