"""A metric of the user's own: measured every epoch, shown, and searched for."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep.commands import read_status
from sweep.errors import InputError
from sweep.metrics import own_metrics
from tests.conftest import Command

_MODULE = """\
from sklearn.metrics import matthews_corrcoef

def mine(predictions, references):
    missed = sum(p != r for p, r in zip(predictions, references))
    return {"mcc": matthews_corrcoef(references, predictions), "missed": missed}

def taken(predictions, references):
    return {"accuracy": 1.0}

def nothing(predictions, references):
    return None
"""


def test_a_study_looks_for_it(tiny_overrides: list[str], sweep_command: Command, tmp_path: Path) -> None:
    (tmp_path / "my_metrics.py").write_text(_MODULE)
    study = [
        *tiny_overrides,
        "study.n_trials=2",
        "trainer.num_train_epochs=3",
        "task.metrics=my_metrics.mine",
    ]
    done = sweep_command("launch", *study, "objective.metric=missed", "objective.direction=minimize")
    assert done.returncode == 0, done.stdout + done.stderr
    status = read_status(tmp_path / "out" / "tiny")
    assert status["metric"] == "missed"
    for trial in status["trials"]:
        assert trial["value"] == min(e["missed"] for e in trial["epochs"])
        for epoch in trial["epochs"]:
            assert epoch["missed"] == pytest.approx(64 * (1 - epoch["accuracy"])), "of 64 validation rows"
            assert f"mcc {epoch['mcc']:.4f}  missed {epoch['missed']:.4f}  time" in done.stdout
    resumed = sweep_command("resume", str(tmp_path / "out" / "tiny"), "task.metrics=my_metrics.taken")
    assert resumed.returncode == 2, "other metrics would not be comparable"

    for words, said in (
        (["objective.metric=mccc"], "Did you mean 'mcc'?"),
        (["task.metrics=my_metrics.taken"], "returns accuracy, which exist already"),
        (["task.metrics=my_metrics.nothing"], "cannot be used"),
    ):
        refused = sweep_command("launch", *study, "study.name=other", *words)
        assert refused.returncode == 2, refused.stdout
        assert said in refused.stderr
        assert not (tmp_path / "out" / "other").exists()


def test_none_is_none() -> None:
    assert own_metrics(None)([0], [1]) == {}
    with pytest.raises(InputError, match=r"task\.metrics=nowhere\.mine"):
        own_metrics("nowhere.mine")
