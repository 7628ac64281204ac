"""The searches that are compared: ours, Optuna's alone, Ray Tune's; each returns the epochs it needed."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from rich.console import Console

from sweep.compose import compose
from sweep.events import EpochDone, Event
from sweep.monitor import Monitor
from tests.benchmarks.search.curves import CHOICES, EPOCHS, RATE, RATES, best_accuracy, choices, curve
from tests.benchmarks.search.replay import replay

_SAMPLERS = ("random", "tpe", "qmc", "nsgaii")
_PRUNERS = ("none", "median", "percentile", "patient", "asha", "hyperband")
NEAR = 0.005
_MOST, _MOST_GP = 2000, 600  # epochs; a search that has not found it by then counts as that
BASE = "random + none"
OPTUNA, RAY = "Optuna alone: tpe + hyperband", "Ray Tune: random + ASHA"


class _FoundError(Exception):
    """Ends a study whose search has arrived."""


class _Counter:
    """Counts epochs until one is near enough."""

    def __init__(self, most: int = _MOST) -> None:
        self.goal, self.epochs, self._most = best_accuracy() - NEAR, 0, most

    def count(self, accuracy: float) -> None:
        """One more epoch."""
        self.epochs += 1
        if accuracy >= self.goal or self.epochs >= self._most:
            raise _FoundError


class _Watch(Monitor):
    """Hears of the epochs as the command would show them."""

    def __init__(self, counter: _Counter) -> None:
        super().__init__(Console(file=io.StringIO()))
        self._counter = counter

    def on_event(self, event: Event) -> None:
        if isinstance(event, EpochDone):
            self._counter.count(event.metrics["accuracy"])


def _ours(sampler: str, pruner: str, seed: int) -> int:
    rate = f"{RATE}=tag(log, interval({RATES[0]},{RATES[-1]}))"
    study = [f"sampler={sampler}", f"pruner={pruner}", f"study.seed={seed}", f"study.n_trials={_MOST}"]
    study += ["space=none", rate, *choices(), f"trainer.num_train_epochs={EPOCHS}"]
    counter, cfg = _Counter(_MOST_GP if sampler == "gp" else _MOST), compose(study)
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(_FoundError):
        replay(cfg, Path(folder) / "study", _Watch(counter), curve)
    return counter.epochs


def _optuna(seed: int) -> int:
    counter = _Counter()

    def objective(trial: optuna.Trial) -> float:
        params = {RATE: trial.suggest_float(RATE, RATES[0], RATES[-1], log=True)}
        params |= {path: trial.suggest_categorical(path, values) for path, values in CHOICES.items()}
        best = 0.0
        for number, epoch in enumerate(curve(params), 1):
            counter.count(epoch["accuracy"])
            best = max(best, epoch["accuracy"])
            trial.report(epoch["accuracy"], number)
            if trial.should_prune():
                raise optuna.TrialPruned
        return best

    study = optuna.create_study(
        study_name=str(seed),  # by which it assigns brackets
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.HyperbandPruner(1, EPOCHS, 3),
    )
    with contextlib.suppress(_FoundError):
        study.optimize(objective)
    return counter.epochs


def _ray(seed: int) -> int:
    """Ray Tune's random search under its ASHA scheduler, asked as Ray asks it; nothing is launched."""
    from ray.tune.schedulers import ASHAScheduler, TrialScheduler

    counter, draw = _Counter(), np.random.RandomState(seed)
    scheduler = ASHAScheduler("epoch", "accuracy", "max", max_t=EPOCHS, grace_period=1, reduction_factor=3)
    with contextlib.suppress(_FoundError):
        for number in itertools.count():
            trial: Any = SimpleNamespace(trial_id=str(number))
            scheduler.on_trial_add(None, trial)
            params = {RATE: math.exp(draw.uniform(math.log(RATES[0]), math.log(RATES[-1])))}
            params |= {path: values[draw.randint(len(values))] for path, values in CHOICES.items()}
            for epoch, scores in enumerate(curve(params), 1):
                counter.count(scores["accuracy"])
                result = {"epoch": epoch, "accuracy": scores["accuracy"]}
                if scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP:
                    break
    return counter.epochs


def searches() -> dict[str, tuple[Callable[..., int], tuple[str, ...]]]:
    """Name -> function and its first arguments; the last one is a seed."""
    # A Gaussian process takes the cube of the trials, so it gets one row and fewer epochs.
    pairs = [*itertools.product(_SAMPLERS, _PRUNERS), ("gp", "none")]
    ours = {f"{s} + {p}": (_ours, (s, p)) for s, p in pairs}
    return {OPTUNA: (_optuna, ()), RAY: (_ray, ()), **ours}


def quiet() -> None:
    """In each process of the pool."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
