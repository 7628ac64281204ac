"""A search space as a Python function of the user's own."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

from sweep.compose import compose
from sweep.config import typed
from sweep.errors import InputError
from sweep.sampler import build_sampler
from sweep.space import parse_space


def rate_falls_with_depth(trial: Any) -> dict[str, Any]:
    layers = trial.suggest_int("depth", 1, 4)
    rate = trial.suggest_float("rate", 1e-5, 1e-3, log=True)
    momentum = {"trainer.adam_beta1": trial.suggest_float("beta", 0.5, 0.9)} if layers > 2 else {}
    return {"model.num_hidden_layers": layers, "trainer.learning_rate": rate / layers, **momentum}


def fails(trial: Any) -> dict[str, Any]:
    raise ZeroDivisionError("of its own")


def nothing(trial: Any) -> Any:
    return None


def misspelt(trial: Any) -> Any:
    return {"model.num_hidden_layer": 1}


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_a_functions_trials_are_the_same_in_pieces_and_on_every_rank(sampler: str) -> None:
    cfg = compose(["space=none", f"+space._target_={__name__}.rate_falls_with_depth", f"sampler={sampler}"])
    config, space = typed(cfg), parse_space(cfg)

    def run(pieces: int) -> list[dict[str, Any]]:
        study = optuna.create_study()
        for _ in range(pieces):
            study.sampler = build_sampler(config, space)
            study.optimize(lambda trial: float(space(trial)["trainer.learning_rate"]), n_trials=12 // pieces)
        return [t.params for t in study.trials]

    whole = run(1)
    assert run(6) == whole
    assert len({p["depth"] for p in whole}) > 2
    shares = {round((p["rate"] - 1e-5) / (p["depth"]), 12) for p in whole}
    assert len(shares) == 12, "parameters of one trial are drawn apart"
    for params in whole:
        settings = space(optuna.trial.FixedTrial(params))
        trial = space.apply(settings)
        assert trial["trainer"]["learning_rate"] == params["rate"] / params["depth"]
        assert ("adam_beta1" in trial["trainer"]) == (params["depth"] > 2)
        again = compose(["space=none", *(f"+{o}" if "beta" in o else o for o in space.overrides(settings))])
        assert again.trainer.learning_rate == trial["trainer"]["learning_rate"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([f"+space._target_={__name__}.fails"], "of its own"),
        ([f"+space._target_={__name__}.nothing"], "return a map of paths"),
        ([f"+space._target_={__name__}.missing"], "cannot be used"),
        ([f"+space._target_={__name__}.misspelt"], "Did you mean 'model.num_hidden_layers'?"),
        (
            [f"+space._target_={__name__}.fails", "trainer.weight_decay=choice(0,1)"],
            "leave trainer.weight_decay out",
        ),
    ],
)
def test_functions_that_say_nothing_of_use_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_space(compose(["space=none", *words]))
    assert said in str(caught.value)
