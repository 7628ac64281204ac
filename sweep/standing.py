"""What has finished, and in which order: read once, then kept in step by the driver.

So that nothing reads or sorts all trials for each one that ends.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from sweep.record import epochs_of
from sweep.schema import ObjectiveConfig
from sweep.score import dominates, rank_key


@dataclass(frozen=True)
class Ranking:
    """The numbers of the COMPLETE trials, best first; the first `front` of them are the Pareto front."""

    order: list[int]
    front: int


class Standing:
    """The finished trials of a study."""

    def __init__(self, study: Study, objective: ObjectiveConfig) -> None:
        self._objective, self._goals = objective, len(objective.goals)
        self._order: list[tuple[float, ...]] = []
        self._front: list[tuple[float, ...]] = []
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
            key = rank_key(trial.number, epochs_of(trial.user_attrs), self._objective)
            insort(self._order, key)
            if self._goals == 1:
                self._front = self._order[:1]
            elif not any(self._beats(other, key) for other in self._front):
                self._front = [other for other in self._front if not self._beats(key, other)]
                insort(self._front, key)

    def _beats(self, first: tuple[float, ...], other: tuple[float, ...]) -> bool:
        return dominates(first[: self._goals], other[: self._goals])

    def front(self) -> list[int]:
        """The COMPLETE trials that no other beats in all objectives; of one objective, the best."""
        return [int(key[-1]) for key in self._front]

    def ranking(self) -> Ranking:
        """All of them: the Pareto front, then the others; see `rank_key` for the order and for ties."""
        front = set(self._front)
        rest = [int(key[-1]) for key in self._order if key not in front]
        return Ranking([*self.front(), *rest], len(self._front))

    def out_of_patience(self, patience: int | None) -> bool:
        """Whether as many trials have finished since the front changed, by numbers; None waits for ever."""
        if patience is None:
            return False
        until_best = bisect_right(self._numbers, max(self.front(), default=-1))
        return self.finished - until_best >= patience
