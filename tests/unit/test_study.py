"""Samplers continue where they were; budget and queue count as promised."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState
from sqlalchemy import event

from sweep.compose import compose
from sweep.config import typed
from sweep.errors import InputError
from sweep.paths import StudyPaths
from sweep.record import TrialRecord
from sweep.sampler import build_pruner, build_sampler, grid_size
from sweep.schema import ObjectiveConfig, SweepConfig
from sweep.space import SearchSpace, parse_space
from sweep.standing import Ranking, Standing
from sweep.storage import open_rank_storage, read_ahead
from sweep.study import create_study, fail_trial, load_study, requeue

_SPACE = ["trainer.learning_rate=range(1,5)", "trainer.weight_decay=choice(0,0.01,0.1)", "space=none"]


def _config(*overrides: str) -> tuple[SweepConfig, SearchSpace]:
    cfg = compose([*_SPACE, "sampler=random", *overrides])
    return typed(cfg), parse_space(cfg)


def _value(params: dict[str, Any]) -> float:
    return float(params["trainer.learning_rate"] - 10 * params["trainer.weight_decay"])


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_a_study_in_pieces_samples_like_one_in_one_piece(tmp_path: Path, sampler: str) -> None:
    """A seeded sampler of Optuna, rebuilt in every process, would repeat its first draws."""
    config, space = _config(f"sampler={sampler}", *(["sampler.n_startup_trials=3"][: sampler == "tpe"]))

    def run(folder: str, pieces: list[int]) -> list[dict[str, Any]]:
        paths = StudyPaths(tmp_path / folder)
        paths.root.mkdir()
        create_study(config, paths)
        for n_trials in pieces:  # each piece is what one process would do
            study = load_study(config, paths)
            study.sampler = build_sampler(config, space)
            study.optimize(lambda trial: _value(space(trial)), n_trials=n_trials)
        return [t.params for t in load_study(config, paths).trials]

    whole = run("whole", [12])
    assert run("pieces", [1, 2, 1, 4, 4]) == whole
    assert len({tuple(p.items()) for p in whole}) > (11 if sampler == "grid" else 3)


def test_requeued_trials_keep_number_parameters_and_reports(tmp_path: Path) -> None:
    config, space = _config()
    paths = StudyPaths(tmp_path / "a ? study # with % signs")
    paths.root.mkdir()
    create_study(config, paths)
    study = load_study(config, paths)
    running = [study.ask() for _ in range(2)]
    params = space(running[1])
    running[1].report(0.5, 1)
    assert requeue(study, keep={0}) == [1]
    again = load_study(config, paths).ask()
    assert again.number == 1
    assert space(again) == params
    assert load_study(config, paths).trials[1].intermediate_values == {1: 0.5}
    fail_trial(study, 0, "out of memory", "the log")
    failed = load_study(config, paths).trials[0]
    assert (failed.state, failed.user_attrs["error"]) == (TrialState.FAIL, "out of memory")


@given(
    st.lists(st.sampled_from(["0.1", "0.2", "0.3", "PRUNED", "FAIL", "WAITING"]), max_size=9), st.booleans()
)
def test_standing_kept_in_step_is_standing_read_afresh(ends: list[str], minimize: bool) -> None:
    """Whatever ends, however: also with equal values, and for a driver that comes later."""
    objective = ObjectiveConfig(direction="minimize" if minimize else "maximize")
    study = optuna.create_study(direction="minimize" if minimize else "maximize")
    kept = Standing(study, objective)
    scores = {}
    for number, end in enumerate(ends):
        trial = study.ask()
        if end == "WAITING":
            study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
            study._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
            continue
        if end in ("PRUNED", "FAIL"):
            kept.add(study.tell(trial, state=TrialState[end]))
        else:
            scores[number] = float(end)
            trial.set_user_attr("epoch:1", {"accuracy": float(end), "loss": 0.5})
            kept.add(study.tell(trial, float(end)))
    fresh = Standing(study, objective)
    assert kept.finished == fresh.finished == len(ends) - ends.count("WAITING")
    sign = 1 if minimize else -1
    order = sorted(scores, key=lambda n: (sign * scores[n], n))
    assert kept.ranking() == fresh.ranking() == Ranking(order, min(1, len(order)))


def test_grid_has_as_many_trials_as_points() -> None:
    assert grid_size(*_config("sampler=grid")) == 12
    assert grid_size(*_config()) is None


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("sampler._target_=optuna.samplers.TPE", "optuna.samplers.TPE"),
        ("sampler._target_=os.system", "os.system"),
        ("sampler._target_=optuna.pruners.NopPruner", "no BaseSampler"),
        ("+sampler.startup=3", "startup"),
    ],
)
def test_a_sampler_that_is_none_is_refused(override: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        build_sampler(*_config(override))
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["median", "hyperband", "none"])
def test_pruners_are_built_from_their_group(name: str) -> None:
    pruner = build_pruner(typed(compose([f"pruner={name}"])))
    assert isinstance(pruner, optuna.pruners.BasePruner)
    assert name.lower() in type(pruner).__name__.lower() or name == "none"
    with pytest.raises(InputError, match="no BasePruner"):
        build_pruner(typed(compose(["pruner._target_=optuna.samplers.TPESampler"])))


@pytest.mark.parametrize("pruner", ["none", "median"])
def test_an_epoch_costs_the_same_few_statements_however_many_trials_there_are(
    tmp_path: Path, pruner: str
) -> None:
    """Counted at the database, as a rank meets it, which remembers the trials that had finished."""
    config, space = _config(f"pruner={pruner}")
    paths = StudyPaths(tmp_path)
    study = create_study(config, paths)
    few = _finished(study, space)
    study.add_trials([few] * 9)
    counts = [_count(config, paths)]
    study.add_trials([few] * 190)
    counts.append(_count(config, paths))
    assert counts[0] == counts[1], "nothing scans the trials"
    statements, commits = counts[0]
    assert statements <= 25
    assert commits <= 5


def _count(config: SweepConfig, paths: StudyPaths) -> tuple[int, int]:
    """Statements and commits of a rank's second epoch."""
    storage = open_rank_storage(config, paths)
    read_ahead(storage, config)
    study = optuna.load_study(study_name=config.study.name, storage=storage, pruner=build_pruner(config))
    record = TrialRecord(study.ask(), config.objective)
    metrics = {"accuracy": 0.5, "f1": 0.5, "loss": 0.7, "seconds": 1.0}
    record.add(1, metrics)
    record.report(1)
    seen: Counter[str] = Counter()
    engine = storage._backend.engine  # type: ignore[attr-defined]
    event.listen(engine, "before_cursor_execute", lambda *_: seen.update(["statement"]))
    event.listen(engine, "commit", lambda _: seen.update(["commit"]))
    record.add(2, metrics)
    record.report(2)
    return seen["statement"], seen["commit"]


def _finished(study: optuna.Study, space: SearchSpace) -> optuna.trial.FrozenTrial:
    trial = study.ask()
    space(trial)
    for epoch in (1, 2):
        trial.report(0.5, epoch)
    study.tell(trial, 0.5)
    found: optuna.trial.FrozenTrial = study.trials[0]
    return found
