"""Complete is checked, never guessed: whatever is done to a checkpoint, only whole ones are used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sweep.checkpoint import (
    commit,
    complete_checkpoints,
    latest_checkpoint,
    prepare_staging,
    retain,
    sweep_debris,
)
from sweep.paths import TrialPaths


@pytest.fixture
def paths(tmp_path: Path) -> TrialPaths:
    return TrialPaths(tmp_path / 'it\'s a "trial" 7')


def _write(paths: TrialPaths, epoch: int) -> Path:
    step = 10 * epoch
    prepare_staging(paths, step)
    written = paths.staging(step) / f"checkpoint-{step}"
    written.mkdir()
    for name in ("model.safetensors", "optimizer.pt", "training_args.bin"):
        (written / name).write_bytes(f"{name} of epoch {epoch}".encode())
    assert latest_checkpoint(paths) is None or latest_checkpoint(paths).manifest.epoch < epoch  # type: ignore[union-attr]
    return commit(paths, 7, epoch, step, 2, {"accuracy": 0.5}).path


def test_commit_keeps_what_was_written_but_the_pickle(paths: TrialPaths) -> None:
    path = _write(paths, 1)
    assert {p.name for p in path.iterdir()} == {"model.safetensors", "optimizer.pt", "manifest.json"}
    latest = latest_checkpoint(paths)
    assert latest is not None
    assert (latest.manifest.trial, latest.manifest.epoch, latest.manifest.step) == (7, 1, 10)
    assert latest.manifest.world_size == 2
    assert not list(paths.root.glob(".writing-*"))


@pytest.mark.parametrize("harm", ["truncate", "remove", "no manifest", "torn manifest", "grow"])
def test_a_harmed_checkpoint_falls_back_to_the_one_before(paths: TrialPaths, harm: str) -> None:
    _write(paths, 9)
    path = _write(paths, 10)  # as text, checkpoint-100 sorts before checkpoint-90
    assert latest_checkpoint(paths).path == path  # type: ignore[union-attr]
    weights, manifest = path / "model.safetensors", path / "manifest.json"
    if harm == "truncate":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif harm == "grow":
        weights.write_bytes(weights.read_bytes() + b"x")
    elif harm == "remove":
        weights.unlink()
    elif harm == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text(manifest.read_text()[: len(json.dumps({})) + 20])
    assert [c.manifest.epoch for c in complete_checkpoints(paths)] == [9]


def test_debris_of_a_killed_write_is_no_checkpoint_and_is_swept(paths: TrialPaths) -> None:
    prepare_staging(paths, 10)
    (paths.staging(10) / "checkpoint-10").mkdir()
    (paths.staging(10) / "checkpoint-10" / "old").write_text("of the killed attempt")
    assert latest_checkpoint(paths) is None
    prepare_staging(paths, 20)
    sweep_debris(paths)
    assert list(paths.root.iterdir()) == []
    path = _write(paths, 1)
    assert not (path / "old").exists()


def test_retain_keeps_only_the_named_epochs(paths: TrialPaths) -> None:
    for epoch in (1, 2, 3):
        _write(paths, epoch)
    retain(paths, [1, 3])
    assert [c.manifest.epoch for c in complete_checkpoints(paths)] == [1, 3]
