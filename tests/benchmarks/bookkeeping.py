"""What a trial costs beside its training: `python -m tests.benchmarks.bookkeeping [TRIALS]`.

Trials that train nothing run through the real driver, nursery, ranks, upstream's search and SQLite,
each building its (tiny) model. Overhead is the wall time times the trials at a time by the trials;
that of the first and the last tenth shows growth.
"""

from __future__ import annotations

import functools
import statistics
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from unittest import mock

import psutil
from rich.console import Console
from rich.table import Table

from sweep.events import Event, TrialEnded
from sweep.launchers import local
from tests.benchmarks import idle
from tests.benchmarks.common import recorded, save
from tests.tiny import make_tiny_model

_GOAL = 0.150


def _note_memory(memory: list[int], event: Event) -> None:
    if isinstance(event, TrialEnded):
        memory.append(psutil.Process().memory_info().rss)


def main() -> None:
    """Measure with one and two trials at a time, and print the table."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    table = Table(
        "slots", "trials", "overhead per trial and slot", "goal", "ratio", "first tenth", "last tenth"
    )
    table.add_column("driver's memory: after a tenth, at the end")
    figures = {}
    for slots in (1, 2):
        memory: list[int] = []
        with tempfile.TemporaryDirectory() as name, mock.patch.object(local, "_RANK", idle.RANK):
            overrides = ["task.limit=64", f"study.n_trials={trials}", "trainer.num_train_epochs=1"]
            overrides += [f"launcher.devices={slots}", "pruner=none", "sampler=random", "model=hub"]
            overrides.append(f"model.path='{make_tiny_model(Path(name) / 'tiny')}'")
            timeline = recorded(overrides, Path(name), seen=functools.partial(_note_memory, memory))
        ends = [at for at, event in timeline if isinstance(event, TrialEnded)]
        gaps = [slots * (later - sooner) for sooner, later in pairwise(ends)]
        tenth = max(1, len(gaps) // 10)
        mean = statistics.mean(gaps)
        parts = [f"{1e3 * statistics.mean(part):.0f} ms" for part in (gaps[:tenth], gaps[-tenth:])]
        row = (f"{1e3 * mean:.0f} ms", f"≤ {1e3 * _GOAL:.0f} ms", f"{mean / _GOAL:.2f}", *parts)
        table.add_row(str(slots), str(trials), *row, f"{memory[tenth] / 1e6:.0f}, {memory[-1] / 1e6:.0f} MB")
        figures[slots] = {"trials": trials, "mean": mean, "memory": [memory[tenth], memory[-1]]}
    save("bookkeeping", {"slots": figures})
    Console().print(table)


if __name__ == "__main__":
    main()
