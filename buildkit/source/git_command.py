"""git as we call it: the person's proxies, logins and ``insteadOf`` count; hooks, fsmonitor and prompts do not."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from buildkit import process
from buildkit.errors import IndexUnreachable, SourceError
from buildkit.process import redact
from buildkit.source.git_hosts import guarded

FETCH_SECONDS = 1800.0

_OPTIONS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.untrackedCache": "false",
    # The same bytes on every machine, whatever the person's habits are.
    "core.autocrlf": "false",
    "core.eol": "lf",
    "core.symlinks": "true",
    "core.fileMode": "true",
    "core.quotePath": "false",
    # Large files stay pointers: with git-lfs here and not there, one commit would have two contents.
    "filter.lfs.smudge": "",
    "filter.lfs.process": "",
    "filter.lfs.required": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "advice.detachedHead": "false",
    # A server that stops sending is given up after a minute.
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "60",
}
_OF_ANOTHER_REPOSITORY = frozenset({
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE", "GIT_REPLACE_REF_BASE",
    "GIT_CONFIG", "GIT_EXTERNAL_DIFF", "GIT_TEMPLATE_DIR", "GIT_TRACE",
})  # fmt: skip


@dataclass(frozen=True)
class Git:
    """git on a repository of ours (``folder``, bare) or, without one, anywhere."""

    folder: Path | None = None
    protocols: str = "https:ssh"
    """What git may fetch from, after ``insteadOf``, as GIT_ALLOW_PROTOCOL has it."""
    limits: Mapping[str, str] = field(default_factory=dict)
    """Settings that keep it to what somebody else may have fetched (see :mod:`.git_hosts`)."""

    def command(self, words: Sequence[str]) -> list[str]:
        """The words to run: pure."""
        options = [word for name, value in {**_OPTIONS, **self.limits}.items() for word in ("-c", f"{name}={value}")]
        place = [f"--git-dir={self.folder}"] if self.folder else []
        return ["git", *options, *place, *words]

    def run(
        self, *words: str, cwd: Path | None = None, check: bool = True, timeout: float = 120.0
    ) -> process.Completed:
        """One command. With ``check``, a failure raises ProgramFailed; no git at all is a :class:`SourceError`."""
        try:
            return process.run(
                self.command(words),
                cwd=cwd,
                env=environment(os.environ, self.protocols),
                check=check,
                timeout=timeout,
            )
        except process.ProgramMissing as error:
            raise SourceError(
                "git is not on this machine, and this source needs it",
                evidence=error.evidence,
                hint="sudo apt-get install git (dnf install git, conda install git)",
            ) from error


def git_for(folder: Path | None, url: str, *, local: bool) -> Git:
    """git on a repository that fetches from this URL; ``local``: the person named a local path.

    What is allowed is judged on the URL as it is written; where the person's own insteadOf leads is theirs. Where
    somebody else named the URL, that is judged as well: SourceError for what is not allowed.
    """
    effective = Git().run("ls-remote", "--get-url", "--", url).stdout.strip()
    limits = guarded(effective, os.environ)
    if limits is not None:
        return Git(folder, "https", limits)
    return Git(folder, _protocols(url, effective, local=local))


def _protocols(url: str, effective: str, *, local: bool) -> str:
    """What git may fetch with, as GIT_ALLOW_PROTOCOL has it."""
    protocols = {"https", "ssh", *(["file"] if local else [])}
    if effective != url:
        protocols.add(urlsplit(effective).scheme or "file")
    return ":".join(sorted(protocols))


def unreachable(url: str, answer: process.Completed) -> IndexUnreachable:
    """The cause where a repository cannot be read from, with the line of git's answer that says why."""
    lines = [line.strip() for line in redact(answer.stderr).splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "ERROR:", "error:"))]
    return IndexUnreachable(
        f"cannot fetch from {redact(url)}",
        evidence=(telling or lines or ["git said nothing"])[0],
        hint=f"try it by hand: git ls-remote {redact(url)} (proxy, login, insteadOf: git config --list)",
    )


def environment(environ: Mapping[str, str], protocols: str) -> dict[str, str]:
    """What git sees: never another repository's variables, never a prompt, messages in English."""
    kept = {name: value for name, value in environ.items() if name not in _OF_ANOTHER_REPOSITORY}
    return {
        **kept,
        "GIT_ALLOW_PROTOCOL": protocols,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GCM_INTERACTIVE": "never",
        "LC_ALL": "C.UTF-8",
        "LANGUAGE": "",
    }
