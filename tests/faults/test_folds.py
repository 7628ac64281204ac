"""Cross-validation: every fold is validated once, kills change nothing, and one fold's model is exported."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import optuna
import pytest

from sweep.opening import checked, open_study
from sweep.results import compare_results, study_result
from sweep.study import load_study
from tests.conftest import Command, RunStudy
from tests.faults.harness import kill_and_resume
from tests.faults.points import Point

_FOLDS, _EPOCHS = 3, 2
_STUDY = [
    f"task.folds={_FOLDS}",
    "task.validation_path=null",
    f"trainer.num_train_epochs={_EPOCHS}",
    "trainer.learning_rate=tag(log, interval(1e-5,1e-2))",
    "study.n_trials=2",
    "sampler=random",
    "pruner=none",
    "objective.metric=loss",
    "objective.direction=minimize",
    "launcher.max_attempts=9",
]
_REPORT, _FLUSH = "sweep.record:TrialRecord.report", "sweep.checkpoint:flush"
_DEATHS = [
    Point("sweep.record:TrialRecord.add", "after", "rank 0", nth=1),
    Point(_REPORT, "after", "rank 0", "both", nth=1),  # the first fold is over and not yet on the disk
    Point(_FLUSH, "after", "rank 0", nth=2),  # in the middle of a fold, or at its end
    Point("sweep.record:TrialRecord.begin", "after", "rank 0", "both", nth=2),
    Point("sweep.record:TrialRecord.add", "before", "rank 0", nth=3),
]


def _folds(trial: dict[str, Any]) -> list[float]:
    """The best loss of each fold."""
    by_fold: dict[int, list[float]] = {}
    for epoch in trial["epochs"]:
        by_fold.setdefault(int(epoch["fold"]), []).append(epoch["loss"])
    return [min(losses) for _, losses in sorted(by_fold.items())]


def test_kills_change_nothing_and_a_fold_is_exported(
    tiny_overrides: list[str], run_study: RunStudy, sweep_command: Command, tmp_path: Path
) -> None:
    calm = run_study(*_STUDY, name="calm")
    assert calm.code == 0, calm.output
    for trial in calm.status["trials"]:
        assert [e["epoch"] for e in trial["epochs"]] == list(range(1, 1 + _FOLDS * _EPOCHS))
        losses = _folds(trial)
        assert len(set(losses)) == _FOLDS, "different data"
        assert trial["value"] == statistics.fmean(losses) == trial["scores"]["loss"]
        middle = next(e for e in trial["epochs"] if e["epoch"] == trial["best_epoch"])
        assert middle["loss"] == statistics.median(losses), "a typical fold's model"
    paths, cfg = open_study(calm.root)
    study = load_study(checked(cfg)[0], paths)
    for told, shown in zip(study.trials, calm.status["trials"], strict=True):
        assert list(told.intermediate_values.items()) == list(enumerate(_folds(shown), 1))

    root = tmp_path / "out" / "tiny"
    kill_and_resume([*tiny_overrides, *_STUDY], root, _DEATHS)
    assert compare_results(study_result(calm.root), study_result(root)) == []

    best = calm.trial(calm.status["best"]["number"])
    exported = sweep_command("export", str(root))
    assert exported.returncode == 0, exported.stdout + exported.stderr
    metrics = json.loads((root / "best" / "metrics.json").read_text())
    recorded = next(e for e in best["epochs"] if e["epoch"] == best["best_epoch"])
    assert metrics["validation"]["accuracy"] == pytest.approx(recorded["accuracy"], abs=1e-6)
    assert metrics["mean_over_folds"]["accuracy"] == pytest.approx(best["scores"]["accuracy"])
    assert f"mean over {_FOLDS} folds" in (root / "best" / "README.md").read_text()


def test_wilcoxon_stops_a_trial_that_is_worse_fold_by_fold(run_study: RunStudy) -> None:
    """The first trial learns, the second one hardly; three folds show it (p = 1/8)."""
    study = [*_STUDY, "task.folds=5", "pruner=wilcoxon", "trainer.learning_rate=choice(1e-6,1e-2)"]
    first = ["{trainer.learning_rate: 1e-2}", "{trainer.learning_rate: 1e-6}"]
    found = run_study(*study, f"study.enqueue=[{','.join(first)}]", "objective.patience=1")
    assert found.code == 0, found.output
    good, bad = found.status["trials"]
    assert (good["state"], bad["state"]) == ("COMPLETE", "PRUNED")
    assert {int(e["fold"]) for e in good["epochs"]} == {1, 2, 3, 4, 5}
    assert {int(e["fold"]) for e in bad["epochs"]} == {1, 2, 3}
    assert all(a < b for a, b in zip(_folds(good), _folds(bad), strict=False))
    # The rule is Optuna's own.
    paths, cfg = open_study(found.root)
    trial = load_study(checked(cfg)[0], paths).trials[1]
    alone = optuna.create_study(pruner=optuna.pruners.WilcoxonPruner(p_threshold=0.2))
    for losses in (_folds(good), _folds(bad)):
        asked = alone.ask()
        for step, loss in enumerate(losses, 1):
            asked.report(loss, step)
        verdict = asked.should_prune()
        alone.tell(asked, statistics.fmean(losses))
    assert verdict
    assert list(trial.intermediate_values) == [1, 2, 3]


def test_a_fold_that_is_out_of_patience_is_followed_by_the_next(run_study: RunStudy) -> None:
    study = [*_STUDY, "trainer.num_train_epochs=6", "study.n_trials=1", "objective.patience=1"]
    found = run_study(*study, "trainer.learning_rate=0.3", "study.max_epochs=16")
    (trial,) = found.status["trials"]
    assert trial["state"] == "COMPLETE", found.output
    by_fold: dict[int, list[int]] = {}
    for epoch in trial["epochs"]:
        by_fold.setdefault(int(epoch["fold"]), []).append(epoch["epoch"])
    assert any(len(epochs) < 6 for epochs in by_fold.values()), "a rate that unlearns"
    assert [epochs[0] for epochs in by_fold.values()] == [1, 7, 13]


def test_two_ranks_cross_validate_alike(run_study: RunStudy) -> None:
    """Without dropout, which draws other numbers on other ranks."""
    study = [*_STUDY, "study.n_trials=1", "trainer.learning_rate=1e-3"]
    study += [f"+model.config.{kind}_dropout_prob=0.0" for kind in ("hidden", "attention_probs")]
    one = run_study(*study, name="one")
    two = run_study(*study, "launcher.devices=2", "launcher.devices_per_trial=2", name="two")
    assert (one.code, two.code) == (0, 0), two.output
    assert two.losses(0) == pytest.approx(one.losses(0), abs=1e-4)
