"""One trial over one and two ranks, one and two trials at a time: `python -m tests.benchmarks.scaling`.

The default model on 300 reviews. Throughput is training rows per second of the epochs, evaluation and
checkpoint included; per core, because a second core should pay.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sweep.events import EpochDone
from tests.benchmarks.common import recorded, save

_ROWS, _ROUNDS = 300, 3
_LAYOUTS = {  # cores, trials at a time, overrides
    "1 trial, 1 core": (1, 1, ["launcher.devices=1", "study.n_trials=1"]),
    "1 trial, 1 rank with 2 cores": (2, 1, ["launcher.devices=1", "study.n_trials=1"]),
    "1 trial, 2 ranks": (2, 1, ["launcher.devices=2", "launcher.devices_per_trial=2", "study.n_trials=1"]),
    "2 trials, 1 core each": (2, 2, ["launcher.devices=2", "study.n_trials=2"]),
}


def _throughput(cores: int, trials: int, overrides: list[str]) -> float:
    """Rows per second of all trials together; in a process of its own, for its server keeps the cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    with tempfile.TemporaryDirectory() as folder:
        common = [f"task.limit={_ROWS}", "trainer.num_train_epochs=2", "space=none", "pruner=none"]
        timeline = recorded([*common, *overrides], Path(folder))
    seconds = [event.metrics["seconds"] for _, event in timeline if isinstance(event, EpochDone)]
    return trials * _ROWS / statistics.mean(seconds)


def _measure(name: str) -> float:
    command = [sys.executable, "-m", "tests.benchmarks.scaling", name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    """Measure in turn, and print the table; with a layout's name, print its rows per second."""
    if sys.argv[1:]:
        print(_throughput(*_LAYOUTS[sys.argv[1]]))
        return
    found: dict[str, list[float]] = {name: [] for name in _LAYOUTS}
    for _ in range(_ROUNDS):
        for name in _LAYOUTS:
            found[name].append(_measure(name))
    table = Table("layout", "rows per second: median", "least", "most", "per core", "÷ 1 trial, 1 core")
    base = statistics.median(found["1 trial, 1 core"])
    for name, values in found.items():
        median, cores = statistics.median(values), _LAYOUTS[name][0]
        row = (f"{median:.1f}", f"{min(values):.1f}", f"{max(values):.1f}")
        table.add_row(name, *row, f"{median / cores:.1f}", f"{median / cores / base:.2f}")
    Console().print(table)
    save("scaling", {"rows_per_second": found})


if __name__ == "__main__":
    main()
