"""Conditional parameters, constraints and choices over groups: every trial is one that the space allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from sweep.compose import compose
from sweep.config import typed
from sweep.errors import InputError
from sweep.sampler import build_sampler
from sweep.space import parse_space
from sweep.warm_start import starting_points

_OPTIM, _BETA, _EPS, _LAYERS, _FROZEN = (
    "trainer.optim",
    "trainer.adam_beta2",
    "trainer.adam_epsilon",
    "model.num_hidden_layers",
    "model.freeze_layers",
)
_SPACE: dict[str, Any] = {
    _OPTIM: "choice(adamw_torch,sgd)",
    # Against the order of their names: epsilon decides over beta.
    f"+{_EPS}": {"vary": "choice(1e-8,1e-6)", "when": {_OPTIM: "adamw_torch"}},
    f"+{_BETA}": {"vary": "interval(0.9,0.999)", "when": {_EPS: [1e-6]}},
    _LAYERS: "range(1,5)",
    _FROZEN: "range(0,4)",
    "constraints": [f"{_FROZEN} < {_LAYERS}", f"{_OPTIM} != 'sgd' or {_LAYERS} >= 2"],
}


def _config(*overrides: str, **changes: Any) -> DictConfig:
    cfg = compose(["space=none", "model.freeze_layers=0", *overrides])
    cfg.space = {**_SPACE, **changes, **dict(cfg.space)}
    return cfg


def _allowed(params: dict[str, Any]) -> bool:
    adam = params[_OPTIM] == "adamw_torch"
    return bool(
        (_EPS in params) == adam
        and (_BETA in params) == (adam and params[_EPS] == 1e-6)
        and params[_FROZEN] < params[_LAYERS]
        and (adam or params[_LAYERS] >= 2)
    )


def _run(cfg: DictConfig, n_trials: int, pieces: int = 1) -> list[dict[str, Any]]:
    config, space = typed(cfg), parse_space(cfg)
    study = optuna.create_study()
    for params in starting_points(config, space):
        study.enqueue_trial(params)
    for _ in range(pieces):
        study.sampler = build_sampler(config, space)
        study.optimize(lambda trial: _score(space(trial)), n_trials=n_trials // pieces)
    return [t.params for t in study.trials]


def _score(params: dict[str, Any]) -> float:
    return float(params.get(_BETA, 0.5) * params[_LAYERS] - params[_FROZEN])


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "gp", "nsgaii", "nsgaiii", "grid"])
def test_every_sampler_keeps_conditions_and_constraints_also_in_pieces(sampler: str) -> None:
    few = [] if sampler in ("random", "qmc", "grid", "nsgaii", "nsgaiii") else ["sampler.n_startup_trials=4"]
    changes = {f"+{_BETA}": {"vary": "choice(0.9,0.99)", "when": {_EPS: [1e-6]}}}
    cfg = _config(f"sampler={sampler}", *few, **changes)
    drawn = _run(cfg, 12)
    assert all(map(_allowed, drawn)), drawn
    assert _run(cfg, 12, pieces=4) == drawn, "a seeded sampler of Optuna starts anew in every process"
    assert len({_OPTIM in p and p[_OPTIM] for p in drawn}) == 2
    assert len({tuple(sorted(p.items())) for p in drawn}) > 6


def test_the_grid_is_all_that_is_allowed_and_each_once() -> None:
    cfg = _config("sampler=grid", **{f"+{_BETA}": {"vary": "choice(0.9,0.99)", "when": {_EPS: [1e-6]}}})
    points = parse_space(cfg).grid()
    # 4 layers with 0..l-1 frozen are 10 pairs, one of them with a single layer; Adam has 3 ways, SGD one.
    assert len(points) == 10 * 3 + 9
    assert all(map(_allowed, points))
    drawn = _run(cfg, len(points))
    assert sorted(map(repr, drawn)) == sorted(map(repr, points))


@given(st.integers(0, 10**6))
def test_a_trial_killed_between_two_suggestions_gets_the_rest_of_the_same_draw(seed: int) -> None:
    cfg = _config("sampler=random", f"study.seed={seed}")
    config, space = typed(cfg), parse_space(cfg)

    class KilledError(BaseException):
        pass

    class Victim:
        """A trial that dies at its third suggestion."""

        def __init__(self, trial: optuna.Trial) -> None:
            self._trial, self._left = trial, 2

        def __getattr__(self, name: str) -> Any:
            self._left -= 1
            if self._left < 0:
                raise KilledError
            return getattr(self._trial, name)

    studies = []
    for kill in (False, True):
        study = optuna.create_study(sampler=build_sampler(config, space))
        trial = study.ask()
        if kill:
            with pytest.raises(KilledError):
                space(Victim(trial))
            study._storage.set_trial_state_values(trial._trial_id, optuna.trial.TrialState.WAITING)
            study.sampler = build_sampler(config, space)
            trial = study.ask()
        space(trial)
        studies.append(study.trials[0].params)
    assert studies[0] == studies[1]
    assert _allowed(studies[0])


def test_what_a_fixed_setting_decides_is_decided_before_any_trial() -> None:
    fixed = parse_space(_fixed("sgd"))
    assert {d.path for d in fixed.dimensions} == {_LAYERS, _FROZEN}, "neither epsilon nor what hangs on it"
    adam = {d.path: d for d in parse_space(_fixed("adamw_torch")).dimensions}
    assert adam[_EPS].when == {}
    assert adam[_BETA].when == {_EPS: (1e-6,)}


def _fixed(optim: str) -> DictConfig:
    cfg = _config(f"trainer.optim={optim}")
    del cfg.space[_OPTIM]
    return cfg


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({f"+{_BETA}": {"vary": "interval(0,1)", "when": {"trainer.optin": "sgd"}}}, "'trainer.optim'?"),
        ({f"+{_BETA}": {"vary": "interval(0,1)", "when": {_OPTIM: "adam"}}}, "'adam', which"),
        ({f"+{_BETA}": {"vary": "interval(0,1)", "then": {}}}, "{vary: GRAMMAR, when:"),
        ({f"+{_EPS}": {"vary": "choice(1e-8,1e-6)", "when": {_BETA: 1}}}, "needs single values"),
        ({_OPTIM: {"vary": "choice(adamw_torch,sgd)", "when": {_EPS: 1e-8}}}, "wait for each other"),
        ({"constraints": ["trainer.optin == 1"]}, "Did you mean 'trainer.optim'?"),
        ({"constraints": [f"{_LAYERS} <"]}, "cannot be read"),
        ({"constraints": f"{_LAYERS} < 1"}, "must be a list"),
        ({"constraints": [f"{_LAYERS} < 1"]}, "none of 200 random draws keeps"),
        ({"constraints": [f"{_OPTIM} < 1"]}, "has no value"),
        ({"constraints": ["().__class__"]}, "unknown path"),
    ],
)
def test_spaces_that_no_trial_could_come_from_are_refused(changes: dict[str, Any], said: str) -> None:
    cfg = _config("sampler=random", **changes)
    with pytest.raises(InputError) as caught:
        build_sampler(typed(cfg), parse_space(cfg))
    assert said in str(caught.value)


def _groups(tmp_path: Path) -> Path:
    for name, layers in (("small", 1), ("large", 5)):
        file = tmp_path / "model" / f"{name}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(
            f"defaults: [minilm]\nnum_hidden_layers: {layers}\nfreeze_layers: 0\nconfig: {{own: {name}}}\n"
        )
    return tmp_path


def test_a_choice_over_groups_gives_each_trial_the_composed_option(tmp_path: Path) -> None:
    words = ["model=choice(small,large)", "model.freeze_embeddings=choice(true,false)", "sampler=grid"]
    cfg = compose(["space=none", *words], _groups(tmp_path))
    space = parse_space(cfg)
    assert len(space.grid()) == 4
    trial = space.apply({"model": "large", "model.freeze_embeddings": True})
    assert trial["model"]["num_hidden_layers"] == 5
    assert trial["model"]["config"] == {"own": "large"}
    assert trial["model"]["freeze_embeddings"] is True
    overrides = space.overrides({"model": "large", "model.freeze_embeddings": True})
    assert overrides == ["model=large", "model.freeze_embeddings=True"]
    again = compose(["space=none", *overrides], tmp_path)
    assert OmegaConf.to_container(again.model, resolve=True) == trial["model"]
    saved = OmegaConf.create(OmegaConf.to_yaml(cfg))
    assert isinstance(saved, DictConfig)
    assert parse_space(saved).dimensions == space.dimensions, "a resume needs no config folder"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("model=choice(small,larg)", "Did you mean 'large'?"),
        ("model=interval(0,1)", "the names of options"),
        ("launcher=choice(local,ray)", "cannot vary between trials"),
    ],
)
def test_groups_that_cannot_be_chosen_from_are_refused(word: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        compose([word], _groups(tmp_path))
    assert said in str(caught.value)


def test_enqueued_settings_come_first_and_the_rest_of_them_is_drawn() -> None:
    cfg = _config("sampler=random")
    cfg.study.enqueue = [{_OPTIM: "sgd", _LAYERS: 3}, {"model": {"freeze_layers": 3, "num_hidden_layers": 4}}]
    drawn = _run(cfg, 6)
    assert (drawn[0][_OPTIM], drawn[0][_LAYERS]) == ("sgd", 3)
    assert (drawn[1][_FROZEN], drawn[1][_LAYERS]) == (3, 4)
    assert all(map(_allowed, drawn)), drawn
    without = _run(_config("sampler=random"), 6)
    assert drawn[2:] == without[2:], "a random draw depends on the trial's number alone"


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ({"trainer.optin": "sgd"}, "Did you mean 'trainer.optim'?"),
        ({_OPTIM: "adam"}, "lies outside of choice(adamw_torch,sgd)"),
        ({_LAYERS: 2.5}, "lies outside"),
        ({_OPTIM: "sgd", _EPS: 1e-8}, "does not exist"),
        ({_OPTIM: "sgd", _LAYERS: 1, _FROZEN: 0}, "breaks a constraint"),
        ("sgd", "no map of settings"),
    ],
)
def test_settings_that_no_trial_could_have_are_refused(point: Any, said: str) -> None:
    cfg = _config("sampler=random")
    cfg.study.enqueue = [point]
    with pytest.raises(InputError) as caught:
        starting_points(typed(cfg), parse_space(cfg))
    assert said in str(caught.value)
    assert "study.enqueue[0]" in str(caught.value)
