"""Asynchronous successive halving that throws nothing away: a trial that is stopped can be promoted later.

Sources: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning" (ASHA); Li et al. 2018,
"Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization". Optuna's pruners can
only end a trial; here it is parked with its checkpoint, still RUNNING in the study but with no processes,
until its rung has grown so far that it belongs to the best of it.
"""

from __future__ import annotations

import math
import zlib
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

    def bracket(self, number: int) -> int:
        """Which trials trial `number` is compared with; its first rung is r·η^bracket."""
        return 0

    def is_rung(self, epoch: int, bracket: int) -> bool:
        """Whether the trials of a bracket are compared after this epoch."""
        first: int = self._first * self._factor**bracket
        while epoch > first and epoch % self._factor == 0:
            epoch //= self._factor
        return epoch == first

    def best(self, scores: Mapping[int, float], direction: StudyDirection) -> list[int]:
        """The numbers of those who may go on: trial -> score of all that have reached a rung, best first."""
        return self.ranked(scores, direction)[: self.places(len(scores))]

    def places(self, size: int) -> int:
        """How many of a rung with so many trials may go on."""
        return size // self._factor

    def ranked(self, scores: Mapping[int, float], direction: StudyDirection) -> list[int]:
        """The numbers of `scores`, best first."""
        sign = -1 if direction == StudyDirection.MAXIMIZE else 1
        return sorted(scores, key=lambda number: (sign * scores[number], number))

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial is parked after its last epoch."""
        epoch = trial.last_step
        bracket = self.bracket(trial.number)
        if epoch is None or not self.is_rung(epoch, bracket):
            return False
        scores = {
            t.number: t.intermediate_values[epoch]
            for t in study.get_trials(deepcopy=False)
            if epoch in t.intermediate_values and self.bracket(t.number) == bracket
        }
        scores[trial.number] = trial.intermediate_values[epoch]
        return trial.number not in self.best(scores, study.direction)


class PromotingHyperband(PromotingPruner):
    """ASHA in several brackets, whose first rungs are r, r·η, r·η², … up to `max_resource` epochs.

    So that a search does not rely on what the first epochs say. As in Hyperband, a bracket gets the fewer
    trials the longer they are trained before the first comparison.
    """

    def __init__(self, min_resource: int = 1, max_resource: int = 9, reduction_factor: int = 3) -> None:
        """As `PromotingPruner`; `max_resource` is the number of epochs of a whole trial.

        Raises:
            InputError: `max_resource` below `min_resource`, or see there.
        """
        super().__init__(min_resource, reduction_factor)
        if max_resource < min_resource:
            raise InputError(
                f"pruner.max_resource={max_resource} must be at least pruner.min_resource={min_resource}."
            )
        count = 1
        while min_resource * reduction_factor**count <= max_resource:
            count += 1
        # Trials of each bracket, as in Algorithm 1 of Hyperband.
        shares = [math.ceil(count * reduction_factor ** (count - 1 - s) / (count - s)) for s in range(count)]
        self._brackets = [s for s, share in enumerate(shares) for _ in range(share)]

    def bracket(self, number: int) -> int:
        """By the number alone, so that it is the same after a crash; mixed, for trials run in turn."""
        return self._brackets[zlib.crc32(str(number).encode()) % len(self._brackets)]


class Ladder:
    """The rungs as the driver knows them, and who is parked on them."""

    def __init__(self, pruner: PromotingPruner, direction: StudyDirection) -> None:
        self._pruner, self._direction = pruner, direction
        self._rungs: dict[tuple[int, int], dict[int, float]] = {}  # (epoch, bracket) -> scores
        self._values: dict[int, float] = {}  # of each trial's last step
        self.parked: dict[int, int] = {}

    def load(self, trials: Iterable[FrozenTrial], parked: Mapping[int, int]) -> None:
        """Learn what the storage knows; `parked` are trial -> epoch."""
        for trial in trials:
            for epoch, value in sorted(trial.intermediate_values.items()):
                self.reached(trial.number, epoch, value)
        self.parked.update(parked)

    def reached(self, number: int, epoch: int, value: float) -> None:
        """A trial has finished an epoch with this value of the objective."""
        bracket = self._pruner.bracket(number)
        self._values[number] = value
        if self._pruner.is_rung(epoch, bracket):
            self._rungs.setdefault((epoch, bracket), {})[number] = value

    def park(self, number: int, epoch: int) -> None:
        """A trial was stopped after `epoch`."""
        self.parked[number] = epoch

    def best_parked(self) -> tuple[int, int] | None:
        """Take the best one off the ladder, from the highest rung that has any: number and epoch."""
        if not self.parked:
            return None
        epoch = max(self.parked.values())
        scores = {n: self._values[n] for n, parked in self.parked.items() if parked == epoch}
        number = self._pruner.ranked(scores, self._direction)[0]
        return number, self.parked.pop(number)

    def hopeless(self, unfinished: int) -> list[int]:
        """Who is parked and can never be promoted, whatever the other `unfinished` or new trials do."""
        found = []
        for (epoch, _), scores in self._rungs.items():
            ranked = self._pruner.ranked(scores, self._direction)
            here = [number for number in ranked if self.parked.get(number) == epoch]
            most = len(scores) + unfinished - len(here)  # trials that this rung can ever have
            found += [number for number in ranked[self._pruner.places(most) :] if number in here]
        return sorted(found)

    def promote(self) -> tuple[int, int] | None:
        """Take the next trial off the ladder that may go on, from the highest rung: number and epoch."""
        for rung in sorted(self._rungs, reverse=True):
            for number in self._pruner.best(self._rungs[rung], self._direction):
                if self.parked.get(number) == rung[0]:
                    return number, self.parked.pop(number)
        return None
