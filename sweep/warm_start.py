"""Trials that run first: settings known to be good, and the best ones of another study."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from sweep.config import typed
from sweep.errors import InputError, did_you_mean, input_error
from sweep.opening import open_study
from sweep.sampler import grid_size
from sweep.schema import SweepConfig
from sweep.space import Params, SearchSpace, parse_space
from sweep.standing import Standing
from sweep.study import load_study, trial_of


def starting_points(config: SweepConfig, space: SearchSpace) -> list[Params]:
    """The parameters of the first trials, as Optuna stores them; what they leave out is drawn.

    Raises:
        InputError: with every setting that lies outside of the search space; a study that is none.
    """
    if not config.study.enqueue and config.study.source is None:
        return []
    if grid_size(config, space) is not None:
        raise InputError(
            "sampler=grid tries every combination in any case: leave study.enqueue and study.from out."
        )
    problems: list[str] = []
    points: list[Params] = []
    for number, given in enumerate(config.study.enqueue):
        try:
            points.append(_point(given, space))
        except InputError as error:
            problems.append(f"study.enqueue[{number}]: {error}")
    if problems:
        raise input_error(problems)
    if config.study.source is not None:
        points += [p for p in _best_of(config, space) if p not in points]
    return points


def _point(given: Any, space: SearchSpace) -> Params:
    dimensions = {d.path: d for d in space.dimensions}
    if not isinstance(given, dict) or not given:
        raise InputError(f"{given!r} is no map of settings: write {{trainer.learning_rate: 3e-4}}.")
    point: Params = {}
    for path, value in _flat(given, dimensions).items():
        if path not in dimensions:
            raise InputError(f"'{path}' does not vary here.{did_you_mean(str(path), dimensions)}")
        point[path] = dimensions[path].stored(value)
    for path in point:
        needed = dimensions[path].when
        if needed.keys() <= point.keys() and not dimensions[path].exists(point):
            raise InputError(f"{dimensions[path]}: with these settings it does not exist.")
    if all(d.path in point or not d.exists(point) for d in space.dimensions) and not space.holds(point):
        raise InputError(f"{given!r} breaks a constraint of the search space.")
    return point


def _flat(given: dict[Any, Any], dimensions: Collection[str], prefix: str = "") -> Params:
    """Dotted paths, also of `{trainer: {learning_rate: 3e-4}}`, which a command line can say."""
    flat: Params = {}
    for key, value in given.items():
        path = f"{prefix}{key}"
        nested = isinstance(value, dict) and path not in dimensions
        flat |= _flat(value, dimensions, f"{path}.") if nested else {path: value}
    return flat


def _best_of(config: SweepConfig, space: SearchSpace) -> list[Params]:
    """The best trials of `study.from`, as far as their settings fit into this search space."""
    paths, cfg = open_study(Path(str(config.study.source)).expanduser())
    other, theirs = typed(cfg), {d.path: d for d in parse_space(cfg).dimensions}
    if other.objective != config.objective:
        looked = (
            ", ".join(f"{goal.metric} ({goal.direction})" for goal in objective.goals)
            for objective in (other.objective, config.objective)
        )
        raise InputError(
            f"study.from={config.study.source}: it looked for {', this study looks for '.join(looked)}."
        )
    study = load_study(other, paths)
    points: list[Params] = []
    for number in Standing(study, other.objective).ranking().order[: config.study.from_top]:
        params = trial_of(study, number).params
        point: Params = {}
        for d in space.dimensions:
            if d.path in params and d.exists(point):
                try:
                    point[d.path] = d.stored(theirs[d.path].shown(params[d.path]))
                except InputError:
                    continue
        if point:
            points.append(point)
    if not points:
        raise InputError(
            f"study.from={config.study.source}: it has no finished trial whose settings lie "
            "within this search space."
        )
    return points
