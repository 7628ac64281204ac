"""Optuna's CMA-ES without its pickles: its state is told again from the trials that have finished.

Upstream (optuna.samplers.CmaEsSampler) keeps the optimizer as a pickle in the study's storage; whoever can
write there could run code in every process that reads it. The state follows from what it was told.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from optuna._transform import _SearchSpaceTransform
from optuna.distributions import BaseDistribution
from optuna.samplers import CmaEsSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial


class RetoldCmaEsSampler(CmaEsSampler):
    """CMA-ES whose storage holds numbers only: the generation of each trial."""

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self._space, self._direction = search_space, study.directions[0]
        return super().sample_relative(study, trial, search_space)

    def _split_optimizer_str(self, optimizer_str: str) -> dict[str, str]:
        return {}

    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> Any:
        """A fresh optimizer, told generation after generation what came of its proposals; None before one."""
        trans = _SearchSpaceTransform(self._space, transform_step=not self._with_margin, transform_0_1=True)
        draws = self._cma_rng.rng.get_state()
        optimizer: Any = self._init_optimizer(trans, self._direction)
        while told := self._next_generation(completed_trials, optimizer):
            optimizer.tell([self._solution(trial, trans) for trial in told])
        self._cma_rng.rng.set_state(draws)  # upstream draws nothing to read what it has kept
        return optimizer if optimizer.generation else None

    def _next_generation(self, completed_trials: list[FrozenTrial], optimizer: Any) -> list[FrozenTrial]:
        """What the optimizer was told before it proposed one that has finished; upstream tells the rest."""
        size: int = optimizer.population_size
        proposed = self._get_solution_trials(completed_trials, optimizer.generation + 1)
        return self._get_solution_trials(completed_trials, optimizer.generation)[:size] if proposed else []

    def _solution(self, trial: FrozenTrial, trans: _SearchSpaceTransform) -> tuple[Any, float]:
        sign = 1 if self._direction == StudyDirection.MINIMIZE else -1
        kept = trial.system_attrs["x_for_tell"] if self._with_margin else trans.transform(trial.params)
        return np.array(kept), sign * (trial.value or 0.0)
