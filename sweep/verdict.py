"""What becomes of a trial when an attempt starts and after each epoch; decided on rank 0 alone."""

from __future__ import annotations

from optuna.exceptions import TrialPruned

from sweep.checkpoint import Survey
from sweep.course import Course
from sweep.record import TrialRecord
from sweep.schema import ObjectiveConfig
from sweep.score import out_of_patience
from sweep.trial_parts import Link, Parked, Paused

Verdict = type[BaseException]


class Judge:
    """Weighs the pruner, the trial's patience and the driver's wish to pause against each other."""

    def __init__(self, record: TrialRecord, objective: ObjectiveConfig, course: Course, link: Link) -> None:
        self._record, self._objective, self._course, self._link = record, objective, course, link

    def begin(self, found: Survey, asked_last: bool) -> tuple[str, int, Verdict | None]:
        """Where an attempt starts: the checkpoint ("" for none) and the fold; or how the trial ends at once.

        `asked_last`: the epoch of `found` is the last one that had been reported.
        """
        if found.latest is None:
            return "", 1, None
        epoch, start = found.epoch, str(found.latest.path)
        fold = self._course.fold_of(epoch)
        over = self._out_of_patience() or epoch == self._course.epoch(fold, self._course.epochs)
        # Killed after the checkpoint and before the verdict was obeyed: obey it now.
        if not self._is_last(epoch) and asked_last and self._record.unpromising(self._record.step(epoch)):
            return start, fold, self._stop()
        return ("", fold + 1, None) if over else (start, fold, None)

    def after(self, epoch: int, scores: dict[str, float]) -> tuple[Verdict | None, bool]:
        """Record and report an epoch. How the trial ends, if so, and whether its fold is out of patience."""
        self._record.add(epoch, scores)
        course, fold = self._course, self._course.fold_of(epoch)
        over = self._out_of_patience()
        fold_over = over or epoch == course.epoch(fold, course.epochs)
        asked = fold_over or not course.crossed
        if asked and self._record.report(epoch, self._is_last(epoch)):
            return self._stop(), over
        if self._link.pause_requested() and not (over and fold == course.folds):
            return Paused, over
        return None, over

    def _is_last(self, epoch: int) -> bool:
        """Whether the trial is complete; without folds one that is out of patience can still be pruned."""
        crossed = self._course.crossed and self._course.fold_of(epoch) == self._course.folds
        return epoch == self._course.total or (crossed and self._out_of_patience())

    def _stop(self) -> Verdict:
        """How a trial ends that the pruner stops."""
        return Parked if self._record.promotes else TrialPruned

    def _out_of_patience(self) -> bool:
        return out_of_patience(self._record.epochs, self._objective)
