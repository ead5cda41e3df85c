"""Slurm on this machine: munge, slurmctld and slurmd with settings and folders of their own. Needs root."""

from __future__ import annotations

import os
import platform
import secrets
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dask_cluster import free_port
from processes import wait_until

_CONF = """
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=5
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN Gres=gpu:1 Feature=rtx_a6000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass
class SlurmCluster:
    """``folder``: short, for a socket's path lies in it."""

    folder: Path
    programs: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environ(self) -> dict[str, str]:
        """What its programs must see."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self) -> SlurmCluster:
        """Ready when its node is idle."""
        host = platform.node().partition(".")[0]
        memory = (os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20) // 2
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        text = _CONF.format(
            host=host, controller=free_port(), node=free_port(), folder=self.folder, cpus=os.cpu_count(), memory=memory
        )
        (self.folder / "slurm.conf").write_text(text, encoding="utf-8")
        (self.folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File=/dev/null\n", encoding="utf-8")
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o600)
        names = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        mine = [f"--{option}={self.folder / f'munge.{name}'}" for option, name in names.items()]
        self._start("munged", "--force", "--foreground", f"--key-file={key}", *mine)
        assert wait_until(lambda: _listens(self.folder / "munge.socket"), 30), self.log("munged")
        self._start("slurmctld", "-D")
        self._start("slurmd", "-D")
        assert wait_until(lambda: "idle" in self.run("sinfo", "--noheader", "--format=%T"), 60), self.log("slurmctld")
        return self

    def run(self, *words: str) -> str:
        """One of Slurm's programs: what it says."""
        done = subprocess.run(words, env={**os.environ, **self.environ}, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def log(self, name: str) -> str:
        """What one of its programs has said."""
        return (self.folder / f"{name}.out").read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """End it."""
        for program in reversed(self.programs):
            program.terminate()
            try:
                program.wait(20)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()

    def _start(self, program: str, *words: str) -> None:
        path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert path is not None, f"this test needs {program}: apt-get install slurm-wlm munge"
        environ: Mapping[str, str] = {**os.environ, **self.environ}
        with (self.folder / f"{program}.out").open("wb") as out:
            self.programs.append(
                subprocess.Popen([path, *words], env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
            )


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0
