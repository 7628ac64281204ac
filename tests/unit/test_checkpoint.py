"""Complete is checked, never guessed: whatever is done to a checkpoint, only whole ones are used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sweep.checkpoint import (
    commit,
    complete_checkpoints,
    keep_weights,
    prepare_staging,
    survey,
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
    assert survey(paths, None).epoch < epoch, "nothing counts before its commit"
    return commit(
        paths, trial=7, epoch=epoch, step=step, world_size=2, metrics={"accuracy": 0.5}, config="c"
    ).path


def test_commit_keeps_what_was_written_but_the_pickle(paths: TrialPaths) -> None:
    path = _write(paths, 1)
    assert {p.name for p in path.iterdir()} == {"model.safetensors", "optimizer.pt", "manifest.json"}
    latest = survey(paths, "c").latest
    assert latest is not None
    assert (latest.manifest.trial, latest.manifest.epoch, latest.manifest.step) == (7, 1, 10)
    assert latest.manifest.world_size == 2
    assert not list(paths.root.glob(".writing-*"))


_HARMS = {
    "truncate": "model.safetensors has 28 bytes instead of 29",
    "grow": "model.safetensors has 30 bytes instead of 29",
    "flip": "the contents of model.safetensors have changed",
    "remove": "model.safetensors is missing",
    "no manifest": "manifest.json is missing",
    "torn manifest": "manifest.json cannot be read",
    "empty manifest": "manifest.json cannot be read",
    "no object": "manifest.json cannot be read",
}


@pytest.mark.parametrize("harm", _HARMS)
def test_a_harmed_checkpoint_falls_back_to_the_one_before(paths: TrialPaths, harm: str) -> None:
    _write(paths, 9)
    path = _write(paths, 10)  # as text, checkpoint-100 sorts before checkpoint-90
    assert survey(paths, "c").epoch == 10
    weights, manifest = path / "model.safetensors", path / "manifest.json"
    if harm == "truncate":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif harm == "grow":
        weights.write_bytes(weights.read_bytes() + b"x")
    elif harm == "flip":
        torn = bytearray(weights.read_bytes())
        torn[7] ^= 1
        weights.write_bytes(torn)
    elif harm == "empty manifest":
        manifest.write_text("")
    elif harm == "no object":
        manifest.write_text("[1, 2]")
    elif harm == "remove":
        weights.unlink()
    elif harm == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text(manifest.read_text()[: len(json.dumps({})) + 20])
    found = survey(paths, "c")
    assert found.epoch == 9
    assert len(found.damaged) == 1
    assert found.damaged[0].startswith(f"checkpoint-100: {_HARMS[harm]}")
    assert [c.manifest.epoch for c in complete_checkpoints(paths)] == [9, 10][: 1 + (harm == "flip")]
    again = _write_over(paths, 10)
    assert (survey(paths, "c").epoch, again) == (10, path), "the epoch is repeated in its place"


def _write_over(paths: TrialPaths, epoch: int) -> Path:
    prepare_staging(paths, 10 * epoch)
    written = paths.staging(10 * epoch) / f"checkpoint-{10 * epoch}"
    written.mkdir()
    (written / "model.safetensors").write_bytes(b"once more")
    return commit(paths, trial=7, epoch=epoch, step=10 * epoch, world_size=2, metrics={}, config="c").path


def test_checkpoints_of_other_settings_or_without_training_state_are_not_continued(
    paths: TrialPaths,
) -> None:
    _write(paths, 1)
    assert survey(paths, "other").damaged == ["checkpoint-10: it was trained with other settings"]
    lighter = keep_weights(complete_checkpoints(paths)[0])
    assert {p.name for p in lighter.path.iterdir()} == {"model.safetensors", "manifest.json"}
    assert complete_checkpoints(paths) == [lighter], "still complete, as a model"
    assert survey(paths, "c").damaged == ["checkpoint-10: only its weights were kept"]


def test_debris_of_a_killed_write_is_no_checkpoint_and_is_swept(paths: TrialPaths) -> None:
    prepare_staging(paths, 10)
    (paths.staging(10) / "checkpoint-10").mkdir()
    (paths.staging(10) / "checkpoint-10" / "old").write_text("of the killed attempt")
    assert survey(paths, None).latest is None
    prepare_staging(paths, 20)
    sweep_debris(paths)
    assert list(paths.root.iterdir()) == []
    path = _write(paths, 1)
    assert not (path / "old").exists()
