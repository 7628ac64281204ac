"""Every sampler and every pruner, killed and resumed on one or two ranks: the same study as undisturbed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep.results import compare_results, study_result
from tests.conftest import RunStudy
from tests.faults.harness import kill_and_resume
from tests.faults.points import Point

_TWO_RANKS = ["launcher.devices=2", "launcher.devices_per_trial=2"]
_STUDY = [
    "trainer.learning_rate=tag(log, range(1e-4,2e-2,3))",
    "trainer.weight_decay=choice(0.0,0.1)",
    "trainer.num_train_epochs=2",
    "objective.metric=loss",
    "objective.direction=minimize",
    "study.n_trials=6",
    "study.seed=11",
]
_NUMBERS = ["trainer.learning_rate=tag(log, interval(1e-4,2e-2))", "trainer.weight_decay=interval(0,0.1)"]
_PAIRS = [
    ("tpe", "asha", ["sampler.n_startup_trials=2"]),
    ("random", "percentile", ["pruner.n_startup_trials=2", *_TWO_RANKS]),
    ("grid", "hyperband", ["pruner.reduction_factor=2"]),
    ("qmc", "patient", _TWO_RANKS),
    ("gp", "asha", ["sampler.n_startup_trials=2"]),
    ("cmaes", "threshold", [*_NUMBERS, "sampler.n_startup_trials=2", "pruner.upper=0.72"]),
    ("nsgaii", "asha", ["sampler.population_size=3", *_TWO_RANKS]),
    ("nsgaiii", "median", ["sampler.population_size=3"]),
]
_DEATHS = [
    Point("sweep.sampler:SeededSampler.sample_relative", "after", "rank 0", "both", nth=2),
    Point("sweep.record:TrialRecord.unpromising", "after", "rank 0", nth=3),
    Point("sweep.sampler:SeededSampler.after_trial", "before", "rank 0", "both", nth=1),
]


@pytest.mark.parametrize(("sampler", "pruner", "more"), _PAIRS, ids=lambda v: v if isinstance(v, str) else "")
def test_kills_change_nothing(
    sampler: str,
    pruner: str,
    more: list[str],
    tiny_overrides: list[str],
    run_study: RunStudy,
    tmp_path: Path,
) -> None:
    study = [*_STUDY, f"sampler={sampler}", f"pruner={pruner}", *more, "launcher.max_attempts=9"]
    calm = run_study(*study, name="calm")
    assert calm.code == 0, calm.output
    assert len(calm.status["trials"]) == 6
    root = tmp_path / "out" / "tiny"
    kill_and_resume([*tiny_overrides, *study], root, _DEATHS)
    assert compare_results(study_result(calm.root), study_result(root)) == []
