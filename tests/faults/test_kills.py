"""Real SIGKILLs: what was finished stays, ranks do not outlive their driver, the result is the same."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import Command


class Running:
    """A `sweep` command in the background whose lines are read as they come."""

    def __init__(self, arguments: list[str], cwd: Path) -> None:
        self._log = cwd / f"{time.monotonic_ns()}.txt"
        with self._log.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sweep", *arguments],
                cwd=cwd,
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


def _gone(processes: list[psutil.Process], seconds: float) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def _result(root: Path, command: Command) -> dict[str, Any]:
    """Everything that must not depend on crashes: trials, values, epochs, and the best weights."""
    status = json.loads(command("status", str(root), "--json").stdout)
    times = {"seconds", "runtime", "samples_per_second", "steps_per_second"}
    trials = [
        {
            "number": t["number"],
            "state": t["state"],
            "value": t["value"],
            "params": t["params"],
            "epochs": [{k: v for k, v in e.items() if k not in times} for e in t["epochs"]],
        }
        for t in status["trials"]
    ]
    weights = (Path(status["best"]["checkpoint"]) / "model.safetensors").read_bytes()
    return {"trials": trials, "best": status["best"]["number"], "sha256": hashlib.sha256(weights).hexdigest()}


@pytest.fixture
def study(tiny_overrides: list[str], tmp_path: Path) -> list[str]:
    """Two trials of five epochs on two ranks, a searched learning rate, dropout on."""
    return [
        *tiny_overrides,
        "study.n_trials=2",
        "trainer.num_train_epochs=5",
        "trainer.learning_rate=tag(log, interval(1e-4,1e-2))",
        "sampler=tpe",
        "launcher.devices=2",
        "launcher.devices_per_trial=2",
    ]


def test_driver_and_rank_killed_the_result_is_the_same(
    study: list[str], sweep_command: Command, tmp_path: Path
) -> None:
    undisturbed = sweep_command("launch", *study, "study.name=calm")
    assert undisturbed.returncode == 0, undisturbed.stderr
    expected = _result(tmp_path / "out" / "calm", sweep_command)

    root = tmp_path / "out" / "tiny"
    first = Running(["launch", *study], tmp_path)
    first.wait_for("trial 0  epoch 2")
    family = first.family()
    assert len(first.ranks(root)) == 2
    os.kill(first.process.pid, signal.SIGKILL)
    assert first.process.wait() == -signal.SIGKILL
    assert _gone(family, 10), "an orphan outlived its driver"
    halfway = json.loads(sweep_command("status", str(root), "--json").stdout)
    assert [t["state"] for t in halfway["trials"]] == ["RUNNING"]
    reported = halfway["trials"][0]["epochs"]

    second = Running(["resume", str(root)], tmp_path)
    second.wait_for("trial 1  epoch 1")
    ranks = second.ranks(root)
    ranks[1].kill()  # not rank 0: the driver must end the group, and retry
    assert second.process.wait(120) == 0, second.output
    assert "trial 0 was interrupted and continues" in second.output
    assert "a rank died without an exception" in second.output
    assert "trial 1  started (attempt 2" in second.output

    assert _result(root, sweep_command) == expected
    final = json.loads(sweep_command("status", str(root), "--json").stdout)
    assert [t["attempts"] for t in final["trials"]] == [2, 2]
    assert final["trials"][0]["epochs"][: len(reported) - 1] == reported[:-1], "kept, not repeated"


def test_ctrl_c_pauses_twice_stops_and_resume_goes_on(
    study: list[str], sweep_command: Command, tmp_path: Path
) -> None:
    root = tmp_path / "out" / "tiny"
    running = Running(["launch", *study], tmp_path)
    running.wait_for("trial 0  epoch 1")
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(60) == 128 + signal.SIGINT, running.output
    assert "pausing" in running.output
    assert f"sweep resume {root}" in running.output
    paused = json.loads(sweep_command("status", str(root), "--json").stdout)
    assert paused["trials"][0]["state"] == "WAITING"
    assert 1 <= len(paused["trials"][0]["epochs"]) < 5

    again = Running(["resume", str(root)], tmp_path)
    again.wait_for("trial 0  epoch")
    for _ in range(2):
        again.process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    assert again.process.wait(60) == 128 + signal.SIGTERM, again.output
    assert not list(root.glob("trials/*/.starting-*"))

    done = sweep_command("resume", str(root))
    assert done.returncode == 0, done.stderr
    final = json.loads(sweep_command("status", str(root), "--json").stdout)
    assert [(t["state"], len(t["epochs"])) for t in final["trials"]] == [("COMPLETE", 5)] * 2
    assert final["remaining"] == 0


def test_a_second_driver_is_refused_and_a_dead_ones_lock_is_free(
    study: list[str], sweep_command: Command, tmp_path: Path
) -> None:
    root = tmp_path / "out" / "tiny"
    running = Running(["launch", *study], tmp_path)
    running.wait_for("trial 0  epoch 1")
    refused = sweep_command("resume", str(root))
    assert refused.returncode == 2
    assert "in use by another sweep" in refused.stderr
    running.process.kill()
    running.process.wait()
    taken = sweep_command("resume", str(root), "study.n_trials=1")
    assert taken.returncode == 0, taken.stderr
