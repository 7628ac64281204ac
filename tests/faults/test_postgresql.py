"""The study's storage on a real PostgreSQL server: same result, same promises, no password anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.results import compare_results, study_result
from tests.conftest import Command, RunStudy
from tests.faults.harness import Running, gone
from tests.postgres import Postgres, postgres

_STUDY = ["storage=postgresql", "trainer.num_train_epochs=3", "study.n_trials=3", "sampler=tpe"]
_STUDY += ["trainer.learning_rate=interval(1e-3,1e-2)", "sampler.n_startup_trials=1"]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Postgres]:
    """A server that the environment leads to."""
    with postgres(tmp_path) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


def test_kills_and_a_server_that_goes_away_change_nothing(
    tiny_overrides: list[str],
    run_study: RunStudy,
    sweep_command: Command,
    server: Postgres,
    tmp_path: Path,
) -> None:
    """Undisturbed in SQLite; in PostgreSQL with the driver killed, then the server stopped in mid-trial."""
    calm = run_study(*_STUDY, "storage=sqlite", name="calm")
    root = tmp_path / "out" / "tiny"

    first = Running(["launch", *tiny_overrides, *_STUDY], tmp_path)
    first.wait_for("trial 0  epoch 2")
    family = first.family()
    first.process.kill()
    first.process.wait()
    assert gone(family, 10)

    second = Running(["resume", str(root)], tmp_path)
    second.wait_for("trial 1  epoch 1")
    server.stop()
    assert second.process.wait(120) == 1, second.output
    assert "The study is paused" in second.output
    assert f"sweep resume {root}" in second.output
    assert "Traceback" not in second.output

    away = sweep_command("resume", str(root))
    assert away.returncode == 2, away.stderr
    assert "storage.url='postgresql+psycopg://' does not answer" in away.stderr
    assert "Traceback" not in away.stderr

    server.start()
    third = sweep_command("resume", str(root))
    assert third.returncode == 0, third.stderr
    assert compare_results(study_result(calm.root), study_result(root)) == []
    said = "".join([first.output, second.output, away.stderr, third.stdout, third.stderr])
    files = [file for file in root.rglob("*") if file.is_file()]
    assert len(files) > 20
    for text in [said.encode(), *(file.read_bytes() for file in files)]:
        assert server.password.encode() not in text


def test_studies_of_one_name_in_one_database_are_kept_apart(
    tiny_overrides: list[str], sweep_command: Command, server: Postgres, tmp_path: Path
) -> None:
    study = [*tiny_overrides, "storage=postgresql", "trainer.num_train_epochs=1"]
    assert sweep_command("launch", *study).returncode == 0
    other = sweep_command("launch", *study, f"study.output_dir='{tmp_path}/elsewhere'")
    assert other.returncode == 2
    assert "study.name='tiny': the database has a study of that name already" in other.stderr
    assert not (tmp_path / "elsewhere").exists()
    more = sweep_command("resume", str(tmp_path / "out" / "tiny"), "study.n_trials=2")
    assert more.returncode == 0, more.stderr
    assert len(study_result(tmp_path / "out" / "tiny")["trials"]) == 2


def test_what_cannot_be_used_is_said_before_anything_is_prepared(
    tiny_overrides: list[str], sweep_command: Command, tmp_path: Path
) -> None:
    for url, said in [
        ("postgresql+psycopg://me:hush@localhost/db", "storage.url holds a password"),
        ("postgresql+psycopg://me@127.0.0.1:9/db", "does not answer"),
        ("postgresql+nothing://me@127.0.0.1:9/db", "cannot be used"),
        ("nonsense", "cannot be used"),
    ]:
        done = sweep_command("launch", *tiny_overrides, f"storage.url='{url}'")
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
        assert "hush" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "out").exists()
