"""An exported (or any sequence-classification) model folder as a function: texts -> labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from sweep.adapter import holds_adapter, load_adapted
from sweep.errors import InputError, reason_of


@dataclass(frozen=True)
class Prediction:
    """One text's class number, label name and probability (softmax of the logits, 0…1)."""

    number: int
    label: str
    probability: float


class Classifier:
    """A model folder, loaded once. Code that may come with the model is not run unless allowed."""

    def __init__(self, folder: Path, trust_remote_code: bool = False) -> None:
        """
        Raises:
            InputError: `folder` holds no model that can classify texts.
        """
        if not (folder / "config.json").is_file():
            raise InputError(
                f"{str(folder)!r} is no model's folder (it has no config.json): "
                "sweep export STUDY_DIR writes one."
            )
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
            if holds_adapter(folder):
                loaded = load_adapted(folder, trust_remote_code)
            else:
                loaded = AutoModelForSequenceClassification.from_pretrained(
                    str(folder), trust_remote_code=trust_remote_code
                )
            self._model = loaded.eval()
        except (OSError, ValueError) as error:
            raise InputError(
                f"{str(folder)!r} cannot be loaded as a classifier: {reason_of(error)}. "
                "Give a folder that sweep export wrote."
            ) from None

    def predict(self, texts: Sequence[str], batch_size: int = 32) -> Iterator[Prediction]:
        """Classify `texts` in order; longer ones than the model was trained on are cut."""
        names = self._model.config.id2label
        for start in range(0, len(texts), batch_size):
            logits = self.logits(texts[start : start + batch_size])
            probabilities = torch.softmax(logits.double(), dim=1)
            for number, row in zip(logits.argmax(dim=1), probabilities, strict=True):
                label = int(number.item())
                yield Prediction(label, str(names[label]), float(row[label]))

    def logits(self, texts: Sequence[str]) -> torch.Tensor:
        """Raw scores, shape (texts, classes)."""
        encoded = self._tokenizer(list(texts), truncation=True, padding=True, return_tensors="pt")
        with torch.inference_mode():
            logits: torch.Tensor = self._model(**encoded).logits
        return logits
