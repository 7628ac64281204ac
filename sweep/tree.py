"""A config as plain dicts and lists: values at dotted paths, and interpolations resolved early."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sweep.config import Tree

_REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*(?:\.\w+)*)\}")  # an interpolation from the top, and nothing else


def at(tree: Any, path: str) -> Any:
    """The value at a dotted path; None if there is no such path."""
    for key in path.split("."):
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def assign(tree: Tree, path: str, value: Any) -> None:
    """Put `value` at a dotted path, making the groups on the way."""
    *groups, last = path.split(".")
    for key in groups:
        tree = tree.setdefault(key, {})
    tree[last] = value


def has_interpolation(value: Any) -> bool:
    """Whether there is one anywhere in `value`."""
    if isinstance(value, dict):
        return any(has_interpolation(v) for v in value.values())
    if isinstance(value, list):
        return any(has_interpolation(v) for v in value)
    return isinstance(value, str) and "${" in value


def config_paths(cfg: DictConfig, prefix: str = "") -> Iterator[str]:
    """The dotted paths of all settings, the search space counting as one."""
    for key in cfg:
        path = f"{prefix}{key!s}"
        child = None if OmegaConf.is_missing(cfg, key) else cfg._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and path != "space":
            yield from config_paths(child, f"{path}.")
        else:
            yield path


def settle(cfg: DictConfig, varied: Collection[str]) -> Tree:
    """`cfg` as a plain tree; interpolations stay only where one of the `varied` paths may change them."""
    tree = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(tree, dict)
    settled = {str(key): value for key, value in tree.items()}
    while any(_settle_one(settled, path, varied) for path in config_paths(cfg)):
        pass
    return settled


def _settle_one(tree: Tree, path: str, varied: Collection[str]) -> bool:
    """Whether the value at `path` was a plain reference to one that is settled and does not vary."""
    text = at(tree, path)
    found = _REFERENCE.fullmatch(text) if isinstance(text, str) else None
    if found is None or any(_overlap(found[1], other) for other in varied):
        return False
    value = at(tree, found[1])
    if value is None or has_interpolation(value):
        return False
    assign(tree, path, copy.deepcopy(value))
    return True


def _overlap(path: str, other: str) -> bool:
    """Whether one path is the other, or above it."""
    return f"{path}.".startswith(f"{other}.") or f"{other}.".startswith(f"{path}.")
