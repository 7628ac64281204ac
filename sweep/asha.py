"""Asynchronous successive halving that throws nothing away: a trial that is stopped can be promoted later.

Source: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning" (ASHA). Optuna's pruners can
only end a trial; here it is parked with its checkpoint, still RUNNING in the study but with no processes,
until its rung has grown so far that it belongs to the best of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from optuna.pruners import BasePruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from sweep.errors import InputError


class PromotingPruner(BasePruner):
    """Of the trials that get to epoch r, r·η, r·η², … (rungs) the best 1/η go on, the others are parked."""

    def __init__(self, min_resource: int = 1, reduction_factor: int = 3) -> None:
        """`min_resource` is r, in epochs; `reduction_factor` is η.

        Raises:
            InputError: r below 1, or η below 2.
        """
        if min_resource < 1 or reduction_factor < 2:
            raise InputError(
                f"pruner.min_resource={min_resource} must be at least 1, and "
                f"pruner.reduction_factor={reduction_factor} at least 2."
            )
        self._first, self._factor = min_resource, reduction_factor

    def is_rung(self, epoch: int) -> bool:
        """Whether trials are compared after this epoch."""
        while epoch > self._first and epoch % self._factor == 0:
            epoch //= self._factor
        return epoch == self._first

    def best(self, scores: Mapping[int, float], direction: StudyDirection) -> list[int]:
        """The numbers of those who may go on: trial -> score of all that have reached a rung, best first."""
        sign = -1 if direction == StudyDirection.MAXIMIZE else 1
        ranked = sorted(scores, key=lambda number: (sign * scores[number], number))
        return ranked[: len(ranked) // self._factor]

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial is parked after its last epoch."""
        epoch = trial.last_step
        if epoch is None or not self.is_rung(epoch):
            return False
        trials = study.get_trials(deepcopy=False)
        scores = {t.number: t.intermediate_values[epoch] for t in trials if epoch in t.intermediate_values}
        scores[trial.number] = trial.intermediate_values[epoch]
        return trial.number not in self.best(scores, study.direction)


class Ladder:
    """The rungs as the driver knows them, and who is parked on them."""

    def __init__(self, pruner: PromotingPruner, direction: StudyDirection) -> None:
        self._pruner, self._direction = pruner, direction
        self._rungs: dict[int, dict[int, float]] = {}
        self.parked: dict[int, int] = {}

    def load(self, trials: Iterable[FrozenTrial], parked: Mapping[int, int]) -> None:
        """Learn what the storage knows; `parked` are trial -> epoch."""
        for trial in trials:
            for epoch, value in trial.intermediate_values.items():
                self.reached(trial.number, epoch, value)
        self.parked.update(parked)

    def reached(self, number: int, epoch: int, value: float) -> None:
        """A trial has finished an epoch with this value of the objective."""
        if self._pruner.is_rung(epoch):
            self._rungs.setdefault(epoch, {})[number] = value

    def park(self, number: int, epoch: int) -> None:
        """A trial was stopped after `epoch`."""
        self.parked[number] = epoch

    def promote(self) -> tuple[int, int] | None:
        """Take the next trial off the ladder that may go on, from the highest rung: number and epoch."""
        for rung in sorted(self._rungs, reverse=True):
            for number in self._pruner.best(self._rungs[rung], self._direction):
                if self.parked.get(number) == rung:
                    return number, self.parked.pop(number)
        return None
