"""What holds for every machine: newer drivers and more toolkits do no harm, and advice that is followed helps."""

from __future__ import annotations

from dataclasses import fields, replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buildkit.machine import facts
from buildkit.machine.compat import driver_number
from buildkit.machine.solver.answer import KINDS, STEPS, Answer, Kind, Verdict, verdict_of
from buildkit.machine.solver.examine import examine
from buildkit.machine.solver.host import Host, HostCompiler, HostToolkit, HostTorch, Lack, Place
from buildkit.machine.solver.solve import solve
from buildkit.machine.target import Capability, Target

WORSE: dict[Verdict, int] = {"works": 0, "warning": 1, "cannot": 2}
DRIVERS = ("470.82", "525.60.13", "528.33", "535.54", "550.54.15", "570.86.15", "576.88", "580.65.06", "610.43")
GPUS: tuple[Capability, ...] = (
    (5, 2), (6, 1), (7, 0), (7, 5), (8, 0), (8, 6), (8, 7), (8, 9), (9, 0), (10, 0), (10, 3), (11, 0), (12, 0), (12, 1),
)  # fmt: skip
DESKTOP = tuple(gpu for gpu in GPUS if gpu >= (7, 5) and gpu not in {(8, 7), (11, 0)})
OWN: tuple[Place, ...] = ("linux", "wsl2")
FIELD: dict[Kind, str] = {"toolkit": "toolkits"}
RELEASES = tuple(known.release for known in facts.known_toolkits())

QUICKLY = settings(max_examples=20, deadline=None)
SLOWLY = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For what solves: a machine on which everything is wrong takes a tenth of a second."""


@st.composite
def torches(draw: st.DrawFn) -> HostTorch | None:
    known = draw(st.sampled_from(facts.torch_releases()))
    cuda = draw(st.sampled_from((*known.cuda_variants, "12.2", None)))
    torch = HostTorch(f"{known.version}.0+{'cpu' if cuda is None else 'cu' + cuda.replace('.', '')}", cuda)
    return draw(st.sampled_from((torch, torch, torch, None)))


LACKS: tuple[tuple[Lack, ...], ...] = ((), (), ("headers",), ("libraries",))
toolkits = st.builds(HostToolkit, st.sampled_from(RELEASES), st.sampled_from(LACKS))
compilers = st.builds(HostCompiler, st.sampled_from(("gcc", "clang")), st.integers(8, 22))
targets = st.builds(
    Target,
    st.sampled_from((7, 8, 9, 10, 12)),
    st.sampled_from((0, 3, 5, 6, 9)),
    st.sampled_from(("", "", "a", "f")),
    st.booleans(),
)
hosts = st.builds(
    Host,
    python=st.sampled_from(("3.8", "3.10", "3.12", "3.13t", "3.14", "3.15")),
    glibc=st.sampled_from(("2.17", "2.28", "2.35", "2.39", "2.41")),
    torch=torches(),
    gpus=st.lists(st.sampled_from(GPUS), max_size=2).map(tuple),
    driver=st.sampled_from((None, *DRIVERS)),
    toolkits=st.lists(toolkits, max_size=3).map(tuple),
    compiler=st.none() | compilers,
    setuptools=st.sampled_from((None, "69.5", "70.0", "80.9", "82.0")),
    place=st.sampled_from(("linux", "wsl2", "container", "slurm", "jetson")),
    machine=st.sampled_from(("x86_64", "aarch64")),
    project=st.sampled_from(("setuptools", "cmake")),
    cxx=st.sampled_from((None, 14, 17, 20)),
    targets=st.lists(targets, max_size=3).map(tuple),
)


def badness(host: Host) -> int:
    return WORSE[verdict_of(examine(host))]


@QUICKLY
@given(hosts, st.sampled_from(DRIVERS), st.sampled_from(DRIVERS))
def test_a_newer_driver_makes_nothing_worse(host: Host, one: str, other: str) -> None:
    older, newer = sorted((one, other), key=driver_number)
    assert badness(replace(host, driver=newer)) <= badness(replace(host, driver=older))


@QUICKLY
@given(hosts, st.sampled_from(RELEASES))
def test_one_more_toolkit_makes_nothing_worse(host: Host, release: str) -> None:
    more = replace(host, toolkits=(*host.toolkits, HostToolkit(release)))
    assert badness(more) <= badness(host)


@QUICKLY
@given(hosts, st.sampled_from(RELEASES))
def test_completing_the_toolkit_that_is_used_makes_nothing_worse(host: Host, release: str) -> None:
    used = host.toolkit
    if used is not None:
        completed = tuple(replace(one, lacks=()) if one == used else one for one in host.toolkits)
        assert badness(replace(host, toolkits=completed)) <= badness(host)


@QUICKLY
@given(hosts)
def test_a_newer_standard_in_the_package_makes_nothing_worse(host: Host) -> None:
    assert badness(replace(host, cxx=20)) <= badness(replace(host, cxx=17)) <= badness(replace(host, cxx=14))


@QUICKLY
@given(hosts)
def test_without_gpus_nothing_is_said_of_running(host: Host) -> None:
    assert all(problem.step != "run" for problem in examine(replace(host, gpus=())))


@QUICKLY
@given(hosts)
def test_what_is_built_for_the_gpus_here_is_never_the_wrong_target(host: Host) -> None:
    assert all(problem.cause != "wrong-target" for problem in examine(replace(host, targets=())))


@QUICKLY
@given(hosts)
def test_problems_are_in_order_and_in_words(host: Host) -> None:
    problems = examine(host)
    assert [STEPS.index(one.step) for one in problems] == sorted(STEPS.index(one.step) for one in problems)
    assert all(one.sentence.endswith((".", '".')) and len(one.sentence) > 20 for one in problems)


@SLOWLY
@given(hosts)
def test_advice_that_is_followed_helps(host: Host) -> None:
    answer = solve(host)
    assert (answer.advice == ()) or answer.verdict == "cannot"
    for advice in answer.advice:
        assert advice.verdict != "cannot"
        assert solve(advice.host).verdict == advice.verdict
        assert examine(advice.host) == advice.problems
        assert all(change.ways for change in advice.changes)
    refuse_advice_that_names_other_than_it_changes(host, answer)
    refuse_advice_that_holds_another_one(answer)


def refuse_advice_that_names_other_than_it_changes(host: Host, answer: Answer) -> None:
    for advice in answer.advice:
        assert list(advice.kinds) == sorted(set(advice.kinds), key=KINDS.index)
        named = {FIELD.get(kind, kind) for kind in advice.kinds}
        changed = {one.name for one in fields(Host) if getattr(host, one.name) != getattr(advice.host, one.name)}
        assert changed == named


def refuse_advice_that_holds_another_one(answer: Answer) -> None:
    kinds = [frozenset(advice.kinds) for advice in answer.advice]
    assert not any(one < other for one in kinds for other in kinds)
    assert len(set(kinds)) == len(kinds)


@SLOWLY
@given(hosts, st.sampled_from(DESKTOP), st.sampled_from(OWN))
def test_on_a_desktop_gpu_of_today_there_is_always_a_way(host: Host, gpu: Capability, place: Place) -> None:
    answer = solve(replace(host, gpus=(gpu,), place=place, machine="x86_64", cxx=None, glibc="2.39"))
    assert answer.verdict != "cannot" or answer.advice
