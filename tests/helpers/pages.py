"""What pages are tried with: builds as views, a corpus of what must stay inert, a browser."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

from playwright.sync_api import Browser, sync_playwright
from traces import GIB, event, memory, ran, trace_of

from buildkit.guard.trace import Trace
from buildkit.report.view import BuildView, Change, CopyLine, Diagnosis, Excerpt, Shown, Since, Wheel
from buildkit.verify.verdict import Stage, make_verdict

CORPUS = (
    "<script>document.title='owned'</script>",
    "</script><script>document.title='owned'</script>",
    "</style><img src=x onerror=\"document.title='owned'\">",
    "<svg onload=\"document.title='owned'\">",
    '"><b onmouseover="document.title=\'owned\'">',
    "' onfocus='document.title=1' autofocus='",
    "javascript:document.title='owned'",
    "{{ 7 * 7 }} {% raw %} ${7*7}",
    "--></title></textarea><script>document.title='owned'</script><!--",
    "]]><iframe srcdoc='<script>parent.document.title=1</script>'>",
    "&lt;script&gt; &amp; &#x3c;img&#x3e;",
    "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x1b[0m\x1b[1;4munder\x1b[0m \x1b]8;;http://evil.example/\x1b\\link\x1b]8;;\x1b\\",
    "\x1b[38;5;9mbright\x1b[0m \x1b[38;2;1;2;3mtrue\x1b[39m \x1b[48;5;200;33mmixed\x1b[m \x1b[999mnone \x1b[",
    "one\rtwo\rthree",
    "a\tb \u202e reversed \u200b \x00 \x07 \x9b31m",
    "data: x\nevent: end\nid: 1",
)
"""Logs, names and errors that would do something if a page let them."""


def many_units(count: int, *, lanes: int = 8) -> Trace:
    """A build of so many compilations in as many lanes; every fortieth is ended once, the last one takes longest."""
    events: list[Any] = []
    free = [0.0] * lanes
    for number in range(count):
        lane = free.index(min(free))
        start, name = free[lane], f"flash_fwd_hdim{64 * (1 + number % 4)}_bf16_causal_{number:04}_sm80.cu"
        length = 60.0 if number == count - 1 else 1.0 + number * 7919 % 11
        queued = max(0.0, start - number % 5)
        if number % 40 == 7:
            events += [event("queued", queued, number, name=name), event("started", start, number)]
            events += [event("killed", start + length, number, peak=GIB, cpu=3.0, reason="memory")]
            events += [event("started", start + length + 1, number)]
            events += [event("ended", start + 2 * length + 1, number, peak=2 * GIB, cpu=9.0)]
            free[lane] = start + 2 * length + 1
        else:
            events += ran(number, queued, start, start + length, name=name, cpu=length)
            free[lane] = start + length
    seconds = max(free)
    events += [memory(seconds * n / 600, (3 + n * 31 % 5) * GIB // 2, 5 * GIB, running=lanes) for n in range(600)]
    return trace_of(events, seconds=seconds, jobs=lanes)


def some_units() -> Trace:
    """Four compilations; one stood in line, one was ended and made again."""
    events = [
        *ran(0, 0.0, 0.0, 6.0, name="volume_render.cu"), *ran(1, 0.0, 0.0, 4.0, name="bindings.cpp"),
        *ran(2, 0.5, 4.0, 24.0, name="attention_forward_hdim256_bf16_causal_sm120.cu", peak=3 * GIB),
        event("queued", 0.0, 3, name="sorting.cu"), event("started", 6.0, 3),
        event("killed", 12.0, 3, peak=GIB, cpu=3.0, reason="memory"), event("started", 24.0, 3),
        event("ended", 26.0, 3, peak=2 * GIB, cpu=2.0),
        *(memory(float(at), (1 + at % 5) * GIB // 2 + GIB, running=2, waiting=1) for at in range(27)),
    ]  # fmt: skip
    return trace_of(events, seconds=28.0)


def view(**changes: Any) -> BuildView:
    """A build that ended well, with everything that a page shows."""
    verdict = make_verdict(
        [
            Stage(name="build", outcome="passed", seconds=28.0, evidence={"device": "cuda"}),
            Stage(name="audit", outcome="passed", seconds=1.0, evidence={"targets": ["12.0"], "objects": [
                {"path": "fast/_C.so", "elf": ["12.0"], "ptx": [], "by_unit": []}]}),
            Stage(name="import", outcome="passed", seconds=2.0, evidence={"torch": "2.13.0+cu130"}),
            Stage(name="probe", outcome="not-executed", seconds=0.0, detail="no GPU visible"),
        ],
        wheel_sha256="a" * 64, device="cuda", targets=("12.0",), torch="2.13.0+cu130", python="cp311",
    )  # fmt: skip
    name = "fast-1.0+pt2.13.cu130-cp311-cp311-manylinux_2_34_x86_64.whl"
    lines = ("source       pypi", "build        2 at a time", *(f"[{n}/40] nvcc -c src/k{n}.cu" for n in range(1, 41)))
    values: dict[str, Any] = {
        "build": "20261121-3f2a", "recipe": "fast", "status": "succeeded", "started": "2026-11-21T06:00:00Z",
        "version": "1.0+pt2.13.cu130", "key": "b" * 64, "seconds": 31.0, "grade": verdict.grade,
        "asked": (("device", "cuda"), ("targets", "12.0"), ("torch", "2.13.0+cu130"), ("jobs", "2")),
        "inputs": (("compiler", "g++ 12.2"), ("environment.CFLAGS", "-O2")), "trace": some_units(),
        "verdict": verdict, "wheel": Wheel(name, "a" * 64, 12_345_678, f"/home/me/wheels/{name}"),
        "since": Since("20261120-77aa", "2026-11-20T06:00:00Z", (Change("torch", "2.12.0+cu126", "2.13.0+cu130"),
                                                                Change("most memory", "2 GiB", "3 GiB"))),
        "lines": (CopyLine("pip", f"python -m pip install /home/me/wheels/{name}"),
                  CopyLine("Dockerfile", f"COPY {name} /tmp/\nRUN pip install --no-deps /tmp/{name}")),
        "log": Excerpt(head=(*lines, "\x1b[1;32mok\x1b[0m all done"), size=2000),
    }  # fmt: skip
    return BuildView(**{**values, **changes})


def failed_view(**changes: Any) -> BuildView:
    """A build that failed, with its diagnosis."""
    log = (
        "build        2 at a time",
        "k.cu:12: \x1b[1;31mfatal error:\x1b[0m here.h: No such file or directory",
        "end",
    )
    why = Diagnosis(
        "the header here.h is missing", "missing-headers", (Shown("k.cu:12: fatal error: here.h", 2),),
        "cudabuild toolkit install 13.0", ("https://docs.example/headers",), ("a consequence (line 3)",),
    )  # fmt: skip
    values: dict[str, Any] = {"status": "failed", "diagnosis": why, "verdict": None, "wheel": None, "grade": "",
                              "log": Excerpt(head=log, size=80)}  # fmt: skip
    return view(**{**values, **changes})


def poisoned_view() -> BuildView:
    """Every text of a build holds one of the corpus, and its log all of them."""
    bad = " ".join(CORPUS)
    events = [one for n, text in enumerate(CORPUS) for one in ran(n, 0.0, 0.0, 5.0 + n, name=text, reason=text)]
    return failed_view(
        recipe=bad, version=bad, build=CORPUS[0], key=CORPUS[1], asked=((bad, bad),), inputs=((bad, bad),),
        diagnosis=Diagnosis(bad, bad, (Shown(bad, 1), Shown(bad)), bad, CORPUS, CORPUS),
        trace=trace_of(events, seconds=30.0).model_copy(update={"recipe": bad}), no_trace=bad,
        since=Since(bad, bad, (Change(bad, bad, bad),)), wheel=Wheel(bad, bad, 1, bad), lines=(CopyLine(bad, bad),),
        verdict=make_verdict([Stage(name="build", outcome="passed", seconds=1.0, evidence={bad: bad}, detail=bad)],
                             wheel_sha256=bad, device="cuda", torch=bad, python=bad),
        log=Excerpt(head=CORPUS, size=100),
    )  # fmt: skip


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's browser, without a window."""
    program = shutil.which("chromium")
    assert program is not None, "these tests need a browser: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
