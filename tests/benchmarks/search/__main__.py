"""Epochs until a search has found what is nearly the best: `python -m tests.benchmarks.search [SEEDS]`.

Every sampler with every pruner, through the real driver, nursery, ranks and SQLite, without training; and on
the same curves Optuna alone with its own Hyperband, and Ray Tune's ASHA. Counted are the epochs until the
accuracy is within 0.5 points of the best of all curves.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import statistics
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import optuna
from rich.console import Console
from rich.table import Table

from sweep.events import EpochDone, Event
from sweep.launchers import local
from tests.benchmarks.common import recorded, save
from tests.benchmarks.search import replay
from tests.benchmarks.search.curves import CHOICES, EPOCHS, RATE, RATES, best_accuracy, choices, curve
from tests.tiny import make_tiny_model

_SAMPLERS = ("random", "tpe", "qmc", "gp")
_PRUNERS = ("none", "median", "asha", "hyperband")
_NEAR = 0.005
_MOST = 720  # epochs; a search that has not found it by then counts as that
_BASE = "random + none"


class _FoundError(Exception):
    """Ends a study whose search has arrived."""


class _Counter:
    """Counts epochs until one is near enough."""

    def __init__(self, goal: float) -> None:
        self.goal, self.epochs = goal, 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, EpochDone):
            self.count(event.metrics["accuracy"])

    def count(self, accuracy: float) -> None:
        """One more epoch."""
        self.epochs += 1
        if accuracy >= self.goal or self.epochs >= _MOST:
            raise _FoundError


def _ours(sampler: str, pruner: str, seed: int, folder: Path) -> int:
    rate = f"{RATE}=tag(log, interval({RATES[0]},{RATES[-1]}))"
    study = [f"sampler={sampler}", f"pruner={pruner}", f"study.seed={seed}", f"study.n_trials={_MOST}"]
    study += ["space=none", rate, *choices(), f"trainer.num_train_epochs={EPOCHS}", "task.limit=64"]
    study += ["model=hub", f"model.path='{folder / 'tiny'}'", "launcher.devices=1"]
    counter = _Counter(best_accuracy() - _NEAR)
    with tempfile.TemporaryDirectory(dir=folder) as own, contextlib.suppress(_FoundError):
        recorded(study, Path(own), seen=counter)
    return counter.epochs


def _optuna(seed: int) -> int:
    counter = _Counter(best_accuracy() - _NEAR)

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

    counter, draw = _Counter(best_accuracy() - _NEAR), np.random.RandomState(seed)
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


def main() -> None:
    """Replay all, and print the table."""
    seeds = range(int(sys.argv[1]) if sys.argv[1:] else 30)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found: dict[str, list[int]] = {
        "Optuna alone: tpe + hyperband": [_optuna(seed) for seed in seeds],
        "Ray Tune: random + ASHA": [_ray(seed) for seed in seeds],
    }
    with tempfile.TemporaryDirectory() as name, mock.patch.object(local, "_RANK", replay.RANK):
        make_tiny_model(Path(name) / "tiny")
        for sampler, pruner in itertools.product(_SAMPLERS, _PRUNERS):
            epochs = [_ours(sampler, pruner, seed, Path(name)) for seed in seeds]
            found[f"{sampler} + {pruner}"] = epochs
            print(f"{sampler} + {pruner}: {statistics.median(epochs)}", flush=True)
    table = Table("search", "epochs: median", "quartiles", f"÷ {_BASE}")
    base = statistics.median(found[_BASE])
    for search, epochs in sorted(found.items(), key=lambda each: statistics.median(each[1])):
        low, _, high = statistics.quantiles(epochs, n=4)
        median = statistics.median(epochs)
        table.add_row(search, f"{median:.0f}", f"{low:.0f} to {high:.0f}", f"{median / base:.2f}")
    Console().print(table)
    save("search", {"epochs": found, "goal": best_accuracy() - _NEAR})


if __name__ == "__main__":
    main()
