"""Raw labels -> class numbers 0…k-1 and their names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sweep.errors import InputError, did_you_mean
from sweep.schema import TaskConfig

_MANY = 50


def map_labels(parts: dict[str, pd.DataFrame], task: TaskConfig, known: list[str] | None) -> list[str]:
    """Replace the column label of every part by class numbers, in place.

    Strings are numbered in sorted order, integers in ascending order; `known` (of the config or
    the source) sets the order of strings and the names of the integers 0…k-1.

    Returns:
        The label names; name i belongs to class i.

    Raises:
        InputError: one class only, labels of several kinds, fractions, or a label that the
            training rows or the known names do not have.
    """
    plain = {part: _plain(rows["label"], part, task) for part, rows in parts.items()}
    found = sorted(set(plain["train"]))
    if len(found) < 2:
        raise InputError(
            f"The column {task.label_column!r} has the one label {found[0]!r}: "
            "a classifier needs at least two. Add rows of another label."
        )
    if len(found) > _MANY and len(found) > len(plain["train"]) / 2:
        raise InputError(
            f"task.label_column={task.label_column!r} has {len(found)} different labels in "
            f"{len(plain['train'])} rows: name the column that holds the classes."
        )
    classes, names = _classes(found, known)
    numbers = {value: number for number, value in enumerate(classes)}
    for part, values in plain.items():
        unknown = sorted({v for v in values if v not in numbers}, key=str)
        if unknown:
            where = "task.label_names does not" if known else "the training rows do not"
            raise InputError(
                f"The label {unknown[0]!r} of the {part} rows does not map: {where} have it (they "
                f"have {', '.join(map(repr, classes[:10]))}).{did_you_mean(str(unknown[0]), names)} "
                "Mend the label or name it in task.label_names=[…]."
            )
        parts[part] = parts[part].assign(label=[numbers[v] for v in values])
    return names


def _classes(found: list[Any], names: list[str] | None) -> tuple[list[Any], list[str]]:
    if isinstance(found[0], str):
        return (names, names) if names else (found, [str(v) for v in found])
    if names is None:
        return found, [str(v) for v in found]
    return list(range(len(names))), names


def _plain(labels: pd.Series[Any], part: str, task: TaskConfig) -> list[Any]:
    values = [v.item() if isinstance(v, np.generic) else v for v in labels]
    kinds = {type(v) for v in values}
    if kinds == {str}:
        return [v.strip() for v in values]
    if kinds <= {int, bool}:
        return [int(v) if kinds == {int} else str(v).lower() for v in values]
    if kinds <= {int, float}:
        fractions = [v for v in values if float(v) != int(v)]
        if not fractions:
            return [int(v) for v in values]
        raise InputError(
            f"The column {task.label_column!r} ({part}) holds the number {fractions[0]!r}, which "
            "is no class: labels must be words or whole numbers. Map ratings to classes first."
        )
    shown = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise InputError(
        f"The column {task.label_column!r} ({part}) mixes labels of several kinds ({shown}): "
        "make them all words or all whole numbers."
    )
