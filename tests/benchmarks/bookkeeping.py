"""What a trial costs beside its training: `python -m tests.benchmarks.bookkeeping [TRIALS]`.

Trials that train nothing run through the real driver, nursery, ranks, upstream's search and SQLite,
each building its (tiny) model. Overhead is the wall time times the trials at a time by the trials;
that of the first and the last tenth shows growth.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from unittest import mock

import psutil
from rich.console import Console
from rich.table import Table

from sweep.events import TrialEnded
from sweep.launchers import local
from tests.benchmarks import idle
from tests.benchmarks.common import recorded
from tests.tiny import make_tiny_model

_GOAL = 0.150


def main() -> None:
    """Measure with one and two trials at a time, and print the table."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    table = Table(
        "slots", "trials", "overhead per trial and slot", "goal", "ratio", "first tenth", "last tenth"
    )
    table.add_column("driver's memory")
    for slots in (1, 2):
        with tempfile.TemporaryDirectory() as name, mock.patch.object(local, "_RANK", idle.RANK):
            overrides = ["task.limit=64", f"study.n_trials={trials}", "trainer.num_train_epochs=1"]
            overrides += [f"launcher.devices={slots}", "pruner=none", "sampler=random", "model=hub"]
            overrides.append(f"model.path='{make_tiny_model(Path(name) / 'tiny')}'")
            before = psutil.Process().memory_info().rss
            timeline = recorded(overrides, Path(name))
            grown = psutil.Process().memory_info().rss - before
        ends = [at for at, event in timeline if isinstance(event, TrialEnded)]
        gaps = [slots * (later - sooner) for sooner, later in pairwise(ends)]
        tenth = max(1, len(gaps) // 10)
        mean = statistics.mean(gaps)
        parts = [f"{1e3 * statistics.mean(part):.0f} ms" for part in (gaps[:tenth], gaps[-tenth:])]
        row = (f"{1e3 * mean:.0f} ms", f"≤ {1e3 * _GOAL:.0f} ms", f"{mean / _GOAL:.2f}", *parts)
        table.add_row(str(slots), str(trials), *row, f"{grown / 1e6:+.0f} MB")
    Console().print(table)


if __name__ == "__main__":
    main()
