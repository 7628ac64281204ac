"""Checkpoints: written aside, committed by one rename with a manifest, checked before use."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from sweep.paths import TrialPaths

_MANIFEST = "manifest.json"
_UNWANTED = ("training_args.bin",)  # a pickle; the trial's config.yaml says the same as data


@dataclass(frozen=True)
class Manifest:
    """What makes a checkpoint complete.

    Attributes:
        files: relative name -> [size in bytes, sha256].
        metrics: the epoch's evaluation.
    """

    trial: int
    epoch: int
    step: int
    world_size: int
    metrics: dict[str, float]
    files: dict[str, tuple[int, str]]


@dataclass(frozen=True)
class Checkpoint:
    """A complete epoch on disk."""

    path: Path
    manifest: Manifest


def sweep_debris(paths: TrialPaths) -> None:
    """Remove what killed writes left behind. Call it before a trial's attempt, on one rank."""
    for debris in paths.root.glob(".writing-*"):
        shutil.rmtree(debris)


def prepare_staging(paths: TrialPaths, step: int) -> None:
    """Make room for the checkpoint of `step`; what a killed write left there is swept."""
    staging = paths.staging(step)
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)


def commit(
    paths: TrialPaths, trial: int, epoch: int, step: int, world_size: int, metrics: dict[str, float]
) -> Checkpoint:
    """Turn the staged files of `step` into a checkpoint: hash, flush, then one rename."""
    written = paths.staging(step) / f"checkpoint-{step}"
    for name in _UNWANTED:
        (written / name).unlink(missing_ok=True)
    files = {}
    for file in sorted(p for p in written.rglob("*") if p.is_file()):
        with file.open("rb") as stream:
            digest = (
                hashlib.file_digest(stream, "sha256")
                if hasattr(hashlib, "file_digest")
                else (hashlib.sha256(stream.read()))
            )
            os.fsync(stream.fileno())
        files[str(file.relative_to(written))] = (file.stat().st_size, digest.hexdigest())
    manifest = Manifest(trial, epoch, step, world_size, metrics, files)
    with (written / _MANIFEST).open("w") as stream:
        json.dump(asdict(manifest), stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    _sync_folder(written)
    target = paths.checkpoint(step)
    shutil.rmtree(target, ignore_errors=True)
    written.replace(target)
    _sync_folder(target.parent)
    shutil.rmtree(paths.staging(step), ignore_errors=True)
    return Checkpoint(target, manifest)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint at `path` if it is complete (every file of its manifest, of its size)."""
    try:
        raw = json.loads((path / _MANIFEST).read_text())
        manifest = Manifest(**{**raw, "files": {k: tuple(v) for k, v in raw["files"].items()}})
        sizes = {name: (path / name).stat().st_size for name in manifest.files}
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if any(sizes[name] != size for name, (size, _) in manifest.files.items()):
        return None
    return Checkpoint(path, manifest)


def complete_checkpoints(paths: TrialPaths) -> list[Checkpoint]:
    """All complete checkpoints of a trial, by epoch."""
    found = (read_checkpoint(path) for path in paths.root.glob("checkpoint-*"))
    return sorted((c for c in found if c is not None), key=lambda c: c.manifest.epoch)


def latest_checkpoint(paths: TrialPaths) -> Checkpoint | None:
    """Where an attempt continues: the latest complete epoch, or None to begin."""
    checkpoints = complete_checkpoints(paths)
    return checkpoints[-1] if checkpoints else None


def checkpoint_of_epoch(paths: TrialPaths, epoch: int) -> Checkpoint | None:
    """The complete checkpoint of one epoch."""
    return next((c for c in complete_checkpoints(paths) if c.manifest.epoch == epoch), None)


def retain(paths: TrialPaths, epochs: Iterable[int]) -> None:
    """Remove every checkpoint of the trial but those of `epochs`."""
    keep = set(epochs)
    for checkpoint in complete_checkpoints(paths):
        if checkpoint.manifest.epoch not in keep:
            shutil.rmtree(checkpoint.path)
