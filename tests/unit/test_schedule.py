"""The driver on a made-up node of eight GPUs: real study and driver, ranks that only wait and tell."""

from __future__ import annotations

import threading
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
from optuna.study import Study
from optuna.trial import TrialState
from rich.console import Console

from sweep.devices import Device
from sweep.driver import Driver
from sweep.events import Event, TrialEnded, TrialStarted
from sweep.monitor import Monitor
from sweep.paths import StudyPaths
from sweep.pool import DevicePool
from sweep.schema import SweepConfig
from sweep.study import create_study

_GPUS = [Device("cuda", n, f"GPU {n}", f"GPU-uuid-{n}") for n in range(8)]
_LONG, _MEDIUM, _SHORT = 6.0, 1.5, 0.02
Log = list[tuple[str, int, tuple[Device, ...]]]


class _Group:
    """One attempt: a trial of the study that takes `seconds`."""

    def __init__(
        self, study: Study, devices: tuple[Device, ...], seconds: dict[int, float], log: Log
    ) -> None:
        self.devices, self._study, self._log = devices, study, log
        self._trial = study.ask()
        log.append(("start", self._trial.number, devices))
        self._events: list[Event] = [TrialStarted(self._trial.number, 1, {}, 0, 1, [], [])]
        self._news, self._ours = Pipe(duplex=False)
        self._code: int | None = None
        self._timer = threading.Timer(seconds.get(self._trial.number, _SHORT), self._end)
        self._timer.start()

    def _end(self) -> None:
        self._study.tell(self._trial, float(self._trial.number))
        self._log.append(("end", self._trial.number, self.devices))
        self._events.append(TrialEnded(self._trial.number, "COMPLETE"))
        self._code = 0
        self._ours.send(None)

    def waitables(self) -> list[Any]:
        return [self._news]

    def events(self) -> list[Event]:
        told, self._events = self._events, []
        return told

    def exit_codes(self) -> list[int | None]:
        return [self._code] * len(self.devices)

    def pause(self) -> None:
        raise AssertionError("nobody asked for a pause")

    def kill(self) -> None:
        raise AssertionError("nothing hangs")

    def close(self) -> None:
        self._timer.join()


class _Launcher:
    def __init__(self, study: Study, seconds: dict[int, float]) -> None:
        self._study, self._seconds, self.log = study, seconds, Log()

    def call(self, function: str, *arguments: Any) -> Any:
        raise AssertionError("the driver calls nothing")

    def start(self, study_dir: Path, attempt: str, devices: tuple[Device, ...]) -> _Group:
        return _Group(self._study, devices, self._seconds, self.log)


@pytest.mark.parametrize(("per_trial", "shared"), [(1, 1), (2, 1), (3, 1), (1, 2)])
def test_a_long_trial_blocks_nobody_and_the_budget_holds(tmp_path: Path, per_trial: int, shared: int) -> None:
    config = SweepConfig()
    config.study.name, config.study.n_trials = "node", 40
    config.pruner = {"_target_": "optuna.pruners.NopPruner"}
    paths = StudyPaths(tmp_path)
    study = create_study(config, paths)
    for _ in range(2):  # two that wait to be resumed
        study._storage.set_trial_state_values(study.ask()._trial_id, TrialState.WAITING)
    pool = DevicePool(_GPUS, per_trial, shared)
    launcher = _Launcher(study, {0: _LONG} | dict.fromkeys(range(1, pool.slots), _MEDIUM))
    assert Driver(config, paths, study, launcher, pool, 40, Monitor(Console(quiet=True))).run() == 0

    log = launcher.log
    assert [number for what, number, _ in log if what == "start"][:2] == [0, 1], "what waits goes first"
    assert sorted(number for what, number, _ in log if what == "start") == list(range(40))
    assert log[-1][:2] == ("end", 0), "all others ran beside the long one"
    running: dict[int, tuple[Device, ...]] = {}
    most = 0
    for what, number, devices in log:
        if what == "end":
            del running[number]
            continue
        running[number] = devices
        most = max(most, len(running))
        for gpu in _GPUS:
            assert sum(gpu in held for held in running.values()) <= shared
    assert most == pool.slots
