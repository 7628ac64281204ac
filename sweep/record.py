"""A trial's record in storage, as rank 0 keeps it: attempts, epochs, the pruner's verdicts.

What a trial keeps beside Optuna's own fields are the user attributes `attempts` (a list),
`epoch:<n>` (the metrics of one epoch), `verdict:<n>` (the pruner's on a step, where there is one to
keep), `deaths`, `per_device_limit`, `error` and `log`. A step is an epoch; with folds, a whole fold.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from typing import Any

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from sweep.asha import PromotingPruner
from sweep.schema import ObjectiveConfig
from sweep.score import FOLD, Best, Epochs, best_epochs, best_of

EPOCH, VERDICT = "epoch:", "verdict:"
ATTEMPTS, DEATHS, LIMIT, ERROR, LOG = "attempts", "deaths", "per_device_limit", "error", "log"


def epochs_of(attributes: Mapping[str, Any]) -> Epochs:
    """Epoch -> its metrics, of a trial's user attributes, by epoch."""
    found = {int(k[len(EPOCH) :]): v for k, v in attributes.items() if k.startswith(EPOCH)}
    return dict(sorted(found.items()))


def parked_after(trial: FrozenTrial) -> int | None:
    """The step after which a promoting pruner stopped a trial that has not ended; None if it goes on."""
    last = max(trial.intermediate_values, default=0)
    return last if trial.user_attrs.get(f"{VERDICT}{last}", {}).get("prune") else None


class TrialRecord:
    """What rank 0 writes about its trial.

    Storage calls per epoch: two writes and what the pruner asks; a third write with a verdict.
    """

    def __init__(self, trial: Trial, objective: ObjectiveConfig) -> None:
        self._trial, self._objective = trial, objective
        self._attempts: list[dict[str, Any]] = list(trial.user_attrs.get(ATTEMPTS, []))
        self.epochs = dict(epochs_of(trial.user_attrs))
        self.attempt = len(self._attempts) + 1
        self.reported: tuple[int, float] | None = None
        self.per_device_limit: int | None = trial.user_attrs.get(LIMIT)

    @property
    def best(self) -> Best | None:
        """The score so far."""
        return best_of(self.epochs, self._objective)

    @property
    def best_epochs(self) -> list[int]:
        """The best epoch so far of each fold, one of which will be the trial's model."""
        return best_epochs(self.epochs, self._objective)

    def begin(
        self, name: str, world_size: int, devices: list[str], kept: int, damaged: list[str]
    ) -> list[int]:
        """Record this attempt, which continues after epoch `kept`.

        Returns:
            The epochs that had been reported after it and are trained again.
        """
        self._attempts.append(
            {
                "name": name,
                "started": time.time(),
                "world_size": world_size,
                "devices": devices,
                "kept_epochs": kept,
                "damaged": damaged,
            }
        )
        self._trial.set_user_attr(ATTEMPTS, self._attempts)
        repeated = [n for n in self.epochs if n > kept]
        lost = {self.step(n) for n in repeated}
        self.epochs = {n: metrics for n, metrics in self.epochs.items() if n <= kept}
        # What the pruner is shown of this trial must not reach beyond where it is now.
        frozen = self._trial._cached_frozen_trial
        frozen.intermediate_values = {
            step: value for step, value in frozen.intermediate_values.items() if step not in lost
        }
        return repeated

    def step(self, epoch: int) -> int:
        """What Optuna counts as the step of an epoch."""
        return int(self.epochs[epoch].get(FOLD, epoch))

    def add(self, epoch: int, metrics: dict[str, float]) -> None:
        """Note the metrics of one epoch; one that is trained again replaces its former ones."""
        self.epochs[epoch], self.reported = metrics, None
        self._trial.set_user_attr(f"{EPOCH}{epoch}", metrics)

    def report(self, epoch: int, last: bool = False) -> bool:
        """Report the step that `epoch` ends; True if the pruner wants the trial to end.

        After the `last` epoch it is told, but has no say: the trial is complete, and must not look like
        one that was stopped should it be killed before Optuna knows.

        One that is trained again replaces its former report (Optuna's `Trial.report` would keep the
        old value, which need not be that of the checkpoint once devices have changed).
        """
        step, best = self.step(epoch), epoch
        if FOLD in self.epochs[epoch]:
            best = self.best_epochs[-1]
        value = self.epochs[best][self._objective.metric]
        self.reported = step, value
        self._trial.storage.set_trial_intermediate_value(self._trial._trial_id, step, value)
        self._trial._cached_frozen_trial.intermediate_values[step] = value
        return self.unpromising(step, last)

    def unpromising(self, step: int, last: bool = False) -> bool:
        """The pruner's verdict on `step`, which is the last one reported; asked once and kept.

        A pruner may leave notes in storage (successive halving: the rungs a trial has reached)
        and answer differently the second time. Its answer and its notes are therefore written
        down first and the notes handed on after, so that a kill in between changes nothing.
        """
        trial = self._trial._get_latest_trial()
        verdict = trial.user_attrs.get(f"{VERDICT}{step}")
        if verdict is None:
            study = copy.copy(self._trial.study)
            study._storage = notes = _Notes(study._storage)  # type: ignore[assignment]
            wanted = bool(study.pruner.prune(study, trial))
            verdict = {"prune": wanted and not last, "notes": notes.written}
            if verdict["prune"] or verdict["notes"]:
                self._trial.set_user_attr(f"{VERDICT}{step}", verdict)
        for name, value in verdict["notes"].items():
            self._trial.storage.set_trial_system_attr(self._trial._trial_id, name, value)
        return bool(verdict["prune"])

    @property
    def promotes(self) -> bool:
        """Whether a trial that the pruner stops may go on some day."""
        return isinstance(self._trial.study.pruner, PromotingPruner)

    def asked_last(self, epoch: int) -> bool:
        """Whether `epoch` ended the last step that had been reported when this attempt began."""
        last = max(self._trial._cached_frozen_trial.intermediate_values, default=0)
        return 0 < epoch == max(self.epochs, default=0) and self.step(epoch) == last


class _Notes:
    """A storage that holds back what a pruner writes about a trial, and knows the best one."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self.written: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.written[key] = value

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """Which the Wilcoxon test compares with; the ranks' own storage does not look for it."""
        maximize = self._storage.get_study_directions(study_id)[0] == StudyDirection.MAXIMIZE
        sign = -1 if maximize else 1
        done: list[FrozenTrial] = self._storage.get_all_trials(
            study_id, deepcopy=False, states=(TrialState.COMPLETE,)
        )
        return min(done, key=lambda t: (sign * t.values[0], t.number))  # ValueError if there is none
