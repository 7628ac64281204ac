"""Writing a trial's checkpoints: room on the disk, commit, and the flush beside the next epoch's training."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from sweep import checkpoint
from sweep.errors import OutOfSpaceError
from sweep.events import CheckpointSaved, Event
from sweep.paths import TrialPaths

_SLACK = 8_000_000  # bytes of a checkpoint beside model and optimizer: tokenizer, state, logs


class CheckpointWriter:
    """Rank 0's part in the checkpoints of one trial; `tell` takes the word that one is on the disk."""

    def __init__(self, paths: TrialPaths, tell: Callable[[Event], None]) -> None:
        self._paths, self._tell = paths, tell
        self._disk, self._flushing = ThreadPoolExecutor(1), Future[None]()
        self._flushing.set_result(None)

    def wait(self) -> None:
        """Until the last checkpoint is on the disk.

        Raises:
            OSError: it cannot be written there.
        """
        self._flushing.result()

    def make_room(self, step: int, tensors: Iterable[object]) -> None:
        """Wait for the last one, check the space, then prepare the place for the checkpoint of `step`.

        Raises:
            OutOfSpaceError: the disk has less room than the `tensors` of model and optimizer need.
            OSError: see `wait`.
        """
        self.wait()
        if (short := self._shortage(0, tensors)) is not None:
            raise OutOfSpaceError(short)
        checkpoint.prepare_staging(self._paths, step)

    def shortage(self, step: int, tensors: Iterable[object]) -> str | None:
        """What is missing for the checkpoint of `step`, of which a part has been written; or None."""
        return self._shortage(checkpoint.staged_bytes(self._paths, step), tensors)

    def _shortage(self, written: int, tensors: Iterable[object]) -> str | None:
        needed = _SLACK + sum(t.nbytes for t in tensors if isinstance(t, torch.Tensor))
        free = shutil.disk_usage(self._paths.root).free
        if free + written >= needed:
            return None
        return (
            f"a checkpoint needs {needed / 1e6:.0f} MB and {self._paths.root} has "
            f"{(free + written) / 1e6:.0f} MB left"
        )

    def discard(self, step: int) -> None:
        """Give up the checkpoint of `step`, of which a part has been written."""
        checkpoint.discard_staging(self._paths, step)

    def commit(
        self,
        saved: CheckpointSaved,
        step: int,
        world_size: int,
        metrics: dict[str, float],
        config: str,
    ) -> None:
        """Complete what has been written; the disk gets it while the next epoch is trained.

        `saved` is told when it is there; the driver may then remove the one before it.
        """
        committed = checkpoint.commit(
            self._paths,
            trial=saved.number,
            epoch=saved.epoch,
            step=step,
            world_size=world_size,
            metrics=metrics,
            config=config,
        )
        self._flushing = self._disk.submit(self._flush, committed, saved)

    def _flush(self, committed: checkpoint.Checkpoint, saved: CheckpointSaved) -> None:
        checkpoint.flush(committed)
        self._tell(saved)
