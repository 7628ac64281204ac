"""bf16 or fp32: which is faster on this study's devices, found by a few training steps of its model."""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DataCollatorWithPadding

from sweep.arguments import batch_plan
from sweep.attempt import bind_device
from sweep.devices import choose_devices, inspect_machine
from sweep.model import weights_size
from sweep.opening import effective_trials
from sweep.paths import StudyPaths
from sweep.presence import announce
from sweep.score import FOLD
from sweep.study_parts import StudyParts

_WARM, _ROUNDS = 2, 5
_LONGEST = 20.0  # seconds; large models get fewer rounds
_WORTH = 0.9  # of the time of fp32; a smaller gain is within the noise, and fp32 is exact


@dataclass(frozen=True)
class Precision:
    """What was measured.

    Attributes:
        bf16: whether autocast to bf16 is worth it.
        ratio: time of a step in bf16 ÷ in fp32; None where the device has no bf16.
    """

    bf16: bool
    ratio: float | None

    def __str__(self) -> str:
        if self.ratio is None:
            return "fp32: the device has no bf16"
        chosen = "bf16" if self.bf16 else "fp32"
        return f"{chosen}: a step in bf16 takes {self.ratio:.2f} times as long as in fp32"


def measure_precision(paths: StudyPaths) -> Precision:
    """Train a few steps on the study's first device, in turn, in a process that ends afterwards.

    The batch is one device's share, of texts of average length. Data must have been prepared.
    """
    announce(paths, f"prepare-{os.getpid()}")
    parts = StudyParts(paths)
    config = parts.config
    trials, weights = effective_trials(config, parts.space), weights_size(config.model)
    devices = choose_devices(inspect_machine(), config.launcher, trials, weights)
    bind_device(tuple(devices), 0, config.launcher)
    if devices[0].kind == "cuda" and not torch.cuda.is_bf16_supported():
        return Precision(False, None)
    kind = devices[0].kind
    model = parts.model(config.model).model().to(kind).train()
    batch = _batch(parts, batch_plan(config.trainer, config.launcher.devices_per_trial).per_device).to(kind)
    times: dict[bool, list[float]] = {False: [], True: []}
    began = time.monotonic()
    for turn in range(_WARM + _ROUNDS):
        for bf16, found in times.items():
            seconds = _step(model, batch, kind, bf16)
            if turn >= _WARM:
                found.append(seconds)
        if all(times.values()) and time.monotonic() - began > _LONGEST:
            break
    ratio = statistics.median(times[True]) / statistics.median(times[False])
    return Precision(ratio < _WORTH, ratio)


def _batch(parts: StudyParts, size: int) -> Any:
    data, lengths = parts.tokens(parts.config.task, parts.config.model)
    middle = sorted(range(len(lengths)), key=lengths.__getitem__)
    start = max(0, (len(middle) - size) // 2)
    rows = [data["train"][i] for i in middle[start : start + size]]
    kept = [{k: v for k, v in row.items() if k not in ("length", FOLD)} for row in rows]
    return DataCollatorWithPadding(parts.tokenizer(parts.config.model))(kept)


def _step(model: Any, batch: Any, kind: str, bf16: bool) -> float:
    """Seconds of forward and backward."""
    began = time.perf_counter()
    with torch.autocast(kind, torch.bfloat16, enabled=bf16):
        loss = model(**batch).loss
    loss.backward()
    if kind == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    model.zero_grad()
    return seconds
