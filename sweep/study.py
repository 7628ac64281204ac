"""The Optuna study: the only code that touches its storage.

Ranks ask and report through `TrialRecord`; the driver creates, counts, requeues and fails trials.
What a trial keeps beside Optuna's own fields are the user attributes `attempts` (a list),
`epoch:<n>` (the metrics of one epoch), `best` (epoch and value), `error` and `log`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import Trial, TrialState
from sqlalchemy.pool import QueuePool

from sweep.config import SweepConfig
from sweep.errors import SweepError
from sweep.paths import StudyPaths
from sweep.sampler import build_pruner, build_sampler
from sweep.space import SearchSpace

_SQLITE_PATIENCE = 60  # seconds to wait while another process writes
optuna.logging.set_verbosity(optuna.logging.WARNING)  # the monitor says what a person needs


def open_storage(config: SweepConfig, paths: StudyPaths) -> RDBStorage:
    """The study's storage: SQLite in its folder unless `storage.url` names another."""
    url = config.storage.url
    if url is None:
        return RDBStorage(
            # The path goes around the URL: a folder's name may hold ?, % or #.
            "sqlite://",
            engine_kwargs={
                "creator": _sqlite_creator(str(paths.database)),
                "poolclass": QueuePool,
            },
        )
    return RDBStorage(url)


def _sqlite_creator(path: str) -> Any:
    def connect() -> sqlite3.Connection:
        return sqlite3.connect(path, timeout=_SQLITE_PATIENCE, check_same_thread=False)

    return connect


def create_study(config: SweepConfig, paths: StudyPaths) -> Study:
    """Create the Optuna study; done once, by the driver."""
    return optuna.create_study(
        storage=open_storage(config, paths),
        study_name=config.study.name,
        direction=config.objective.direction,  # type: ignore[arg-type]
    )


def load_study(config: SweepConfig, paths: StudyPaths) -> Study:
    """Open the Optuna study of a folder.

    Raises:
        SweepError: the storage holds no such study.
    """
    try:
        return optuna.load_study(study_name=config.study.name, storage=open_storage(config, paths))
    except Exception as error:
        raise SweepError(
            f"The study {config.study.name!r} cannot be read from {paths.root}: {error}."
        ) from None


def search_arguments(config: SweepConfig, paths: StudyPaths, space: SearchSpace) -> dict[str, Any]:
    """What `Trainer.hyperparameter_search` hands to Optuna on rank 0."""
    return {
        "backend": "optuna",
        "direction": config.objective.direction,
        "storage": open_storage(config, paths),
        "study_name": config.study.name,
        "load_if_exists": True,
        "sampler": build_sampler(config, space),
        "pruner": build_pruner(config),
    }


@dataclass(frozen=True)
class Best:
    """A trial's best epoch so far; ties go to the earlier epoch."""

    epoch: int
    value: float


class TrialRecord:
    """What rank 0 writes about its trial. Storage calls per epoch: report, verdict, two attributes."""

    def __init__(self, trial: Trial, direction: str) -> None:
        self._trial, self._maximize = trial, direction == "maximize"
        attributes = trial.user_attrs
        self.attempt = len(attributes.get("attempts", [])) + 1
        self.best = Best(**attributes["best"]) if "best" in attributes else None

    def begin(self, name: str, world_size: int, devices: list[str]) -> None:
        """Record this attempt."""
        attempts = [*self._trial.user_attrs.get("attempts", [])]
        attempts.append({"name": name, "started": time.time(), "world_size": world_size, "devices": devices})
        self._trial.set_user_attr("attempts", attempts)

    def epoch(self, epoch: int, value: float, metrics: dict[str, float]) -> bool:
        """Report one epoch; True if the pruner wants the trial to end.

        An epoch that was reported before a crash and is trained again keeps its first report.
        """
        better = self.best is None or (value > self.best.value if self._maximize else value < self.best.value)
        self._trial.set_user_attr(f"epoch:{epoch}", metrics)
        if better:
            self.best = Best(epoch, value)
            self._trial.set_user_attr("best", {"epoch": epoch, "value": value})
        self._trial.report(value, epoch)
        return bool(self._trial.should_prune())


def count_unfinished_budget(study: Study, n_trials: int) -> int:
    """How many attempts may still be started: the total less what finished or is running."""
    states = [t.state for t in study.get_trials(deepcopy=False)]
    return n_trials - sum(state != TrialState.WAITING for state in states)


def requeue(study: Study, only: int | None = None, keep: Collection[int] = ()) -> list[int]:
    """RUNNING trials (all, or `only` one) but those of `keep` go back to WAITING.

    They keep number, parameters, values and attributes, and are the next to be started.
    """
    back = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.number not in keep and only in (None, trial.number):
            study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
            back.append(trial.number)
    return back


def fail_trial(study: Study, number: int, error: str, log: str) -> None:
    """End a RUNNING trial as FAIL and record why."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.number == number:
            study._storage.set_trial_user_attr(trial._trial_id, "error", error)
            study._storage.set_trial_user_attr(trial._trial_id, "log", log)
            study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)


def attempts_of(study: Study, number: int) -> int:
    """How many attempts a trial has had."""
    trials = {t.number: t for t in study.get_trials(deepcopy=False)}
    return len(trials[number].user_attrs.get("attempts", []))


def trial_state(storage: RDBStorage, study_name: str, number: int) -> TrialState:
    """The state of trial `number`, read afresh."""
    study_id = storage.get_study_id_from_name(study_name)
    return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(study_id, number)).state
