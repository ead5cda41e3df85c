"""Limits on made-up machines: trees of /proc and /sys/fs/cgroup as the kernel shows them (version 1, 2 and both)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from buildkit.machine.limits import Limits, read_limits

GIB = 1 << 30
NONE_V1 = "9223372036854771712"


class Machine:
    """A root folder with the files that bear on limits. 64 GiB, 48 GiB of them available, 16 processors."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mounts: list[str] = []
        self.groups: list[str] = []
        self.write("proc/meminfo", f"MemTotal: {64 << 20} kB\nMemFree: 1024 kB\nMemAvailable: {48 << 20} kB\n")
        self.write("proc/self/status", "Name:\tpython\nCpus_allowed:\tffff\nCpus_allowed_list:\t0-15\n")

    def write(self, path: str, text: object) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n", encoding="utf-8")

    def mount(self, kind: str, point: str, *, options: str = "rw", top: str = "/") -> None:
        """A line of mountinfo, with optional fields before the dash as shared mounts have them."""
        self.mounts.append(f"31 23 0:28 {top} {point} rw,nosuid shared:9 master:2 - {kind} {kind} {options}")
        self.write("proc/self/mountinfo", "\n".join(["22 1 8:1 / / rw - ext4 /dev/sda1 rw", *self.mounts]))
        (self.root / point.replace("\\040", " ").lstrip("/")).mkdir(parents=True, exist_ok=True)

    def group(self, line: str) -> None:
        """A line of /proc/self/cgroup."""
        self.groups.append(line)
        self.write("proc/self/cgroup", "\n".join(self.groups))

    def v2(self, folder: str, **files: object) -> None:
        """Files of a version 2 group: ``memory_max`` is memory.max."""
        for name, value in files.items():
            self.write(f"{folder}/{name.replace('_', '.', 1)}", value)

    def limits(self, **environ: str) -> Limits:
        return read_limits(environ, root=self.root)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_machine_without_limits(machine: Machine) -> None:
    assert machine.limits() == Limits(16, "the processors this process may run on", 64 * GIB, 48 * GIB, "MemTotal")


@pytest.mark.parametrize(("listed", "count"), [("0-15", 16), ("3", 1), ("0-3,8", 5), ("0,2-3,8-9", 5)])
def test_the_affinity_mask(machine: Machine, listed: str, count: int) -> None:
    machine.write("proc/self/status", f"Cpus_allowed_list:\t{listed}")
    assert machine.limits().cpus == count


def test_where_proc_says_nothing_the_system_is_asked(tmp_path: Path) -> None:
    limits = read_limits({}, root=tmp_path)
    assert limits.cpus == os.cpu_count()
    assert limits.memory == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_a_kernel_without_mem_available(machine: Machine) -> None:
    machine.write("proc/meminfo", f"MemTotal: {8 << 20} kB\nMemFree: {1 << 20} kB\nCached: {2 << 20} kB")
    assert machine.limits().memory_available == 3 * GIB


def test_version_2(machine: Machine) -> None:
    machine.mount("cgroup2", "/sys/fs/cgroup")
    machine.group("0::/user.slice/job")
    machine.v2("/sys/fs/cgroup/user.slice", memory_max="max", cpu_max="max 100000")
    machine.v2(
        "/sys/fs/cgroup/user.slice/job",
        memory_max=8 * GIB,
        memory_high="max",
        memory_current=5 * GIB,
        memory_stat=f"anon {GIB}\ninactive_file {2 * GIB}\nactive_file {GIB}",
        cpu_max="350000 100000",
    )
    limits = machine.limits()
    assert (limits.cpus, limits.cpu_source) == (3, "/sys/fs/cgroup/user.slice/job/cpu.max")
    assert (limits.memory, limits.memory_source) == (8 * GIB, "/sys/fs/cgroup/user.slice/job/memory.max")
    assert limits.memory_available == 6 * GIB  # 8 - (5 - 3): the page cache can be dropped


def test_memory_high_binds_too(machine: Machine) -> None:
    machine.mount("cgroup2", "/sys/fs/cgroup")
    machine.group("0::/job")
    machine.v2("/sys/fs/cgroup/job", memory_max=8 * GIB, memory_high=4 * GIB, memory_current=GIB)
    limits = machine.limits()
    assert (limits.memory, limits.memory_available) == (4 * GIB, 3 * GIB)
    assert limits.memory_source.endswith("memory.high")


def test_an_ancestor_binds_more_than_the_group_itself(machine: Machine) -> None:
    machine.mount("cgroup2", "/sys/fs/cgroup")
    machine.group("0::/a/b/c")
    machine.v2("/sys/fs/cgroup/a", memory_max=6 * GIB, memory_current=5 * GIB, cpu_max="200000 100000")
    machine.v2("/sys/fs/cgroup/a/b", memory_max="max", memory_current=2 * GIB)
    machine.v2("/sys/fs/cgroup/a/b/c", memory_max=16 * GIB, memory_current=GIB, cpu_max="800000 100000")
    limits = machine.limits()
    assert (limits.cpus, limits.cpu_source) == (2, "/sys/fs/cgroup/a/cpu.max")
    assert (limits.memory, limits.memory_source) == (6 * GIB, "/sys/fs/cgroup/a/memory.max")
    assert limits.memory_available == GIB


def test_the_least_headroom_counts_wherever_it_is(machine: Machine) -> None:
    machine.mount("cgroup2", "/sys/fs/cgroup")
    machine.group("0::/a/b")
    machine.v2("/sys/fs/cgroup/a", memory_max=20 * GIB, memory_current=19 * GIB)  # others of `a` use it
    machine.v2("/sys/fs/cgroup/a/b", memory_max=8 * GIB, memory_current=GIB)
    limits = machine.limits()
    assert (limits.memory, limits.memory_available) == (8 * GIB, GIB)


def test_a_group_over_its_limit_has_nothing_left(machine: Machine) -> None:
    machine.mount("cgroup2", "/sys/fs/cgroup")
    machine.group("0::/job")
    machine.v2("/sys/fs/cgroup/job", memory_high=GIB, memory_current=2 * GIB)
    assert machine.limits().memory_available == 0


def test_a_limit_above_the_machine_does_not_bind(machine: Machine) -> None:
    machine.mount("cgroup2", "/sys/fs/cgroup")
    machine.group("0::/job")
    machine.v2("/sys/fs/cgroup/job", memory_max=100 * GIB, memory_current=GIB)
    assert machine.limits().memory_source == "MemTotal"


@pytest.mark.parametrize(("quota", "cpus"), [("50000 100000", 1), ("150000 100000", 1), ("1600000 100000", 16)])
def test_a_quota_is_rounded_down_but_never_to_nothing(machine: Machine, quota: str, cpus: int) -> None:
    machine.mount("cgroup2", "/sys/fs/cgroup")
    machine.group("0::/job")
    machine.v2("/sys/fs/cgroup/job", cpu_max=quota)
    assert machine.limits().cpus == cpus


def version_1(machine: Machine) -> None:
    machine.mount("tmpfs", "/sys/fs/cgroup")
    machine.mount("cgroup", "/sys/fs/cgroup/cpu,cpuacct", options="rw,cpu,cpuacct")
    machine.mount("cgroup", "/sys/fs/cgroup/memory", options="rw,memory")


def test_version_1(machine: Machine) -> None:
    version_1(machine)
    machine.group("5:cpu,cpuacct:/slurm/job1")
    machine.group("4:memory:/slurm/job1")
    memory, cpu = "/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu,cpuacct"
    machine.write(f"{memory}/memory.limit_in_bytes", NONE_V1)
    machine.write(f"{memory}/slurm/memory.limit_in_bytes", NONE_V1)
    machine.write(f"{memory}/slurm/job1/memory.limit_in_bytes", 10 * GIB)
    machine.write(f"{memory}/slurm/job1/memory.usage_in_bytes", 6 * GIB)
    machine.write(f"{memory}/slurm/job1/memory.stat", f"inactive_file 1\ntotal_inactive_file {2 * GIB}")
    machine.write(f"{cpu}/slurm/cpu.cfs_quota_us", -1)
    machine.write(f"{cpu}/slurm/job1/cpu.cfs_quota_us", 400000)
    machine.write(f"{cpu}/slurm/job1/cpu.cfs_period_us", 100000)
    assert machine.limits() == Limits(
        4, f"{cpu}/slurm/job1/cpu.cfs_quota_us", 10 * GIB, 6 * GIB, f"{memory}/slurm/job1/memory.limit_in_bytes"
    )


def test_version_1_knows_of_ancestors_that_a_container_cannot_see(machine: Machine) -> None:
    version_1(machine)
    machine.group("4:memory:/docker/abc")
    memory = "/sys/fs/cgroup/memory"
    machine.write(f"{memory}/memory.limit_in_bytes", NONE_V1)
    machine.write(f"{memory}/memory.usage_in_bytes", GIB)
    machine.write(f"{memory}/memory.stat", f"inactive_file 0\nhierarchical_memory_limit {5 * GIB}")
    limits = machine.limits()
    assert (limits.memory, limits.memory_available) == (5 * GIB, 4 * GIB)


def test_both_versions_at_once(machine: Machine) -> None:
    """Hybrid: memory is limited in version 1, processors in version 2."""
    version_1(machine)
    machine.mount("cgroup2", "/sys/fs/cgroup/unified")
    machine.group("4:memory:/job")
    machine.group("1:name=systemd:/job")
    machine.group("0::/job")
    machine.write("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", 12 * GIB)
    machine.write("/sys/fs/cgroup/memory/job/memory.usage_in_bytes", 2 * GIB)
    machine.v2("/sys/fs/cgroup/unified/job", cpu_max="600000 100000")
    limits = machine.limits()
    assert (limits.cpus, limits.memory, limits.memory_available) == (6, 12 * GIB, 10 * GIB)


def test_docker_with_the_hosts_path_and_its_own_group_mounted(machine: Machine) -> None:
    """Without a cgroup namespace: the path is the host's, and the mount shows exactly that group."""
    machine.mount("cgroup", "/sys/fs/cgroup/memory", options="rw,memory", top="/docker/abc")
    machine.group("4:memory:/docker/abc/inner")
    machine.write("/sys/fs/cgroup/memory/memory.limit_in_bytes", 4 * GIB)
    machine.write("/sys/fs/cgroup/memory/inner/memory.limit_in_bytes", 3 * GIB)
    limits = machine.limits()
    assert (limits.memory, limits.memory_source) == (3 * GIB, "/sys/fs/cgroup/memory/inner/memory.limit_in_bytes")


@pytest.mark.parametrize("path", ["/docker/abc", "/kubepods.slice/pod1/c2", "/../../other", "/"])
def test_a_path_that_does_not_exist_under_the_mount_means_the_mount_itself(machine: Machine, path: str) -> None:
    machine.mount("cgroup2", "/sys/fs/cgroup")
    machine.group(f"0::{path}")
    machine.v2("/sys/fs/cgroup", memory_max=4 * GIB, memory_current=GIB, cpu_max="200000 100000")
    limits = machine.limits()
    assert (limits.cpus, limits.memory, limits.memory_available) == (2, 4 * GIB, 3 * GIB)


def test_the_nearest_group_that_exists_counts(machine: Machine) -> None:
    machine.mount("cgroup2", "/sys/fs/cgroup")
    machine.group("0::/pod/gone")
    machine.v2("/sys/fs/cgroup/pod", memory_max=4 * GIB)
    assert machine.limits().memory == 4 * GIB


def test_proc_mounts_where_there_is_no_mountinfo(machine: Machine) -> None:
    machine.write("proc/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\nproc /proc proc rw 0 0")
    machine.group("0::/job")
    machine.v2("/sys/fs/cgroup/job", memory_max=4 * GIB)
    assert machine.limits().memory == 4 * GIB


def test_a_mount_point_with_a_blank(machine: Machine) -> None:
    machine.mount("cgroup2", "/my\\040groups")
    machine.group("0::/")
    machine.v2("/my groups", memory_max=4 * GIB)
    assert machine.limits().memory_source == "/my groups/memory.max"


@pytest.mark.parametrize("text", ["", "max", "garbage", "12 34 56"])
def test_files_that_say_nothing_bind_nothing(machine: Machine, text: str) -> None:
    machine.mount("cgroup2", "/sys/fs/cgroup")
    machine.group("0::/job")
    machine.v2("/sys/fs/cgroup/job", memory_max=text, memory_stat=text, cpu_max=text)
    assert machine.limits().memory_source == "MemTotal"
    assert machine.limits().cpus == 16


@pytest.mark.parametrize(
    ("environ", "cpus", "source"),
    [
        ({"SLURM_CPUS_PER_TASK": "4", "SLURM_CPUS_ON_NODE": "8"}, 4, "SLURM_CPUS_PER_TASK"),
        ({"SLURM_CPUS_ON_NODE": "8"}, 8, "SLURM_CPUS_ON_NODE"),
        ({"SLURM_CPUS_ON_NODE": "64"}, 16, "the processors this process may run on"),
        ({"SLURM_CPUS_PER_TASK": "many"}, 16, "the processors this process may run on"),
    ],
)
def test_slurm_processors(machine: Machine, environ: dict[str, str], cpus: int, source: str) -> None:
    limits = machine.limits(**environ)
    assert (limits.cpus, limits.cpu_source) == (cpus, source)


@pytest.mark.parametrize(
    ("environ", "gib", "source"),
    [
        ({"SLURM_MEM_PER_NODE": "8192"}, 8, "SLURM_MEM_PER_NODE"),
        ({"SLURM_MEM_PER_NODE": "0"}, 64, "MemTotal"),
        ({"SLURM_MEM_PER_NODE": "999999"}, 64, "MemTotal"),
        ({"SLURM_MEM_PER_CPU": "2048", "SLURM_CPUS_ON_NODE": "4", "SLURM_CPUS_PER_TASK": "2"}, 8, "SLURM_MEM_PER_CPU"),
        ({"SLURM_MEM_PER_CPU": "2048", "SLURM_CPUS_PER_TASK": "3"}, 6, "SLURM_MEM_PER_CPU"),
        ({"SLURM_MEM_PER_CPU": "2048"}, 2, "SLURM_MEM_PER_CPU"),
        ({"SLURM_MEM_PER_GPU": "4096", "SLURM_GPUS_ON_NODE": "2"}, 8, "SLURM_MEM_PER_GPU"),
        ({"SLURM_MEM_PER_GPU": "4096", "SLURM_GPUS_PER_NODE": "a100:3"}, 12, "SLURM_MEM_PER_GPU"),
        ({"SLURM_MEM_PER_GPU": "4096", "SLURM_JOB_GPUS": "0,3"}, 8, "SLURM_MEM_PER_GPU"),
        ({"SLURM_MEM_PER_GPU": "4096"}, 4, "SLURM_MEM_PER_GPU"),
    ],
)
def test_slurm_memory(machine: Machine, environ: dict[str, str], gib: int, source: str) -> None:
    limits = machine.limits(**environ)
    assert (limits.memory, limits.memory_source) == (gib * GIB, source)
    assert limits.memory_available == min(gib, 48) * GIB


def test_slurm_and_its_cgroup_together(machine: Machine) -> None:
    """The cgroup knows what is used already; Slurm's variable does not."""
    machine.mount("cgroup2", "/sys/fs/cgroup")
    machine.group("0::/slurm/job")
    machine.v2("/sys/fs/cgroup/slurm/job", memory_max=8 * GIB, memory_current=3 * GIB)
    limits = machine.limits(SLURM_MEM_PER_NODE="8192")
    assert (limits.memory, limits.memory_available) == (8 * GIB, 5 * GIB)


def test_this_machine_has_limits() -> None:
    limits = read_limits(os.environ)
    assert 1 <= limits.cpus <= (os.cpu_count() or 1)
    assert 0 <= limits.memory_available <= limits.memory
