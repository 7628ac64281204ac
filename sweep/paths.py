"""The only code that joins paths: below a study's folder, to the shipped config, to the cache."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
CHECKPOINT, WRITING, REMOVING = "checkpoint-", ".writing-", ".removing-"


def conf_dir() -> Path:
    """The folder of the Hydra config: inside an installed package, beside it in a checkout."""
    installed = _PACKAGE / "conf"
    return installed if installed.is_dir() else _PACKAGE.parent / "conf"


def metric_script(name: str) -> Path:
    """The folder of a metric that `evaluate.load` opens without a network."""
    return _PACKAGE / "metric_scripts" / name


def cache_dir() -> Path:
    """Where downloads are kept between studies: $SWEEP_CACHE or the user's cache folder."""
    if own := os.environ.get("SWEEP_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sweep"


@dataclass(frozen=True)
class TrialPaths:
    """Everything one trial keeps."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def overrides(self) -> Path:
        return self.root / "overrides.yaml"

    def log(self, attempt: str, rank: int) -> Path:
        return self.root / "logs" / f"{attempt}.rank-{rank}.log"

    def checkpoint(self, step: int) -> Path:
        return self.root / f"{CHECKPOINT}{step}"

    def staging(self, step: int) -> Path:
        """Where an epoch's checkpoint is written before it is renamed into place."""
        return self.root / f"{WRITING}{step}"


@dataclass(frozen=True)
class StudyPaths:
    """Everything one study keeps, below `outputs/<study>/`."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def database(self) -> Path:
        return self.root / "study.db"

    @property
    def new_database(self) -> Path:
        """Where a study is created; it becomes `database` in one step, whole."""
        return self.root / ".study.db.new"

    @property
    def mark(self) -> Path:
        """What tells this folder's study in a shared database from others of its name."""
        return self.root / ".mark"

    @property
    def lock(self) -> Path:
        return self.root / ".lock"

    @property
    def fingerprint(self) -> Path:
        """What the study was begun with (JSON): settings, data, model, versions."""
        return self.root / "fingerprint.json"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def driver(self) -> Path:
        """Which process drives the study (JSON)."""
        return self.root / ".driver.json"

    @property
    def processes(self) -> Path:
        """One file for each process that works for the driver."""
        return self.root / ".processes"

    @property
    def nursery_log(self) -> Path:
        """What the nursery and libraries in it print; a trial's own logs are in its folder."""
        return self.processes / "nursery.log"

    @property
    def data_card(self) -> Path:
        """What preparation found: rows, label names, hashes, baselines (JSON)."""
        return self.data / "card.json"

    @property
    def split(self) -> Path:
        return self.data / "split"

    def tokens(self, key: str) -> Path:
        return self.data / f"tokens-{key}"

    @property
    def best(self) -> Path:
        return self.root / "best"

    def confirmation(self, name: str) -> StudyPaths:
        """The study that trains the best trials of this one, called `name`, again."""
        return StudyPaths(self.root / f"{name}-confirm")

    @property
    def confirmed(self) -> Path:
        """What came of it (JSON)."""
        return self.root / "confirmed.json"

    @property
    def trials(self) -> Path:
        return self.root / "trials"

    def trial(self, number: int) -> TrialPaths:
        return TrialPaths(self.trials / f"{number:04d}")

    def starting_log(self, attempt: str, rank: int) -> Path:
        """A rank's log until it knows its trial's number."""
        return self.trials / f".starting-{attempt}.rank-{rank}.log"
