"""The schedule and the ladder, by properties: what must hold for any units, any memory, any number of cores."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit.guard.pressure import Holder, Reading, relieve
from buildkit.guard.replay import intervals_of, jobs_of, recorded_seconds
from buildkit.guard.schedule import MOST_PREEMPTIONS, Cores, Pool, Unit, decide, line_length, safe_jobs
from buildkit.guard.simulate import (
    Job,
    Simulated,
    best_line,
    lower_bound,
    lucky_static,
    safe_static,
    simulate_broker,
    simulate_static,
    with_bounds,
)
from buildkit.guard.trace import Outcome, Run, Trace, UnitTrace

GIB = 1 << 30
FEW = settings(max_examples=40, deadline=None)

bounds = st.integers(1, 100)
jobs = st.lists(st.builds(lambda s, m: Job("x", s / 4, m, m), st.integers(1, 40), bounds), min_size=1, max_size=12)
budgets = st.integers(20, 300)
core_counts = st.integers(1, 6)


def one(name: int, bound: int, *, slot: int | None = None, pools: tuple[str, ...] = ("p",), **more: object) -> Unit:
    return replace(Unit(name, name if slot is None else slot, bound, pools), **more)  # type: ignore[arg-type]


def choose(
    waiting: Sequence[Unit], running: Sequence[Unit] = (), *, budget: int = 100, cores: int = 9
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    decision = decide(waiting, running, {"p": Pool(budget)}, Cores(cores))
    return decision.start, decision.send_back


# the rule, case by case


@pytest.mark.parametrize(
    ("budget", "found", "jobs"),
    [(100, [50, 50, 50], 2), (100, [10] * 20, 10), (100, [99, 1, 1], 2), (100, [101], 1), (100, [], 1), (0, [1], 1)],
)
def test_safe_jobs(budget: int, found: list[int], jobs: int) -> None:
    assert safe_jobs(budget, found) == jobs


def test_the_head_starts_if_it_fits_though_more_run_than_is_safe() -> None:
    """j* is 1 here (90 + 60 do not fit), and small ones run side by side all the same."""
    units = [one(1, 30), one(2, 30), one(3, 90), one(4, 60)]
    assert choose(units) == ((1, 2), ())


def test_others_go_past_a_blocked_head() -> None:
    assert choose([one(2, 90), one(3, 30)], [one(1, 60)]) == ((3,), ())


def test_who_went_past_gives_way_when_the_head_could_start() -> None:
    """The newest first, and only as many as it takes; what is ending already counts as gone."""
    went_past = [one(3, 15), one(4, 30), one(5, 20)]
    assert choose([one(2, 60)], went_past) == ((), (5, 4)[:1] if 15 + 30 + 60 <= 100 else (5, 4))
    ending = [went_past[0], *(replace(unit, ending=True) for unit in went_past[1:])]
    assert choose([one(2, 60)], ending) == ((), ())


def test_for_a_guess_nothing_is_thrown_away_but_nothing_more_starts() -> None:
    assert choose([one(2, 60, sure=False), one(9, 5)], [one(3, 30), one(4, 30)]) == ((), ())
    assert choose([one(2, 60), one(9, 5)], [one(3, 30), one(4, 30)]) == ((), (4,))


def test_nobody_gives_way_for_a_head_that_could_not_start_anyway() -> None:
    """Two of 60 do not fit, so that the older one must end first."""
    assert choose([one(2, 60), one(9, 60)], [one(1, 60), one(3, 30)]) == ((), ())


def test_no_older_unit_is_ever_sent_back() -> None:
    assert choose([one(5, 80)], [one(1, 50)]) == ((), ())


def test_one_that_fits_nowhere_runs_alone() -> None:
    assert choose([one(1, 500), one(2, 10)]) == ((1,), ())
    assert choose([one(2, 500)], [one(1, 10)]) == ((), ())


def test_one_that_would_be_sent_back_soon_does_not_start() -> None:
    """The older one ends in 5 s; then the head needs what a unit of 50 s would still hold."""
    older, head = one(1, 60, seconds=5.0), one(2, 90, seconds=9.0)
    assert choose([head, one(3, 30, seconds=50.0)], [older]) == ((), ())
    assert choose([head, one(3, 30, seconds=4.0)], [older]) == ((3,), ())
    assert choose([head, one(3, 10, seconds=50.0)], [older]) == ((3,), ())


def test_one_that_was_sent_back_often_waits_for_its_turn() -> None:
    assert choose([one(2, 90), one(3, 30, preempted=MOST_PREEMPTIONS)], [one(1, 60)]) == ((), ())


def test_units_that_have_not_come_yet_count() -> None:
    waiting, running = [one(2, 40)], [one(1, 40), one(3, 30)]
    assert decide(waiting, running, {"p": Pool(100)}, Cores(9)).send_back == (3,)
    assert decide(waiting, running, {"p": Pool(100, (90,))}, Cores(9)).send_back == ()


def test_a_blocked_build_does_not_hold_up_another_one() -> None:
    """Each in a group of its own below one machine: the head of one waits for memory that the other never uses."""
    pools = {"machine": Pool(1000), "a": Pool(100), "b": Pool(100)}
    a, b = ("machine", "a"), ("machine", "b")
    units = [one(2, 60, pools=a), one(3, 60, pools=b), one(4, 30, pools=a)]
    assert decide(units, [one(1, 60, pools=a)], pools, Cores(9)).start == (3, 4)


def test_the_jobs_of_a_build_are_kept() -> None:
    units = [one(1, 1, build="a"), one(2, 1, build="a"), one(3, 1, build="b"), one(4, 1, build="b")]
    assert decide(units, [], {"p": Pool(100)}, Cores(3, {"a": 1})).start == (1, 3, 4)


def test_no_more_guesses_than_processors_run_at_once() -> None:
    guesses = [one(name, 1, sure=False) for name in (1, 2, 3)]
    cores = Cores(9, processors=2)
    assert decide([*guesses, one(4, 1)], [], {"p": Pool(100)}, cores).start == (1, 2, 4)
    assert decide(guesses, [one(9, 1)], {"p": Pool(100)}, cores).start == (1,)
    assert decide(guesses, [one(9, 1)], {"p": Pool(100)}, Cores(9)).start == (1, 2, 3)
    others = [one(name, 1, build="other") for name in (8, 9)]
    assert decide(guesses, others, {"p": Pool(100)}, cores).start == (1,), "another build does not keep it waiting"


@pytest.mark.parametrize(("pool", "running", "starts"), [
    (Pool(100, held=True), [], (2,)),
    (Pool(100, held=True), [one(1, 5)], ()),
    (Pool(100, starved=True), [], ()),
])  # fmt: skip
def test_a_held_pool_takes_no_second_and_a_starved_one_no_first(
    pool: Pool, running: list[Unit], starts: tuple[int, ...]
) -> None:
    assert decide([one(2, 5)], running, {"p": pool}, Cores(9)).start == starts


def test_units_are_sent_back_when_nobody_knows_how_long_they_take() -> None:
    """Else the property below would say little."""
    found = [Job("a", 3.0, 60, 60), Job("b", 3.0, 90, 90), Job("c", 9.0, 30, 30)]
    blind = simulate_broker(found, budget=100, cores=3, blind=True)
    assert (blind.sent_back, blind.starts) == (1, (0.0, 3.0, 6.0))
    assert simulate_broker(found, budget=100, cores=3).sent_back == 0


def test_how_many_ninja_may_have_in_line() -> None:
    assert line_length(2, 4 * GIB) == 16
    assert line_length(32, 4 * GIB) == 64
    assert line_length(32, 256 * GIB) == 256
    assert line_length(1000, 4 * GIB) == 64
    assert line_length(1000, 20 * GIB) == 20 * GIB // 50 // (4 << 20)


# the rule, for anything


POOLS = [("a",), ("b",), ("c",), ("a", "b"), ("b", "c"), ("a", "b", "c")]
drawn = st.tuples(bounds, st.sampled_from(POOLS), st.sampled_from([0.0, 1.0, 7.0, 50.0]), st.integers(0, 3))
State = tuple[list[Unit], list[Unit], dict[str, Pool], Cores]


def state_of(units: list[tuple[int, tuple[str, ...], float, int]], memory: list[int], cores: int) -> State:
    """Units in line and running, in up to three pools that overlap, some on their way out; what runs fits.

    The place in line is another order than the one in which they were started.
    """
    pools = {
        name: Pool(budget, (budget // 3,) if cores > 3 else ()) for name, budget in zip("abc", memory, strict=True)
    }
    waiting: list[Unit] = []
    running: list[Unit] = []
    for name, (bound, chosen, seconds, how) in enumerate(units):
        slot = name * 5 % 13
        unit = one(name, bound, slot=slot, pools=chosen, seconds=seconds, build=chosen[0], ending=how == 2)
        used = {pool: sum(other.bound for other in running if pool in other.pools) for pool in chosen}
        if how >= 2 and all(not held or held + bound <= pools[pool].budget for pool, held in used.items()):
            running.append(unit)
        else:
            waiting.append(replace(unit, ending=False))
    return waiting, running, pools, Cores(cores, {"a": cores // 2 + 1})


states = st.builds(
    state_of, st.lists(drawn, min_size=1, max_size=12), st.lists(budgets, min_size=3, max_size=3), core_counts
)


@FEW
@given(states)
def test_bounds_never_exceed_a_budget_but_for_a_lone_unit(
    state: State,
) -> None:
    waiting, running, pools, cores = state
    decision = decide(waiting, running, pools, cores)
    after = running + [unit for unit in waiting if unit.name in decision.start]
    for name, pool in pools.items():
        inside = [unit for unit in after if name in unit.pools]
        assert (
            len(inside) <= 1
            or sum(unit.bound for unit in inside) <= pool.budget
            or inside == [unit for unit in running if name in unit.pools]
        )
    assert len(after) <= max(cores.machine, len(running))


@FEW
@given(states)
def test_only_younger_ones_give_way_and_something_goes_on(
    state: State,
) -> None:
    waiting, running, pools, cores = state
    decision = decide(waiting, running, pools, cores)
    by_name = {unit.name: unit for unit in running}
    for name in decision.send_back:
        assert not by_name[name].ending
        assert any(unit.slot < by_name[name].slot for unit in waiting)
    if not running and waiting:
        assert min(waiting, key=lambda unit: unit.slot).name in decision.start


@FEW
@given(jobs, budgets, core_counts, st.booleans())
def test_no_unit_starts_later_than_under_the_safe_static_number(
    found: list[Job], budget: int, cores: int, blind: bool
) -> None:
    """Whether or not it is known how long they take: unknown, they are sent back more often."""
    most = min(cores, safe_jobs(budget, [job.bound for job in found]))
    static = simulate_static(found, most=most, cores=cores)
    ours = simulate_broker(found, budget=budget, cores=cores, window=len(found), blind=blind)
    assert all(mine <= theirs + 1e-6 for mine, theirs in zip(ours.starts, static.starts, strict=True))
    assert ours.seconds <= static.seconds + 1e-6


@FEW
@given(jobs, budgets, core_counts, st.booleans(), st.integers(1, 14))
def test_every_build_ends_within_its_memory(
    found: list[Job], budget: int, cores: int, longest: bool, window: int
) -> None:
    ours = simulate_broker(found, budget=budget, cores=cores, window=window, longest_first=longest)
    assert len(ours.ends) == len(found)
    assert ours.most_memory <= max(budget, *(job.peak for job in found))
    assert ours.most_jobs <= cores
    assert ours.killed == 0
    assert ours.sent_back <= MOST_PREEMPTIONS * len(found)
    within = [replace(job, peak=min(job.peak, budget)) for job in found]
    assert ours.seconds >= lower_bound(within, budget=budget, cores=cores) - 1e-6


@FEW
@given(jobs, st.lists(st.integers(30, 140), min_size=12, max_size=12), budgets, core_counts)
def test_wrong_bounds_cost_time_and_nothing_else(found: list[Job], shares: list[int], budget: int, cores: int) -> None:
    wrong = [replace(job, bound=max(1, job.peak * share // 100)) for job, share in zip(found, shares, strict=False)]
    ours = simulate_broker(wrong, budget=budget, cores=cores)
    assert len(ours.ends) == len(found)
    assert ours.most_memory <= max(budget, *(job.peak for job in found))


# the simulator


def heavy(count: int) -> list[Job]:
    """Heavy-tailed peaks, the same each time: most at 0.6-1 GiB, some up to 8."""
    peaks = [(6 + number * 7 % 5) * GIB // 10 + (number % 12 == 5) * (number % 7) * GIB for number in range(count)]
    return [Job(f"u{number}", 5.0 + number * 13 % 23, peak, peak) for number, peak in enumerate(peaks)]


def test_static_numbers_and_the_bound_stand_in_order() -> None:
    found = heavy(96)
    for cores, memory in ((2, 9 * GIB), (8, 16 * GIB), (16, 32 * GIB)):
        most, safe = safe_static(found, budget=memory, cores=cores)
        lucky_most, lucky = lucky_static(found, budget=memory, cores=cores)
        ours = simulate_broker(found, budget=memory, cores=cores, window=line_length(cores, memory))
        bound = lower_bound(found, budget=memory, cores=cores)
        assert most <= lucky_most
        assert bound <= ours.seconds < safe.seconds
        assert bound <= lucky.seconds <= safe.seconds


def test_side_by_side_is_slower_where_processors_share() -> None:
    two = [Job("a", 10.0, 1, 1), Job("b", 10.0, 1, 1)]
    assert simulate_broker(two, budget=9, cores=2).seconds == 10.0
    assert simulate_broker(two, budget=9, cores=2, speed=(1.0, 0.5)).seconds == 20.0
    assert simulate_broker(two, budget=1, cores=2, speed=(1.0, 0.5)).seconds == 20.0


def test_a_link_waits_for_everything_before_it() -> None:
    found = [Job("a", 4.0, 1, 1), Job("b", 9.0, 1, 1), Job("l", 1.0, 1, 1, "link"), Job("c", 1.0, 1, 1)]
    done: Simulated = simulate_broker(found, budget=9, cores=4)
    assert done.starts == (0.0, 0.0, 9.0, 9.0)


def test_the_longest_goes_first_where_that_helps() -> None:
    found = [*(Job(f"s{number}", 2.0, 1, 1) for number in range(8)), Job("long", 16.0, 1, 1)]
    assert best_line(found, budget=99, cores=2, window=16)
    assert not best_line(found[:-1], budget=99, cores=2, window=16)


def test_bounds_come_from_the_earlier_run() -> None:
    now, earlier = [Job("a", 1.0, 50, 0), Job("new", 1.0, 10, 0)], [Job("a", 1.0, 40, 0), Job("b", 1.0, 70, 0)]
    assert [job.bound for job in with_bounds(now, earlier)] == [40, 70]


# a record of a build


def ended(name: str, at: float, seconds: float, *, order: int, outcome: Outcome = "done") -> UnitTrace:
    run = Run(queued=0.0, start=at - seconds, end=at, outcome=outcome, peak=700)
    return UnitTrace(order=order, name=name, kind="nvcc", key=f"k{name}", runs=(run,))


def traced(*units: UnitTrace) -> Trace:
    return Trace(
        build="b1", recipe="r", started="2026-11-21T06:00:00Z", seconds=20.0, complete=True, admitted=True, cores=2,
        jobs=2, units=units,
    )  # fmt: skip


def test_a_record_becomes_jobs_in_their_order() -> None:
    intervals = intervals_of(
        traced(
            ended("b", 19.0, 9.0, order=1),
            ended("a", 14.0, 4.0, order=0),
            ended("x", 14.0, 4.0, order=2, outcome="failed"),
        )
    )
    assert [one.name for one in intervals] == ["a", "b"]
    assert recorded_seconds(intervals) == 9.0
    assert jobs_of(intervals) == [Job("ka", 4.0, 700, 700), Job("kb", 9.0, 700, 700)]


def test_what_was_lost_side_by_side_is_no_work() -> None:
    """Two at half speed for 4 s, then one at full speed for 5 s: and the simulator finds the record again."""
    intervals = intervals_of(traced(ended("a", 4.0, 4.0, order=0), ended("b", 9.0, 9.0, order=1)))
    jobs = jobs_of(intervals, (1.0, 0.5))
    assert [job.seconds for job in jobs] == [2.0, 7.0]
    assert simulate_broker(jobs, budget=9999, cores=2, speed=(1.0, 0.5)).seconds == recorded_seconds(intervals)


# the ladder


CAP = Reading(4 * GIB, 3 * GIB, GIB // 5)
THREE = [Holder(7, 1, GIB), Holder(8, 3, GIB // 2), Holder(9, 2, GIB)]


def test_nothing_is_done_while_there_is_memory() -> None:
    assert relieve(CAP, THREE) == relieve(CAP, [])
    assert not relieve(CAP, THREE).hold


def test_admission_stops_before_anything_is_ended() -> None:
    assert relieve(replace(CAP, available=GIB // 8), THREE).hold
    assert relieve(replace(CAP, available=GIB // 8), THREE).end == ()
    assert relieve(replace(CAP, stalled=0.5), THREE).hold


def test_the_newest_is_ended_and_more_only_if_that_is_not_enough() -> None:
    assert relieve(replace(CAP, available=0), THREE).end == (8,)
    assert relieve(replace(CAP, available=GIB // 8, growth=4 * GIB), THREE).end == (8, 9)


def test_growth_is_seen_ahead() -> None:
    assert relieve(replace(CAP, available=GIB // 2), THREE).end == ()
    assert relieve(replace(CAP, available=GIB // 2, growth=2 * GIB), THREE).end == (8,)


def test_known_units_are_trusted_to_stop_where_they_stopped_before() -> None:
    growing = replace(CAP, available=GIB // 2, growth=2.0 * GIB)
    known = [replace(holder, room=GIB // 20) for holder in THREE]
    assert relieve(growing, known).end == ()
    assert relieve(growing, [*known[:2], THREE[2]]).end == (8,)
    assert relieve(replace(growing, others=2.0 * GIB), known).end == (8,)


def test_what_is_ending_already_is_waited_for() -> None:
    ending = [THREE[0], replace(THREE[1], ending=True), THREE[2]]
    assert relieve(replace(CAP, available=0), ending).end == ()


@FEW
@given(
    st.lists(st.tuples(st.integers(0, GIB), st.booleans()), max_size=8),
    st.integers(0, 2 * GIB),
    st.integers(-GIB, 8 * GIB),
)
def test_the_oldest_is_never_ended_beside_others(found: list[tuple[int, bool]], available: int, growth: int) -> None:
    holders = [Holder(number, number, usage, ending) for number, (usage, ending) in enumerate(found)]
    relief = relieve(replace(CAP, available=available, growth=float(growth)), holders)
    live = [holder.name for holder in holders if not holder.ending]
    assert set(relief.end) <= set(live[1:])
    assert relief.lone is None or live == [relief.lone]
    assert all(newer in relief.end for newer, end in itertools.product(live, relief.end) if newer > end)


def test_the_last_one_is_ended_only_when_the_kernel_would() -> None:
    alone = [Holder(1, 1, 3 * GIB)]
    assert relieve(replace(CAP, available=GIB // 8), alone).lone is None
    assert relieve(replace(CAP, available=GIB // 8, growth=2 * GIB), alone).lone == 1
    assert relieve(replace(CAP, available=GIB // 64), alone).lone == 1
    assert relieve(replace(CAP, available=GIB // 64), [Holder(1, 1, 1 << 20)]).lone is None
