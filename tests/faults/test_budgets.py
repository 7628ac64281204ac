"""Budgets beside the number of trials: whichever comes first ends the study, and a resume knows of it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweep.commands import read_status, resume
from sweep.launchers import local
from sweep.results import compare_results, study_result
from sweep.schema import ObjectiveConfig
from sweep.score import rank_key
from tests.conftest import RunStudy
from tests.faults import points
from tests.faults.points import Point, landed, plan

_STILL = "trainer.learning_rate=1e-12"  # nothing is learnt, so no epoch is better than the first
_TWO_RANKS = ["launcher.devices=2", "launcher.devices_per_trial=2"]


def _resume(root: Path, *words: str) -> str:
    output = io.StringIO()
    assert resume(root, [*words], False, Console(file=output, width=200)) == 0, output.getvalue()
    return output.getvalue()


def _epochs(root: Path) -> list[int]:
    return [len(t["epochs"]) for t in read_status(root)["trials"]]


def test_epochs_of_all_trials_together(run_study: RunStudy) -> None:
    study = ["study.n_trials=3", "trainer.num_train_epochs=4", "trainer.learning_rate=interval(1e-4,1e-2)"]
    calm = run_study(*study, name="calm")
    found = run_study(*study, "study.max_epochs=6")
    assert found.code == 0
    assert "study.max_epochs=6 is used up" in found.output
    first, second = _epochs(found.root)
    # An epoch of this model takes a tenth of a second: the word to pause may come one too late.
    assert (first, second) in ((4, 2), (4, 3))
    assert "has used its study.max_epochs=6; 2 trials to go" in _resume(found.root)
    _resume(found.root, f"study.max_epochs={first + second + 1}")
    assert first + second + 1 <= sum(_epochs(found.root)) <= first + second + 2
    _resume(found.root, "study.max_epochs=99")
    assert compare_results(study_result(calm.root), study_result(found.root)) == []


def test_a_study_ends_when_nothing_gets_better(run_study: RunStudy) -> None:
    found = run_study(_STILL, "study.n_trials=9", "study.patience=2", "trainer.num_train_epochs=1")
    assert found.code == 0
    # The trials are the same, so the first is the best of them.
    assert _epochs(found.root) == [1, 1, 1]
    assert "study.patience=2: of the last 2 trials none was better than trial 0" in found.output
    assert "has ended after study.patience=2 trials without a better one; 6 trials to go" in _resume(
        found.root
    )
    _resume(found.root, "study.patience=4")
    assert _epochs(found.root) == [1] * 5


@pytest.mark.parametrize("ranks", [[], _TWO_RANKS])
def test_a_trial_ends_when_it_gets_no_better_also_after_a_kill(
    ranks: list[str], run_study: RunStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = [*ranks, _STILL, "trainer.num_train_epochs=6", "objective.patience=2", "study.n_trials=2"]
    calm = run_study(*study, name="calm")
    assert [(t["state"], t["best_epoch"], len(t["epochs"])) for t in calm.status["trials"]] == [
        ("COMPLETE", 1, 3)
    ] * 2
    monkeypatch.setattr(local, "_RANK", points.RANK)
    root = tmp_path / "out" / "tiny"
    # In the epoch that ends the trial: before its checkpoint, and when only the end is still to be told.
    plan(root, [Point("sweep.checkpoint:commit", nth=3), Point("sweep.checkpoint:flush", "after", nth=6)])
    killed = run_study(*study)
    assert landed(root) == [0, 1], killed.output
    assert compare_results(study_result(calm.root), study_result(root)) == []


def test_the_last_epoch_counts_where_that_is_asked_for(run_study: RunStudy) -> None:
    study = ["trainer.learning_rate=0.3", "trainer.num_train_epochs=3", "objective.metric=loss"]
    study += ["objective.direction=minimize", "trainer.lr_scheduler_type=constant"]
    found = run_study(*study, "objective.epoch=last")
    (trial,) = found.status["trials"]
    losses = found.losses(0)
    assert min(losses) < losses[-1], "a rate that unlearns"
    assert (trial["best_epoch"], trial["value"]) == (3, losses[-1])
    assert found.status["best"]["checkpoint"].endswith("checkpoint-18")


def _trial(number: int, score: float, epoch: int, loss: float) -> tuple[Any, ...]:
    epochs = {n: {"accuracy": score if n == epoch else 0.0, "loss": loss} for n in range(1, 5)}
    return rank_key(number, epochs, ObjectiveConfig())


def test_ties_go_to_fewer_epochs_then_lower_loss_then_lower_number() -> None:
    best_first = [
        _trial(9, 0.9, 4, 9.0),
        _trial(8, 0.8, 2, 9.0),
        _trial(7, 0.8, 3, 0.1),
        _trial(1, 0.8, 3, 0.2),
        _trial(2, 0.8, 3, 0.2),
    ]
    assert sorted([best_first[i] for i in (3, 0, 4, 2, 1)]) == best_first
