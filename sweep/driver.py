"""The driver: the one process per study that decides which trial starts where, and when it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from multiprocessing.connection import wait
from types import FrameType

from optuna.study import Study
from optuna.trial import FrozenTrial

from sweep.agenda import Agenda
from sweep.events import (
    AttemptFailed,
    CheckpointSaved,
    EpochDone,
    Event,
    TrialEnded,
    TrialParked,
    TrialPaused,
    TrialStarted,
)
from sweep.launchers import Launcher
from sweep.monitor import Monitor
from sweep.paths import StudyPaths
from sweep.pool import DevicePool
from sweep.presence import make_certain_gone
from sweep.retention import Retention
from sweep.schema import SweepConfig
from sweep.settlement import Attempt, HaltError, Settlement
from sweep.storage import STORAGE_ERRORS
from sweep.study import (
    epochs_to_keep,
    on_disk,
    requeue,
    save_seconds_spent,
    seconds_spent,
)

_WAIT = 0.5  # seconds between looks at the signals
_LAST_WORDS = 2.0  # seconds the other ranks have to speak after one of them died


class Driver:
    """Runs a study's trials until its trials or time are used up, or a signal asks it to stop."""

    def __init__(
        self,
        config: SweepConfig,
        paths: StudyPaths,
        study: Study,
        launcher: Launcher,
        pool: DevicePool,
        n_trials: int,
        monitor: Monitor,
    ) -> None:
        self._config, self._paths, self._study = config, paths, study
        self._launcher, self._pool, self._monitor = launcher, pool, monitor
        self._active: list[Attempt] = []
        self._signals: list[int] = []
        self._stopping = False
        self._halted: HaltError | None = None
        self._started = 0
        self._ended: list[FrozenTrial] = []
        self._orphans = self._patience_said = False
        self._spent_before, self._begun = seconds_spent(study), time.monotonic()
        self._agenda = Agenda(config, study, n_trials)
        self._standing = self._agenda.standing
        self._settlement = Settlement(config, paths, study, monitor, self._on_end, self._on_park)
        self._retention = Retention(paths, config.checkpoints, monitor.note)

    def run(self) -> int:
        """Run to the end. Returns 0, or 128 + the signal that stopped the study.

        Raises:
            SweepError: the study had to be halted; every unfinished trial can be resumed.
        """
        old = {s: signal.signal(s, self._on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            with self._monitor:
                known = on_disk(self._study, self._config.objective)
                self._retention.open(known, self._standing.ranking())
                return self._loop()
        finally:
            for attempt in self._active:
                attempt.group.kill()
                attempt.group.close()
            with contextlib.suppress(*STORAGE_ERRORS):  # a resume does the same
                requeue(self._study, keep=self._agenda.parked)
                save_seconds_spent(self._study, self.seconds())
            for number, handler in old.items():
                signal.signal(number, handler)

    def seconds(self) -> float:
        """What the study has used of its wall-clock budget, all sessions together."""
        return self._spent_before + time.monotonic() - self._begun

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._signals.append(number)

    def _loop(self) -> int:
        told = 0
        while True:
            if len(self._signals) > told:
                told = len(self._signals)
                self._stop(now=told > 1)
            if not self._stopping and (spent := self._spent()) is not None:
                self._monitor.note(f"{spent} is used up")
                self._stop()
            self._reclaim_orphans()
            if not self._stopping:
                self._start_attempts()
            self._retain()
            if not self._active:
                if self._halted is not None:
                    raise self._halted
                if not self._stopping:
                    self._end_parked(self._agenda.end_parked())
                    self._retain()
                return 128 + self._signals[0] if self._signals else 0
            wait([w for a in self._active for w in a.group.waitables()], timeout=_WAIT)
            for attempt in list(self._active):
                self._look_at(attempt)

    def _stop(self, now: bool = False) -> None:
        self._stopping = True
        self._monitor.stopping(now)
        for attempt in self._active:
            attempt.group.kill() if now else attempt.group.pause()

    def _start_attempts(self) -> None:
        if self._orphans:  # a trial that will wait again; a start now could take a new one instead
            return
        if self._agenda.out_of_patience():
            self._say_out_of_patience()
        while self._pool.has_room() and self._spent() is None and self._agenda.may_start(self._active):
            devices = self._pool.lease()
            assert devices is not None
            self._started += 1
            name = time.strftime(f"%Y%m%dT%H%M%SZ-{os.getpid()}-{self._started}", time.gmtime())
            group = self._launcher.start(self._paths.root, name, devices)
            self._active.append(Attempt(name, group, time.monotonic()))

    def _spent(self) -> str | None:
        return self._agenda.spent(self.seconds(), self._active)

    def _say_out_of_patience(self) -> None:
        if not self._patience_said:
            self._patience_said = True
            patience, front = self._config.study.patience, self._standing.front()
            better = f"none was better than trial {' or '.join(map(str, front))}"
            than = better if front else "no trial was completed"
            self._monitor.note(f"study.patience={patience}: of the last {patience} trials {than}")

    def _look_at(self, attempt: Attempt) -> None:
        for event in attempt.group.events():
            self._on_event(attempt, event)
        now = time.monotonic()
        codes = attempt.group.exit_codes()
        if attempt.died_at is None or now - attempt.died_at <= _LAST_WORDS:
            attempt.codes = codes
        if any(code not in (None, 0) for code in codes) and None in codes:
            # One rank is gone and the others wait for it in a collective: end the whole group.
            attempt.died_at = attempt.died_at or now
            if now - attempt.died_at > _LAST_WORDS:
                attempt.group.kill()
        elif None in codes and now - attempt.heard > self._config.launcher.patience():
            attempt.hung = True
            attempt.group.kill()
        if None not in attempt.group.exit_codes():
            for event in attempt.group.events():
                self._on_event(attempt, event)
            if attempt.died_at is None:
                attempt.codes = attempt.group.exit_codes()
            self._finish(attempt)

    def _on_event(self, attempt: Attempt, event: Event) -> None:
        attempt.heard = time.monotonic()
        if isinstance(event, TrialStarted):
            attempt.number, attempt.epochs = event.number, event.epochs
            self._agenda.started(event)
        elif isinstance(event, EpochDone):
            self._agenda.finished_epoch(event)
            if self._config.study.timeout is not None:
                save_seconds_spent(self._study, self.seconds())
        elif isinstance(event, CheckpointSaved):
            self._retention.saved(event.number, event.epoch, event.best_epochs)
        elif isinstance(event, TrialEnded):
            attempt.ended = True
        elif isinstance(event, TrialPaused):
            attempt.paused = True
        elif isinstance(event, TrialParked):
            attempt.parked = True
        elif isinstance(event, AttemptFailed):
            attempt.number = event.number if attempt.number is None else attempt.number
            attempt.failures.append(event)
        self._monitor.on_event(event)

    def _finish(self, attempt: Attempt) -> None:
        """All ranks of an attempt are gone: settle its trial, give its devices back."""
        attempt.group.close()
        # A rank tells its exit code while it still exists.
        make_certain_gone(self._paths, f"{attempt.name}.", grace=_LAST_WORDS)
        self._active.remove(attempt)
        self._pool.give_back(attempt.group.devices)
        try:
            if not self._settlement.settle(attempt, self._stopping):
                self._orphans = True
            self._end_parked(self._agenda.end_hopeless())
        except HaltError as error:
            self._halted = self._halted or error
            if self._active and not self._stopping:
                self._stop()
            self._stopping = True

    def _reclaim_orphans(self) -> None:
        """Trials whose rank 0 died between asking and telling go back to the queue."""
        if self._orphans and all(attempt.number is not None for attempt in self._active):
            mine = {a.number for a in self._active if a.number is not None}
            requeue(self._study, keep=mine | self._agenda.parked.keys())
            self._orphans = False

    def _on_end(self, trial: FrozenTrial) -> None:
        self._standing.add(trial)
        self._ended.append(trial)

    def _end_parked(self, trials: list[FrozenTrial]) -> None:
        for trial in trials:
            self._monitor.on_event(TrialEnded(trial.number, trial.state.name))
            self._on_end(trial)

    def _on_park(self, number: int, epoch: int) -> None:
        self._agenda.park(number, epoch)
        self._retention.rest(number)

    def _retain(self) -> None:
        """Remove what trials that have ended no longer need; their devices are busy again by now."""
        while self._ended:
            trial = self._ended.pop()
            kept = epochs_to_keep(trial, self._config.objective)
            self._retention.ended(trial.number, kept, self._standing.ranking())
