"""`objective=[accuracy:maximize,f1:maximize]`, as it is typed, in terms of the config."""

from __future__ import annotations

from typing import Any

from hydra.core.override_parser.types import Override

from sweep.errors import InputError
from sweep.grammar import parse_override, to_hydra

_KEY = "objective"


def several_objectives(overrides: list[str]) -> list[str]:
    """`overrides` with the settings that a list of objectives stands for.

    Of several objectives none can be pruned, so that no pruner is used unless one is asked for.

    Raises:
        InputError: something else than a list is given to `objective`.
    """
    found: list[str] = []
    for text in overrides:
        override = parse_override(text)
        if override.key_or_group != _KEY or override.is_sweep_override():
            found.append(text)
            continue
        given = _texts(override)
        metric, _, direction = given[0].rpartition(":")
        found += [
            f"{_KEY}.metric={to_hydra(metric)}",
            f"{_KEY}.direction={to_hydra(direction)}",
        ]
        found.append(f"{_KEY}.also={to_hydra(given[1:])}")
        if len(given) > 1 and not any(parse_override(o).key_or_group == "pruner" for o in overrides):
            found.append("pruner=none")
    return found


def _texts(override: Override) -> list[str]:
    value: Any = override.value()
    given = [str(element) for element in value] if isinstance(value, list) else []
    if not given:
        raise InputError(
            f"'{override.input_line}': write a list, objective=[accuracy:maximize,f1:maximize], "
            "or set objective.metric and objective.direction."
        )
    if lacking := [text for text in given if ":" not in text]:
        raise InputError(
            f"'{override.input_line}': {lacking[0]!r} does not say which way: write METRIC:maximize or "
            "METRIC:minimize."
        )
    return given
