"""What a sweep must beat: the majority class, and TF-IDF with logistic regression."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline

from sweep.card import Baselines

_MOST_ROWS = 50_000  # enough for a baseline; more would delay the first trial


def baselines(train: pd.DataFrame, validation: pd.DataFrame, average: str, seed: int) -> Baselines:
    """Fit both on `train`, score both on `validation` (columns text and label)."""
    truth = validation["label"]
    majority = [train["label"].mode().iloc[0]] * len(truth)
    fitted = train.sample(min(len(train), _MOST_ROWS), random_state=seed)
    try:
        regression = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
        predicted = regression.fit(fitted["text"], fitted["label"]).predict(validation["text"])
    except ValueError:  # texts without a single word, or a sample of one class: nothing to fit
        predicted = majority
    return Baselines(
        majority_accuracy=float(accuracy_score(truth, majority)),
        majority_f1=float(f1_score(truth, majority, average=average, zero_division=0)),
        tfidf_accuracy=float(accuracy_score(truth, predicted)),
        tfidf_f1=float(f1_score(truth, predicted, average=average, zero_division=0)),
        tfidf_rows=len(fitted),
    )


def mean_baselines(folds: Sequence[Baselines]) -> Baselines:
    """Those of a cross-validation: the mean of each score over its folds."""

    def mean(name: str) -> float:
        return statistics.fmean(getattr(fold, name) for fold in folds)

    return Baselines(
        majority_accuracy=mean("majority_accuracy"),
        majority_f1=mean("majority_f1"),
        tfidf_accuracy=mean("tfidf_accuracy"),
        tfidf_f1=mean("tfidf_f1"),
        tfidf_rows=round(mean("tfidf_rows")),
    )
