"""Hydra's multirun, a process per trial, as many at a time as there are cores.

`python -m tests.benchmarks.peers.hydra_multirun --multirun hydra/launcher=submitit_local … +index=range(8)`
"""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=None)  # type: ignore[untyped-decorator]
def main(cfg: DictConfig) -> None:
    """Run one trial."""
    import torch

    from tests.benchmarks.peers.workload import TRIALS, Workload

    torch.set_num_threads(1)
    workload = Workload(Path(cfg.study))
    arguments = workload.arguments(TRIALS[cfg.index], Path(cfg.output) / str(cfg.index), cfg.sampling)
    workload.trainer(arguments).train()


if __name__ == "__main__":
    main()
