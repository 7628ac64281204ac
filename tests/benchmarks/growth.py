"""What a trial costs in a study that has many already: `python -m tests.benchmarks.growth`.

Studies with 10 to 10,000 finished trials, in SQLite and in PostgreSQL, get more trials that train nothing
(see `bookkeeping`), random sampler, one at a time. The finished ones are copies of a real trial.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

from optuna.storages._rdb import models
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, insert, select, text
from sqlalchemy.engine import Connection

from sweep.compose import compose
from sweep.config import typed
from sweep.events import TrialEnded
from sweep.launchers import local
from sweep.paths import StudyPaths
from sweep.storage import open_storage
from tests.benchmarks import idle
from tests.benchmarks.common import recorded, save
from tests.postgres import postgres
from tests.tiny import make_tiny_model

_SIZES = (10, 100, 1_000, 10_000)
_MEASURED = 30
_WARM = 5
_GOAL = 2.0  # times the cost at 100 trials


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    with mock.patch.dict(os.environ, values):
        yield


def _fill(connection: Connection, study: str, size: int) -> None:
    """Copy the study's only trial until there are `size`."""
    trials, studies = models.TrialModel.__table__, models.StudyModel.__table__
    mine = select(studies.c.study_id).where(studies.c.study_name == study).scalar_subquery()
    first = connection.execute(select(trials).where(trials.c.study_id == mine)).mappings().one()
    numbers = range(1, size)
    ids = {number: first["trial_id"] + number for number in numbers}
    rows = [{**first, "trial_id": ids[n], "number": n} for n in numbers]
    connection.execute(insert(trials), rows)
    for model in (
        models.TrialParamModel,
        models.TrialValueModel,
        models.TrialIntermediateValueModel,
        models.TrialUserAttributeModel,
    ):
        table = model.__table__
        key = next(iter(table.primary_key.columns)).name
        found = [
            dict(row)
            for row in connection.execute(
                select(table).where(table.c.trial_id == first["trial_id"])
            ).mappings()
        ]
        copies = [
            {k: v for k, v in {**row, "trial_id": ids[n]}.items() if k != key}
            for row in found
            for n in numbers
        ]
        connection.execute(insert(table), copies)
    if connection.dialect.name == "postgresql":
        last = select(func.max(trials.c.trial_id)).scalar_subquery()
        connection.execute(select(func.setval(text("pg_get_serial_sequence('trials', 'trial_id')"), last)))


def _measure(size: int, storage: str, folder: Path) -> float:
    """Seconds per trial in a study of `size` finished ones."""
    overrides = ["task.limit=64", "trainer.num_train_epochs=1", "launcher.devices=1", "pruner=none"]
    overrides += ["sampler=random", "model=hub", f"model.path='{folder / 'tiny'}'", f"storage={storage}"]
    overrides += ["study.n_trials=1", f"study.name={storage}-{size}"]
    recorded(overrides, folder)
    paths = StudyPaths(folder / f"{storage}-{size}")
    engine = open_storage(typed(compose(overrides)), paths).engine
    with engine.begin() as connection:
        _fill(connection, paths.root.name, size)
    engine.dispose()
    for number in range(1, size):
        for file in (paths.trial(0).config, paths.trial(0).overrides):
            copy = paths.trial(number).root / file.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    timeline = recorded([f"study.n_trials={size + _MEASURED}"], folder, resume=paths.root)
    ends = [at for at, event in timeline if isinstance(event, TrialEnded)]
    return statistics.median(later - sooner for sooner, later in pairwise(ends[_WARM:]))


def main() -> None:
    """Measure all, and print the table."""
    sizes = [int(word) for word in sys.argv[1:]] or list(_SIZES)
    table = Table("finished trials", caption=f"goal: at most {_GOAL:g} times the cost at 100")
    found: dict[str, dict[int, float]] = {"sqlite": {}, "postgresql": {}}
    with tempfile.TemporaryDirectory() as name, mock.patch.object(local, "_RANK", idle.RANK):
        folder = Path(name)
        make_tiny_model(folder / "tiny")
        with postgres(folder) as server, _environment(server.environment):
            for size in sizes:
                for storage, costs in found.items():
                    costs[size] = _measure(size, storage, folder)
                    print(f"{storage} {size}: {1e3 * costs[size]:.0f} ms", flush=True)
    for storage in found:
        table.add_column(storage)
        table.add_column("÷ that at 100")
    for size in sizes:
        cells: list[Any] = [f"{size}"]
        for costs in found.values():
            ratio = costs[size] / costs.get(100, costs[sizes[0]])
            cells += [f"{1e3 * costs[size]:.0f} ms", f"{ratio:.2f}"]
        table.add_row(*cells)
    Console().print(table)
    save("growth", {"seconds": found})


if __name__ == "__main__":
    main()
