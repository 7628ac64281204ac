"""Conditional dimensions: one that exists only while others have given values."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

from sweep.config import Tree
from sweep.dimension import Dimension, is_one_of
from sweep.errors import InputError, did_you_mean, input_error
from sweep.tree import at


def resolve_conditions(dimensions: list[Dimension], tree: Tree, known: Sequence[str]) -> list[Dimension]:
    """Settle what is known before any trial: a condition on a setting that does not vary.

    Args:
        dimensions: as they were written.
        tree: the study's config.
        known: its paths.

    Returns:
        The dimensions that can exist, their conditions on varied paths only.

    Raises:
        InputError: with every condition that names an unknown path or a value that is never taken.
    """
    problems: list[str] = []
    left = {d.path: d for d in dimensions}
    for d in dimensions:
        for path, allowed in d.when.items():
            problem = _problem(d, path, allowed, left, known)
            if problem is not None:
                problems.append(problem)
    if problems:
        raise input_error(problems)
    varied = set(left)
    while True:  # a dimension that never exists takes with it those that need it
        gone = {path for path, d in left.items() if not _possible(d, left, varied, tree)}
        if not gone:
            break
        left = {path: d for path, d in left.items() if path not in gone}
    return [
        replace(d, when={path: allowed for path, allowed in d.when.items() if path in left})
        for d in left.values()
    ]


def _problem(
    dimension: Dimension,
    path: str,
    allowed: Sequence[Any],
    varied: dict[str, Dimension],
    known: Sequence[str],
) -> str | None:
    shown = f"The condition of {dimension.path} on '{path}'"
    if path in varied:
        values = varied[path].enumerate()
        if values is None:
            return (
                f"{shown} needs single values, and {path}={varied[path].text} has none: "
                "vary it by choice(…) or range(…)."
            )
        for value in allowed:
            if not is_one_of(value, values):
                return f"{shown} names {value!r}, which {path}={varied[path].text} never takes."
        return None
    if path not in known:
        return f"{shown} names no setting.{did_you_mean(path, [*known, *varied])}"
    return None


def _possible(dimension: Dimension, left: Collection[str], varied: Collection[str], tree: Tree) -> bool:
    return all(
        path in left if path in varied else is_one_of(at(tree, path), allowed)
        for path, allowed in dimension.when.items()
    )


def in_order(dimensions: list[Dimension]) -> list[Dimension]:
    """Those that decide over others before them, otherwise by path.

    Raises:
        InputError: conditions that wait for each other.
    """
    by_path = {d.path: d for d in dimensions}
    sorter = TopologicalSorter({path: d.when.keys() for path, d in by_path.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        circle = " → ".join(error.args[1])
        raise InputError(f"The conditions of the search space wait for each other: {circle}.") from None
    ordered: list[Dimension] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        ordered += [by_path[path] for path in ready]
        sorter.done(*ready)
    return ordered
