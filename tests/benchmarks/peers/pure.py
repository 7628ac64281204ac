"""Training and evaluation alone: `python -m tests.benchmarks.peers.pure STUDY OUTPUT` prints seconds.

One process per core trains its share of the trials; imports, models, data and checkpoints are not counted.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import sys
import time
from pathlib import Path


def _train(core: int, cores: list[int], study: Path, output: Path) -> float:
    os.sched_setaffinity(0, {core})
    import torch

    from tests.benchmarks.peers.workload import TRIALS, Workload

    torch.set_num_threads(1)
    workload = Workload(study)
    seconds = 0.0
    for number, trial in enumerate(TRIALS):
        if cores[(number + number // len(cores)) % len(cores)] == core:
            arguments = workload.arguments(trial, output / str(number))
            trainer = workload.trainer(dataclasses.replace(arguments, save_strategy="no"))
            began = time.monotonic()
            trainer.train()
            seconds += time.monotonic() - began
    return seconds


def main() -> None:
    """Print the mean over the cores of what their processes needed."""
    study, output = map(Path, sys.argv[1:])
    cores = sorted(os.sched_getaffinity(0))
    with multiprocessing.get_context("spawn").Pool(len(cores)) as pool:
        each = pool.starmap(_train, [(core, cores, study, output) for core in cores], chunksize=1)
    print(sum(each) / len(cores))


if __name__ == "__main__":
    main()
