"""What a rank tells the driver. Only for the console and for supervision: the truth is in storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TrialStarted:
    number: int
    attempt: int
    params: dict[str, Any]
    first_epoch: int


@dataclass(frozen=True)
class StepDone:
    number: int
    step: int
    max_steps: int


@dataclass(frozen=True)
class EpochDone:
    number: int
    epoch: int
    metrics: dict[str, float]


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
class AttemptFailed:
    """An exception on one rank.

    `number` is None before the trial was known. `at` (seconds, one clock per machine) tells the
    first of several: the others are often only its echo, a connection that was closed.
    """

    rank: int
    number: int | None
    error: str
    log: str
    at: float


Event = TrialStarted | StepDone | EpochDone | TrialEnded | TrialPaused | AttemptFailed
PAUSE = "pause"
