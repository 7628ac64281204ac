"""What becomes of a trial whose attempt is over: done, queued again, failed; and when to halt the study."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from sweep.errors import SweepError
from sweep.events import AttemptFailed, TrialEnded
from sweep.launchers import Group
from sweep.monitor import Monitor
from sweep.paths import StudyPaths
from sweep.record import parked_after
from sweep.schema import SweepConfig
from sweep.study import count_death, fail_trial, requeue, set_per_device_limit, trial_of

_ALIKE = 3  # first trials that fail for the same reason: the next ones would, too


@dataclass
class Attempt:
    """An attempt as the driver knows it.

    Attributes:
        number: its trial's, as soon as rank 0 has told it.
        epochs: how many its trial shall have in all.
        heard: when its ranks last gave a sign of life (monotonic seconds).
        codes: the ranks' exit codes as they were before the driver killed any.
    """

    name: str
    group: Group
    heard: float
    number: int | None = None
    epochs: int = 0
    ended: bool = False
    paused: bool = False
    parked: bool = False
    hung: bool = False
    failures: list[AttemptFailed] = field(default_factory=list)
    died_at: float | None = None
    codes: list[int | None] = field(default_factory=list)

    def death(self) -> bool:
        """Whether a rank was killed from outside; what the others then say is only its echo."""
        return self.hung or any(code is not None and code < 0 for code in self.codes)

    def failure(self) -> AttemptFailed | None:
        """The exception that ended the attempt: one of the machine's before one of the trial's."""
        machine = [f for f in self.failures if f.kind == "machine"]
        return min(machine or self.failures, key=lambda failure: failure.at, default=None)


class HaltError(SweepError):
    """The study cannot go on as things are; every unfinished trial can be resumed."""


class Settlement:
    """Settles attempts. `ended` is told each finished trial, `parked` who was parked after which epoch."""

    def __init__(
        self,
        config: SweepConfig,
        paths: StudyPaths,
        study: Study,
        monitor: Monitor,
        ended: Callable[[FrozenTrial], None],
        parked: Callable[[int, int], None],
    ) -> None:
        self._config, self._paths, self._study = config, paths, study
        self._monitor, self._ended, self._parked = monitor, ended, parked
        good = (TrialState.COMPLETE, TrialState.PRUNED)
        self._any_good = bool(study.get_trials(deepcopy=False, states=good))
        self._reasons: list[str] = []
        self._early_deaths = 0

    def settle(self, attempt: Attempt, stopping: bool) -> bool:
        """Decide; all ranks of `attempt` are gone.

        Returns:
            False if some RUNNING trial is nobody's, because rank 0 died before it told which.

        Raises:
            HaltError: nothing more should be started.
        """
        number, failure = attempt.number, attempt.failure()
        if number is None:
            return self._settle_unknown(attempt, stopping)
        self._early_deaths = 0
        trial = trial_of(self._study, number)
        if trial.state.is_finished():
            if not attempt.ended:  # killed after it had told Optuna
                self._monitor.on_event(TrialEnded(number, trial.state.name))
            self._any_good = True
            self._ended(trial)
        elif failure is not None and failure.kind == "machine":
            requeue(self._study, only=number)
            self._halt(failure)
        elif attempt.parked and (epoch := parked_after(trial)) is not None:
            self._parked(number, epoch)
        elif attempt.paused or stopping:
            requeue(self._study, only=number)
        elif attempt.death() or failure is None:
            self._retry(number, attempt)
        elif failure.kind == "memory" and (limit := self._smaller(failure)) is not None:
            set_per_device_limit(self._study, number, limit)
            requeue(self._study, only=number)
            self._monitor.note(
                f"trial {number}  out of memory with {failure.per_device} samples per device: "
                f"it continues with {limit}, accumulating the rest (launcher.on_oom=shrink)"
            )
        else:
            self._fail(number, failure.error, failure.log)
        return True

    def _smaller(self, failure: AttemptFailed) -> int | None:
        batch = failure.per_device or 1
        return batch // 2 if self._config.launcher.on_oom == "shrink" and batch > 1 else None

    def _halt(self, failure: AttemptFailed) -> None:
        raise HaltError(
            f"The study is paused: {failure.error}. Nothing finished is lost. When that is mended, type\n"
            f"  sweep resume {shlex.quote(str(self._paths.root))}"
        )

    def _settle_unknown(self, attempt: Attempt, stopping: bool) -> bool:
        failure = attempt.failure()
        if stopping:
            return True
        if failure is not None and failure.kind == "machine":
            self._halt(failure)
        if failure is not None and not attempt.death():
            raise HaltError(f"No trial could be started: {failure.error}. Its log: {failure.log}")
        self._early_deaths += 1
        if self._early_deaths >= self._config.launcher.max_attempts:
            raise HaltError(
                f"{self._early_deaths} attempts in a row were killed before their trial began (exit codes "
                f"{attempt.codes}); look for out-of-memory messages in the system's log, then type "
                f"sweep resume {shlex.quote(str(self._paths.root))}"
            )
        return False

    def _retry(self, number: int, attempt: Attempt) -> None:
        """Killed by the system, or hung: once more, from the last epoch."""
        log = str(self._paths.trial(number).log(attempt.name, 0))
        limit = self._config.launcher.max_attempts
        if attempt.hung:
            error = f"no sign of life for {self._config.launcher.patience():g} s (launcher.hang_timeout)"
        else:
            error = f"a rank died without an exception (exit codes {attempt.codes})"
        if count_death(self._study, number) < limit:
            requeue(self._study, only=number)
            self._monitor.note(f"trial {number}  {error}: it continues from its last epoch", number)
        else:
            self._fail(number, f"{error}, {limit} times in a row (launcher.max_attempts)", log)

    def _fail(self, number: int, error: str, log: str) -> None:
        fail_trial(self._study, number, error, log)
        self._monitor.failed(number, error, log)
        self._ended(trial_of(self._study, number))
        self._reasons.append(re.sub(r"\d[\d.e+-]*", "N", error))
        alike = self._reasons[-_ALIKE:]
        if not self._any_good and len(alike) == _ALIKE and len(set(alike)) == 1:
            raise HaltError(
                f"The first {_ALIKE} trials failed for the same reason, so no more are started: {error} "
                f"The log: {log}\nWhen that is mended, launch a new study, or go on with\n"
                f"  sweep resume {shlex.quote(str(self._paths.root))}"
            )
