"""The search space of a study: its dimensions, and the config of a trial that drew from them."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sweep.config import Tree, resolve
from sweep.dimension import Dimension, Suggests, parse_dimension
from sweep.errors import InputError, input_error
from sweep.grammar import to_hydra

Params = dict[str, Any]
_REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*(?:\.\w+)*)\}")  # an interpolation from the top, and nothing else


@dataclass(frozen=True)
class SearchSpace:
    """All dimensions of a study, in the order of their paths."""

    dimensions: tuple[Dimension, ...]

    def __call__(self, trial: Suggests) -> Params:
        """Upstream's `hp_space`: makes every suggestion at once, the same on all ranks."""
        return {d.path: d.suggest(trial) for d in self.dimensions}

    def overrides(self, params: Params) -> list[str]:
        """The parameters as Hydra overrides, `path=value`; parsing them gives equal values."""
        return [
            f"{d.path}={to_hydra(d.config_value(params[d.path]))}"
            for d in self.dimensions
            if d.path in params
        ]

    def settle(self, cfg: DictConfig) -> Tree:
        """The study's `cfg` as a plain tree; interpolations stay only where parameters may change them."""
        tree = OmegaConf.to_container(cfg, resolve=False)
        assert isinstance(tree, dict)
        settled = {str(key): value for key, value in tree.items()}
        while any(self._settle_one(settled, path) for path in config_paths(cfg)):
            pass
        return settled

    def _settle_one(self, tree: Tree, path: str) -> bool:
        """Whether the value at `path` was a plain reference to one that is settled and does not vary."""
        text = _at(tree, path)
        found = _REFERENCE.fullmatch(text) if isinstance(text, str) else None
        if found is None or any(_overlap(found[1], d.path) for d in self.dimensions):
            return False
        value = _at(tree, found[1])
        if value is None or _has_interpolation(value):
            return False
        _assign(tree, path, copy.deepcopy(value))
        return True

    def apply(self, tree: Tree, params: Params) -> Tree:
        """A resolved copy of the study's settled config with `params`; `tree` itself is not touched.

        It is what `overrides(params)` would make of the config, without the time that Hydra's parser takes.
        """
        trial = copy.deepcopy(tree)
        for d in self.dimensions:
            if d.path in params:
                _assign(trial, d.path, copy.deepcopy(d.config_value(params[d.path])))
        return resolve(OmegaConf.create(trial)) if _has_interpolation(trial) else trial

    def corners(self) -> Iterator[Params]:
        """One-parameter changes that cover each dimension's ends or choices."""
        for d in self.dimensions:
            for value in d.corners():
                yield {d.path: value}

    def grid(self) -> dict[str, list[Any]]:
        """Path -> all values, for the grid sampler.

        Raises:
            InputError: naming every continuous dimension.
        """
        values = {d.path: d.enumerate() for d in self.dimensions}
        if not values:
            raise InputError("sampler=grid needs a search space; add 'PATH=choice(…)'.")
        problems = [
            f"sampler=grid cannot enumerate {d.path}={d.text}: write choice(…) or range(…), "
            "or take sampler=tpe."
            for d in self.dimensions
            if values[d.path] is None
        ]
        if problems:
            raise input_error(problems)
        return {path: found for path, found in values.items() if found is not None}


def parse_space(cfg: DictConfig) -> SearchSpace:
    """The search space of a composed config: its `space` node, checked against the rest.

    Raises:
        InputError: with every problem found.
    """
    node = OmegaConf.to_container(cfg.space, resolve=True) if cfg.get("space") else {}
    assert isinstance(node, dict)
    known = list(config_paths(cfg))
    dimensions, problems = [], []
    for path, text in sorted(node.items()):
        try:
            dimensions.append(parse_dimension(str(path), str(text), known))
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise input_error(problems)
    return SearchSpace(tuple(dimensions))


def _at(tree: Any, path: str) -> Any:
    """The value at a dotted path; None if there is no such path."""
    for key in path.split("."):
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _assign(tree: Tree, path: str, value: Any) -> None:
    *groups, last = path.split(".")
    for key in groups:
        tree = tree.setdefault(key, {})
    tree[last] = value


def _has_interpolation(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_interpolation(v) for v in value.values())
    if isinstance(value, list):
        return any(_has_interpolation(v) for v in value)
    return isinstance(value, str) and "${" in value


def _overlap(path: str, other: str) -> bool:
    """Whether one path is the other, or above it."""
    return f"{path}.".startswith(f"{other}.") or f"{other}.".startswith(f"{path}.")


def config_paths(cfg: DictConfig, prefix: str = "") -> Iterator[str]:
    """The dotted paths of all settings, the search space counting as one."""
    for key in cfg:
        path = f"{prefix}{key!s}"
        child = None if OmegaConf.is_missing(cfg, key) else cfg._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and path != "space":
            yield from config_paths(child, f"{path}.")
        else:
            yield path
