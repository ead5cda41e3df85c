"""From needs to Slurm's words and Dask's resources, and back from what ended a job to its cause: by tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.cli.matrix_worker import checked_name
from buildkit.errors import UsageError
from buildkit.matrix.dask_policy import checked_address
from buildkit.matrix.dask_task import Task, key_of
from buildkit.matrix.executor import EndCause, Job, Need
from buildkit.matrix.slurm_folder import DONE, SlurmDone, read_done, write_model
from buildkit.matrix.slurm_node import feed
from buildkit.matrix.slurm_request import memory_request, sbatch_words, script, time_request
from buildkit.matrix.slurm_state import State, job_cause, parse_states, parse_submitted
from buildkit.matrix.worker_delivery import NotDelivered, failure
from buildkit.matrix.worker_process import end_cause
from buildkit.matrix.worker_survey import (
    VERSION,
    Survey,
    cuda_major,
    lacking,
    needed,
    none_can,
    plain_name,
    resources,
    this_platform,
)

GIB = 1 << 30
NEED = Need(4 * GIB, 4, None, 100.0, 1800.0)


def job(need: Need) -> Job:
    return Job("diso-0.1.4", 1, ("build", "diso"), need)


def test_a_job_asks_slurm_for_what_it_needs() -> None:
    words = sbatch_words(job(NEED), Path("/nfs/run/cell"), grace=60.0)
    assert {"--cpus-per-task=4", "--mem=4506M", "--time=31", "--signal=B:USR1@60", "--no-requeue"} <= set(words)
    assert not [word for word in words if "gres" in word or "constraint" in word]
    assert script("/venv/bin/python", Path("/a b")).splitlines()[1] == (
        "exec /venv/bin/python -m buildkit.matrix.slurm_node '/a b'"
    )


@pytest.mark.parametrize(
    ("gpu", "words"),
    [(None, []), ("", ["--gres=gpu:1"]), ("rtx_a6000", ["--gres=gpu:1", "--constraint=rtx_a6000"])],
)
def test_a_proof_asks_for_a_gpu(gpu: str | None, words: list[str]) -> None:
    found = sbatch_words(job(Need(GIB, 1, gpu, 1.0, 60.0)), Path("/run"))
    assert [word for word in found if "gres" in word or "constraint" in word] == words


def test_requests_are_never_less_than_the_need() -> None:
    assert memory_request(Need(1, 1, None, 1.0, 1.0)) == 512
    assert memory_request(NEED) * (1 << 20) > NEED.memory
    assert time_request(Need(1, 1, None, 1.0, 1.0), 0.0) == 1
    assert time_request(NEED, 60.0) * 60 >= NEED.walltime + 60.0


OVER_MEMORY = "slurmstepd-n1: error: StepId=1.batch exceeded memory limit (436391936 > 104857600), being killed"
OOM_KILL = (
    "slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch. Some of the step tasks have been OOM Killed."
)
OVER_TIME = "slurmstepd-n1: error: *** JOB 4 ON n1 CANCELLED AT 2026-11-22T05:22:19 DUE TO TIME LIMIT ***"


@pytest.mark.parametrize(
    ("state", "log", "own", "succeeded", "cause"),
    [
        ("COMPLETED", "", "exited", True, "exited"),
        ("FAILED", "", "exited", False, "exited"),
        ("OUT_OF_MEMORY", "", "exited", True, "exited"),
        ("OUT_OF_MEMORY", "", "exited", False, "memory"),
        ("OUT_OF_MEMORY", "", None, False, "memory"),
        ("FAILED", OVER_MEMORY, None, False, "memory"),
        ("FAILED", OOM_KILL, None, False, "memory"),
        ("FAILED", "the package says: exceeded memory limit", None, False, "lost"),
        ("TIMEOUT", "", None, False, "walltime"),
        ("CANCELLED", OVER_TIME, None, False, "walltime"),
        ("COMPLETED", "", "walltime", False, "walltime"),
        ("CANCELLED", "", None, False, "exited"),
        ("NODE_FAIL", "", None, False, "lost"),
        ("PREEMPTED", "", None, False, "lost"),
        ("", "", None, False, "lost"),
    ],
)
def test_why_a_job_is_over(state: str, log: str, own: EndCause | None, succeeded: bool, cause: str) -> None:
    known = State(state) if state else None
    assert job_cause(known, log, own=own, succeeded=succeeded) == cause


def test_what_slurm_says_is_read() -> None:
    states = parse_states("12|RUNNING|n1\n13|CANCELLED by 0|n2\n14|PENDING|\n15|COMPLETED+|None assigned\n\nnonsense\n")
    assert states == {
        "12": State("RUNNING", "n1"),
        "13": State("CANCELLED", "n2"),
        "14": State("PENDING"),
        "15": State("COMPLETED"),
    }
    assert [states[each].over for each in ("12", "13", "14", "15")] == [False, True, False, True]
    assert [parse_submitted(text) for text in ("warning\n12;here\n", "7", "", "error")] == ["12", "7", "", ""]


def test_a_nodes_last_word_is_whole_or_not_there(tmp_path: Path) -> None:
    assert read_done(tmp_path) is None
    done = SlurmDone(exit_code=0, cause="exited", node="n1", seconds=1.0)
    write_model(tmp_path, DONE, done)
    assert read_done(tmp_path) == done
    assert [path.name for path in tmp_path.iterdir()] == [DONE]


def test_a_node_is_fed_without_a_lock_where_it_is_fed_from(tmp_path: Path) -> None:
    source, cache = tmp_path / "nfs", tmp_path / "node"
    (source / "uv" / "deep").mkdir(parents=True)
    (source / "uv" / "deep" / "file").write_text("1")
    (source / "uv" / "link").symlink_to("deep")
    (source / "uv" / "other").symlink_to("deep/file")
    (source / "store").mkdir()
    feed(source, cache)
    (source / "uv" / "deep" / "file").write_text("22")
    (source / "uv" / "other").unlink()
    (source / "uv" / "other").symlink_to("deep")
    feed(source, cache)
    assert [(cache / "uv" / name).readlink().name for name in ("link", "other")] == ["deep", "deep"]
    assert (cache / "uv" / "deep" / "file").read_text() == "22"
    assert sorted(path.name for path in source.rglob("*")) == ["deep", "file", "link", "other", "store", "uv"]
    assert not (cache / "store").exists()


@pytest.mark.parametrize(
    ("status", "stopped", "killed", "cause"),
    [
        (0, "", False, "exited"),
        (143, "cancelled", False, "exited"),
        (-15, "cancelled", False, "exited"),
        (143, "walltime", False, "walltime"),
        (-9, "", True, "memory"),
        (-9, "", False, "lost"),
    ],
)
def test_why_a_command_is_over(status: int, stopped: str, killed: bool, cause: str) -> None:
    assert end_cause(status, stopped, killed_for_memory=killed) == cause  # type: ignore[arg-type]


OLDER = Survey("cudabuild 0.0.9 edition 1", this_platform(), GIB, 1, (), "gcc 12.2.0", ())
SURVEY = Survey(VERSION, this_platform(), 8 * GIB, 8, ("rtxa6000",), "gcc 12.2.0", ("12.8",), (13,))


@pytest.mark.parametrize(
    ("survey", "need", "words", "missing"),
    [
        (SURVEY, NEED, ("build", "x", "--torch", "2.13.0+cu130"), []),
        (SURVEY, NEED, ("build", "x", "--torch", "2.9.0+cu128"), []),
        (SURVEY, NEED, ("build", "x", "--torch", "2.7.1+cu118"), ["cuda 11"]),
        (SURVEY, NEED, ("build", "x", "--torch", "2.7.1+cu118", "--device", "cpu"), []),
        (SURVEY, Need(9 * GIB, 1, None, 1, 1), (), ["9.0 GiB of memory"]),
        (SURVEY, Need(GIB, 1, "rtx_a6000", 1, 1), (), []),
        (SURVEY, Need(GIB, 1, "", 1, 1), (), []),
        (SURVEY, Need(GIB, 1, "h100", 1, 1), (), ["GPU h100"]),
        (SURVEY, Need(GIB, 1, None, 1, 1, "linux_riscv64"), (), ["linux_riscv64"]),
        (OLDER, Need(1, 1, None, 1, 1), (), [VERSION]),
    ],
)  # fmt: skip
def test_a_worker_is_given_what_it_can_build(
    survey: Survey, need: Need, words: tuple[str, ...], missing: list[str]
) -> None:
    assert lacking(needed(need, words), resources(survey)) == missing


def test_it_is_said_why_no_worker_can() -> None:
    taken = needed(Need(9 * GIB, 1, "h100", 1, 1), ())
    assert none_can(taken, {}) is None
    error = none_can(taken, {"worker a": resources(SURVEY), "worker b": {}})
    assert error is not None
    assert error.evidence == "worker a, which comes nearest, has no 9.0 GiB of memory, no GPU h100"


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA RTX A6000", "rtxa6000"),
        ("rtx_a6000", "rtxa6000"),
        ("H100", "h100"),
    ],
)
def test_names_of_gpus_are_compared_without_their_maker(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_the_release_of_cuda_is_the_torchs() -> None:
    assert cuda_major(("--torch=2.13.0+cu130",)) == 13
    assert cuda_major(("--torch", "2.13.0")) is None


@pytest.mark.parametrize(
    ("address", "insecure", "checked"),
    [
        ("127.0.0.1:8786", False, "tcp://127.0.0.1:8786"),
        ("tcp://localhost:1", False, "tcp://localhost:1"),
        ("tcp://[::1]:1", False, "tcp://[::1]:1"),
        ("tls://head.example:8786", False, "tls://head.example:8786"),
        ("tcp://10.0.0.1:8786", True, "tcp://10.0.0.1:8786"),
        ("tcp://10.0.0.1:8786", False, None),
        ("tcp://head.example:8786", False, None),
        ("tcp://127.0.0.1.example:8786", False, None),
        ("head.example", True, None),
        ("ucx://10.0.0.1:1", True, None),
        ("tcp://[::1:1", True, None),
    ],
)
def test_beyond_loopback_there_is_tls(address: str, insecure: bool, checked: str | None) -> None:
    if checked is None:
        with pytest.raises(UsageError):
            checked_address(address, insecure=insecure)
    else:
        assert checked_address(address, insecure=insecure) == checked


def test_a_wheel_that_nobody_gets_is_a_failure() -> None:
    code, answer = failure(NotDelivered("it was built", hint="mend it"), {"schema": 1, "key": "k"})
    assert (code, answer["key"], answer["error"]["kind"], answer["error"]["exit_code"]) == (
        10,
        "k",
        "not-delivered",
        10,
    )


def test_a_task_has_one_key_for_each_cell_and_its_words() -> None:
    one = Task("a-1.0", ("build", "a"), 1.0, "/x")
    assert key_of(one) == key_of(Task("a-1.0", ("build", "a"), 2.0, "/y"))
    assert key_of(one) != key_of(Task("a-1.0", ("build", "a", "--refresh"), 1.0, "/x"))


@pytest.mark.parametrize("name", ["../../x", "a/b", "-x", ".", "", "two words", "line\nbreak", "x" * 101])
def test_a_worker_with_a_name_that_is_none(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a worker's name"):
        checked_name(name)
    assert checked_name("node-7.example") == "node-7.example"
