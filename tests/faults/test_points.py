"""SIGKILL at named points of an epoch: the study ends as if nothing had happened, to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweep.launchers import local
from sweep.results import compare_results, study_result
from tests.conftest import RunStudy
from tests.faults import points
from tests.faults.points import Point, landed, plan

_RECORD, _CHECKPOINT, _STORAGE = (
    "sweep.record:TrialRecord.",
    "sweep.checkpoint:",
    "optuna.storages:RDBStorage.",
)
_UPSTREAM, _TELL = "transformers:Trainer.", "optuna.study._optimize:_tell_with_warning"

# Three trials of three epochs; the pruner has an opinion from the second trial on.
_STUDY = [
    "study.n_trials=3",
    "trainer.num_train_epochs=3",
    "trainer.learning_rate=tag(log, interval(1e-4,1e-2))",
    "trainer.weight_decay=interval(0,0.1)",
    "objective.metric=loss",  # accuracy hardly moves in three epochs of so small a model
    "objective.direction=minimize",
    "launcher.max_attempts=9",
]
_EAGER = "pruner.n_startup_trials=1"
_POINTS = {
    "asking": [
        Point(f"{_STORAGE}_create_new_trial", "after", nth=2),
        Point("sweep.dimension:Dimension.suggest", "after", nth=3),
        Point(f"{_RECORD}begin", "before"),
        Point(f"{_RECORD}begin", "after", nth=2),
    ],
    "reporting": [
        Point(f"{_RECORD}report", "before", nth=2),
        Point(f"{_STORAGE}set_trial_intermediate_value", "before", nth=3),
        Point(f"{_RECORD}report", "after", nth=5),
    ],
    "each file of a checkpoint": [
        Point(f"{_UPSTREAM}save_model", "before", nth=1),
        Point(f"{_UPSTREAM}save_model", "after", nth=2),
        Point(f"{_UPSTREAM}_save_optimizer_and_scheduler", "after", nth=3),
        Point(f"{_UPSTREAM}_save_rng_state", "after", nth=4),
        Point("transformers:TrainerState.save_to_json", "after", nth=5),
    ],
    "its commit": [
        Point(f"{_CHECKPOINT}write_text", "before", nth=2),
        Point(f"{_CHECKPOINT}write_text", "after", nth=3),
        Point(f"{_CHECKPOINT}flush", "before", nth=2),
        Point(f"{_CHECKPOINT}commit", "after", nth=3),
        Point(f"{_CHECKPOINT}sweep_debris", "after", nth=2),
    ],
    "telling": [
        Point(_TELL, "before", nth=1),
        Point(_TELL, "after", nth=2),
        Point(f"{_STORAGE}set_trial_state_values", "after", nth=2),
    ],
}


@pytest.fixture
def killed_study(run_study: RunStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a study with points armed; every one of them must have killed."""
    monkeypatch.setattr(local, "_RANK", points.RANK)

    def run(kills: list[Point], *overrides: str, name: str = "tiny") -> dict[str, Any]:
        root = tmp_path / "out" / name
        plan(root, kills)
        found = run_study(*_STUDY, *overrides, name=name)
        assert landed(root) == list(range(len(kills))), found.output
        assert found.code == 0, found.output
        assert not list(root.glob("trials/*/.*")), "no debris"
        return study_result(root)

    return run


@pytest.fixture(scope="module")
def undisturbed() -> dict[tuple[str, ...], dict[str, Any]]:
    """Results by overrides, so that each is computed once."""
    return {}


def _calm(cache: dict[tuple[str, ...], Any], run_study: RunStudy, *overrides: str) -> dict[str, Any]:
    if overrides not in cache:
        cache[overrides] = study_result(run_study(*_STUDY, *overrides, name="calm").root)
    found: dict[str, Any] = cache[overrides]
    return found


@pytest.mark.parametrize("stage", _POINTS)
def test_a_rank_killed_at_any_point_changes_nothing(
    stage: str, killed_study: Any, run_study: RunStudy, undisturbed: Any
) -> None:
    result = killed_study(_POINTS[stage], _EAGER)
    assert compare_results(_calm(undisturbed, run_study, _EAGER), result) == []


_TWO_RANKS = ["launcher.devices=2", "launcher.devices_per_trial=2"]


@pytest.mark.parametrize(
    ("sampler", "pruner", "ranks"),
    # Every pair of the three occurs; all twelve took six minutes, and were equal.
    [
        ("tpe", "median", 1),
        ("tpe", "none", 2),
        ("random", "median", 2),
        ("random", "none", 1),
        ("grid", "median", 1),
        ("grid", "none", 2),
    ],
)
def test_several_kills_under_every_sampler_and_pruner(
    sampler: str, pruner: str, ranks: int, killed_study: Any, run_study: RunStudy, undisturbed: Any
) -> None:
    overrides = [f"sampler={sampler}", f"pruner={pruner}", *(_TWO_RANKS if ranks == 2 else [])]
    if pruner == "median":
        overrides.append(_EAGER)
    if sampler == "tpe":
        overrides.append("sampler.n_startup_trials=1")
    if sampler == "grid":
        overrides += ["trainer.learning_rate=choice(1e-4,1e-3,1e-2)", "trainer.weight_decay=choice(0,0.1)"]
    last = f"rank {ranks - 1}"
    kills = [
        Point("sweep.dimension:Dimension.suggest", "after", nth=3),
        Point(f"{_STORAGE}set_trial_intermediate_value", "after", nth=3),
        Point(f"{_UPSTREAM}_save_rng_state", "before", last, nth=2),
        # Twice in a row: the attempt that repeats the epoch is killed as well.
        Point(f"{_CHECKPOINT}write_text", "after", nth=4),
        Point(f"{_RECORD}begin", "after", nth=5),
        Point(_TELL, "before", nth=3),
    ]
    if ranks == 2:  # rank 0 has asked for a trial and fails to tell rank 1 of it
        kills.append(Point("torch.distributed:broadcast_object_list", "before", "rank 1"))
    result = killed_study(kills, *overrides)
    assert compare_results(_calm(undisturbed, run_study, *overrides), result) == []


def test_a_pruner_that_takes_notes_is_asked_once(
    killed_study: Any, run_study: RunStudy, undisturbed: Any
) -> None:
    """Successive halving notes the rungs of a trial, and would promote one that asks again."""
    overrides = ["pruner=none", "study.n_trials=4"]
    overrides += ["pruner._target_=optuna.pruners.SuccessiveHalvingPruner", "+pruner.reduction_factor=2"]
    calm = _calm(undisturbed, run_study, *overrides)
    assert "PRUNED" in {t["state"] for t in calm["trials"]}
    notes = f"{_STORAGE}set_trial_system_attr"
    kills = [Point(notes, "before", nth=1), Point(notes, "after", nth=3), Point(notes, "before", nth=5)]
    kills.append(Point(f"{_CHECKPOINT}commit", "after", nth=6))
    assert compare_results(calm, killed_study(kills, *overrides)) == []


def test_two_trials_at_a_time_lose_nothing_either(
    killed_study: Any, run_study: RunStudy, undisturbed: Any
) -> None:
    """A random draw depends on the trial's number alone, so the order in which trials run does not matter."""
    overrides = ["launcher.devices=2", "sampler=random", "pruner=none", "study.n_trials=5"]
    kills = [
        Point(f"{_STORAGE}_create_new_trial", "after", nth=2),
        Point(f"{_RECORD}begin", "after", nth=2),
        Point(f"{_STORAGE}set_trial_intermediate_value", "before", nth=3),
        Point(f"{_UPSTREAM}_save_rng_state", "before", nth=4),
        Point(f"{_CHECKPOINT}commit", "after", nth=6),
        Point(_TELL, "before", nth=2),
        Point(_TELL, "after", nth=3),
    ]
    result = killed_study(kills, *overrides)
    assert compare_results(_calm(undisturbed, run_study, *overrides), result) == []
