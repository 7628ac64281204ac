"""The search space of a study: its dimensions, and the config of a trial that drew from them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf

from sweep.conditions import in_order, resolve_conditions
from sweep.config import Tree, resolve
from sweep.constraints import CONSTRAINTS, Constraint, parse_constraints
from sweep.dimension import Dimension, Suggests, parse_entry
from sweep.errors import InputError, input_error
from sweep.grammar import to_hydra
from sweep.space_function import FUNCTION, load_function
from sweep.tree import assign, config_paths, has_interpolation, settle

Params = dict[str, Any]
_LOOKS = 16
_MOST_POINTS = 10_000  # of a grid


@dataclass(frozen=True)
class SearchSpace:
    """All dimensions of a study, those that decide over others before them; otherwise by their paths.

    Attributes:
        dimensions: what varies.
        constraints: what must hold for every trial.
        tree: the study's config, see `sweep.tree.settle`; not to be changed.
        nodes: path -> what the config says of it, for the fingerprint.
        function: the user's own, in the place of dimensions: it gets the trial, makes its suggestions, and
            returns path -> value.
    """

    dimensions: tuple[Dimension, ...]
    constraints: tuple[Constraint, ...] = ()
    tree: Tree = field(default_factory=dict)
    nodes: Mapping[str, Any] = field(default_factory=dict)
    function: Callable[[Any], Mapping[str, Any]] | None = None

    def __call__(self, trial: Suggests) -> Params:
        """Upstream's `hp_space`: makes every suggestion at once, the same on all ranks."""
        if self.function is not None:
            return dict(self.function(trial))
        params: Params = {}
        for d in self.dimensions:
            if d.exists(params):
                params[d.path] = d.suggest(trial)
        return params

    def overrides(self, params: Params) -> list[str]:
        """The parameters as Hydra overrides, `path=value`; parsing them gives equal values."""
        if self.function is not None:
            return [f"{path}={to_hydra(value)}" for path, value in params.items()]
        return [
            f"{d.group}={params[d.path]}"
            if d.group
            else f"{d.path}={to_hydra(d.config_value(params[d.path]))}"
            for d in self.dimensions
            if d.path in params
        ]

    def apply(self, params: Params) -> Tree:
        """A resolved copy of the study's config with `params`.

        It is what `overrides(params)` would make of the config, without the time that Hydra's parser takes.
        """
        trial = copy.deepcopy(self.tree)
        if self.function is not None:
            for path, value in params.items():
                assign(trial, path, copy.deepcopy(value))
        # A whole group first, then what varies inside it.
        for d in sorted(self.dimensions, key=lambda d: d.path.count(".")):
            if d.path in params:
                assign(trial, d.path, copy.deepcopy(d.config_value(params[d.path])))
        return resolve(OmegaConf.create(trial)) if has_interpolation(trial) else trial

    def holds(self, params: Params) -> bool:
        """Whether a trial with `params` keeps all constraints."""
        return not self.broken(params)

    def broken(self, params: Params) -> list[Constraint]:
        """The constraints that a trial with `params` would not keep."""
        trial = self.apply(params) if self.constraints else {}
        return [constraint for constraint in self.constraints if not constraint.holds(trial)]

    def corners(self) -> Iterator[Params]:
        """Changes that cover each dimension's ends or choices, with what it needs to exist.

        Those against a constraint are left out. Of a function, what it makes of some random draws.
        """
        if self.function is not None:
            study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
            yield from (self(study.ask()) for _ in range(_LOOKS))
        for d in self.dimensions:
            needed = self._needed(d)
            for value in d.corners():
                if self.holds(params := {**needed, d.path: value}):
                    yield params

    def _needed(self, dimension: Dimension) -> Params:
        """Values of other dimensions under which this one exists."""
        by_path = {d.path: d for d in self.dimensions}
        needed: Params = {}
        for path, allowed in dimension.when.items():
            needed |= {**self._needed(by_path[path]), path: allowed[0]}
        return needed

    def grid(self) -> list[Params]:
        """All combinations that keep conditions and constraints, the last dimension changing fastest.

        Raises:
            InputError: naming every continuous dimension; too many combinations, or none.
        """
        return self._grid

    @functools.cached_property
    def _grid(self) -> list[Params]:
        if not self.dimensions:  # a function has none that are known before it is called
            raise InputError("sampler=grid needs a search space; add 'PATH=choice(…)'.")
        problems = [
            f"sampler=grid cannot enumerate {d.path}={d.text}: write choice(…) or range(…), "
            "or take sampler=tpe."
            for d in self.dimensions
            if d.enumerate() is None
        ]
        if problems:
            raise input_error(problems)
        points: list[Params] = [{}]
        for d in self.dimensions:
            values = d.enumerate() or []
            points = [
                {**p, d.path: value} if value is not _ABSENT else p
                for p in points
                for value in (values if d.exists(p) else [_ABSENT])
            ]
            if len(points) > _MOST_POINTS:
                raise InputError(
                    f"sampler=grid: the search space has more than {_MOST_POINTS} combinations; "
                    "vary less, or take sampler=tpe."
                )
        points = [p for p in points if self.holds(p)]
        if not points:
            raise InputError(f"sampler=grid: no combination keeps space.{CONSTRAINTS}.")
        return points


_ABSENT = object()


def parse_space(cfg: DictConfig) -> SearchSpace:
    """The search space of a composed config: its `space` node, checked against the rest.

    Raises:
        InputError: with every problem found.
    """
    node = OmegaConf.to_container(cfg.space, resolve=True) if cfg.get("space") else {}
    assert isinstance(node, dict)
    nodes = {str(path): value for path, value in node.items()}
    known = list(config_paths(cfg))
    if FUNCTION in nodes:
        return SearchSpace((), (), settle(cfg, known), nodes, load_function(nodes, known))
    dimensions, problems = [], []
    for path, entry in sorted(nodes.items()):
        if path == CONSTRAINTS:
            continue
        try:
            dimensions.append(parse_entry(path, entry, known))
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise input_error(problems)
    tree = settle(cfg, [d.path for d in dimensions])
    dimensions = in_order(resolve_conditions(dimensions, tree, known))
    known += [d.path for d in dimensions]
    constraints = parse_constraints(nodes.get(CONSTRAINTS), known)
    return SearchSpace(tuple(dimensions), tuple(constraints), tree, nodes)
