"""Length-grouped batches that are the same on any number of ranks and after a resume."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices


class LengthGroupedEpochSampler(Sampler[int]):
    """Batches of similar length, seeded by (seed, epoch): equal on all ranks and after a resume.

    Groups by the *global* batch, so that 1 and 2 ranks see the same batches in the same order.
    """

    def __init__(self, lengths: list[int], global_batch_size: int, seed: int) -> None:
        self._lengths, self._batch, self._seed = lengths, global_batch_size, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate's data loader at the start of each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        return iter(get_length_grouped_indices(self._lengths, self._batch, generator=generator))
