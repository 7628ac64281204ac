"""What a trial is worth: its best epoch, the mean over its folds, its place among the others."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from sweep.schema import ObjectiveConfig

Epochs = Mapping[int, Mapping[str, float]]  # epoch -> its metrics
FOLD = "fold"  # the metric that says to which fold, 1…k, an epoch belongs
_SPEEDS = ("runtime", "samples_per_second", "steps_per_second", "seconds")
_COSTS = ("latency", "size")
# What an epoch may have; others are the user's own.
STANDARD_METRICS = frozenset(
    {"accuracy", "f1", "loss", "train_loss", "learning_rate", "epoch", FOLD, *_COSTS, *_SPEEDS}
)


@dataclass(frozen=True)
class Best:
    """What a trial is known by.

    Attributes:
        epoch: whose checkpoint is its model; with folds, that of the fold with the median score.
        values: of each objective at the best epoch; with folds, the mean over them.
    """

    epoch: int
    values: tuple[float, ...]

    @property
    def value(self) -> float:
        """That of the first objective."""
        return self.values[0]


def best_of(epochs: Epochs, objective: ObjectiveConfig) -> Best | None:
    """The score of a trial, over all folds it has begun; None before its first epoch."""
    chosen = best_epochs(epochs, objective)
    if not chosen:
        return None
    values = (statistics.fmean(epochs[n][goal.metric] for n in chosen) for goal in objective.goals)
    middle = sorted(chosen, key=lambda n: (epochs[n][objective.metric], n))[(len(chosen) - 1) // 2]
    return Best(middle, tuple(values))


def best_epochs(epochs: Epochs, objective: ObjectiveConfig) -> list[int]:
    """The best epoch (or by `objective.epoch` the last) of each fold; without folds, of the trial.

    Ties in the first objective go to the better one in the next, and at last to the earlier epoch.
    """
    if objective.epoch == "last":
        return [max(fold) for fold in _folds(epochs)]
    goals = objective.goals
    return [
        min(fold, key=lambda n: (*(g.sign * fold[n][g.metric] for g in goals), n)) for fold in _folds(epochs)
    ]


def _folds(epochs: Epochs) -> list[Epochs]:
    by_fold = groupby(sorted(epochs), key=lambda n: epochs[n].get(FOLD, 1))
    return [{n: epochs[n] for n in fold} for _, fold in by_fold]


def mean_metrics(epochs: Epochs, objective: ObjectiveConfig) -> dict[str, float]:
    """All metrics of a trial at its best epoch; with folds, the mean over them."""
    chosen = best_epochs(epochs, objective)
    names = [name for name in epochs[chosen[0]] if name not in ("epoch", FOLD)] if chosen else []
    return {name: statistics.fmean(epochs[n][name] for n in chosen) for name in names}


def rank_key(number: int, epochs: Epochs, objective: ObjectiveConfig) -> tuple[float, ...]:
    """Sorts finished trials, best first: by score, then fewer epochs, then lower loss, then lower number.

    Several objectives count one after the other, so that the first place is never a dominated trial's.
    """
    best = best_of(epochs, objective)
    if best is None:
        return *(math.inf for _ in objective.goals), 0, 0.0, number
    scores = (goal.sign * value for goal, value in zip(objective.goals, best.values, strict=True))
    chosen = best_epochs(epochs, objective)
    needed = sum(n - min(fold) + 1 for n, fold in zip(chosen, _folds(epochs), strict=True))
    return *scores, needed, statistics.fmean(epochs[n]["loss"] for n in chosen), number


def dominates(first: Sequence[float], other: Sequence[float]) -> bool:
    """Whether `first` is nowhere worse than `other` and somewhere better; smaller is better."""
    return all(a <= b for a, b in zip(first, other, strict=True)) and tuple(first) != tuple(other)


def pareto_front(scores: Mapping[int, Sequence[float]]) -> list[int]:
    """The numbers of those that no other dominates, in the order given; smaller scores are better."""
    front: list[int] = []
    for number, own in scores.items():
        if not any(dominates(scores[other], own) for other in front):
            front = [other for other in front if not dominates(own, scores[other])] + [number]
    return front


def out_of_patience(epochs: Epochs, objective: ObjectiveConfig) -> bool:
    """Whether as many epochs as `objective.patience` went by in the last fold without a better score."""
    if not epochs or objective.patience is None:
        return False
    fold, goal = _folds(epochs)[-1], objective.goals[0]
    best = min(fold, key=lambda n: (goal.sign * fold[n][goal.metric], n))
    return max(fold) - best >= objective.patience


def numbers(epochs: Iterable[Mapping[str, float]]) -> Epochs:
    """Epochs as a status lists them, by their numbers."""
    return {int(epoch["epoch"]): epoch for epoch in epochs}
