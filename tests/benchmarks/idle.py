"""A rank that does everything but train: it asks, builds its model, reports one epoch and tells."""

from __future__ import annotations

from multiprocessing.connection import Connection
from typing import Any

from sweep.ranks import RankSpec

RANK = "tests.benchmarks.idle:run_rank"


def run_rank(spec: RankSpec, line: Connection, parts: Any) -> int:
    """The place of `sweep.attempt:run_rank`."""
    import transformers

    from sweep.attempt import run_rank as real

    transformers.Trainer.train = _train
    return real(spec, line, parts)


def _train(self: Any, resume: Any, trial: Any, ignore: Any) -> None:
    self.state.epoch, self.state.global_step = 1.0, 1
    score = (trial.number * 7919 % 1000) / 1000
    self._report_to_hp_search(trial, 1, {"eval_loss": 1 - score, "eval_accuracy": score, "eval_f1": score})
