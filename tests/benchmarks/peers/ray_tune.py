"""Ray Tune, a core per trial: `python -m tests.benchmarks.peers.ray_tune STUDY OUTPUT SAMPLING`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any


def _train(config: dict[str, Any]) -> None:
    import torch
    from ray import tune

    from tests.benchmarks.peers.workload import TRIALS, Workload

    torch.set_num_threads(1)
    workload = Workload(Path(config["study"]))
    output = Path(config["output"]) / str(config["index"])
    trainer = workload.trainer(workload.arguments(TRIALS[config["index"]], output, config["sampling"]))
    trainer.train()
    tune.report({"accuracy": trainer.state.log_history[-2]["eval_accuracy"]})


def main() -> None:
    """Run the eight trials."""
    import ray
    from ray import tune

    study, output = (Path(word).resolve() for word in sys.argv[1:3])
    ray.init(num_cpus=os.cpu_count(), include_dashboard=False)
    space = {"index": tune.grid_search(list(range(8))), "study": str(study), "output": str(output)}
    space["sampling"] = sys.argv[3]
    tuner = tune.Tuner(
        tune.with_resources(_train, {"cpu": 1}),
        param_space=space,
        run_config=tune.RunConfig(storage_path=str(output / "ray")),
    )
    errors = tuner.fit().errors
    if errors:
        raise RuntimeError(errors)


if __name__ == "__main__":
    main()
