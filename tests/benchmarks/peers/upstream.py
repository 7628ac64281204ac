"""`Trainer.hyperparameter_search`: `python -m tests.benchmarks.peers.upstream STUDY OUTPUT [SAMPLING]`.

In one process with all threads, or below `torch.distributed.run` with one rank per core. SAMPLING takes the
place of the study's `train_sampling_strategy`; Trainer's own default is "random".
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from tests.benchmarks.peers.workload import TRIALS, Workload


def main() -> None:
    """Run the eight trials, one after another."""
    study, output = map(Path, sys.argv[1:3])
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    workload = Workload(study)

    def space(trial: Any) -> dict[str, Any]:
        chosen = TRIALS[trial.number]
        return {
            "learning_rate": chosen["learning_rate"],
            "per_device_train_batch_size": chosen["batch"] // ranks,
        }

    arguments = workload.arguments(TRIALS[0], output, ranks)
    for sampling in sys.argv[3:]:
        arguments.train_sampling_strategy = sampling
    trainer = workload.trainer(arguments)
    trainer.hyperparameter_search(
        hp_space=space,
        backend="optuna",
        n_trials=len(TRIALS),
        direction="maximize",
        compute_objective=lambda metrics: metrics["eval_accuracy"],
    )


if __name__ == "__main__":
    main()
