"""The typed config of a study or trial, and the check that reports all mistakes at once."""

from __future__ import annotations

import copy
import functools
from dataclasses import fields
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweep.checks import file_problems, value_problems
from sweep.errors import did_you_mean, input_error, reason_of
from sweep.schema import SweepConfig, TrainerConfig

Tree = dict[str, Any]  # a config as plain dicts and lists


_RENAMED = {"from": "source"}
_FREE_FORM = ("space", "sampler", "pruner", "model.config", "trainer.arguments")


def leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted path -> value of every leaf of a nested dict; free-form maps count as one leaf."""
    if not isinstance(tree, dict) or prefix in _FREE_FORM:
        return {prefix: tree}
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found.update(leaves(value, f"{prefix}.{key}" if prefix else str(key)))
    return found


def resolve(cfg: DictConfig) -> Tree:
    """`cfg` as plain dicts and lists, interpolations resolved.

    Raises:
        InputError: one that cannot be.
    """
    try:
        tree = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise input_error([f"The config does not resolve: {reason_of(error)}"]) from None
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


def typed(cfg: DictConfig | Tree, inputs: bool = False) -> SweepConfig:
    """Check `cfg` (a tree: resolved already); with `inputs`, whether the data files are there, too.

    Raises:
        InputError: with every problem found, each naming its path and value.
    """
    problems: list[str] = []
    tree = resolve(cfg) if isinstance(cfg, DictConfig) else dict(cfg)
    tree["study"] = {_RENAMED.get(k, k): v for k, v in (tree.get("study") or {}).items()}
    own = {f.name for f in fields(TrainerConfig)} - {"arguments"}
    trainer = dict(tree.get("trainer") or {})
    tree["trainer"] = {k: v for k, v in trainer.items() if k in own}
    values = leaves(tree)
    known = _known()
    for path, value in values.items():
        if path not in known:
            problems.append(f"'{path}' is no setting of a sweep.{did_you_mean(path, known)}")
        elif value == "???":
            problems.append(f"{path} has no value: add {path}=… to the command.")
    try:
        config = SweepConfig(
            **{name: _section(name, value) for name, value in tree.items() if name in _names()}
        )
    except OmegaConfBaseException:
        given = {path: value for path, value in values.items() if path in known and value != "???"}
        raise input_error(problems + _type_problems(given)) from None
    config.trainer.arguments = {k: copy.deepcopy(v) for k, v in trainer.items() if k not in own}
    problems += value_problems(config, values)
    if inputs:
        problems += file_problems(config.task)
    if problems:
        raise input_error(problems)
    return config


_sections: dict[tuple[str, str], Any] = {}


def _section(name: str, value: Any) -> Any:
    """One section of a config as its type says. Kept: most of a trial's config is its study's."""
    key = name, repr(value)
    if key not in _sections:
        _sections[key] = OmegaConf.to_object(OmegaConf.merge(_schema()[name], value))
    return copy.deepcopy(_sections[key])


@functools.cache
def _schema() -> DictConfig:
    """The settings with their types; not to be changed. Making it takes longer than using it."""
    schema: DictConfig = OmegaConf.structured(SweepConfig)
    return schema


@functools.cache
def _names() -> frozenset[str]:
    return frozenset(f.name for f in fields(SweepConfig))


@functools.cache
def _known() -> dict[str, Any]:
    return leaves(OmegaConf.to_container(_schema()))


def _type_problems(values: dict[str, Any]) -> list[str]:
    """One by one, what does not fit its type."""
    problems, schema = [], _schema().copy()
    for path, value in values.items():
        try:
            OmegaConf.update(schema, path, value, merge=path not in _FREE_FORM)
        except OmegaConfBaseException as error:
            problems.append(f"{path}={value!r} does not fit: {reason_of(error)}.")
    return problems
