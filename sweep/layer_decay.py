"""Layer-wise learning-rate decay: lower layers, which know more general things, learn more slowly.

Source: Howard and Ruder 2018, "Universal Language Model Fine-tuning for Text Classification"
(discriminative fine-tuning).
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch

from sweep.model import layer_stack


def decay_by_layer(optimizer: torch.optim.Optimizer, model: Any, factor: float) -> None:
    """Split the groups of a fresh `optimizer` by layer, each with `factor` times the rate of the one above.

    The head (and all that belongs to no layer) keeps the rate, the top layer has `factor` times it, and
    embeddings, below the lowest layer, the least.
    """
    heights = _heights(model)
    groups: list[dict[str, Any]] = []
    for group in optimizer.param_groups:
        by_height: dict[int, list[torch.nn.Parameter]] = defaultdict(list)
        for parameter in group["params"]:
            by_height[heights.get(id(parameter), 0)].append(parameter)
        groups += [
            {**group, "params": found, "lr": group["lr"] * factor**height}
            for height, found in sorted(by_height.items())
        ]
    optimizer.param_groups = sorted(
        groups, key=lambda group: -group["lr"]
    )  # the head's rate is what is logged


def _heights(model: Any) -> dict[int, int]:
    """id of each parameter below the head -> how many layers down it is, the top layer being 1."""
    layers = list(layer_stack(model) or ())
    heights = {id(p): len(layers) - number for number, layer in enumerate(layers) for p in layer.parameters()}
    embeddings = getattr(model.base_model, "embeddings", None) or model.get_input_embeddings()
    return heights | {id(p): len(layers) + 1 for p in embeddings.parameters()}
