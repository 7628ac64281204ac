"""The search space: Hydra's sweep grammar -> Optuna distributions -> one trial's config.

The grammar is Hydra's own (https://hydra.cc/docs/advanced/override_grammar/extended), read by
Hydra's own parser; `int(interval(a,b))` includes both ends, `range(a,b,step)` excludes b.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    Quote,
    QuotedString,
    RangeSweep,
)
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from sweep.errors import InputError, did_you_mean, input_error

Params = dict[str, Any]

_GRAMMAR = "interval(a,b), tag(log, interval(a,b)), int(interval(a,b)), choice(x,y), range(a,b,step)"
_TRIAL_GROUPS = ("trainer", "model", "task")
_TRIAL_TASK_PATHS = ("task.max_length",)
_CORNERS = 64


class Suggests(Protocol):
    """What Optuna's Trial and FixedTrial have in common."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = ..., log: bool = ...
    ) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = ..., log: bool = ...) -> int: ...

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


def parse_override(text: str) -> Override:
    """Hydra's reading of one override.

    Raises:
        InputError: with Hydra's reason.
    """
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        lines = [line for line in str(error).splitlines() if line and not line.startswith("See ")]
        reason = lines[0] if lines else "it does not parse"
        raise InputError(
            f"The override '{text}' cannot be read: {reason}. Write key=value, or one of {_GRAMMAR}."
        ) from None


@dataclass(frozen=True)
class Dimension:
    """One varied config path.

    Attributes:
        path: dotted config path; also the parameter's name in Optuna.
        text: the grammar it was written in.
        distribution: Optuna's type for it.
        values: stored category -> config value (lists and maps are stored as their Hydra text).
    """

    path: str
    text: str
    distribution: BaseDistribution
    values: Mapping[str, Any] = field(default_factory=dict)

    def suggest(self, trial: Suggests) -> Any:
        """Ask `trial` for a value; the result is what Optuna stores."""
        d = self.distribution
        if isinstance(d, FloatDistribution):
            return trial.suggest_float(self.path, d.low, d.high, step=d.step, log=d.log)
        if isinstance(d, IntDistribution):
            return trial.suggest_int(self.path, d.low, d.high, step=d.step, log=d.log)
        assert isinstance(d, CategoricalDistribution)
        return trial.suggest_categorical(self.path, d.choices)

    def config_value(self, stored: Any) -> Any:
        """What Optuna stored, as the value that belongs into the config."""
        return self.values.get(stored, stored)

    def enumerate(self) -> list[Any] | None:
        """All stored values in order, or None for a continuous dimension."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return list(d.choices)
        if isinstance(d, IntDistribution):
            return list(range(d.low, d.high + 1, d.step))
        if isinstance(d, FloatDistribution) and d.step is not None:
            count = round((d.high - d.low) / d.step) + 1
            return [min(d.low + i * d.step, d.high) for i in range(count)]
        return None

    def corners(self) -> list[Any]:
        """Values to check before training: all if they are few, otherwise both ends."""
        values = self.enumerate()
        if values is not None and len(values) <= _CORNERS:
            return values
        d = self.distribution
        assert isinstance(d, IntDistribution | FloatDistribution)
        return [d.low, d.high]


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
    known = list(_paths(cfg))
    dimensions, problems = [], []
    for path, text in sorted(node.items()):
        try:
            dimensions.append(parse_dimension(str(path), str(text), known))
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise input_error(problems)
    return SearchSpace(tuple(dimensions))


def parse_dimension(path: str, text: str, known: list[str]) -> Dimension:
    """One line of the search space. A leading + admits a path that the config does not have yet.

    Raises:
        InputError: for an unknown path, or a value that no trial could be drawn from.
    """
    appended = path.startswith("+")
    path = path.lstrip("+")
    if path.split(".")[0] not in _TRIAL_GROUPS:
        raise InputError(
            f"The search space names '{path}', which is no setting of a trial: only paths below "
            f"{', '.join(_TRIAL_GROUPS)} can vary.{did_you_mean(path, known)}"
        )
    if not appended and path not in known:
        if any(name.startswith(f"{path}.") for name in known):
            raise InputError(
                f"The search space names '{path}', a whole group; name one of its settings, "
                f"for instance {next(n for n in known if n.startswith(f'{path}.'))}."
            )
        raise InputError(
            f"The search space names the unknown path '{path}'.{did_you_mean(path, known)} "
            f"To vary a setting that the config does not list, write +{path}=…"
        )
    if path.startswith("task.") and path not in _TRIAL_TASK_PATHS:
        raise InputError(
            f"'{path}' decides the data of the whole study and cannot vary between trials; "
            f"fix it with {path}=VALUE. Of the task only {', '.join(_TRIAL_TASK_PATHS)} can vary."
        )
    override = parse_override(f"{path}={text}")
    value = override.value()
    if isinstance(value, IntervalSweep):
        return Dimension(path, text, _interval(path, text, value))
    if isinstance(value, RangeSweep):
        return Dimension(path, text, _range(path, text, value))
    if isinstance(value, ChoiceSweep):
        return _choice(path, text, value)
    raise InputError(f"The search space gives {path} the plain value {text}: write {_GRAMMAR}.")


def _interval(path: str, text: str, value: IntervalSweep) -> BaseDistribution:
    low, high, log = value.start, value.end, "log" in value.tags
    _known_tags(path, text, value.tags)
    assert low is not None and high is not None
    if not low < high:
        raise InputError(f"{path}={text} is empty or reversed: the first bound must lie below the second.")
    if log and low <= 0:
        raise InputError(f"{path}={text}: a log interval must lie above 0; write 1e-6 or more.")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _range(path: str, text: str, value: RangeSweep) -> BaseDistribution:
    if value.tags:
        raise InputError(f"{path}={text}: tags belong to interval; write tag(log, interval(a,b)).")
    try:
        values = sorted(value.range())
    except HydraException as error:
        raise InputError(f"{path}={text}: {error}") from None
    if not values:
        raise InputError(f"{path}={text} contains nothing: the second bound is not part of it.")
    step = abs(value.step)
    if all(isinstance(v, int) for v in values):
        return IntDistribution(int(values[0]), int(values[-1]), step=int(step))
    return FloatDistribution(float(values[0]), float(values[-1]), step=float(step))


def _choice(path: str, text: str, value: ChoiceSweep) -> Dimension:
    _known_tags(path, text, value.tags)
    stored: list[Any] = []
    values: dict[str, Any] = {}
    for element in value.list:
        plain = Override._convert_value(element)
        if isinstance(plain, list | dict):
            key: Any = to_hydra(plain)
            values[key] = plain
        else:
            key = plain
        if key in stored:
            raise InputError(f"{path}={text}: {key!r} stands for the same value twice; drop one.")
        stored.append(key)
    return Dimension(path, text, CategoricalDistribution(stored), values)


def _known_tags(path: str, text: str, tags: set[str]) -> None:
    if unknown := tags - {"log"}:
        raise InputError(f"{path}={text}: the tag {sorted(unknown)[0]!r} has no meaning; only log has.")


def to_hydra(value: Any) -> str:
    """`value` in Hydra's grammar; strings are quoted, so that "1" and "null" stay strings."""
    text: str = Override._get_value_element_as_str(_quoted(value))
    return text


def _quoted(value: Any) -> Any:
    if isinstance(value, str):
        return QuotedString(value, Quote.single)
    if isinstance(value, list):
        return [_quoted(element) for element in value]
    if isinstance(value, dict):
        return {key: _quoted(element) for key, element in value.items()}
    return value


def _paths(cfg: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in cfg:
        path = f"{prefix}{key!s}"
        child = None if OmegaConf.is_missing(cfg, key) else cfg._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and path != "space":
            yield from _paths(child, f"{path}.")
        else:
            yield path
