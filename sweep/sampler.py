"""Samplers and pruners of the config; samplers are rebuilt for every trial from (seed, number)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from hydra.utils import get_class
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, CmaEsSampler, GridSampler, QMCSampler, RandomSampler
from optuna.study import Study, create_study
from optuna.trial import FrozenTrial, TrialState

from sweep.asha import PromotingPruner
from sweep.cma_es import RetoldCmaEsSampler
from sweep.constraints import CONSTRAINTS
from sweep.errors import InputError, SweepError, reason_of
from sweep.parked import with_parked_as_pruned
from sweep.schema import SweepConfig
from sweep.space import SearchSpace

_DRAWS = 200


def _get_class(target: str, base: type, group: str) -> type:
    try:
        found = get_class(target)
    except Exception as error:
        raise InputError(f"{group}._target_={target!r} cannot be imported: {reason_of(error)}.") from None
    if not issubclass(found, base):
        raise InputError(f"{group}._target_={target!r} is no {base.__name__} of Optuna.")
    assert isinstance(found, type)
    return found


def _build(settings: dict[str, Any], base: type, group: str, **extra: Any) -> Any:
    arguments = {
        k: _build(v, base, f"{group}.{k}", **extra) if isinstance(v, dict) and "_target_" in v else v
        for k, v in settings.items()
        if k != "_target_"
    }
    target = str(settings.get("_target_"))
    found = _get_class(target, base, group)
    try:
        return found(**arguments, **extra)
    except (TypeError, ValueError) as error:
        raise InputError(f"{group} ({target}) refuses its settings: {reason_of(error)}.") from None


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
    """Draws all parameters of a trial at once, by an inner sampler seeded from (study seed, trial number).

    Nothing then depends on the history of a process: a resumed study samples as the uninterrupted one
    would have, and a trial that was killed between two suggestions gets the rest of the same draw. (A
    seeded Optuna sampler repeats its first draws in every new process.) Draws that break a constraint
    are thrown away before Optuna hears of them.
    """

    def __init__(self, config: SweepConfig, space: SearchSpace) -> None:
        self._config, self._space = config, space
        self._target = _get_class(str(config.sampler.get("_target_")), BaseSampler, "sampler")
        self._is_grid = issubclass(self._target, GridSampler)
        self._settings = dict(config.sampler)
        if self._target is CmaEsSampler:
            self._settings["_target_"] = f"{RetoldCmaEsSampler.__module__}.{RetoldCmaEsSampler.__name__}"
        self._inner: BaseSampler | None = None
        self._promotes = isinstance(build_pruner(config), PromotingPruner)

    def check(self) -> None:
        """Raise InputError for arguments that do not fit, a grid without points, constraints never kept."""
        if self._is_grid:
            self._space.grid()
            return
        try:
            alone = create_study(
                sampler=self._make(0),
                directions=[goal.direction for goal in self._config.objective.goals],  # type: ignore[misc]
            )
            alone.ask({d.path: d.distribution for d in self._space.dimensions if not d.when})
        except (ValueError, NotImplementedError) as error:
            raise InputError(
                f"sampler ({self._settings['_target_']}) cannot be used here: {reason_of(error)}. "
                "Choose another one, for instance sampler=tpe."
            ) from None
        study = create_study(sampler=RandomSampler(self._config.study.seed))
        if not any(self._space.holds(self._space(study.ask())) for _ in range(_DRAWS)):
            raise InputError(
                f"space.{CONSTRAINTS}: none of {_DRAWS} random draws keeps {_listed(self._space)}. "
                "Loosen them, or narrow the search space to where they hold."
            )

    def _seed(self, text: str) -> int:
        return zlib.crc32(f"{self._config.study.seed}:{text}".encode())

    def _make(self, number: int, name: str = "") -> BaseSampler:
        seed = self._seed(f"{number}:{name}" if name else str(number))
        if self._is_grid:  # for what Optuna asks beside the points
            return RandomSampler(seed)
        if issubclass(self._target, QMCSampler):
            seed = self._config.study.seed  # of one sequence for the whole study
        sampler: BaseSampler = _build(self._settings, BaseSampler, "sampler", seed=seed)
        if isinstance(sampler, QMCSampler):
            # Optuna counts in storage: a point would be lost with each rank that is killed after counting.
            sampler._find_sample_id = lambda *_: number  # type: ignore[method-assign]
        return sampler

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._inner = None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All dimensions: what does not exist in this trial is not drawn, and nobody asks for it."""
        if self._space.function is not None:
            return self._make(trial.number).infer_relative_search_space(study, trial)
        return {d.path: d.distribution for d in self._space.dimensions}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self._promotes:
            study = with_parked_as_pruned(study)
        if self._space.function is not None:
            self._inner = self._make(trial.number)
            return self._inner.sample_relative(study, trial, search_space)
        if self._is_grid:
            return self._point(trial.number)
        given = trial.system_attrs.get("fixed_params", {})
        drawn = self._draw_allowed(study, trial, given)
        if any(drawn.get(path) != value for path, value in trial.params.items()):
            # Killed between two suggestions, and other trials have ended since, which changes the draw.
            drawn = self._draw_allowed(study, trial, {**given, **trial.params})
        return drawn

    def _draw_allowed(self, study: Study, trial: FrozenTrial, fixed: dict[str, Any]) -> dict[str, Any]:
        """Parameters that keep all constraints, among them the `fixed` ones."""
        self._inner = self._make(trial.number)
        first = drawn = self._draw(self._inner, study, trial, fixed)
        for attempt in range(1, _DRAWS):
            if not (broken := self._space.broken(drawn)):
                return drawn
            # A sampler that has learnt something proposes the same again. So what the broken constraints
            # name is drawn at random, and if that is of no use, everything.
            named = {path for constraint in broken for path in constraint.paths}
            keep = {p: v for p, v in first.items() if p not in named} if attempt < _DRAWS / 2 else {}
            again = RandomSampler(self._seed(f"{trial.number}:{attempt}"))
            drawn = self._draw(again, study, trial, {**keep, **fixed})
        raise SweepError(
            f"Trial {trial.number}: none of {_DRAWS} draws keeps {_listed(self._space)}. "
            f"Loosen space.{CONSTRAINTS} in a new study."
        )

    def _draw(
        self, inner: BaseSampler, study: Study, trial: FrozenTrial, fixed: dict[str, Any]
    ) -> dict[str, Any]:
        inner.before_trial(study, trial)
        space = inner.infer_relative_search_space(study, trial)
        if isinstance(inner, QMCSampler):
            space = {d.path: d.distribution for d in self._space.dimensions if not d.when}
        relative = inner.sample_relative(study, trial, space)
        drawn: dict[str, Any] = {}
        for d in self._space.dimensions:
            if not d.exists(drawn):
                continue
            if d.path in relative:
                drawn[d.path] = relative[d.path]
            elif d.distribution.single():
                drawn[d.path] = d.corners()[0]
            else:
                drawn[d.path] = inner.sample_independent(study, trial, d.path, d.distribution)
            # Drawn all the same: the draws after it are then those of a trial that was left in peace.
            drawn[d.path] = fixed.get(d.path, drawn[d.path])
        return drawn

    def _point(self, number: int) -> dict[str, Any]:
        """The grid's point for a trial, in an order of the study's own."""
        points = self._space.grid()
        # As Optuna's GridSampler orders them, whose studies go on alike.
        order = list(range(len(points)))
        np.random.RandomState(self._config.study.seed).shuffle(order)
        return points[order[number % len(points)]]

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """What a function asks for; or what exists after all, because a trial was killed half drawn."""
        inner = self._make(trial.number, name=param_name)  # whatever had been asked for before a kill
        return inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        inner = self._inner if self._inner is not None else self._make(trial.number)
        inner.after_trial(study, trial, state, values)


def _listed(space: SearchSpace) -> str:
    return " and ".join(f"'{constraint.text}'" for constraint in space.constraints)


def grid_size(config: SweepConfig, space: SearchSpace) -> int | None:
    """How many trials the grid has, or None for another sampler."""
    target = _get_class(str(config.sampler.get("_target_")), BaseSampler, "sampler")
    return len(space.grid()) if issubclass(target, GridSampler) else None
