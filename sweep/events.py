"""What a rank tells the driver. Only for the console and for supervision: the truth is in storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class TrialStarted:
    """`kept` of `epochs` are on disk, `repeated` were reported but lost; `damaged` says of what and why."""

    number: int
    attempt: int
    params: dict[str, Any]
    kept: int
    epochs: int
    repeated: list[int]
    damaged: list[str]


@dataclass(frozen=True)
class StepDone:
    """A sign of life, during evaluation too."""

    number: int
    step: int
    max_steps: int


@dataclass(frozen=True)
class EpochDone:
    """`reported` is what Optuna was told: step and value, or None in the middle of a fold."""

    number: int
    epoch: int
    metrics: dict[str, float]
    reported: tuple[int, float] | None


@dataclass(frozen=True)
class CheckpointSaved:
    """An epoch is complete on disk; `best_epochs` are the best so far of each of the trial's folds."""

    number: int
    epoch: int
    best_epochs: tuple[int, ...]


@dataclass(frozen=True)
class TrialEnded:
    """The trial's state is in storage: COMPLETE or PRUNED."""

    number: int
    state: str


@dataclass(frozen=True)
class TrialPaused:
    """Stopped after a committed epoch because the driver asked for it; still RUNNING in storage."""

    number: int


@dataclass(frozen=True)
class TrialParked:
    """Stopped by a pruner after a committed epoch; it may be promoted later."""

    number: int


@dataclass(frozen=True)
class AttemptFailed:
    """An exception on one rank.

    `number` is None before the trial was known. `at` (seconds, one clock per machine) tells the
    first of several: the others are often only its echo, a connection that was closed.
    `kind` is "memory" where that had run out for a batch of `per_device` samples, and "machine" for
    what is no fault of the trial: a full disk, a storage that cannot be used.
    """

    rank: int
    number: int | None
    error: str
    log: str
    at: float
    kind: Literal["error", "memory", "machine"] = "error"
    per_device: int | None = None


Event = (
    TrialStarted
    | StepDone
    | EpochDone
    | CheckpointSaved
    | TrialEnded
    | TrialPaused
    | TrialParked
    | AttemptFailed
)
PAUSE = "pause"
