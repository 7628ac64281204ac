"""The epochs of a trial, fold after fold, in one count."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Course:
    """`epochs` of each of `folds`; a fold may end early, and the next one counts as if it had not.

    Attributes:
        folds: 1 without cross-validation.
        epochs: of each fold.
        most_steps: no fold has more optimizer steps.
    """

    folds: int
    epochs: int
    most_steps: int = 0

    @property
    def total(self) -> int:
        """The number of the last epoch."""
        return self.folds * self.epochs

    @property
    def crossed(self) -> bool:
        """Whether this is a cross-validation."""
        return self.folds > 1

    def fold_of(self, epoch: int) -> int:
        """The fold, 1…folds, that epoch 1…total belongs to."""
        return (epoch - 1) // self.epochs + 1

    def epoch(self, fold: int, own: int) -> int:
        """The number of a fold's `own` epoch 1…epochs in the whole trial."""
        return (fold - 1) * self.epochs + own

    def step(self, fold: int, own: int) -> int:
        """A number for a fold's `own` optimizer step that no other step of the trial has."""
        return (fold - 1) * self.most_steps + own
