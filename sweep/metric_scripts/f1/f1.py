"""F1 for `evaluate.load`, kept here so that scoring needs no network.

The configuration's name is the average: binary (of class 1), macro, micro or weighted.
"""

import datasets
import evaluate
from sklearn.metrics import f1_score


class F1(evaluate.Metric):  # type: ignore[misc]
    """Harmonic mean of precision and recall; 0 where neither is defined."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Harmonic mean of precision and recall.",
            citation="",
            inputs_description="predictions, references: class numbers, one per example.",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        score = f1_score(references, predictions, average=self.config_name, zero_division=0)
        return {"f1": float(score)}
