"""Scores of an evaluation: accuracy and F1 through `evaluate`, without a network."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import evaluate
import numpy as np
from hydra.utils import get_method

from sweep.errors import InputError, reason_of
from sweep.paths import metric_script
from sweep.score import STANDARD_METRICS

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


def own_metrics(target: str | None) -> Scorer:
    """The user's function (predictions, references) -> name -> value, by its dotted name; or one without any.

    Raises:
        InputError: it cannot be imported, fails, or returns something else.
    """
    if target is None:
        return lambda predictions, references: {}
    try:
        function: Scorer = get_method(target)
        found = function([0, 1, 1], [0, 1, 0])
        numbers = {str(name): float(value) for name, value in found.items()}
    except Exception as error:
        raise InputError(
            f"task.metrics={target} cannot be used: {reason_of(error)}. It must be a function in a module "
            "that Python finds from here; it gets the predicted and the true class numbers and returns a "
            "map of names and numbers."
        ) from None
    if taken := sorted(numbers.keys() & STANDARD_METRICS):
        raise InputError(
            f"task.metrics={target} returns {', '.join(taken)}, which exist already: rename them."
        )
    return function


def compute_metrics(average: str, target: str | None = None) -> Callable[[Any], dict[str, float]]:
    """Trainer's `compute_metrics`: logits of shape (n, classes) and labels (n,) -> scores.

    `average` is that of F1, `target` names the user's own metrics, see `own_metrics`.
    """
    score, more = scorer(average), own_metrics(target)

    def compute(prediction: Any) -> dict[str, float]:
        logits = prediction.predictions
        if isinstance(logits, tuple):  # some heads return hidden states behind the logits
            logits = logits[0]
        found, true = np.argmax(logits, axis=-1).tolist(), np.asarray(prediction.label_ids).tolist()
        return {**score(found, true), **{name: float(value) for name, value in more(found, true).items()}}

    return compute
