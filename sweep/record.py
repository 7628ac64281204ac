"""A trial's record in storage, as rank 0 keeps it: attempts, epochs, the pruner's verdicts.

What a trial keeps beside Optuna's own fields are the user attributes `attempts` (a list),
`epoch:<n>` (the metrics of one epoch), `verdict:<n>` (the pruner's, where there is one to keep),
`deaths`, `per_device_limit`, `error` and `log`.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, Trial

from sweep.asha import PromotingPruner
from sweep.schema import ObjectiveConfig

_SPEEDS = ("runtime", "samples_per_second", "steps_per_second", "seconds")
# What every epoch has; others are the user's own.
STANDARD_METRICS = frozenset({"accuracy", "f1", "loss", "train_loss", "learning_rate", "epoch", *_SPEEDS})
EPOCH, VERDICT = "epoch:", "verdict:"
ATTEMPTS, DEATHS, LIMIT, ERROR, LOG = "attempts", "deaths", "per_device_limit", "error", "log"


@dataclass(frozen=True)
class Best:
    """A trial's best epoch."""

    epoch: int
    value: float


def epochs_of(attributes: Mapping[str, Any]) -> dict[int, dict[str, float]]:
    """Epoch -> its metrics, of a trial's user attributes, by epoch."""
    found = {int(k[len(EPOCH) :]): v for k, v in attributes.items() if k.startswith(EPOCH)}
    return dict(sorted(found.items()))


def best_of(epochs: Mapping[int, Mapping[str, float]], objective: ObjectiveConfig) -> Best | None:
    """The epoch a trial is known by: the best of `epochs`, ties going to the earlier; or the last."""
    if not epochs:
        return None
    if objective.epoch == "last":
        return Best(max(epochs), epochs[max(epochs)][objective.metric])
    sign = -1 if objective.direction == "maximize" else 1
    epoch = min(epochs, key=lambda n: (sign * epochs[n][objective.metric], n))
    return Best(epoch, epochs[epoch][objective.metric])


def parked_after(trial: FrozenTrial) -> int | None:
    """The epoch after which a promoting pruner stopped a trial that has not ended; None if it goes on."""
    last = max(trial.intermediate_values, default=0)
    return last if trial.user_attrs.get(f"{VERDICT}{last}", {}).get("prune") else None


def rank_key(
    number: int, epochs: Mapping[int, Mapping[str, float]], objective: ObjectiveConfig
) -> tuple[float, int, float, int]:
    """Sorts finished trials, best first: by score, then fewer epochs, then lower loss, then lower number."""
    best = best_of(epochs, objective)
    if best is None:
        return math.inf, 0, 0.0, number
    sign = -1 if objective.direction == "maximize" else 1
    return sign * best.value, best.epoch, epochs[best.epoch]["loss"], number


def out_of_patience(epochs: Mapping[int, Mapping[str, float]], objective: ObjectiveConfig) -> bool:
    """Whether as many epochs as `objective.patience` went by without a better score."""
    if not epochs or objective.patience is None:
        return False
    sign = -1 if objective.direction == "maximize" else 1
    best = min(epochs, key=lambda n: (sign * epochs[n][objective.metric], n))
    return max(epochs) - best >= objective.patience


class TrialRecord:
    """What rank 0 writes about its trial.

    Storage calls per epoch: two writes and what the pruner asks; a third write with a verdict.
    """

    def __init__(self, trial: Trial, objective: ObjectiveConfig) -> None:
        self._trial, self._objective = trial, objective
        self._attempts: list[dict[str, Any]] = list(trial.user_attrs.get(ATTEMPTS, []))
        self.epochs = epochs_of(trial.user_attrs)
        self.attempt = len(self._attempts) + 1
        self.per_device_limit: int | None = trial.user_attrs.get(LIMIT)

    @property
    def best(self) -> Best | None:
        """The best epoch so far."""
        return best_of(self.epochs, self._objective)

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
        self.epochs = {n: metrics for n, metrics in self.epochs.items() if n <= kept}
        # What the pruner is shown of this trial must not reach beyond where it is now.
        frozen = self._trial._cached_frozen_trial
        frozen.intermediate_values = {n: v for n, v in frozen.intermediate_values.items() if n <= kept}
        return repeated

    def report(self, epoch: int, metrics: dict[str, float]) -> bool:
        """Report one epoch; True if the pruner wants the trial to end.

        An epoch that is trained again replaces its former report (Optuna's `Trial.report` would
        keep the old value, which need not be that of the checkpoint once devices have changed).
        """
        value = metrics[self._objective.metric]
        self.epochs[epoch] = metrics
        self._trial.set_user_attr(f"{EPOCH}{epoch}", metrics)
        self._trial.storage.set_trial_intermediate_value(self._trial._trial_id, epoch, value)
        self._trial._cached_frozen_trial.intermediate_values[epoch] = value
        return self.unpromising(epoch)

    def unpromising(self, epoch: int) -> bool:
        """The pruner's verdict on `epoch`, which is the last one reported; asked once and kept.

        A pruner may leave notes in storage (successive halving: the rungs a trial has reached)
        and answer differently the second time. Its answer and its notes are therefore written
        down first and the notes handed on after, so that a kill in between changes nothing.
        """
        trial = self._trial._get_latest_trial()
        verdict = trial.user_attrs.get(f"{VERDICT}{epoch}")
        if verdict is None:
            study = copy.copy(self._trial.study)
            study._storage = notes = _Notes(study._storage)  # type: ignore[assignment]
            verdict = {"prune": bool(study.pruner.prune(study, trial)), "notes": notes.written}
            if verdict["prune"] or verdict["notes"]:
                self._trial.set_user_attr(f"{VERDICT}{epoch}", verdict)
        for name, value in verdict["notes"].items():
            self._trial.storage.set_trial_system_attr(self._trial._trial_id, name, value)
        return bool(verdict["prune"])

    @property
    def promotes(self) -> bool:
        """Whether a trial that the pruner stops may go on some day."""
        return isinstance(self._trial.study.pruner, PromotingPruner)

    def asked_last(self, epoch: int) -> bool:
        """Whether `epoch` is the last one that had been reported when this attempt began."""
        return max(self._trial._cached_frozen_trial.intermediate_values, default=0) == epoch


class _Notes:
    """A storage that holds back what a pruner writes about a trial."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self.written: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.written[key] = value
