"""The commands and what each is for, in the order in which people need them."""

from __future__ import annotations

from collections.abc import Sequence

COMMANDS = {
    "build": "Build packages (or take them from the store) and print what was proven.",
    "install": "Build, prove, install into the active environment, and prove there.",
    "fetch": "Bring everything a build needs into the cache.",
    "plan": "Say what would be built, why, and whether the store has it.",
    "verify": "Run the proof stages again on a wheel or on what is installed.",
    "doctor": "What is here, what does not fit, and what to type.",
    "recipes": "List, show, check, test and write recipes.",
    "toolkit": "List, install and remove CUDA toolkits, without root.",
    "cache": "List, show, verify, clear and share what is stored.",
    "matrix": "Build many wheels from one file: recipes x torch x CUDA x Python x targets.",
    "docker": "Write a Dockerfile with compiled packages, or a compose file.",
    "log": "Show a build's log, and follow it while it runs.",
    "explain": "Say why a build failed, from its log or any other.",
    "report": "Show where a build's time and memory went.",
    "monitor": "Show memory, processors, GPUs and the builds that run, live.",
    "cancel": "End a running build.",
    "serve": "Serve the stored wheels as a package index for pip and uv.",
    "login": "Keep the token for a server that builds (`--server URL`).",
    "logout": "Forget it.",
    "publish": "Upload wheels to an index, this one's or any other.",
    "token": "Make, list and revoke the tokens of an index.",
}


def hint_when_ended(words: Sequence[str]) -> str:
    """What is to be done after Ctrl-C or SIGTERM; empty for what builds, whose hint is that of the kind."""
    if list(words[:2]) == ["toolkit", "install"]:
        return "the same command again: it goes on with what was downloaded"
    builds = not words or words[0] not in COMMANDS or words[0] in {"build", "install"}
    return "" if builds or list(words[:2]) == ["recipes", "test"] else "the same command again"
