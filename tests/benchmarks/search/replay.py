"""Attempts that train nothing: the epochs of a trial come from the curves, all else is the real thing.

The driver, its agenda, the sampler, the pruner and the record are the real ones; only the processes are left
out and the storage is in memory, so that a search takes seconds (through SQLite the counts are the same). A
trial that was parked goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from sweep.checkpoint import Checkpoint, Manifest, Survey
from sweep.course import Course
from sweep.devices import Device
from sweep.driver import Driver
from sweep.events import EpochDone, Event, TrialEnded, TrialParked, TrialStarted
from sweep.monitor import Monitor
from sweep.opening import checked
from sweep.paths import StudyPaths
from sweep.pool import DevicePool
from sweep.record import TrialRecord
from sweep.sampler import SeededSampler, build_pruner
from sweep.schema import SweepConfig
from sweep.space import SearchSpace
from sweep.trial_parts import Link, Parked
from sweep.verdict import Judge

Curve = list[dict[str, float]]


class _Storage(InMemoryStorage):
    """It passes over trials before the last one that waited, and a parked one may wait again."""

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        self._prev_waiting_trial_number[study_id] = 0
        return super().get_all_trials(study_id, deepcopy, states)


class _Replayed:
    """An attempt that was over before the driver asked for it."""

    def __init__(self, devices: tuple[Device, ...], events: list[Event]) -> None:
        self.devices, self._events = devices, events
        self._line, self._end = Pipe()
        self._end.close()  # so that the driver's wait returns at once

    def waitables(self) -> list[Connection]:
        return [self._line]

    def events(self) -> list[Event]:
        found, self._events = self._events, []
        return found

    def exit_codes(self) -> list[int | None]:
        return [0]

    def pause(self) -> None:
        """It is over."""

    def kill(self) -> None:
        """Likewise."""

    def close(self) -> None:
        self._line.close()


class _Launcher:
    def __init__(
        self, config: SweepConfig, space: SearchSpace, study: Study, curve: Callable[[Any], Curve]
    ) -> None:
        self._config, self._space, self._curve = config, space, curve
        self._study = optuna.load_study(
            study_name=config.study.name,
            storage=study._storage,
            sampler=SeededSampler(config, space),
            pruner=build_pruner(config),
        )

    def start(self, study_dir: Path, attempt: str, devices: tuple[Device, ...]) -> _Replayed:
        trial = self._study.ask()
        params, objective = self._space(trial), self._config.objective
        record = TrialRecord(trial, objective)
        kept = max(record.epochs, default=0)
        record.begin(attempt, 1, [devices[0].name], kept, [])
        curve = self._curve(params)
        events: list[Event] = [TrialStarted(trial.number, record.attempt, params, kept, len(curve), [], [])]
        judge = Judge(
            record, objective, Course(1, len(curve)), Link(events.append, lambda: False, attempt, [])
        )
        found = Checkpoint(study_dir, Manifest(trial.number, kept, kept, 1, {}, {})) if kept else None
        _, _, verdict = judge.begin(Survey(found, []), asked_last=True)
        for epoch in range(kept + 1, len(curve) + 1):
            if verdict is not None:
                break
            verdict, _ = judge.after(epoch, {**curve[epoch - 1], "seconds": 1.0})
            events.append(EpochDone(trial.number, epoch, curve[epoch - 1], record.reported))
        if verdict is Parked:
            events.append(TrialParked(trial.number))
        else:
            assert record.best is not None
            state = TrialState.COMPLETE if verdict is None else TrialState.PRUNED
            self._study.tell(trial, record.best.value if verdict is None else None, state)
            events.append(TrialEnded(trial.number, state.name))
        return _Replayed(devices, events)


def replay(cfg: Any, folder: Path, monitor: Monitor, curve: Callable[[Any], Curve]) -> None:
    """Run the study of a composed config in `folder`; `curve` gives a trial's epochs by its parameters."""
    config, space = checked(cfg)
    paths = StudyPaths(folder)
    paths.trials.mkdir(parents=True)
    direction: Any = config.objective.direction
    study = optuna.create_study(study_name=config.study.name, direction=direction, storage=_Storage())
    pool = DevicePool([Device("cpu", 0, "made up")], 1, 1)
    launcher: Any = _Launcher(config, space, study, curve)
    Driver(config, paths, study, launcher, pool, config.study.n_trials, monitor).run()
