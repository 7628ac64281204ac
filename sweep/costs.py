"""What a model costs its user: objectives to be set against accuracy."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

_TEXTS, _ROUNDS, _WARM = 15, 3, 3


def size(model: torch.nn.Module) -> float:
    """Bytes of all weights, frozen ones and an adapter's included."""
    return float(sum(p.nbytes for p in model.parameters()))


def latency(model: torch.nn.Module, rows: Any, collate: Any, autocast: Any, device: torch.device) -> float:
    """Milliseconds to classify one text alone: the median over texts of all lengths.

    Of each text the shortest of a few times, for other trials may be busy on the same machine.

    Args:
        model: of the Trainer.
        rows: the validation part, sorted by length, with the columns that the model takes.
        collate: rows -> batch, as for the Trainer.
        autocast: makes the context of a forward pass.
        device: where the model is.
    """
    chosen = [round(i * (len(rows) - 1) / (_TEXTS - 1)) for i in range(_TEXTS)]
    batches = [{k: v.to(device) for k, v in collate([rows[i]]).items()} for i in chosen]

    def seconds(batch: dict[str, torch.Tensor]) -> float:
        began = time.perf_counter()
        with torch.inference_mode(), autocast():
            model(**batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    model.eval()
    for batch in batches[:_WARM]:
        seconds(batch)
    return 1000 * statistics.median(min(seconds(batch) for _ in range(_ROUNDS)) for batch in batches)
