"""Ranks with a slow disk: a checkpoint is on it only when the next epoch has been reported."""

from __future__ import annotations

import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sweep.ranks import RankSpec

RANK = "tests.faults.slow_disk:run_rank"
_LONGEST = 60  # seconds for an epoch; a training that waits for the disk never gets there


def flushes(study: Path) -> list[tuple[int, int, set[str]]]:
    """Of each flush: its epoch, the last epoch reported when it ended, and the checkpoints there were."""
    rows = [line.split() for line in (study.parent / "flushes").read_text().splitlines()]
    return [(int(epoch), int(reported), set(names)) for epoch, reported, *names in rows]


def run_rank(spec: RankSpec, line: Connection, parts: Any) -> int:
    """The place of `sweep.attempt:run_rank`."""
    from sweep import checkpoint as module
    from sweep import record
    from sweep.attempt import run_rank as real
    from sweep.checkpoint import Checkpoint

    flush, report = module.flush, record.TrialRecord.report
    last = parts.config.trainer.num_train_epochs
    reported, news = 0, threading.Condition()

    def slow(checkpoint: Checkpoint) -> None:
        epoch = checkpoint.manifest.epoch
        with news:
            news.wait_for(lambda: reported > epoch or epoch == last, _LONGEST)
            there = [p.name for p in checkpoint.path.parent.glob("checkpoint-*")]
            with (Path(spec.study_dir).parent / "flushes").open("a") as stream:
                print(epoch, reported, *there, file=stream)
        flush(checkpoint)

    def heard(self: record.TrialRecord, epoch: int, last: bool = False) -> bool:
        nonlocal reported
        unpromising = report(self, epoch, last)
        with news:
            reported = epoch
            news.notify_all()
        return unpromising

    module.flush, record.TrialRecord.report = slow, heard  # type: ignore[method-assign]
    return real(spec, line, parts)
