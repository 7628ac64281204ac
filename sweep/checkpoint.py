"""Checkpoints: written aside, committed by one rename with a manifest, flushed, checked before use."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from sweep.files import file_hash, remove_folder, sync, write_text
from sweep.paths import CHECKPOINT, REMOVING, WRITING, TrialPaths

_MANIFEST = "manifest.json"
_UNWANTED = ("training_args.bin",)  # a pickle; the trial's config.yaml says the same as data
# What only a continued training needs; the rest is the model as transformers opens it.
TRAINING_STATE = ("optimizer*", "scheduler*", "scaler*", "rng_state*", "trainer_state*", "manifest*")


@dataclass(frozen=True)
class Manifest:
    """What makes a checkpoint complete.

    Attributes:
        trial, epoch, step, world_size: when it was written, and by how many ranks.
        metrics: the epoch's evaluation.
        files: relative name -> (size in bytes, sha256).
        config: sha256 of what the trial was trained with; empty in manifests of release 0.1.0.
        weights_only: the training state was dropped, so no attempt can continue from it.
    """

    trial: int
    epoch: int
    step: int
    world_size: int
    metrics: dict[str, float]
    files: dict[str, tuple[int, str]]
    config: str = ""
    weights_only: bool = False

    @property
    def size(self) -> int:
        """Bytes of the checkpoint's files."""
        return sum(size for size, _ in self.files.values())


class IncompleteError(Exception):
    """Why a folder is no complete checkpoint."""


@dataclass(frozen=True)
class Checkpoint:
    """A complete epoch on disk."""

    path: Path
    manifest: Manifest


@dataclass(frozen=True)
class Survey:
    """Where an attempt may continue, and what it had to pass over.

    Attributes:
        latest: the latest complete checkpoint that fits the trial, or None.
        damaged: one line for each later one that cannot be used.
    """

    latest: Checkpoint | None
    damaged: list[str]

    @property
    def epoch(self) -> int:
        """The last epoch that is kept, 0 for none."""
        return self.latest.manifest.epoch if self.latest else 0


def sweep_debris(paths: TrialPaths) -> None:
    """Remove what killed writes and removals left behind; call it while no rank of the trial runs."""
    for pattern in (f"{WRITING}*", f"{REMOVING}*"):
        for debris in paths.root.glob(pattern):
            shutil.rmtree(debris)


def prepare_staging(paths: TrialPaths, step: int) -> None:
    """Make room for the checkpoint of `step`; what a killed write left there is swept."""
    discard_staging(paths, step)
    paths.staging(step).mkdir(parents=True)


def discard_staging(paths: TrialPaths, step: int) -> None:
    """Give the space of an unfinished write back."""
    shutil.rmtree(paths.staging(step), ignore_errors=True)


def staged_bytes(paths: TrialPaths, step: int) -> int:
    """How much of the checkpoint of `step` has been written so far."""
    return sum(p.stat().st_size for p in paths.staging(step).rglob("*") if p.is_file())


def commit(
    paths: TrialPaths,
    *,
    trial: int,
    epoch: int,
    step: int,
    world_size: int,
    metrics: dict[str, float],
    config: str,
) -> Checkpoint:
    """Turn the staged files of `step` into a checkpoint: hash, then one rename.

    It then survives the death of any process, and with `flush` that of the machine as well.
    """
    # Upstream names it by the step within a fold.
    (written,) = paths.staging(step).glob(f"{CHECKPOINT}*")
    for name in _UNWANTED:
        (written / name).unlink(missing_ok=True)
    files = {}
    for file in sorted(p for p in written.rglob("*") if p.is_file()):
        files[str(file.relative_to(written))] = (file.stat().st_size, file_hash(file))
    manifest = Manifest(trial, epoch, step, world_size, metrics, files, config)
    write_text(written / _MANIFEST, _to_json(manifest), lasting=False)
    target = paths.checkpoint(step)
    if target.exists():
        remove_folder(target)  # an epoch that is repeated because its checkpoint was damaged
    written.replace(target)
    discard_staging(paths, step)
    return Checkpoint(target, manifest)


def flush(checkpoint: Checkpoint) -> None:
    """Force a committed checkpoint to the disk; training may go on meanwhile.

    If the machine dies before this returns, files may be empty or stale: their hashes tell, and the
    checkpoint before it, which must be kept until then, is where the trial goes on.

    Raises:
        OSError: the disk is full or broken.
    """
    for name in (*checkpoint.manifest.files, _MANIFEST):
        sync(checkpoint.path / name)
    for folder in {(checkpoint.path / name).parent for name in checkpoint.manifest.files}:
        sync(folder)
    sync(checkpoint.path.parent)


def _to_json(manifest: Manifest) -> str:
    return json.dumps(asdict(manifest), indent=1)


def read_checkpoint(path: Path, hashes: bool = False) -> Checkpoint:
    """The complete checkpoint at `path`.

    Args:
        path: its folder.
        hashes: compare the files' contents too, not only their sizes.

    Raises:
        IncompleteError: the manifest or a file is missing, torn or changed.
    """
    try:
        raw = json.loads((path / _MANIFEST).read_text())
        manifest = Manifest(**{**raw, "files": {k: (v[0], v[1]) for k, v in raw["files"].items()}})
    except FileNotFoundError:
        raise IncompleteError(f"{_MANIFEST} is missing") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise IncompleteError(f"{_MANIFEST} cannot be read ({type(error).__name__})") from None
    for name, (size, digest) in manifest.files.items():
        try:
            found = (path / name).stat().st_size
            if found != size:
                raise IncompleteError(f"{name} has {found} bytes instead of {size}")
            if hashes and file_hash(path / name) != digest:
                raise IncompleteError(f"the contents of {name} have changed")
        except FileNotFoundError:
            raise IncompleteError(f"{name} is missing") from None
        except OSError as error:
            raise IncompleteError(f"{name} cannot be read ({error.strerror})") from None
    return Checkpoint(path, manifest)


def checkpoint_folders(paths: TrialPaths) -> list[Path]:
    """The trial's folders of the form checkpoint-STEP, complete or not, by step."""
    found = (p for p in paths.root.glob(f"{CHECKPOINT}*") if p.name[len(CHECKPOINT) :].isdecimal())
    return sorted(found, key=lambda p: int(p.name[len(CHECKPOINT) :]))


def complete_checkpoints(paths: TrialPaths) -> list[Checkpoint]:
    """All complete checkpoints of a trial by epoch; contents are not read."""
    found = []
    for folder in checkpoint_folders(paths):
        with contextlib.suppress(IncompleteError):
            found.append(read_checkpoint(folder))
    return found


def survey(paths: TrialPaths, config: str | None, hashes: bool = True) -> Survey:
    """Where an attempt continues: the latest complete epoch; contents are read to make certain.

    Args:
        paths: the trial's folder.
        config: what the trial is trained with (see Manifest); None accepts any.
        hashes: as in `read_checkpoint`.
    """
    damaged: list[str] = []
    for folder in reversed(checkpoint_folders(paths)):
        try:
            found = read_checkpoint(folder, hashes)
            if found.manifest.weights_only:
                raise IncompleteError("only its weights were kept")
            if config is not None and found.manifest.config not in ("", config):
                raise IncompleteError("it was trained with other settings")
            return Survey(found, damaged)
        except IncompleteError as problem:
            damaged.append(f"{folder.name}: {problem}")
    return Survey(None, damaged)


def checkpoint_of_epoch(paths: TrialPaths, epoch: int) -> Checkpoint | None:
    """The complete checkpoint of one epoch."""
    return next((c for c in complete_checkpoints(paths) if c.manifest.epoch == epoch), None)


def keep_weights(checkpoint: Checkpoint) -> Checkpoint:
    """Drop the training state: first from the manifest, then from the disk."""
    files = {
        name: entry
        for name, entry in checkpoint.manifest.files.items()
        if not any(Path(name).match(pattern) for pattern in TRAINING_STATE)
    }
    manifest = Manifest(**{**vars(checkpoint.manifest), "files": files, "weights_only": True})
    write_text(checkpoint.path / _MANIFEST, _to_json(manifest))
    for file in list(checkpoint.path.rglob("*")):
        if file.is_file() and str(file.relative_to(checkpoint.path)) not in {*files, _MANIFEST}:
            file.unlink()
    return Checkpoint(checkpoint.path, manifest)
