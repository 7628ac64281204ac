"""Scores equal scikit-learn's on any input, and are computed without a network."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from sweep.errors import InputError
from sweep.metrics import Scorer, compute_metrics, scorer
from sweep.schema import ObjectiveConfig

_SCORERS: dict[str, Scorer] = {}


@given(st.data(), st.sampled_from(["binary", "macro", "micro", "weighted"]))
def test_scores_equal_scikit_learns(data: st.DataObject, average: str) -> None:
    classes = 2 if average == "binary" else data.draw(st.integers(2, 5))
    labels = st.integers(0, classes - 1)
    truth = data.draw(st.lists(labels, min_size=1, max_size=40))
    found = data.draw(st.lists(labels, min_size=len(truth), max_size=len(truth)))
    score = _SCORERS.setdefault(average, scorer(average))(found, truth)
    assert score["accuracy"] == accuracy_score(truth, found)
    assert score["f1"] == f1_score(truth, found, average=average, zero_division=0)


def test_compute_metrics_takes_the_argmax_of_logits() -> None:
    logits = np.array([[0.1, 2.0, -1.0], [3.0, 0.0, 0.0], [0.0, 0.0, 0.1]])
    prediction = SimpleNamespace(predictions=(logits, "hidden states"), label_ids=np.array([1, 0, 1]))
    assert compute_metrics("macro")(prediction)["accuracy"] == pytest.approx(2 / 3)


def test_the_average_follows_the_number_of_classes() -> None:
    assert ObjectiveConfig().average(2) == "binary"
    assert ObjectiveConfig().average(3) == "macro"
    assert ObjectiveConfig(f1_average="weighted").average(2) == "weighted"
    with pytest.raises(InputError, match=r"objective.f1_average=binary .* 3: use macro"):
        ObjectiveConfig(f1_average="binary").average(3)
