"""Entries of the search space as they are composed: whole config groups, conditions that stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep
from omegaconf import DictConfig, OmegaConf

from sweep.errors import InputError
from sweep.grammar import parse_override

_TRIAL_GROUPS = ("model", "trainer", "task/augment")


def compose_options(group: str, text: str, compose_with: Callable[[str], DictConfig]) -> dict[str, Any]:
    """The entry of the search space for a choice over a group's options.

    Args:
        group: as in a Hydra override, `model`.
        text: the grammar, `choice(minilm,hub)`.
        compose_with: the study's whole config with one more override.

    Raises:
        InputError: no choice of options, a group that cannot vary, an option that does not exist.
    """
    if not any(f"{group}/".startswith(f"{known}/") for known in _TRIAL_GROUPS):
        raise InputError(
            f"'{group}={text}': the group {group} decides about the whole study and cannot vary between "
            f"trials; groups that can are {', '.join(_TRIAL_GROUPS)}."
        )
    value = parse_override(f"{group}={text}").value()
    names = [str(element) for element in value.list] if isinstance(value, ChoiceSweep) else []
    if not names or len(set(names)) < len(names):
        raise InputError(f"'{group}={text}': write choice(…) with the names of options, each once.")
    options = {
        name: OmegaConf.to_container(OmegaConf.select(compose_with(f"{group}={name}"), group_path(group)))
        for name in names
    }
    return {"vary": text, "group": group, "options": options}


def group_path(group: str) -> str:
    """Where the group's config lies: `model/adapter` at `model.adapter`."""
    return group.replace("/", ".")


def vary(entry: Any, text: str) -> Any:
    """The entry of a dimension that gets the grammar `text`; one that has conditions keeps them."""
    return {**entry, "vary": text} if isinstance(entry, DictConfig) else text
