"""How Optuna's storage is opened: by the driver, by ranks, and what its faults are called."""

from __future__ import annotations

import contextlib
import functools
import shlex
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from optuna.distributions import FloatDistribution
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.storages._rdb.models import TrialModel
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import update
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from sweep.errors import InputError, SweepError, reason_of
from sweep.paths import StudyPaths
from sweep.schema import SweepConfig

STORAGE_ERRORS = (StorageInternalError, SQLAlchemyError, sqlite3.Error)
_SQLITE_PATIENCE = 60  # seconds to wait while another process writes


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
        if state == TrialState.RUNNING:
            return self._take(trial_id)
        return state == TrialState.FAIL or super().set_trial_state_values(trial_id, state, values)

    def _take(self, trial_id: int) -> bool:
        """Take a waiting trial out of the queue. False if another rank was faster.

        Optuna looks and then writes. On SQLite, which knows no SELECT FOR UPDATE, two ranks can both
        have looked before one writes, and then both run the trial; so here it is one statement.
        """
        taking = (
            update(TrialModel)
            .where(TrialModel.trial_id == trial_id, TrialModel.state == TrialState.WAITING)
            .values(state=TrialState.RUNNING, _datetime_start_utc=datetime.now(UTC).replace(tzinfo=None))
        )
        with self.engine.begin() as connection:
            return connection.execute(taking).rowcount == 1


def open_storage(config: SweepConfig, paths: StudyPaths) -> RDBStorage:
    """The driver's storage: SQLite in the study's folder unless `storage.url` names a database.

    Raises:
        InputError: the database cannot be used as it is named.
    """
    url = config.storage.url
    if url is None:
        return open_sqlite(paths.database)
    try:
        return _database(url)
    except (ImportError, ArgumentError) as error:
        raise InputError(
            f"storage.url={url!r} cannot be used: {reason_of(error)}. For PostgreSQL: "
            "pip install 'sweep[postgresql]' and storage=postgresql."
        ) from None
    except STORAGE_ERRORS as error:
        raise InputError(
            f"storage.url={url!r} does not answer: {reason_of(error)}. Start the database, or name it: "
            "PGHOST, PGPORT, PGDATABASE, PGUSER; its password in PGPASSWORD or ~/.pgpass."
        ) from None


def open_sqlite(file: Path) -> RDBStorage:
    """A storage in one file."""
    return _sqlite_storage(_SqliteFile(file))


def _database(url: str, kind: type[RDBStorage] = RDBStorage) -> RDBStorage:
    # Asked before each use: a server that was started again has closed all connections.
    return kind(url, engine_kwargs={"pool_pre_ping": True})


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


def open_rank_storage(config: SweepConfig, paths: StudyPaths) -> BaseStorage:
    """The storage for ranks; it remembers finished trials, and forks inherit what it remembers."""
    if config.storage.url is not None:
        return get_storage(_database(config.storage.url, _RankStorage))
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
