"""The data of a study: read, checked, labelled, split once."""

from __future__ import annotations

import hashlib
import json

import datasets
import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

from sweep.errors import InputError
from sweep.labels import map_labels
from sweep.paths import StudyPaths
from sweep.schema import SweepConfig, TaskConfig
from sweep.score import FOLD
from sweep.sources import read_parts

Frames = dict[str, pd.DataFrame]
_MAX_EXAMPLES = 5


def split_task(config: SweepConfig) -> tuple[Frames, list[str]]:
    """Read and split the task's data.

    Returns:
        The parts train, validation and test with the columns text (str), label (int, 0…k-1) and
        found (the label as it was read); and the k label names. With `task.folds` there is no
        validation part, and train has the column fold (1…folds).

    Raises:
        InputError: for anything that no classifier could be trained on.
    """
    task = config.task
    parts, known = read_parts(task)
    for name, rows in parts.items():
        _check_rows(rows, name, task)
        parts[name] = rows.assign(found=rows["label"])
    names = map_labels(parts, task, known)
    _check_counts(parts, names, task)
    seed = config.study.seed
    if "test" not in parts:
        parts["train"], parts["test"] = _split_off(parts["train"], names, task.test_fraction, seed)
    if task.folds is not None:
        pool = [parts.pop(name) for name in ("train", "validation") if name in parts]
        parts["train"] = pd.concat(pool, ignore_index=True)
    elif "validation" not in parts:
        share = task.validation_fraction / (1 - task.test_fraction)
        parts["train"], parts["validation"] = _split_off(parts["train"], names, share, seed)
    if task.limit is not None and task.limit < len(parts["train"]):
        if task.limit < len(names):
            raise InputError(
                f"task.limit={task.limit} leaves fewer rows than the {len(names)} labels: "
                f"use at least {len(names)}."
            )
        rows = parts["train"]
        parts["train"], _ = train_test_split(
            rows, train_size=task.limit, stratify=rows["label"], random_state=seed
        )
    if task.folds is not None:
        parts["train"] = _with_folds(parts["train"], names, task.folds, seed)
    columns = ["text", "label", "found", FOLD]
    return {
        name: parts[name][[c for c in columns if c in parts[name]]].reset_index(drop=True)
        for name in _PARTS
        if name in parts
    }, names


_PARTS = ("train", "validation", "test")


def _check_rows(rows: pd.DataFrame, part: str, task: TaskConfig) -> None:
    where = f"{task.path or task.kind} ({part})"
    if rows.empty:
        raise InputError(f"{where} has no rows: give task.path a file with texts and labels.")
    texts = rows["text"]
    if "group" in rows and (missing := rows["group"].isna()).any():
        shown = ", ".join(str(i + 1) for i in rows.index[missing][:_MAX_EXAMPLES])
        raise InputError(
            f"{where}: {int(missing.sum())} rows have no group in the column '{task.group_column}' "
            f"(rows {shown}, the first row being 1): fill or remove them."
        )
    empty = texts.isna() | (texts.astype(str).str.strip() == "")
    if empty.any():
        shown = ", ".join(str(i + 1) for i in rows.index[empty][:_MAX_EXAMPLES])
        raise InputError(
            f"{where}: {int(empty.sum())} texts in the column '{task.text_column}' are empty "
            f"(rows {shown}, the first row being 1): fill or remove them."
        )
    missing = rows["label"].isna()
    if missing.any():
        shown = ", ".join(str(i + 1) for i in rows.index[missing][:_MAX_EXAMPLES])
        raise InputError(
            f"{where}: {int(missing.sum())} rows have no label in the column "
            f"'{task.label_column}' (rows {shown}, the first row being 1): fill or remove them."
        )


def _check_counts(parts: Frames, names: list[str], task: TaskConfig) -> None:
    counts = parts["train"]["label"].value_counts()
    needed = (task.folds or 1 + ("validation" not in parts)) + ("test" not in parts)
    for number, name in enumerate(names):
        found = int(counts.get(number, 0))
        if found < needed:
            raise InputError(
                f"The label {name!r} of {task.path or task.kind} occurs {found} times, but every "
                f"part of the split needs it: add rows (at least {needed}) or remove the label."
            )


def _split_off(
    rows: pd.DataFrame, names: list[str], share: float, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows that stay and rows split off: stratified, seeded; a group stays on one side."""
    if "group" in rows:
        groups, rarest = int(rows["group"].nunique()), int(rows["label"].value_counts().min())
        splits = min(round(1 / share), groups, rarest)
        splitter = StratifiedGroupKFold(n_splits=max(splits, 2), shuffle=True, random_state=seed)
        for stay, off in splitter.split(rows, rows["label"], rows["group"]) if splits > 1 else ():
            if rows["label"].iloc[stay].nunique() == rows["label"].iloc[off].nunique() == len(names):
                return rows.iloc[stay], rows.iloc[off]
        raise InputError(
            f"The {groups} groups of the {len(rows)} rows cannot be split so that each part has all "
            f"{len(names)} labels: add rows, or leave task.group_column out."
        )
    classes = rows["label"].nunique()
    size = max(round(share * len(rows)), classes)
    stay, off = train_test_split(rows, test_size=size, stratify=rows["label"], random_state=seed)
    return stay.sort_index(), off.sort_index()


def _with_folds(rows: pd.DataFrame, names: list[str], folds: int, seed: int) -> pd.DataFrame:
    """`rows` with the fold that each is validated in: stratified by label, a group in one fold."""
    rows = rows.reset_index(drop=True)
    what, most = "rows of the rarest label", int(rows["label"].value_counts().min())
    if "group" in rows:
        groups = int(rows["group"].nunique())
        what, most = ("groups", groups) if groups < most else (what, most)
    if most < folds:
        raise InputError(
            f"task.folds={folds}, but there are {most} {what} to train with: use at most {most} folds."
        )
    kind = StratifiedGroupKFold if "group" in rows else StratifiedKFold
    splitter = kind(n_splits=folds, shuffle=True, random_state=seed)
    found = np.zeros(len(rows), dtype=np.int16)
    for fold, (_, validated) in enumerate(splitter.split(rows, rows["label"], rows.get("group")), 1):
        found[validated] = fold
        held = set(rows["label"].iloc[validated])
        if len(held) < len(names):
            raise InputError(
                f"task.folds={folds}: fold {fold} would hold only the labels "
                f"{', '.join(names[n] for n in sorted(held))}, for its groups have no others: "
                "use fewer folds."
            )
    return rows.assign(**{FOLD: found})


def data_hash(parts: Frames, names: list[str]) -> str:
    """sha256 over every text, label and label name of all parts, in order."""
    digest = hashlib.sha256(json.dumps(names).encode())
    for name in (part for part in _PARTS if part in parts):
        for text, label in zip(parts[name]["text"], parts[name]["label"], strict=True):
            digest.update(json.dumps([name, str(text), int(label)]).encode())
    return digest.hexdigest()


def save_split(parts: Frames, names: list[str], paths: StudyPaths) -> None:
    """Write the parts to the study's folder as Arrow files (text: string, label: ClassLabel, fold: int16)."""
    types = {
        "text": datasets.Value("string"),
        "label": datasets.ClassLabel(names=names),
        FOLD: datasets.Value("int16"),
    }
    whole = {}
    for name, rows in parts.items():
        columns = [column for column in types if column in rows]
        features = datasets.Features({column: types[column] for column in columns})
        whole[name] = datasets.Dataset.from_pandas(rows[columns], features=features, preserve_index=False)
    datasets.DatasetDict(whole).save_to_disk(str(paths.split))


def load_split(paths: StudyPaths) -> datasets.DatasetDict:
    """The study's own copy of its data: train, validation (but with folds), test."""
    return datasets.DatasetDict.load_from_disk(str(paths.split))
