"""A search space as a Python function, for what YAML cannot say: `space._target_=my_module.my_space`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from hydra.utils import get_method

from sweep.dimension import check_path
from sweep.errors import InputError, reason_of

FUNCTION = "_target_"


def load_function(nodes: Mapping[str, Any], known: Sequence[str]) -> Callable[[Any], Mapping[str, Any]]:
    """The function, tried once.

    Args:
        nodes: the config's search space.
        known: the paths of its settings.

    Raises:
        InputError: other entries beside it; a function that cannot be imported, fails, or does not return
            settings of a trial.
    """
    target = str(nodes[FUNCTION])
    if rest := nodes.keys() - {FUNCTION}:
        raise InputError(
            f"space.{FUNCTION}={target} decides alone what varies: leave {', '.join(sorted(rest))} out "
            "(space=none)."
        )
    try:
        function: Callable[[Any], Mapping[str, Any]] = get_method(target)
        found = function(optuna.create_study(sampler=optuna.samplers.RandomSampler(0)).ask())
    except Exception as error:
        raise InputError(
            f"space.{FUNCTION}={target} cannot be used: {reason_of(error)}. It must be a function in a "
            "module that Python finds from here; it gets Optuna's trial."
        ) from None
    if not isinstance(found, Mapping):
        raise InputError(
            f"space.{FUNCTION}={target} returned {found!r}: return a map of paths and values, for instance "
            '{"trainer.learning_rate": trial.suggest_float("lr", 1e-5, 1e-3, log=True)}.'
        )
    for path in found:
        check_path(
            str(path), known, str(path).startswith("trainer.") or str(path).startswith("model.config.")
        )
    return function
