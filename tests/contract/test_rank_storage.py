"""What ranks ask of a storage that several of them use at once, on every kind of storage."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from sweep.compose import compose
from sweep.config import typed
from sweep.paths import StudyPaths
from sweep.schema import SweepConfig
from sweep.storage import open_rank_storage
from sweep.study import create_study
from tests.postgres import postgres

_RANKS, _WAITING = 4, 40


@pytest.fixture(params=["sqlite", "postgresql"])
def config(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SweepConfig]:
    given = [f"study.output_dir='{tmp_path}'", "study.name=race", f"storage={request.param}"]
    if request.param == "sqlite":
        yield typed(compose(given))
        return
    with postgres(tmp_path) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield typed(compose(given))


def _take(
    environment: dict[str, str], config: SweepConfig, paths: StudyPaths, together: Barrier, taken: Path
) -> None:
    # A fork server has the environment of the test that started it.
    os.environ.update(environment)
    study = optuna.load_study(study_name=config.study.name, storage=open_rank_storage(config, paths))
    numbers = []
    for _ in range(_WAITING // _RANKS):
        together.wait(60)
        numbers.append(study.ask().number)
    taken.write_text(" ".join(map(str, numbers)))


def test_a_waiting_trial_is_taken_once(config: SweepConfig, tmp_path: Path) -> None:
    """Optuna looks and then writes, so on SQLite two ranks can both get the trial."""
    paths = StudyPaths(tmp_path / "race")
    paths.root.mkdir()
    study = create_study(config, paths)
    for number in range(_WAITING):
        study.enqueue_trial({"x": number})
    context = multiprocessing.get_context("forkserver")
    together = context.Barrier(_RANKS)
    files = [tmp_path / f"rank-{rank}" for rank in range(_RANKS)]
    given = (dict(os.environ), config, paths, together)
    ranks = [context.Process(target=_take, args=(*given, file)) for file in files]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(120)
        assert rank.exitcode == 0
    taken = [int(number) for file in files for number in file.read_text().split()]
    assert sorted(taken) == list(range(_WAITING))
    assert {t.state for t in study.get_trials()} == {TrialState.RUNNING}
