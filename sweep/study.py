"""The Optuna study: with `record`, the only code that touches its storage.

Ranks report through `record`; the driver creates, counts, requeues and fails trials.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from sweep.asha import PromotingPruner
from sweep.errors import InputError, SweepError, reason_of
from sweep.files import sync, write_text
from sweep.paths import StudyPaths
from sweep.record import ATTEMPTS, DEATHS, ERROR, LIMIT, LOG, VERDICT, epochs_of, parked_after
from sweep.sampler import SeededSampler, build_pruner
from sweep.schema import ObjectiveConfig, SweepConfig
from sweep.score import best_epochs, best_of
from sweep.space import SearchSpace
from sweep.storage import open_sqlite, open_storage

_SECONDS, _MARK = "seconds", "folder"
optuna.logging.set_verbosity(optuna.logging.WARNING)  # the monitor says what a person needs


def create_study(config: SweepConfig, paths: StudyPaths, first: Sequence[dict[str, Any]] = ()) -> Study:
    """Create the Optuna study; done once, by the driver. A kill leaves a whole study or none.

    Args:
        config, paths: of the study.
        first: parameters of the trials that run first.

    Raises:
        InputError: the database has a study of this name that belongs to another folder.
    """
    if config.storage.url is not None:
        return _create_in_database(config, paths, first)
    paths.new_database.unlink(missing_ok=True)
    storage = open_sqlite(paths.new_database)
    _enqueue(_create(config, storage), first)
    storage.engine.dispose()
    paths.new_database.replace(paths.database)
    sync(paths.root)
    return load_study(config, paths)


def _create(config: SweepConfig, storage: RDBStorage) -> Study:
    return optuna.create_study(
        storage=storage,
        study_name=config.study.name,
        directions=[goal.direction for goal in config.objective.goals],  # type: ignore[misc]
        load_if_exists=config.storage.url is not None,
    )


def _enqueue(study: Study, first: Sequence[dict[str, Any]]) -> None:
    for params in first[len(study.get_trials(deepcopy=False)) :]:
        study.enqueue_trial(params)


def _create_in_database(config: SweepConfig, paths: StudyPaths, first: Sequence[dict[str, Any]]) -> Study:
    """The folder's mark goes into the study: a database may hold studies of many folders."""
    if not paths.mark.exists():
        write_text(paths.mark, uuid.uuid4().hex)
    study = _create(config, open_storage(config, paths))
    if _MARK not in study.user_attrs and not study.get_trials(deepcopy=False):
        study.set_user_attr(_MARK, paths.mark.read_text())
    if not _belongs(study, paths):
        raise InputError(
            f"study.name={config.study.name!r}: the database has a study of that name already, which "
            f"belongs to another folder. Use another name: study.name={config.study.name}-2"
        )
    _enqueue(study, first)
    return study


def _belongs(study: Study, paths: StudyPaths) -> bool:
    return paths.mark.is_file() and study.user_attrs.get(_MARK) == paths.mark.read_text()


def study_exists(config: SweepConfig, paths: StudyPaths) -> bool:
    """Whether the storage holds the study, which a launch creates last.

    Raises:
        InputError: the database cannot be reached.
    """
    if config.storage.url is None:
        return paths.database.is_file()
    storage = open_storage(config, paths)
    if config.study.name not in optuna.get_all_study_names(storage):
        return False
    return _belongs(optuna.load_study(study_name=config.study.name, storage=storage), paths)


def load_study(config: SweepConfig, paths: StudyPaths) -> Study:
    """Open the Optuna study of a folder.

    Raises:
        SweepError: the storage holds no such study.
    """
    storage = open_storage(config, paths)
    try:
        return optuna.load_study(study_name=config.study.name, storage=storage)
    except Exception as error:
        raise SweepError(
            f"The study {config.study.name!r} cannot be read from {paths.root}: {reason_of(error)}."
        ) from None


def search_arguments(config: SweepConfig, storage: BaseStorage, space: SearchSpace) -> dict[str, Any]:
    """What `Trainer.hyperparameter_search` hands to Optuna on rank 0."""
    ways = [goal.direction for goal in config.objective.goals]
    return {
        "backend": "optuna",
        "direction": ways if len(ways) > 1 else ways[0],
        "storage": storage,
        "study_name": config.study.name,
        "load_if_exists": True,
        "sampler": SeededSampler(config, space),  # the driver has checked it
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


def parked_trials(study: Study, pruner: BasePruner) -> dict[int, int]:
    """Trials that a promoting pruner has stopped: number -> epoch. Another pruner parks none."""
    if not isinstance(pruner, PromotingPruner):
        return {}
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return {t.number: epoch for t in running if (epoch := parked_after(t)) is not None}


def promote_trial(study: Study, number: int, epoch: int) -> None:
    """Let a parked trial go on after `epoch`; it is the next to be started."""
    trial_id = trial_of(study, number)._trial_id
    study._storage.set_trial_user_attr(trial_id, f"{VERDICT}{epoch}", {"prune": False, "notes": {}})
    requeue(study, only=number)


def end_parked(study: Study, number: int) -> None:
    """A parked trial that nobody will promote any more is PRUNED, as under Optuna's own pruners."""
    trial = trial_of(study, number)
    value = trial.intermediate_values[max(trial.intermediate_values)]
    study._storage.set_trial_state_values(trial._trial_id, TrialState.PRUNED, [value])


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


def epochs_to_keep(trial: FrozenTrial, objective: ObjectiveConfig) -> list[int]:
    """The epochs one of which will be a trial's model; of a finished one, that epoch."""
    epochs = epochs_of(trial.user_attrs)
    if trial.state.is_finished():
        best = best_of(epochs, objective)
        return [best.epoch] if best else []
    return best_epochs(epochs, objective)


def on_disk(study: Study, objective: ObjectiveConfig) -> list[tuple[int, list[int], bool]]:
    """What `Retention.open` wants to know of all trials: number, epochs to keep, finished?"""
    trials = study.get_trials(deepcopy=False)
    return [(t.number, epochs_to_keep(t, objective), t.state.is_finished()) for t in trials]


def epochs_done(study: Study) -> dict[int, set[int]]:
    """Number of each trial -> the epochs it has finished."""
    trials = study.get_trials(deepcopy=False)
    return {t.number: set(epochs_of(t.user_attrs)) for t in trials}


def waiting(study: Study) -> int:
    """How many trials wait to be started, or continued."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))


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
