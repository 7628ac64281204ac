"""Tokenised data: made once per distinct setting, memory-mapped by all trials; a fold of it."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from filelock import FileLock

from sweep.augment import changed_copies
from sweep.model import load_tokenizer, tokenizer_key
from sweep.paths import StudyPaths
from sweep.schema import ModelConfig, TaskConfig
from sweep.score import FOLD
from sweep.task import load_split


def tokenised(task: TaskConfig, model: ModelConfig, seed: int, paths: StudyPaths) -> datasets.DatasetDict:
    """Train and validation as token ids, memory-mapped; made once per distinct setting.

    Columns: what the tokenizer returns (input_ids, …), label, length, and with folds fold, which is
    negative for copies that `task.augment` has added. Validation is sorted by length, so that an
    evaluation pads little; texts are cut at `task.max_length` tokens. `seed` is the study's.
    """
    target = paths.tokens(tokens_key(task, model))
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            if not target.is_dir():
                _tokenise(task, model, seed, paths, target)
    return datasets.DatasetDict.load_from_disk(str(target))


def tokens_key(task: TaskConfig, model: ModelConfig) -> str:
    """What tokenised data depends on, as a short hash: tokenizer, length limit, augmentation."""
    setting: list[Any] = [tokenizer_key(model), task.max_length]
    if task.augment.kind != "none":
        setting.append(asdict(task.augment))
    return hashlib.sha256(json.dumps(setting).encode()).hexdigest()[:12]


def fold_of(data: datasets.DatasetDict, fold: int) -> datasets.DatasetDict:
    """Train and validation of one fold of tokenised data; validation sorted by length."""
    rows = data["train"]
    folds, lengths = np.array(rows[FOLD]), np.array(rows["length"])
    validated = np.flatnonzero(folds == fold)
    return datasets.DatasetDict(
        train=rows.select(np.flatnonzero(abs(folds) != fold)),
        validation=rows.select(validated[np.argsort(lengths[validated], kind="stable")]),
    )


def _with_copies(rows: datasets.Dataset, task: TaskConfig, seed: int) -> datasets.Dataset:
    if task.augment.kind == "none":
        return rows
    many = list(range(len(rows))) * task.augment.copies
    columns = {name: rows.select(many)[name] for name in rows.column_names}
    columns["text"] = changed_copies(list(rows["text"]), task.augment, seed)
    if FOLD in columns:
        columns[FOLD] = [-fold for fold in columns[FOLD]]
    copies = datasets.Dataset.from_dict(columns, features=rows.features)
    return datasets.concatenate_datasets([rows, copies])


def _tokenise(task: TaskConfig, model: ModelConfig, seed: int, paths: StudyPaths, target: Path) -> None:
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
    split["train"] = _with_copies(split["train"], task, seed)
    encoded = datasets.DatasetDict(
        {
            name: split[name].map(
                encode,
                batched=True,
                remove_columns=["text"],
                cache_file_name=str(work / f"{name}.arrow"),
            )
            for name in ("train", "validation")
            if name in split
        }
    )
    if "validation" in encoded:
        encoded["validation"] = encoded["validation"].sort("length", load_from_cache_file=False)
    encoded.save_to_disk(str(part))
    part.replace(target)
    shutil.rmtree(work, ignore_errors=True)
