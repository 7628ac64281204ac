"""The driver: the one process per study that decides which trial starts where, and when it ends."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from types import FrameType
from typing import Any

from optuna.study import Study

from sweep.config import SweepConfig
from sweep.devices import DevicePool
from sweep.errors import SweepError
from sweep.events import AttemptFailed, Event, TrialEnded, TrialPaused, TrialStarted
from sweep.launchers import Group, Launcher
from sweep.monitor import Monitor
from sweep.paths import StudyPaths
from sweep.study import attempts_of, count_unfinished_budget, fail_trial, requeue

_WAIT = 0.5  # seconds between looks at the signals
_LAST_WORDS = 2.0  # seconds the other ranks have to speak after one of them died


@dataclass
class _Active:
    group: Group
    number: int | None = None
    ended: bool = False
    paused: bool = False
    failures: list[AttemptFailed] = field(default_factory=list)
    died_at: float | None = None
    codes: list[int | None] = field(default_factory=list)  # as they were before we killed any

    def death(self) -> bool:
        """Whether a rank was killed from outside; what the others then say is only its echo."""
        return any(code is not None and code < 0 for code in self.codes)


class Driver:
    """Runs a study's trials until the budget is spent or a signal asks it to stop."""

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
        self._n_trials = n_trials
        self._active: list[_Active] = []
        self._signals: list[int] = []
        self._early_deaths = self._started = 0
        self._orphans = False

    def run(self) -> int:
        """Run to the end. Returns 0, or 128 + the signal that stopped the study."""
        old = {s: signal.signal(s, self._on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            with self._monitor:
                return self._loop()
        finally:
            for group in [active.group for active in self._active]:
                group.kill()
                group.close()
            requeue(self._study)
            for number, handler in old.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._signals.append(number)

    def _loop(self) -> int:
        told = 0
        while True:
            if len(self._signals) > told:
                told = len(self._signals)
                self._monitor.stopping(now=told > 1)
                for active in self._active:
                    active.group.pause() if told == 1 else active.group.kill()
            self._reclaim_orphans()
            if not self._signals:
                self._start_attempts()
            if not self._active:
                return 128 + self._signals[0] if self._signals else 0
            wait([w for a in self._active for w in a.group.waitables()], timeout=_WAIT)
            for active in list(self._active):
                self._look_at(active)

    def _start_attempts(self) -> None:
        if not self._pool.has_room():
            return
        asking = sum(active.number is None for active in self._active)
        budget = count_unfinished_budget(self._study, self._n_trials) - asking
        while budget > 0 and (devices := self._pool.lease()) is not None:
            self._started += 1
            name = time.strftime(f"%Y%m%dT%H%M%SZ-{os.getpid()}-{self._started}", time.gmtime())
            self._active.append(_Active(self._launcher.start(self._paths.root, name, devices)))
            budget -= 1

    def _look_at(self, active: _Active) -> None:
        for event in active.group.events():
            self._on_event(active, event)
        codes = active.group.exit_codes()
        if active.died_at is None or time.monotonic() - active.died_at <= _LAST_WORDS:
            active.codes = codes
        if any(code not in (None, 0) for code in codes) and None in codes:
            # One rank is gone and the others wait for it in a collective: end the whole group.
            active.died_at = active.died_at or time.monotonic()
            if time.monotonic() - active.died_at > _LAST_WORDS:
                active.group.kill()
        if None not in active.group.exit_codes():
            for event in active.group.events():
                self._on_event(active, event)
            self._finish(active)

    def _on_event(self, active: _Active, event: Event) -> None:
        if isinstance(event, TrialStarted):
            active.number = event.number
        elif isinstance(event, TrialEnded):
            active.ended = True
        elif isinstance(event, TrialPaused):
            active.paused = True
        elif isinstance(event, AttemptFailed):
            active.number = event.number if active.number is None else active.number
            active.failures.append(event)
        self._monitor.on_event(event)

    def _finish(self, active: _Active) -> None:
        """All ranks of an attempt are gone: settle its trial, give its devices back."""
        active.group.close()
        self._active.remove(active)
        self._pool.give_back(active.group.devices)
        if active.ended:
            return
        if active.number is None:
            self._settle_unknown(active)
        elif active.paused or self._signals:
            requeue(self._study, only=active.number)
        elif active.failures and not active.death():
            first = min(active.failures, key=lambda failure: failure.at)
            fail_trial(self._study, active.number, first.error, first.log)
            self._monitor.failed(active.number, first.error, first.log)
        else:
            self._retry(active.number, active.codes)

    def _settle_unknown(self, active: _Active) -> None:
        """The attempt ended before rank 0 told its trial's number."""
        if self._signals:
            return
        if active.failures and not active.death():
            first = min(active.failures, key=lambda failure: failure.at)
            raise SweepError(f"No trial could be started: {first.error}. Its log: {first.log}")
        self._early_deaths += 1
        if self._early_deaths >= self._config.launcher.max_attempts:
            raise SweepError(
                f"{self._early_deaths} attempts were killed before their trial began (exit codes "
                f"{active.codes}); look for out-of-memory messages in the system's log, then type "
                f"sweep resume {self._paths.root}"
            )
        self._orphans = True

    def _reclaim_orphans(self) -> None:
        """Trials whose rank 0 died between asking and telling go back to the queue."""
        if self._orphans and all(active.number is not None for active in self._active):
            requeue(self._study, keep={a.number for a in self._active if a.number is not None})
            self._orphans = False

    def _retry(self, number: int, codes: list[Any]) -> None:
        """A process died without a word (killed by the system): once more, from the last epoch."""
        log = str(self._paths.trial(number).root)
        error = f"a rank died without an exception (exit codes {codes})"
        if attempts_of(self._study, number) < self._config.launcher.max_attempts:
            requeue(self._study, only=number)
            self._monitor.retried(number, error)
        else:
            error += f" in {self._config.launcher.max_attempts} attempts"
            fail_trial(self._study, number, error, log)
            self._monitor.failed(number, error, log)
