"""What preparation found out about a study's data, kept as JSON in its folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from sweep.files import write_text
from sweep.paths import StudyPaths


@dataclass(frozen=True)
class Baselines:
    """Accuracy and F1 on the validation part; `tfidf_rows` is what the regression was fitted on."""

    majority_accuracy: float
    majority_f1: float
    tfidf_accuracy: float
    tfidf_f1: float
    tfidf_rows: int


@dataclass(frozen=True)
class DataCard:
    """The data of a study.

    Attributes:
        rows: part (train, validation, test) -> number of rows.
        label_names: name i belongs to class i.
        first_text, first_label, first_number: the first training text, its label as found, and
            the number it was mapped to.
        tokens: the first tokens of that text, as the tokenizer cuts it.
        data_hash: sha256 of all texts and labels.
        baselines: scores on the validation part to measure a sweep against; with folds, the mean over them.
        folds: of a cross-validation, made of the train part; None without one.
    """

    rows: dict[str, int]
    label_names: list[str]
    first_text: str
    first_label: Any
    first_number: int
    tokens: list[str]
    data_hash: str
    baselines: Baselines
    folds: int | None = None


def write_card(card: DataCard, paths: StudyPaths) -> None:
    """Keep `card` in the study's folder."""
    write_text(paths.data_card, json.dumps(asdict(card), indent=1))


def read_card(paths: StudyPaths) -> DataCard:
    """What `write_card` kept."""
    raw = json.loads(paths.data_card.read_text())
    return DataCard(**{**raw, "baselines": Baselines(**raw["baselines"])})
