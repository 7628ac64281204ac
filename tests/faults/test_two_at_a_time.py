"""Two trials at a time: what kills and hangs do to one of them costs neither anything.

A random draw depends on the trial's number alone, so there the study must be equal to the last bit to
one that was left in peace; what tpe and a pruner decide depends on which trial ended first.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sweep.results import compare_results, study_result
from tests.conftest import RunStudy
from tests.faults.harness import Running, kill_and_resume
from tests.faults.points import Point

_TELL = "optuna.study._optimize:_tell_with_warning"
_REPORT = "sweep.record:TrialRecord.report"
_DEATHS = [
    Point("sweep.driver:Driver._start_attempts", "after", "driver"),
    Point("optuna.storages:RDBStorage._create_new_trial", "after", "rank 0", nth=2),
    Point(_REPORT, "after", "rank 0", "both", nth=3),
    Point("sweep.recovery:requeue", "after", "driver", nth=3),
    Point("transformers:Trainer._save_rng_state", "before", "rank 0", nth=5),
    Point("sweep.checkpoint:flush", "before", "rank 0", "driver", nth=8),
    Point(_TELL, "before", "rank 0", "both", nth=2),
    Point(_TELL, "after", "rank 0", "driver", nth=3),
    Point("sweep.driver:Driver._finish", "before", "driver", nth=4),
]
_TRIALS, _EPOCHS = 5, 4
_RANDOM = ["sampler=random", "pruner=none"]


_STUDY = [
    f"study.n_trials={_TRIALS}",
    f"trainer.num_train_epochs={_EPOCHS}",
    "trainer.learning_rate=tag(log, interval(1e-4,1e-2))",
    "objective.metric=loss",  # accuracy hardly moves in so few epochs of so small a model
    "objective.direction=minimize",
    "launcher.max_attempts=9",
    "launcher.devices=2",
]


@pytest.fixture
def study(tiny_overrides: list[str]) -> list[str]:
    return [*tiny_overrides, *_STUDY]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_kills_of_ranks_and_drivers_lose_nothing(
    sampler: str, study: list[str], run_study: RunStudy, tmp_path: Path
) -> None:
    root = tmp_path / "out" / "tiny"
    if sampler == "random":
        calm = run_study(*_STUDY, *_RANDOM, name="calm")
        said = kill_and_resume([*study, *_RANDOM], root, _DEATHS)
        assert compare_results(study_result(calm.root), study_result(root)) == [], said
        return
    said = kill_and_resume(
        [*study, "sampler.n_startup_trials=1", "pruner.n_startup_trials=1"], root, _DEATHS[1:3] + _DEATHS[6:]
    )
    trials = study_result(root)["trials"]
    assert [t["number"] for t in trials] == list(range(_TRIALS)), said
    for trial in trials:
        epochs = trial["epochs"]
        assert [e["epoch"] for e in epochs] == list(range(1, len(epochs) + 1)), trial
        assert (trial["state"], len(epochs) == _EPOCHS) in {("COMPLETE", True), ("PRUNED", False)}, trial
        assert trial["value"] == min(e["loss"] for e in epochs), trial


def test_a_trial_that_hangs_does_not_hold_up_the_other(
    study: list[str], run_study: RunStudy, tmp_path: Path
) -> None:
    long = [*_RANDOM, "trainer.num_train_epochs=24", "study.n_trials=4"]
    calm = run_study(*_STUDY, *long, name="calm")
    root = tmp_path / "out" / "tiny"
    running = Running(["launch", *study, *long, "launcher.hang_timeout=4"], tmp_path)
    running.wait_for("trial 0  epoch 2")
    trial = str(root / "trials" / "0000")
    (rank,) = (p for p in running.family() if any(f.path.startswith(trial) for f in p.open_files()))
    rank.suspend()
    running.wait_for("no sign of life for 4 s (launcher.hang_timeout): it continues from its last epoch")
    before = running.output.split("no sign of life")[0]
    others = re.findall(r"^.*trial ([1-9])  epoch", before.split("trial 0  epoch 2")[1], re.M)
    assert len(others) >= 4, f"the other device was idle meanwhile:\n{before}"
    assert running.process.wait(240) == 0, running.output
    assert compare_results(study_result(calm.root), study_result(root)) == []
