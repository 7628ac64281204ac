"""ASHA that parks what it stops: promoted trials go on from their checkpoints, and kills change nothing."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.study import StudyDirection

from sweep.asha import Ladder, PromotingHyperband, PromotingPruner
from sweep.commands import read_status
from sweep.errors import InputError
from sweep.opening import checked, open_study
from sweep.results import compare_results, study_result
from sweep.study import load_study
from tests.conftest import RunStudy
from tests.faults.harness import kill_and_resume
from tests.faults.points import Point

_EPOCHS = 4
_STUDY = [
    "study.n_trials=7",
    "study.seed=5",
    f"trainer.num_train_epochs={_EPOCHS}",
    "trainer.learning_rate=tag(log, interval(1e-5,1e-2))",
    "sampler=random",
    "pruner=asha",
    "pruner.reduction_factor=2",
    "objective.metric=loss",
    "objective.direction=minimize",
    "launcher.max_attempts=9",
]
_VERDICT = "sweep.record:TrialRecord.unpromising"
_DEATHS = [
    Point(_VERDICT, "after", "rank 0", nth=1),
    Point("sweep.checkpoint:flush", "after", "rank 0", "both", nth=2),
    Point("sweep.agenda:promote_trial", "before", "driver"),
    Point("sweep.study:requeue", "before", "driver"),  # half promoted
    Point(_VERDICT, "after", "rank 0", "both", nth=7),
    Point("sweep.agenda:end_parked", "after", "driver"),
]


def _attempts(root: Path) -> dict[int, list[int]]:
    """Trial -> the epochs that each of its attempts found kept."""
    paths, cfg = open_study(root)
    trials = load_study(checked(cfg)[0], paths).trials
    return {t.number: [a["kept_epochs"] for a in t.user_attrs["attempts"]] for t in trials}


def test_what_is_promoted_goes_on_from_its_checkpoint(run_study: RunStudy) -> None:
    found = run_study(*_STUDY)
    assert found.code == 0, found.output
    trials = found.status["trials"]
    assert {t["state"] for t in trials} == {"COMPLETE", "PRUNED"}
    assert all((len(t["epochs"]) == _EPOCHS) == (t["state"] == "COMPLETE") for t in trials)
    attempts = _attempts(found.root)
    assert any(len(kept) > 1 for kept in attempts.values()), "somebody was promoted"
    for kept in attempts.values():
        # Rungs are after 1, 2 and 4 epochs, and nothing is trained twice.
        assert kept in ([0], [0, 1], [0, 2], [0, 1, 2]), attempts
    # At the end nobody stays behind who belongs to the best half of a rung.
    for rung in (1, 2):
        there = sorted((t for t in trials if len(t["epochs"]) >= rung), key=lambda t: _loss(t, rung))
        for trial in there[: len(there) // 2]:
            assert len(trial["epochs"]) > rung, trial
    assert "parked by the pruner" in found.output


def _loss(trial: dict[str, Any], epoch: int) -> float:
    return float(trial["epochs"][epoch - 1]["loss"])


def test_kills_change_nothing(tiny_overrides: list[str], run_study: RunStudy, tmp_path: Path) -> None:
    calm = run_study(*_STUDY, name="calm")
    root = tmp_path / "out" / "tiny"
    said = kill_and_resume([*tiny_overrides, *_STUDY], root, _DEATHS)
    assert compare_results(study_result(calm.root), study_result(root)) == [], said


def test_parked_trials_are_shown_and_wait_through_a_pause(run_study: RunStudy) -> None:
    found = run_study(*_STUDY, "study.max_epochs=2")
    assert "PARKED" in {t["state"] for t in read_status(found.root)["trials"]}


@given(
    st.lists(st.floats(0, 1, allow_nan=False), min_size=1, max_size=30), st.integers(2, 4), st.integers(1, 2)
)
def test_the_ladder_promotes_the_best_and_each_once(scores: list[float], factor: int, first: int) -> None:
    """One slot: promotions before new trials, as the driver asks for them."""
    pruner = PromotingPruner(first, factor)
    ladder = Ladder(pruner, StudyDirection.MAXIMIZE)
    rungs = [first, first * factor, first * factor**2]
    reached: dict[int, list[int]] = {rung: [] for rung in rungs}
    new = iter(range(len(scores)))
    hopeless: set[tuple[int, int]] = set()
    while True:
        unfinished = len(scores) - len(reached[rungs[-1]])  # the last rung is the end here
        hopeless.update((n, ladder.parked[n]) for n in ladder.hopeless(unfinished))
        found = ladder.promote()
        if found is None:
            number = next(new, None)
            if number is None:
                break
            rung = first
        else:
            number, before = found
            assert (number, before) not in hopeless
            if before == rungs[-1]:
                continue
            rung = rungs[rungs.index(before) + 1]
        assert number not in reached[rung], "trained twice"
        reached[rung].append(number)
        ladder.reached(number, rung, scores[number])
        ladder.park(number, rung)
    for lower, upper in pairwise(rungs):
        best = sorted(reached[lower], key=lambda n: (-scores[n], n))[: len(reached[lower]) // factor]
        assert set(best) <= set(reached[upper])


def test_rungs() -> None:
    pruner = PromotingPruner(2, 3)
    assert [epoch for epoch in range(1, 60) if pruner.is_rung(epoch, 0)] == [2, 6, 18, 54]
    with pytest.raises(InputError, match="at least 2"):
        PromotingPruner(1, 1)


def test_hyperband_spares_some_trials_the_first_comparison() -> None:
    pruner = PromotingHyperband(1, 9, 3)
    brackets = [pruner.bracket(number) for number in range(3000)]
    shares = [brackets.count(bracket) / 3000 for bracket in range(3)]
    # Hyperband, Algorithm 1: 9, 5 and 3 of 17 trials.
    assert shares == pytest.approx([9 / 17, 5 / 17, 3 / 17], abs=0.03)
    rungs = [[epoch for epoch in range(1, 10) if pruner.is_rung(epoch, bracket)] for bracket in range(3)]
    assert rungs == [[1, 3, 9], [3, 9], [9]]
    with pytest.raises(InputError, match="max_resource=1"):
        PromotingHyperband(2, 1)


def test_hyperband_promotes_and_kills_change_nothing(
    tiny_overrides: list[str], run_study: RunStudy, tmp_path: Path
) -> None:
    study = [*_STUDY, "pruner=hyperband", "pruner.reduction_factor=2", "study.n_trials=8"]
    calm = run_study(*study, name="calm")
    assert calm.code == 0, calm.output
    kept = _attempts(calm.root)
    pruner = PromotingHyperband(1, _EPOCHS, 2)
    assert any(len(found) > 1 for found in kept.values()), "somebody was promoted"
    for number, found in kept.items():
        first = 2 ** pruner.bracket(number)
        assert all(epoch in (0, first, 2 * first) for epoch in found), (number, found)
    root = tmp_path / "out" / "tiny"
    kill_and_resume([*tiny_overrides, *study], root, _DEATHS[:3])
    assert compare_results(study_result(calm.root), study_result(root)) == []
