"""What has finished, and in which order: read once, then kept in step by the driver.

So that nothing reads or sorts all trials for each one that ends.
"""

from __future__ import annotations

from bisect import bisect_right, insort

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from sweep.record import epochs_of, rank_key
from sweep.schema import ObjectiveConfig


class Standing:
    """The finished trials of a study."""

    def __init__(self, study: Study, objective: ObjectiveConfig) -> None:
        self._objective = objective
        self._order: list[tuple[float, int, float, int]] = []
        self._numbers: list[int] = []
        self.finished = 0
        for trial in study.get_trials(deepcopy=False):
            if trial.state.is_finished():
                self.add(trial)

    def add(self, trial: FrozenTrial) -> None:
        """A trial has finished."""
        self.finished += 1
        insort(self._numbers, trial.number)
        if trial.state == TrialState.COMPLETE:
            insort(self._order, rank_key(trial.number, epochs_of(trial.user_attrs), self._objective))

    def ranking(self) -> list[int]:
        """The numbers of the COMPLETE trials, best first; see `rank_key` for ties."""
        return [key[-1] for key in self._order]

    def out_of_patience(self, patience: int | None) -> bool:
        """Whether as many trials have finished after the best one, by their numbers; None waits for ever."""
        if patience is None:
            return False
        until_best = bisect_right(self._numbers, self._order[0][-1]) if self._order else 0
        return self.finished - until_best >= patience
