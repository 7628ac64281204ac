"""`Trainer.hyperparameter_search`: `python -m tests.benchmarks.peers.upstream STUDY OUTPUT SAMPLING`.

In one process with all threads, or below `torch.distributed.run` with one rank per core.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import optuna

from tests.benchmarks.peers.workload import TRIALS, Workload


def main() -> None:
    """Run the eight trials, one after another."""
    study, output, sampling = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    workload = Workload(study)

    def space(trial: Any) -> dict[str, Any]:
        chosen = TRIALS[trial.number]
        return {
            "learning_rate": chosen["learning_rate"],
            "per_device_train_batch_size": chosen["batch"] // ranks,
        }

    arguments = workload.arguments(TRIALS[0], output, sampling, ranks)
    trainer = workload.trainer(arguments)
    trainer.hyperparameter_search(
        hp_space=space,
        backend="optuna",
        n_trials=len(TRIALS),
        direction="maximize",
        compute_objective=lambda metrics: metrics["eval_accuracy"],
        # Optuna's default stops the sixth trial early, and under torch.distributed upstream then hangs.
        pruner=optuna.pruners.NopPruner(),
    )


if __name__ == "__main__":
    main()
