"""What has finished, and in which order: read once, then kept in step by the driver.

So that nothing reads or sorts all trials for each one that ends.
"""

from __future__ import annotations

from bisect import insort

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from sweep.config import ObjectiveConfig


class Standing:
    """The finished trials of a study."""

    def __init__(self, study: Study, objective: ObjectiveConfig) -> None:
        self._sign = -1 if objective.direction == "maximize" else 1
        self._order: list[tuple[float, int]] = []
        self.finished = 0
        for trial in study.get_trials(deepcopy=False):
            if trial.state.is_finished():
                self.add(trial)

    def add(self, trial: FrozenTrial) -> None:
        """A trial has finished."""
        self.finished += 1
        if trial.state == TrialState.COMPLETE:
            insort(self._order, (self._sign * (trial.value or 0.0), trial.number))

    def ranking(self) -> list[int]:
        """The numbers of the COMPLETE trials, best first; ties go to the lower number."""
        return [number for _, number in self._order]
