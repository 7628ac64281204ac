"""The disk gets a checkpoint while the next epoch is trained, and a power cut meanwhile costs one epoch."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep.launchers import local
from sweep.results import compare_results, study_result
from tests.conftest import RunStudy
from tests.faults import slow_disk
from tests.faults.harness import Running
from tests.faults.points import Point, landed, plan

_STUDY = [
    "study.n_trials=1",
    "trainer.num_train_epochs=4",
    "objective.metric=loss",
    "objective.direction=minimize",
]


def test_training_does_not_wait_for_the_disk(
    run_study: RunStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = run_study(*_STUDY, name="calm")
    monkeypatch.setattr(local, "_RANK", slow_disk.RANK)
    slow = run_study(*_STUDY)
    assert slow.code == 0, slow.output
    seen = slow_disk.flushes(slow.root)
    assert [(epoch, reported) for epoch, reported, _ in seen] == [(1, 2), (2, 3), (3, 4), (4, 4)]
    for epoch, _, there in seen[1:]:  # what came before stays until what comes after is on the disk
        assert {f"checkpoint-{6 * (epoch - 1)}", f"checkpoint-{6 * epoch}"} <= there
    assert compare_results(study_result(calm.root), study_result(slow.root)) == []


def test_a_power_cut_before_the_flush_costs_that_epoch(
    tiny_overrides: list[str], run_study: RunStudy, tmp_path: Path
) -> None:
    calm = run_study(*_STUDY, name="calm")
    root = tmp_path / "out" / "tiny"
    plan(root, [Point("sweep.checkpoint:flush", "before", "rank 0", "both", nth=3, tear=True)])
    first = Running(["launch", *tiny_overrides, *_STUDY], tmp_path, study=root)
    first.process.wait(120)
    assert landed(root) == [0], first.output
    second = Running(["resume", str(root)], tmp_path)
    assert second.process.wait(120) == 0, second.output
    assert "trial 0: epochs 1–2 kept, epoch 3 repeated" in second.output
    assert "passes over a damaged checkpoint: checkpoint-18: manifest.json cannot be read" in second.output
    assert compare_results(study_result(calm.root), study_result(root)) == []
