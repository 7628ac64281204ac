"""Reading raw rows: the embedded reviews, a user's files, a data set of the hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import datasets
import pandas as pd

from sweep.errors import InputError, did_you_mean, reason_of
from sweep.reviews import load_reviews
from sweep.schema import TaskConfig

_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    # An empty field is missing; words like "NA" or "null" are texts of their own.
    ".csv": lambda path: pd.read_csv(path, keep_default_na=False, na_values=[""]),
    ".tsv": lambda path: pd.read_csv(path, sep="\t", keep_default_na=False, na_values=[""]),
    ".jsonl": lambda path: pd.read_json(path, lines=True, dtype=False, convert_dates=False),
    ".json": lambda path: pd.read_json(path, dtype=False, convert_dates=False),
    ".parquet": pd.read_parquet,
}


def read_parts(task: TaskConfig) -> tuple[dict[str, pd.DataFrame], list[str] | None]:
    """The parts the source comes in: train always, validation and test where it has them.

    Returns:
        Part -> rows with the columns text, label (raw, as found) and, for the reviews and with
        `task.group_column`, group; and the label names in order where the config or the source
        knows them.

    Raises:
        InputError: a file, column or split that is missing or cannot be read.
    """
    if task.kind == "reviews":
        return {"train": load_reviews()}, task.label_names
    if task.kind == "files":
        given = {"train": task.path, "validation": task.validation_path, "test": task.test_path}
        found = {part: read_file(path, task) for part, path in given.items() if path is not None}
        return found, task.label_names
    return _read_hub(task)


def read_file(path: str, task: TaskConfig) -> pd.DataFrame:
    """The columns text, label and, if asked for, group of a CSV, TSV, JSON, JSON lines or Parquet file."""
    file = Path(path)
    try:
        rows = _READERS[file.suffix.lower()](file)
    except Exception as error:
        raise InputError(
            f"{file} cannot be read as {file.suffix[1:]}: {reason_of(error)}. Mend the file or name another."
        ) from None
    return _columns(rows, str(file), task)


def _columns(rows: pd.DataFrame, source: str, task: TaskConfig) -> pd.DataFrame:
    wanted = {"text": task.text_column, "label": task.label_column}
    if task.group_column is not None:
        wanted["group"] = task.group_column
    for name, column in wanted.items():
        if column not in rows.columns:
            found = ", ".join(map(str, rows.columns))
            raise InputError(
                f"{source} has no column {column!r}; it has {found}. Set task.{name}_column=…"
                f"{did_you_mean(column, map(str, rows.columns))}"
            )
    return pd.DataFrame({name: rows[column] for name, column in wanted.items()})


def _read_hub(task: TaskConfig) -> tuple[dict[str, pd.DataFrame], list[str] | None]:
    assert task.path is not None
    try:
        whole = datasets.load_dataset(task.path, task.subset)
    except Exception as error:
        raise InputError(
            f"task.path={task.path!r} is no data set that can be loaded: {reason_of(error)}. Check the name "
            "(and task.subset) and the network, or use task=files with a local file."
        ) from None
    splits = {"train": "train", "validation": task.validation_path, "test": task.test_path}
    parts = {}
    names = task.label_names
    for part, wanted in splits.items():
        name = wanted or part
        if name in whole:
            split = whole[name]
            rows = _columns(split.to_pandas(), f"{task.path} ({name})", task)
            feature = split.features[task.label_column]
            if isinstance(feature, datasets.ClassLabel) and (rows["label"] >= 0).all():
                rows["label"] = [feature.names[int(label)] for label in rows["label"]]
                occurring = set(rows["label"])
                names = names or [name for name in feature.names if name in occurring]
            if not (part != "train" and wanted is None and rows["label"].isna().all()):
                parts[part] = rows
        elif wanted or part == "train":
            raise InputError(
                f"{task.path} has no split {name!r}; it has {', '.join(whole)}. "
                f"{'Name a data set with a train split.' if part == 'train' else f'Set task.{part}_path=…'}"
            )
    return parts, names
