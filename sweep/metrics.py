"""Scores of an evaluation: accuracy and F1 through `evaluate`, without a network."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import evaluate
import numpy as np

from sweep.paths import metric_script

Scorer = Callable[[Sequence[int], Sequence[int]], dict[str, float]]


@functools.cache
def scorer(average: str) -> Scorer:
    """A function (predictions, references) -> {"accuracy": …, "f1": …}, both in 0…1.

    Predictions and references are class numbers, shape (n,). The metric modules are loaded once a process;
    `keep_in_memory` lets several ranks and trials score at the same time without cache files.
    """
    combined = evaluate.combine(
        [
            evaluate.load(str(metric_script("accuracy")), keep_in_memory=True),
            evaluate.load(str(metric_script("f1")), config_name=average, keep_in_memory=True),
        ]
    )

    def score(predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        result: dict[str, float] = combined.compute(predictions=predictions, references=references)
        return result

    return score


def compute_metrics(average: str) -> Callable[[Any], dict[str, float]]:
    """Trainer's `compute_metrics`: logits of shape (n, classes) and labels (n,) -> scores."""
    score = scorer(average)

    def compute(prediction: Any) -> dict[str, float]:
        logits = prediction.predictions
        if isinstance(logits, tuple):  # some heads return hidden states behind the logits
            logits = logits[0]
        labels = prediction.label_ids
        return score(np.argmax(logits, axis=-1).tolist(), np.asarray(labels).tolist())

    return compute
