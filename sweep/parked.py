"""Parked trials as samplers shall see them: PRUNED, with the score they stopped at.

In storage they are RUNNING, for they may go on; but a sampler learns nothing from a running trial (TPE even
takes it for a bad one, and waits with its model until enough have ended).
"""

from __future__ import annotations

import copy
from collections.abc import Container
from typing import Any

from optuna.study import Study
from optuna.study.study import _ThreadLocalStudyAttribute
from optuna.trial import FrozenTrial, TrialState

from sweep.record import parked_after


def with_parked_as_pruned(study: Study) -> Study:
    """A view of `study` for its sampler; what is written goes to the same storage."""
    view = copy.copy(study)
    view._storage = _View(study._storage)  # type: ignore[assignment]
    view._thread_local = _ThreadLocalStudyAttribute()  # its cache of trials is its own, too
    return view


class _View:
    def __init__(self, storage: Any) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        seen = [_as_pruned(t) for t in self._storage.get_all_trials(study_id, deepcopy=False)]
        found = [t for t in seen if states is None or t.state in states]
        return copy.deepcopy(found) if deepcopy else found


def _as_pruned(trial: FrozenTrial) -> FrozenTrial:
    if trial.state != TrialState.RUNNING or (step := parked_after(trial)) is None:
        return trial
    pruned = copy.copy(trial)
    pruned.state = TrialState.PRUNED
    pruned.value = trial.intermediate_values[step]
    return pruned
