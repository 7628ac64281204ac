"""Scores of an exported folder, computed in a process that knows nothing but its files."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from sweep.paths import StudyPaths

Scores = dict[str, dict[str, float]]


def score_in_clean_process(
    folder: Path, study: Path, average: str, batch_size: int, trust_remote_code: bool, fold: int | None
) -> Scores:
    """Accuracy and F1 of `folder` on the study's validation (of `fold`, if there are any) and test parts.

    A fresh interpreter (spawned, not forked) loads the model, so that nothing of the sweep's
    memory can help it.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        arguments = (folder, study, average, batch_size, trust_remote_code, fold)
        return pool.submit(score_folder, *arguments).result()


def score_folder(
    folder: Path, study: Path, average: str, batch_size: int, trust_remote_code: bool, fold: int | None
) -> Scores:
    """The same in this process."""
    from transformers.utils import logging

    from sweep.classify import Classifier
    from sweep.metrics import scorer
    from sweep.score import FOLD
    from sweep.task import load_split

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    classifier = Classifier(folder, trust_remote_code)
    score = scorer(average)
    split = load_split(StudyPaths(study))
    if fold is not None:
        rows = split["train"]
        split["validation"] = rows.select([i for i, own in enumerate(rows[FOLD]) if own == fold])
    result: Scores = {}
    for part in ("validation", "test"):
        texts, labels = list(split[part]["text"]), list(split[part]["label"])
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # less padding
        found = classifier.predict([texts[i] for i in order], batch_size)
        result[part] = score([p.number for p in found], [labels[i] for i in order])
    return result
