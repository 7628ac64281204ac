"""The Optuna study: with `record`, the only code that touches its storage.

Ranks report through `record`; the driver creates, counts, requeues and fails trials.
"""

from __future__ import annotations

import contextlib
import functools
import shlex
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from sweep.config import ObjectiveConfig, SweepConfig
from sweep.errors import SweepError, reason_of
from sweep.files import sync_folder
from sweep.paths import StudyPaths
from sweep.record import ATTEMPTS, DEATHS, ERROR, LIMIT, LOG, best_of, epochs_of
from sweep.sampler import build_pruner, build_sampler
from sweep.space import SearchSpace

_SECONDS = "seconds"
STORAGE_ERRORS = (StorageInternalError, SQLAlchemyError, sqlite3.Error)
_SQLITE_PATIENCE = 60  # seconds to wait while another process writes
optuna.logging.set_verbosity(optuna.logging.WARNING)  # the monitor says what a person needs


class _RankStorage(RDBStorage):
    """The storage as ranks have it: only the driver fails trials and creates studies.

    Optuna's `optimize` would fail a trial for any exception, also for one that is only the echo of
    another rank's death (in upstream's broadcast of the parameters, for one). Upstream's search asks
    for a new study before it takes the one that exists, and for the best trial of all at the end,
    which nobody here wants to know and finding it takes the longer the more trials there are.
    """

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        raise DuplicatedStudyError

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        raise ValueError("the driver knows")

    @functools.cache  # noqa: B019  one storage a process; forks inherit the answer
    def get_study_id_from_name(self, study_name: str) -> int:
        return super().get_study_id_from_name(study_name)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        return state == TrialState.FAIL or super().set_trial_state_values(trial_id, state, values)


def open_storage(config: SweepConfig, paths: StudyPaths) -> RDBStorage:
    """The study's storage: SQLite in its folder unless `storage.url` names another."""
    url = config.storage.url
    return _sqlite_storage(_SqliteFile(paths.database)) if url is None else RDBStorage(url)


class _SqliteFile:
    """Opens connections to `file`, which may change while none is open; to one in memory while it is None."""

    def __init__(self, file: Path | None) -> None:
        self.file = file

    def __call__(self) -> sqlite3.Connection:
        name = "file:sweep?mode=memory&cache=shared" if self.file is None else str(self.file)
        return sqlite3.connect(name, timeout=_SQLITE_PATIENCE, check_same_thread=False, uri=self.file is None)


def _sqlite_storage(connect: _SqliteFile, kind: type[RDBStorage] = RDBStorage) -> RDBStorage:
    # The path goes around the URL: a folder's name may hold ?, % or #.
    return kind("sqlite://", engine_kwargs={"creator": connect, "poolclass": QueuePool})


def create_study(config: SweepConfig, paths: StudyPaths) -> Study:
    """Create the Optuna study; done once, by the driver. A kill leaves a whole study or none."""
    if config.storage.url is not None:
        return _create(config, open_storage(config, paths))
    paths.new_database.unlink(missing_ok=True)
    storage = _sqlite_storage(_SqliteFile(paths.new_database))
    _create(config, storage)
    storage.engine.dispose()
    paths.new_database.replace(paths.database)
    sync_folder(paths.root)
    return load_study(config, paths)


def _create(config: SweepConfig, storage: RDBStorage) -> Study:
    return optuna.create_study(
        storage=storage,
        study_name=config.study.name,
        direction=config.objective.direction,  # type: ignore[arg-type]
        load_if_exists=config.storage.url is not None,
    )


def study_exists(config: SweepConfig, paths: StudyPaths) -> bool:
    """Whether the storage holds the study, which a launch creates last."""
    if config.storage.url is None:
        return paths.database.is_file()
    return config.study.name in optuna.get_all_study_names(open_storage(config, paths))


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


def open_rank_storage(config: SweepConfig, paths: StudyPaths) -> BaseStorage:
    """The storage for ranks; it remembers finished trials, and forks inherit what it remembers."""
    if config.storage.url is not None:
        return get_storage(_RankStorage(config.storage.url))
    connect = _SqliteFile(None)
    storage = _sqlite_storage(connect, _RankStorage)
    _rehearse(storage)
    storage.engine.dispose()
    connect.file = paths.database
    return get_storage(storage)


def _rehearse(storage: RDBStorage) -> None:
    """One trial from its creation to its end, in a database of its own: SQLAlchemy keeps what it compiles."""
    study_id = RDBStorage.create_new_study(storage, [StudyDirection.MAXIMIZE], "rehearsal")
    trial_id = storage.create_new_trial(study_id)
    storage.set_trial_param(trial_id, "x", 0.5, FloatDistribution(0, 1))
    storage.set_trial_user_attr(trial_id, "attribute", 1)
    storage.set_trial_system_attr(trial_id, "attribute", 1)
    storage.set_trial_intermediate_value(trial_id, 1, 0.5)
    storage.get_all_trials(study_id, deepcopy=False)
    storage.get_trial(storage.get_trial_id_from_study_id_trial_number(study_id, 0))
    storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])


def read_ahead(storage: Any, config: SweepConfig) -> None:
    """Read what forks then know without asking: the study, and the trials that have finished by now.

    No connection stays open, for it must not be shared.
    """
    study_id = storage.get_study_id_from_name(config.study.name)
    storage.get_study_name_from_id(study_id)
    storage.get_study_directions(study_id)
    storage.get_all_trials(study_id, deepcopy=False)
    storage._backend.engine.dispose()


def search_arguments(config: SweepConfig, storage: BaseStorage, space: SearchSpace) -> dict[str, Any]:
    """What `Trainer.hyperparameter_search` hands to Optuna on rank 0."""
    return {
        "backend": "optuna",
        "direction": config.objective.direction,
        "storage": storage,
        "study_name": config.study.name,
        "load_if_exists": True,
        "sampler": build_sampler(config, space),
        "pruner": build_pruner(config),
    }


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
            study._storage.set_trial_user_attr(trial._trial_id, ERROR, error)
            study._storage.set_trial_user_attr(trial._trial_id, LOG, log)
            study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)


def trial_of(study: Study, number: int) -> FrozenTrial:
    """Trial `number`, read afresh."""
    storage = study._storage
    return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(study._study_id, number))


def best_epoch(trial: FrozenTrial, objective: ObjectiveConfig) -> int | None:
    """The epoch of a trial whose checkpoint is its model; None before the first."""
    best = best_of(epochs_of(trial.user_attrs), objective)
    return best.epoch if best else None


def on_disk(study: Study, objective: ObjectiveConfig) -> list[tuple[int, int | None, bool]]:
    """What `Retention.open` wants to know of all trials: number, best epoch, finished?"""
    trials = study.get_trials(deepcopy=False)
    return [(t.number, best_epoch(t, objective), t.state.is_finished()) for t in trials]


def count_death(study: Study, number: int) -> int:
    """Note that an attempt of a trial was killed; how many in a row did not finish an epoch.

    Pauses and the deaths of drivers do not count, and an epoch that was kept starts the count anew.
    """
    trial = trial_of(study, number)
    attempts = trial.user_attrs.get(ATTEMPTS, [])
    kept = attempts[-1].get("kept_epochs", 0) if attempts else 0
    last = trial.user_attrs.get(DEATHS, {"kept_epochs": -1, "count": 0})
    count = last["count"] + 1 if last["kept_epochs"] == kept else 1
    study._storage.set_trial_user_attr(trial._trial_id, DEATHS, {"kept_epochs": kept, "count": count})
    return int(count)


def set_per_device_limit(study: Study, number: int, limit: int) -> None:
    """Let the trial's further attempts put at most `limit` samples on a device at a time."""
    study._storage.set_trial_user_attr(trial_of(study, number)._trial_id, LIMIT, limit)


def seconds_spent(study: Study) -> float:
    """Wall-clock seconds that all sessions of the study have used together."""
    return float(study.user_attrs.get(_SECONDS, 0.0))


def save_seconds_spent(study: Study, seconds: float) -> None:
    """Keep what `seconds_spent` returns."""
    study.set_user_attr(_SECONDS, seconds)


@contextlib.contextmanager
def storage_faults(paths: StudyPaths) -> Iterator[None]:
    """Turn a storage that fails (disk full, locked for too long, server gone) into one message."""
    try:
        yield
    except STORAGE_ERRORS as error:
        raise SweepError(
            f"The study is paused: its storage cannot be used ({reason_of(error)}). Nothing finished "
            f"is lost. When that is mended, type\n  sweep resume {shlex.quote(str(paths.root))}"
        ) from None


def trial_state(storage: BaseStorage, study_name: str, number: int) -> TrialState:
    """The state of trial `number`, read afresh."""
    study_id = storage.get_study_id_from_name(study_name)
    return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(study_id, number)).state
