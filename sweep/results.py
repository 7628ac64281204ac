"""What of a finished study must not depend on crashes, and how two studies differ in it."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from sweep.commands import read_status

_TIMES = ("seconds", "runtime", "samples_per_second", "steps_per_second")


def study_result(root: Path) -> dict[str, Any]:
    """Everything of a finished study that must not depend on crashes.

    Returns:
        `trials`: by number, the state, value, parameters and each epoch's metrics but for times;
        `weights`: sha256 of the best epoch's weights.
    """
    status = read_status(root)
    trials = [
        {
            "number": t["number"],
            "state": t["state"],
            "value": t["value"],
            "params": t["params"],
            "epochs": [{k: v for k, v in e.items() if k not in _TIMES} for e in t["epochs"]],
        }
        for t in status["trials"]
    ]
    weights = None
    if status["best"] is not None and status["best"]["checkpoint"] is not None:
        files = sorted(Path(status["best"]["checkpoint"]).glob("*.safetensors"))
        weights = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return {"trials": trials, "weights": weights}


def compare_results(calm: dict[str, Any], killed: dict[str, Any]) -> list[str]:
    """One line for each difference between two results of `study_result`."""
    lines = []
    a, b = calm["trials"], killed["trials"]
    numbers = [t["number"] for t in b]
    lines += [f"trial {t['number']} is missing" for t in a if t["number"] not in numbers]
    lines += [f"trial {n} is there {c} times" for n, c in Counter(numbers).items() if c > 1]
    lines += [f"trial {n} is one too many" for n in numbers if n >= len(a)]
    for before, after in zip(a, b, strict=False):
        lines += [
            f"trial {before['number']}: {key} is {after[key]!r} instead of {before[key]!r}"
            for key in before
            if before[key] != after[key]
        ]
    if calm["weights"] != killed["weights"]:
        lines.append(f"the best weights have sha256 {killed['weights']} instead of {calm['weights']}")
    return lines
