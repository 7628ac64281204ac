"""What may be started next: budgets, what waits, and whom a promoting pruner lets go on."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.study import Study
from optuna.trial import FrozenTrial

from sweep.asha import Ladder, PromotingPruner
from sweep.events import EpochDone, TrialStarted
from sweep.sampler import build_pruner
from sweep.schema import SweepConfig
from sweep.settlement import Attempt
from sweep.standing import Standing
from sweep.study import end_parked, epochs_done, parked_trials, promote_trial, trial_of, waiting


class Agenda:
    """The driver's view of the budget; `n_trials` is the study's total."""

    def __init__(self, config: SweepConfig, study: Study, n_trials: int) -> None:
        self._config, self._study, self._n_trials = config, study, n_trials
        self.standing = Standing(study, config.objective)
        self._epochs = epochs_done(study)
        pruner = build_pruner(config)
        self._ladder = Ladder(pruner, study.direction) if isinstance(pruner, PromotingPruner) else None
        if self._ladder is not None:
            self._ladder.load(study.get_trials(deepcopy=False), parked_trials(study, pruner))

    @property
    def parked(self) -> dict[int, int]:
        """Trials that a promoting pruner has stopped: number -> epoch."""
        return {} if self._ladder is None else self._ladder.parked

    def started(self, event: TrialStarted) -> None:
        """A trial runs (again)."""
        self._epochs[event.number] = {n for n in self._epochs.get(event.number, ()) if n <= event.kept}

    def finished_epoch(self, event: EpochDone) -> None:
        """A trial has one more epoch."""
        self._epochs.setdefault(event.number, set()).add(event.epoch)
        if self._ladder is not None and event.reported is not None:
            self._ladder.reached(event.number, *event.reported)

    def park(self, number: int, epoch: int) -> None:
        """A trial was stopped after `epoch` and may be promoted."""
        if self._ladder is not None:
            self._ladder.park(number, epoch)

    def spent(self, seconds: float, active: Sequence[Attempt]) -> str | None:
        """The budget beside the trials that is used up; a trial that is asked to pause finishes its epoch."""
        study = self._config.study
        if study.timeout is not None and seconds >= study.timeout:
            return f"study.timeout={study.timeout} s"
        in_flight = (
            a.number is None or max(self._epochs.get(a.number, ()), default=0) < a.epochs for a in active
        )
        spent = sum(len(epochs) for epochs in self._epochs.values())
        if study.max_epochs is not None and spent + sum(in_flight) >= study.max_epochs:
            return f"study.max_epochs={study.max_epochs}"
        return None

    def may_start(self, active: Sequence[Attempt]) -> bool:
        """Whether one more attempt may start: of a trial that waits, that is promoted now, or that is new."""
        unclaimed = sum(a.number is None for a in active)
        if self.parked and waiting(self._study) <= unclaimed and self._promote():
            return True
        budget = self._n_trials - self.standing.finished - len(active) - len(self.parked)
        if self.out_of_patience():  # what was begun is finished, and may still become better
            budget = min(budget, waiting(self._study) - unclaimed)
        if budget <= 0 and not active and not self.standing.front() and self._ladder is not None:
            # Too few trials for anybody to be promoted; a study shall end with a model all the same.
            return self._let_go_on(self._ladder.best_parked())
        return budget > 0

    def out_of_patience(self) -> bool:
        """Whether no new trial is worth it, see `study.patience`."""
        return self.standing.out_of_patience(self._config.study.patience)

    def _promote(self) -> bool:
        return self._let_go_on(self._ladder.promote() if self._ladder is not None else None)

    def _let_go_on(self, found: tuple[int, int] | None) -> bool:
        if found is not None:
            promote_trial(self._study, *found)
        return found is not None

    def end_hopeless(self) -> list[FrozenTrial]:
        """End those parked trials that nothing can promote any more, so that they give back their disk."""
        if self._ladder is None or not self.standing.front():
            return []
        return self._end(self._ladder.hopeless(self._n_trials - self.standing.finished))

    def end_parked(self) -> list[FrozenTrial]:
        """Nothing runs and nothing more will: who is parked now stays so."""
        return self._end(sorted(self.parked))

    def _end(self, numbers: list[int]) -> list[FrozenTrial]:
        for number in numbers:
            end_parked(self._study, number)
            del self.parked[number]
        return [trial_of(self._study, number) for number in numbers]
