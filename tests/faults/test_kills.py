"""Drivers, fork servers and hung ranks: killed in every room of a study's life, resumed, compared."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from sweep.results import compare_results, study_result
from tests.conftest import Command, RunStudy
from tests.faults.harness import Running, kill_and_resume
from tests.faults.points import Point

_LATER = "optuna.study._optimize:_tell_with_warning"
_REPORT = "sweep.record:TrialRecord.report"
_DEATHS = [
    # while the study comes into being
    Point("sweep.creation:save_config", "after", "driver"),
    Point("sweep.study:_create", "after", "driver"),
    Point("sweep.driver:Driver._start_attempts", "after", "driver"),
    # while a trial runs: driver and rank at once, then the driver alone
    Point(_REPORT, "after", "rank 0", "both", nth=2),
    Point("sweep.checkpoint:flush", "before", "rank 0", "driver", nth=2),
    # while it recovers, and while it removes a checkpoint
    Point("sweep.recovery:requeue", "after", "driver", nth=2),
    Point("pathlib:Path.rename", "after", "driver"),
    # before and after a trial's end is told
    Point(_LATER, "before", "rank 0", "both", nth=2),
    Point("sweep.driver:Driver._finish", "before", "driver", nth=3),
]


# Three trials of four epochs on two ranks, dropout on, a pruner with an opinion.
_STUDY = [
    "study.n_trials=3",
    "trainer.num_train_epochs=4",
    "trainer.learning_rate=tag(log, interval(1e-4,1e-2))",
    "objective.metric=loss",
    "objective.direction=minimize",
    "pruner.n_startup_trials=1",
    "launcher.devices=2",
    "launcher.devices_per_trial=2",
]


@pytest.fixture
def study(tiny_overrides: list[str]) -> list[str]:
    return [*tiny_overrides, *_STUDY]


def test_a_driver_killed_again_and_again_changes_nothing(
    study: list[str], run_study: RunStudy, tmp_path: Path
) -> None:
    """From the first file of a launch to the last word of a trial, and twice in a row in between."""
    calm = run_study(*_STUDY, name="calm")
    root = tmp_path / "out" / "tiny"
    said = kill_and_resume(study, root, _DEATHS)
    assert compare_results(study_result(calm.root), study_result(root)) == [], said
    assert re.search(r"^trial 0: epoch 1 kept, epoch 2 repeated$", said, re.M), said


def test_a_rank_that_hangs_is_killed_with_its_group_and_later_by_a_resume(
    study: list[str], run_study: RunStudy, tmp_path: Path
) -> None:
    """With a wall clock that runs backwards in driver and ranks."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import time\nwall, steady = time.time(), time.monotonic\n"
        "begun = steady()\ntime.time = lambda: wall - 50 * (steady() - begun)\n"
    )
    one = ["study.n_trials=1", "trainer.num_train_epochs=6"]
    calm = run_study(*_STUDY, *one, name="calm")
    root = tmp_path / "out" / "tiny"
    backwards = {"PYTHONPATH": f"{site}:{Path(__file__).parents[2]}"}
    first = Running(["launch", *study, *one, "launcher.hang_timeout=4"], tmp_path, env=backwards)
    first.wait_for("trial 0  epoch 2")
    os.kill(first.ranks(root)[1].pid, signal.SIGSTOP)
    first.wait_for("no sign of life for 4 s (launcher.hang_timeout): it continues from its last epoch")
    first.wait_for("trial 0  started (attempt 2, ")
    first.wait_for("trial 0  epoch 4")
    stopped = first.ranks(root)[0]
    stopped.suspend()
    first.process.kill()
    first.process.wait()
    time.sleep(1)
    assert stopped.is_running(), "a stopped process cannot notice that its driver is gone"

    second = Running(["resume", str(root)], tmp_path, env=backwards)
    assert second.process.wait(120) == 0, second.output
    assert f"process {stopped.pid} of the former driver was still alive and has been ended" in second.output
    assert compare_results(study_result(calm.root), study_result(root)) == []


def test_ctrl_c_stop_and_a_second_driver(study: list[str], sweep_command: Command, tmp_path: Path) -> None:
    root = tmp_path / "out" / "tiny"
    long = [*study, "trainer.num_train_epochs=16", "study.n_trials=1"]
    first = Running(["launch", *long], tmp_path)
    first.wait_for("trial 0  epoch 1")
    refused = sweep_command("resume", str(root))
    assert refused.returncode == 2
    assert f"in use by process {first.process.pid} on {os.uname().nodename}" in refused.stderr
    first.process.send_signal(signal.SIGINT)
    assert first.process.wait(60) == 128 + signal.SIGINT, first.output
    assert "pausing" in first.output
    assert f"sweep resume {root}" in first.output
    paused = json.loads(sweep_command("status", str(root), "--json", "--checkpoints").stdout)
    epochs = len(paused["trials"][0]["epochs"])
    assert paused["trials"][0]["state"] == "WAITING"
    assert 1 <= epochs < 16
    assert paused["checkpoints"][-1]["epoch"] == epochs
    assert paused["checkpoints"][-1]["problem"] is None

    second = Running(["resume", str(root)], tmp_path)
    second.wait_for("trial 0  epoch")
    for rank in second.ranks(root):
        rank.suspend()  # it cannot reach the end of its epoch: only --now ends it
    stopped = sweep_command("stop", str(root), "--now")
    assert stopped.returncode == 0, stopped.stderr
    assert f"Continue:  sweep resume {root}" in stopped.stdout
    assert second.process.wait(5) == 128 + signal.SIGTERM, second.output
    assert "stopping now" in second.output
    assert f"{root} is not running" in sweep_command("stop", str(root)).stdout
    assert not list(root.glob("trials/*/.starting-*"))

    hammered = Running(["resume", str(root)], tmp_path)
    hammered.wait_for("trial 0  epoch")
    while hammered.process.poll() is None:  # up to the very last moment of its life
        hammered.process.send_signal(signal.SIGTERM)
        time.sleep(0.001)
    assert hammered.process.returncode == 128 + signal.SIGTERM, hammered.output

    third = Running(["resume", str(root)], tmp_path)
    third.wait_for("trial 0  epoch")
    assert sweep_command("stop", str(root)).returncode == 0
    assert third.process.wait(5) in (0, 128 + signal.SIGTERM), third.output
    assert sweep_command("resume", str(root)).returncode == 0
    final = json.loads(sweep_command("status", str(root), "--json").stdout)
    assert [(t["state"], len(t["epochs"])) for t in final["trials"]] == [("COMPLETE", 16)]


def test_chaos_reports_that_nothing_was_lost(
    study: list[str], sweep_command: Command, tmp_path: Path
) -> None:
    """Random victims at random moments, drivers and fork servers among them."""
    told = sweep_command("chaos", *study, "trainer.num_train_epochs=6", "--kills", "4", "--seed", "1")
    assert told.returncode == 0, told.stdout + told.stderr
    assert "kills                                  4 (" in told.stdout
    assert "driver" in told.stdout
    assert "fork server" in told.stdout
    assert "epochs lost beyond the one in flight   0" in told.stdout
    assert "trials lost                            0" in told.stdout
    assert "trials too many                        0" in told.stdout
    assert "differences from the undisturbed study 0" in told.stdout
    assert not list((tmp_path / "out").glob("tiny-c*/")), "both studies are removed"
