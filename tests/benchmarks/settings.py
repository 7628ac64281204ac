"""Do the defaults cost score or time? `python -m tests.benchmarks.settings`.

Sweeps of their own kind: batches grouped by length against random ones with the same seeds, and fp32
against bf16 autocast on this device.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sweep.commands import read_status
from tests.benchmarks.common import recorded, save

_SEEDS, _ROWS = 8, 1000
_PLANS = {
    "trainer.train_sampling_strategy": ("random", "group_by_length"),
    "trainer.bf16": ("false", "true"),
}


def _trials(path: str, values: tuple[str, ...], seeds: int, rows: int) -> list[dict[str, Any]]:
    overrides = ["space=none", f"{path}=choice({','.join(values)})", "sampler=grid", "pruner=none"]
    overrides += [f"trainer.seed=choice({','.join(map(str, range(seeds)))})"]
    with tempfile.TemporaryDirectory() as folder:
        study = [*overrides, f"task.limit={rows}", f"study.n_trials={seeds * len(values)}"]
        recorded(study, Path(folder))
        trials: list[dict[str, Any]] = json.loads(json.dumps(read_status(Path(folder) / "reviews")["trials"]))
    return trials


def main() -> None:
    """Run the sweeps and print the tables."""
    figures = {}
    for path, values in _PLANS.items():
        seeds, rows = (_SEEDS, _ROWS) if "sampling" in path else (2, 200)
        trials = _trials(path, values, seeds, rows)
        table = Table(path, "accuracy: mean", "deviation", "seconds per epoch", "÷ first")
        by_value: dict[str, list[dict[str, Any]]] = {
            value: [t for t in trials if str(t["params"][path]).lower() == value] for value in values
        }
        times = {
            value: statistics.mean(e["seconds"] for t in found for e in t["epochs"])
            for value, found in by_value.items()
        }
        for value, found in by_value.items():
            scores = [t["value"] for t in found]
            row = (f"{statistics.mean(scores):.4f}", f"{statistics.stdev(scores):.4f}", f"{times[value]:.1f}")
            table.add_row(value, *row, f"{times[value] / times[values[0]]:.2f}")
        first, second = (
            {t["params"]["trainer.seed"]: t["value"] for t in by_value[value]} for value in values
        )
        gains = [second[seed] - first[seed] for seed in sorted(first)]
        error = statistics.stdev(gains) / len(gains) ** 0.5
        table.caption = (
            f"same seed, {values[1]} less {values[0]}: {statistics.mean(gains):+.4f} ± {error:.4f}"
        )
        Console().print(table)
        figures[path] = {"seconds": times, "gains": gains}
    save("settings", figures)


if __name__ == "__main__":
    main()
