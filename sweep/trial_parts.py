"""What one trial is made of and whom it talks to, and how it ends other than by its last epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback, TrainingArguments

from sweep.course import Course
from sweep.events import Event, StepDone
from sweep.paths import TrialPaths

_STEP_EVENTS_PER_SECOND = 2


class Paused(BaseException):
    """Ends an attempt after a committed epoch; no Exception, so Optuna leaves the trial RUNNING."""


class Parked(Paused):
    """The same, by the verdict of a pruner that may promote the trial later."""


@dataclass(frozen=True)
class TrialParts:
    """What one trial is made of, built from its own config only.

    Attributes:
        args: of Trainer.
        fold: number -> what is trained there; without cross-validation the only one is 1.
        course: how many folds and epochs.
        paths: the trial's folder.
        global_batch_size: samples of one optimizer step over all ranks.
        layer_decay: the learning rate of each layer ÷ that of the one above it.
        config: sha256 of the settings it is trained with, kept in its checkpoints.
    """

    args: TrainingArguments
    fold: Callable[[int], FoldParts]
    course: Course
    paths: TrialPaths
    global_batch_size: int
    layer_decay: float
    config: str


@dataclass(frozen=True)
class FoldParts:
    """A fresh model and the data of one fold.

    Attributes:
        trainer_arguments: keyword arguments of Trainer (model_init, datasets, …).
        train_lengths: tokens of each training row, for length-grouped batches.
    """

    trainer_arguments: dict[str, Any]
    train_lengths: list[int]


@dataclass(frozen=True)
class Link:
    """The rank's line to the driver: events out, and whether a pause was asked for.

    `attempt` and `devices` name the attempt in the trial's record.
    """

    send: Callable[[Event], None]
    pause_requested: Callable[[], bool]
    attempt: str
    devices: list[str]


class StepReporter(TrainerCallback):  # type: ignore[misc]
    """Tells the driver that, and how far, the trial goes on; a few times a second at most."""

    def __init__(self, number: int, link: Link) -> None:
        self._number, self._link, self._last = number, link, 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Upstream's hook, also for the end of a step and for each batch of an evaluation."""
        now = time.monotonic()
        if now - self._last >= 1 / _STEP_EVENTS_PER_SECOND:
            self._last = now
            self._link.send(StepDone(self._number, state.global_step, state.max_steps))

    on_step_end = on_prediction_step = on_step_begin
