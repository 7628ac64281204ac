"""Studies as victims: commands in the background, and the result that must not depend on crashes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.faults.points import Point, landed, plan

REPOSITORY = Path(__file__).resolve().parents[2]


class Running:
    """A `sweep` command in the background whose lines are read as they come."""

    def __init__(
        self,
        arguments: list[str],
        cwd: Path,
        *,
        study: Path | None = None,
        prefix: list[str] | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        """`study` arms the points planned for it; `prefix` runs the command inside another one."""
        self._log = cwd / f"{time.monotonic_ns()}.txt"
        module = ["-m", "sweep"] if study is None else ["-m", "tests.faults.points", str(study)]
        with self._log.open("w") as stream:
            self.process = subprocess.Popen(
                [*(prefix or []), sys.executable, *module, *arguments],
                cwd=cwd,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), **(env or {})},
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    def wait_for(self, text: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.output:
            assert self.process.poll() is None, f"ended before {text!r}:\n{self.output}"
            assert time.monotonic() < deadline, f"no {text!r} in {seconds} s:\n{self.output}"
            time.sleep(0.01)

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def ranks(self, study: Path) -> list[psutil.Process]:
        """The processes that write a trial's log: rank 0 first."""
        found = {}
        for process in self.family():
            for file in process.open_files():
                if ".rank-" in file.path and str(study) in file.path:
                    found[file.path.rsplit("rank-", 1)[1]] = process
        return [found[key] for key in sorted(found)]


def gone(processes: list[psutil.Process], seconds: float) -> bool:
    """Whether all `processes` end within `seconds`."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def kill_and_resume(study: list[str], root: Path, deaths: list[Point]) -> str:
    """The study to its end, through every death; returns what its sessions said."""
    plan(root, deaths)
    arguments, said = ["launch", *study], ""
    for _ in range(len(deaths) + 2):
        before = len(landed(root))
        running = Running(arguments, root.parents[1], study=root)
        family: list[psutil.Process] = []
        while running.process.poll() is None:
            family = running.family() or family
            time.sleep(0.05)
        said += running.output
        if running.process.returncode == 0:
            break
        assert running.process.returncode == -signal.SIGKILL, running.output
        assert len(landed(root)) > before, "somebody else killed it"
        assert gone(family, 10), "an orphan outlived its driver"
        arguments = ["resume", str(root)]
    assert landed(root) == list(range(len(deaths))), said
    assert not list(root.glob("trials/*/.*")), "no debris"
    assert not list(root.glob(".processes/*.rank-*")), "no trace of dead ranks"
    return said
