"""The search space of a study: its dimensions, and the config of a trial that drew from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sweep.dimension import Dimension, Suggests, parse_dimension
from sweep.errors import InputError, input_error
from sweep.grammar import parse_override, to_hydra

Params = dict[str, Any]


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

    def apply(self, cfg: DictConfig, params: Params) -> DictConfig:
        """A copy of the study's `cfg` with `params` applied; `cfg` itself is not touched."""
        trial_cfg = cfg.copy()
        OmegaConf.set_struct(trial_cfg, False)
        for text in self.overrides(params):
            override = parse_override(text)
            OmegaConf.update(trial_cfg, override.key_or_group, override.value(), merge=False)
        return trial_cfg

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


def config_paths(cfg: DictConfig, prefix: str = "") -> Iterator[str]:
    """The dotted paths of all settings, the search space counting as one."""
    for key in cfg:
        path = f"{prefix}{key!s}"
        child = None if OmegaConf.is_missing(cfg, key) else cfg._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and path != "space":
            yield from config_paths(child, f"{path}.")
        else:
            yield path
