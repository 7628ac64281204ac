"""What a launcher hands to a rank: light, so that the driver need not import torch."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from sweep.devices import Device


@dataclass(frozen=True)
class RankSpec:
    """Everything a rank is told; plain data, so that any launcher can carry it.

    Attributes:
        study_dir: the study's folder.
        attempt: a name for this attempt, unique in the study; names sort by time.
        rank, world_size: as in torch.distributed.
        devices: one per rank of the attempt, in rank order.
        rendezvous: the file by which the ranks find each other (a torch.distributed.FileStore).
        backend: of torch.distributed.
    """

    study_dir: str
    attempt: str
    rank: int
    world_size: int
    devices: tuple[Device, ...]
    rendezvous: str
    backend: str

    @property
    def use_cpu(self) -> bool:
        return self.devices[self.rank].kind == "cpu"


def redirect_output(log: Path) -> None:
    """Send everything this (forked) process prints, libraries included, to its log file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    # Line by line, so that a kill loses at most one line.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    # tqdm's default lock is a named semaphore, which a killed process would leave behind.
    tqdm.set_lock(threading.RLock())
    tqdm.monitor_interval = 0  # no thread that watches progress bars: ranks are forks of this process
