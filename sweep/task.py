"""The data of a study: read, checked, labelled, split once; tokenised once per distinct setting."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
from filelock import FileLock
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from sweep.errors import InputError
from sweep.labels import map_labels
from sweep.model import load_tokenizer, tokenizer_key
from sweep.paths import StudyPaths
from sweep.schema import ModelConfig, SweepConfig, TaskConfig
from sweep.sources import read_parts

Frames = dict[str, pd.DataFrame]
_MAX_EXAMPLES = 5


def split_task(config: SweepConfig) -> tuple[Frames, list[str]]:
    """Read and split the task's data.

    Returns:
        The parts train, validation and test with the columns text (str), label (int, 0…k-1) and
        found (the label as it was read); and the k label names.

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
        parts["train"], parts["test"] = _split_off(parts["train"], task.test_fraction, seed)
    if "validation" not in parts:
        share = task.validation_fraction / (1 - task.test_fraction)
        parts["train"], parts["validation"] = _split_off(parts["train"], share, seed)
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
    columns = ["text", "label", "found"]
    return {name: parts[name][columns].reset_index(drop=True) for name in _PARTS}, names


_PARTS = ("train", "validation", "test")


def _check_rows(rows: pd.DataFrame, part: str, task: TaskConfig) -> None:
    where = f"{task.path or task.kind} ({part})"
    if rows.empty:
        raise InputError(f"{where} has no rows: give task.path a file with texts and labels.")
    texts = rows["text"]
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
    needed = 1 + ("validation" not in parts) + ("test" not in parts)
    for number, name in enumerate(names):
        found = int(counts.get(number, 0))
        if found < needed:
            raise InputError(
                f"The label {name!r} of {task.path or task.kind} occurs {found} times, but every "
                f"part of the split needs it: add rows (at least {needed}) or remove the label."
            )


def _split_off(rows: pd.DataFrame, share: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows that stay and rows split off: stratified, seeded; a group stays on one side."""
    if "group" in rows:
        folds = StratifiedGroupKFold(n_splits=round(1 / share), shuffle=True, random_state=seed)
        stay, off = next(iter(folds.split(rows, rows["label"], rows["group"])))
        return rows.iloc[stay], rows.iloc[off]
    classes = rows["label"].nunique()
    size = max(round(share * len(rows)), classes)
    stay, off = train_test_split(rows, test_size=size, stratify=rows["label"], random_state=seed)
    return stay.sort_index(), off.sort_index()


def data_hash(parts: Frames, names: list[str]) -> str:
    """sha256 over every text, label and label name of all parts, in order."""
    digest = hashlib.sha256(json.dumps(names).encode())
    for name in _PARTS:
        for text, label in zip(parts[name]["text"], parts[name]["label"], strict=True):
            digest.update(json.dumps([name, str(text), int(label)]).encode())
    return digest.hexdigest()


def save_split(parts: Frames, names: list[str], paths: StudyPaths) -> None:
    """Write the parts to the study's folder as Arrow files (text: string, label: ClassLabel)."""
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)}
    )
    whole = datasets.DatasetDict(
        {
            name: datasets.Dataset.from_pandas(
                rows[["text", "label"]], features=features, preserve_index=False
            )
            for name, rows in parts.items()
        }
    )
    whole.save_to_disk(str(paths.split))


def load_split(paths: StudyPaths) -> datasets.DatasetDict:
    """The study's own copy of its data: train, validation, test."""
    return datasets.DatasetDict.load_from_disk(str(paths.split))


def tokenised(task: TaskConfig, model: ModelConfig, paths: StudyPaths) -> datasets.DatasetDict:
    """Train and validation as token ids, memory-mapped; made once per distinct setting.

    Columns: what the tokenizer returns (input_ids, …), label, length. Validation is sorted by
    length, so that an evaluation pads little; texts are cut at `task.max_length` tokens.
    """
    target = paths.tokens(tokens_key(task, model))
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            if not target.is_dir():
                _tokenise(task, model, paths, target)
    return datasets.DatasetDict.load_from_disk(str(target))


def tokens_key(task: TaskConfig, model: ModelConfig) -> str:
    """What tokenised data depends on, as a short hash: the tokenizer and the length limit."""
    setting = json.dumps([tokenizer_key(model), task.max_length])
    return hashlib.sha256(setting.encode()).hexdigest()[:12]


def _tokenise(task: TaskConfig, model: ModelConfig, paths: StudyPaths, target: Path) -> None:
    tokenizer = load_tokenizer(model)

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        encoded = tokenizer(batch["text"], truncation=True, max_length=task.max_length)
        return {**encoded, "length": [len(ids) for ids in encoded["input_ids"]]}

    part = target.with_name(f".writing-{target.name}")
    work = target.with_name(f".mapping-{target.name}")
    for debris in (part, work):
        shutil.rmtree(debris, ignore_errors=True)
    work.mkdir()
    split = load_split(paths)
    encoded = datasets.DatasetDict(
        {
            name: split[name].map(
                encode,
                batched=True,
                remove_columns=["text"],
                cache_file_name=str(work / f"{name}.arrow"),
            )
            for name in ("train", "validation")
        }
    )
    encoded["validation"] = encoded["validation"].sort("length", load_from_cache_file=False)
    encoded.save_to_disk(str(part))
    part.replace(target)
    shutil.rmtree(work, ignore_errors=True)
