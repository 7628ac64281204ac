"""CMA-ES without pickles in the storage is Optuna's CMA-ES."""

from __future__ import annotations

from typing import Any, Literal

import optuna
import pytest
from optuna.samplers import CmaEsSampler

from sweep.cma_es import RetoldCmaEsSampler
from sweep.compose import compose
from sweep.config import typed
from sweep.sampler import build_sampler
from sweep.space import parse_space


def _sphere(trial: Any) -> float:
    x, y = trial.suggest_float("x", -5, 5), trial.suggest_int("y", -5, 5)
    kind = trial.suggest_categorical("kind", ["a", "b"])
    return float((x - 1) ** 2 + (y - 2) ** 2 + (kind == "b"))


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("with_margin", [False, True])
def test_it_proposes_what_upstream_proposes(
    direction: Literal["minimize", "maximize"], with_margin: bool
) -> None:
    studies = []
    for kind in (CmaEsSampler, RetoldCmaEsSampler):
        # A new sampler for each trial, as ranks have it: the state comes from storage or nowhere.
        study = optuna.create_study(direction=direction)
        for number in range(60):
            study.sampler = kind(seed=number, n_startup_trials=3, with_margin=with_margin)
            study.optimize(lambda trial: _sphere(trial) * (1 if direction == "minimize" else -1), n_trials=1)
        studies.append(study)
    upstream, ours = studies
    assert [t.params for t in ours.trials] == [t.params for t in upstream.trials]
    assert abs(ours.best_value) < 0.3, "it searches"
    assert any("optimizer" in key for t in upstream.trials for key in t.system_attrs), "upstream pickles"
    assert not any("optimizer" in key for t in ours.trials for key in t.system_attrs)


def test_the_config_group_takes_it() -> None:
    cfg = compose(
        ["sampler=cmaes", "sampler.n_startup_trials=2", "space=none", "trainer.weight_decay=interval(0,1)"]
    )
    config, space = typed(cfg), parse_space(cfg)

    def run(pieces: int) -> list[dict[str, Any]]:
        study = optuna.create_study()
        for _ in range(pieces):
            study.sampler = build_sampler(config, space)
            study.optimize(lambda trial: float(space(trial)["trainer.weight_decay"]), n_trials=24 // pieces)
        assert not any("optimizer" in key for t in study.trials for key in t.system_attrs)
        return [t.params for t in study.trials]

    assert run(1) == run(8)
