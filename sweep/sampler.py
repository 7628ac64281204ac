"""Samplers and pruners of the config; samplers are rebuilt for every trial from (seed, number)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from hydra.utils import get_class
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, GridSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from sweep.config import SweepConfig
from sweep.errors import InputError
from sweep.space import SearchSpace


def _get_class(target: str, base: type, group: str) -> type:
    try:
        found = get_class(target)
    except Exception as error:
        raise InputError(f"{group}._target_={target!r} cannot be imported: {error}.") from None
    if not issubclass(found, base):
        raise InputError(f"{group}._target_={target!r} is no {base.__name__} of Optuna.")
    assert isinstance(found, type)
    return found


def _build(settings: dict[str, Any], base: type, group: str, **extra: Any) -> Any:
    arguments = {k: v for k, v in settings.items() if k != "_target_"}
    target = str(settings.get("_target_"))
    found = _get_class(target, base, group)
    try:
        return found(**arguments, **extra)
    except (TypeError, ValueError) as error:
        raise InputError(f"{group} ({target}) refuses its settings: {error}.") from None


def build_pruner(config: SweepConfig) -> BasePruner:
    """The pruner of the config. Raises InputError if Optuna refuses it."""
    pruner: BasePruner = _build(config.pruner, BasePruner, "pruner")
    return pruner


def build_sampler(config: SweepConfig, space: SearchSpace) -> SeededSampler:
    """The sampler of the config, made anew for every trial. Raises InputError if refused."""
    sampler = SeededSampler(config, space)
    sampler.check()
    return sampler


class SeededSampler(BaseSampler):
    """Rebuilds its inner sampler for each trial, seeded from (study seed, trial number).

    Nothing then depends on the history of a process: a resumed study samples as the uninterrupted
    one would have. (A seeded Optuna sampler repeats its first draws in every new process.)
    """

    def __init__(self, config: SweepConfig, space: SearchSpace) -> None:
        self._config, self._space = config, space
        self._inner: BaseSampler = self._make(0)

    def check(self) -> None:
        """Raise InputError for a grid that cannot be enumerated or arguments that do not fit."""
        self._make(0)

    def _make(self, number: int) -> BaseSampler:
        settings = self._config.sampler
        extra: dict[str, Any] = {}
        seed = zlib.crc32(f"{self._config.study.seed}:{number}".encode())
        if issubclass(_get_class(str(settings.get("_target_")), BaseSampler, "sampler"), GridSampler):
            # Its seed orders the points, whose numbers it stores: one order for the whole study.
            extra["search_space"] = self._space.grid()
            seed = self._config.study.seed
        sampler: BaseSampler = _build(settings, BaseSampler, "sampler", seed=seed, **extra)
        return sampler

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._inner = self._make(trial.number)
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        drawn = self._inner.sample_relative(study, trial, search_space)
        # A trial killed between two suggestions has some of its parameters already: draw those
        # again, in the same order, so that the rest comes out as if it had never been killed.
        for dimension in self._space.dimensions:
            known = trial.distributions.get(dimension.path)
            if known is not None and dimension.path not in drawn and not known.single():
                self._inner.sample_independent(study, trial, dimension.path, known)
        return drawn

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._inner.after_trial(study, trial, state, values)


def grid_size(config: SweepConfig, space: SearchSpace) -> int | None:
    """How many trials the grid has, or None for another sampler."""
    target = _get_class(str(config.sampler.get("_target_")), BaseSampler, "sampler")
    if not issubclass(target, GridSampler):
        return None
    size = 1
    for values in space.grid().values():
        size *= len(values)
    return size
