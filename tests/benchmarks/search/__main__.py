"""Epochs until a search has found what is nearly the best: `python -m tests.benchmarks.search [SEEDS]`.

Every sampler with every pruner, through the real driver and SQLite without training; and on the same curves
Optuna alone with its own Hyperband, and Ray Tune's ASHA. Counted are the epochs until the accuracy is within
0.5 points of the best of all curves.
"""

from __future__ import annotations

import os
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from rich.console import Console
from rich.table import Table

from tests.benchmarks.common import save
from tests.benchmarks.search.curves import best_accuracy
from tests.benchmarks.search.searches import BASE, NEAR, quiet, searches


def main() -> None:
    """Replay all, and print the table."""
    seeds = range(int(sys.argv[1]) if sys.argv[1:] else 30)
    found: dict[str, list[int]] = {}
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("spawn"), quiet) as pool:
        for name, (search, arguments) in searches().items():
            found[name] = list(pool.map(search, *([a] * len(seeds) for a in arguments), seeds))
            print(f"{name}: {statistics.median(found[name])}", flush=True)
    table = Table("search", "epochs: median", "quartiles", f"÷ {BASE}")
    base = statistics.median(found[BASE])
    for name, epochs in sorted(found.items(), key=lambda each: statistics.median(each[1])):
        low, _, high = statistics.quantiles(epochs, n=4)
        median = statistics.median(epochs)
        table.add_row(name, f"{median:.0f}", f"{low:.0f} to {high:.0f}", f"{median / base:.2f}")
    Console().print(table)
    save("search", {"epochs": found, "base": BASE, "goal": best_accuracy() - NEAR})


if __name__ == "__main__":
    main()
