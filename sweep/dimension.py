"""One varied config path: Hydra's sweep grammar -> an Optuna distribution.

The grammar is Hydra's (https://hydra.cc/docs/advanced/override_grammar/extended);
`int(interval(a,b))` includes both ends, `range(a,b,step)` excludes b; with the tag log its step multiplies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from sweep.errors import InputError, did_you_mean
from sweep.grammar import SWEEPS, parse_override, to_hydra

_TRIAL_GROUPS = ("trainer", "model", "task")
_TRIAL_TASK_PATHS = ("task.max_length", "task.augment.copies", "task.augment.delete", "task.augment.swap")
_CORNERS = 64
_VARY, _WHEN, _OPTIONS, _GROUP = "vary", "when", "options", "group"


class Suggests(Protocol):
    """What Optuna's Trial and FixedTrial have in common."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = ..., log: bool = ...
    ) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = ..., log: bool = ...) -> int: ...

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


@dataclass(frozen=True)
class Dimension:
    """One varied config path.

    Attributes:
        path: dotted config path; also the parameter's name in Optuna.
        text: the grammar it was written in.
        distribution: Optuna's type for it.
        values: stored category -> config value (lists and maps are stored as their Hydra text).
        when: path of another dimension -> the stored values with which this one exists; all must agree.
        group: the config group whose options this chooses from; empty for a single setting.
    """

    path: str
    text: str
    distribution: BaseDistribution
    values: Mapping[str, Any] = field(default_factory=dict)
    when: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    group: str = ""

    def exists(self, params: Mapping[str, Any]) -> bool:
        """Whether a trial that has drawn `params` so far has this parameter at all."""
        return all(path in params and is_one_of(params[path], allowed) for path, allowed in self.when.items())

    def stored(self, value: Any) -> Any:
        """A config's value (of a group: an option's name) as Optuna stores it.

        Raises:
            InputError: the dimension does not contain it.
        """
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            found = value if self.group or not isinstance(value, list | dict) else to_hydra(value)
            if is_one_of(found, d.choices):
                return next(c for c in d.choices if is_one_of(found, [c]))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            number = int(value) if isinstance(d, IntDistribution) and value == int(value) else float(value)
            whole = type(number) is int or isinstance(d, FloatDistribution)
            if whole and d._contains(d.to_internal_repr(number)):
                return number
        raise InputError(f"{self.path}={value!r} lies outside of {self.text}.")

    def shown(self, stored: Any) -> Any:
        """What a person is shown: a group's option by its name, otherwise the config's value."""
        return stored if self.group else self.config_value(stored)

    def __str__(self) -> str:
        """`PATH = GRAMMAR when OTHER is VALUE`."""
        conditions = [f"{p} is {' or '.join(map(str, allowed))}" for p, allowed in self.when.items()]
        return f"{self.path} = {self.text}{' when ' if conditions else ''}{' and '.join(conditions)}"

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


def is_one_of(value: Any, values: Sequence[Any]) -> bool:
    """Whether `value` is among `values`; True is not 1."""
    return any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in values)


def parse_entry(path: str, entry: Any, known: Sequence[str]) -> Dimension:
    """One entry of the search space: its grammar, or a map of `vary` (the grammar) and `when`.

    `when` maps paths to the value, or list of values, with which the parameter exists. For a whole config
    group `sweep.groups` has added its options.

    Raises:
        InputError: see `parse_dimension`; or another map.
    """
    if not isinstance(entry, dict):
        return parse_dimension(path, str(entry), known)
    unknown = entry.keys() - {_VARY, _WHEN, _OPTIONS, _GROUP}
    when = entry.get(_WHEN) or {}
    if unknown or _VARY not in entry or not isinstance(when, dict):
        raise InputError(
            f"space.{path}={entry!r}: write {{vary: GRAMMAR, when: {{PATH: VALUE or [VALUES]}}}}."
        )
    conditions = {
        str(other): tuple(allowed if isinstance(allowed, list) else [allowed])
        for other, allowed in when.items()
    }
    if _OPTIONS in entry:
        text, options = str(entry[_VARY]), dict(entry[_OPTIONS])
        chosen = CategoricalDistribution(list(options))
        return Dimension(path.lstrip("+"), text, chosen, options, conditions, str(entry[_GROUP]))
    return replace(parse_dimension(path, str(entry[_VARY]), known), when=conditions)


def check_path(path: str, known: Sequence[str], appended: bool) -> None:
    """Whether `path` may vary between trials; `appended` admits one that the config does not have yet.

    Raises:
        InputError: it is unknown, a whole group, or decides about the whole study.
    """
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


def parse_dimension(path: str, text: str, known: Sequence[str]) -> Dimension:
    """One line of the search space. A leading + admits a path that the config does not have yet.

    Raises:
        InputError: for an unknown path, or a value that no trial could be drawn from.
    """
    appended = path.startswith("+")
    path = path.lstrip("+")
    check_path(path, known, appended)
    override = parse_override(f"{path}={text}")
    value = override.value()
    if isinstance(value, IntervalSweep):
        return Dimension(path, text, _interval(path, text, value))
    if isinstance(value, RangeSweep):
        return Dimension(path, text, _range(path, text, value))
    if isinstance(value, ChoiceSweep):
        return _choice(path, text, value)
    raise InputError(f"The search space gives {path} the plain value {text}: write {SWEEPS}.")


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
    _known_tags(path, text, value.tags)
    if "log" in value.tags:
        return CategoricalDistribution(_log_grid(path, text, value))
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


def _log_grid(path: str, text: str, value: RangeSweep) -> list[float]:
    """`tag(log, range(1e-5,1e-2,10))` is 1e-5, 1e-4, 1e-3: each the one before times the step."""
    start, stop, factor = value.start, value.stop, value.step
    if start is None or stop is None or not 0 < start < stop or factor <= 1:
        raise InputError(
            f"{path}={text}: on a log scale the bounds lie above 0, the first below the second, and the step "
            "multiplies: tag(log, range(1e-5,1e-2,10))."
        )
    values: list[float] = []
    # Powers, not repeated products, and rounded: 1e-5 times 10 shall be 1e-4.
    while (each := float(f"{start * factor ** len(values):.12g}")) < stop:
        values.append(int(each) if isinstance(start, int) and each.is_integer() else each)
    return values


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
