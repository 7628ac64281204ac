"""From the end of one trial to the next one's first optimizer step: `python -m tests.benchmarks turnaround`.

One device, the default model, trials of one epoch on 64 reviews. The end is the word of rank 0 that
its trial's state is in storage; the step is done when its first sign of life arrives.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sweep.events import StepDone, TrialEnded
from tests.benchmarks.common import recorded, save

_TRIALS = 12
_GOAL = 0.4


def main() -> None:
    """Measure, and print median and extremes against the goal."""
    table = Table("ranks", "turnaround: median", "least", "most", "goal", "median ÷ goal")
    figures = {}
    for ranks in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            overrides = ["task.limit=64", f"study.n_trials={_TRIALS}", "trainer.num_train_epochs=1"]
            overrides += [f"launcher.devices={ranks}", f"launcher.devices_per_trial={ranks}", "pruner=none"]
            timeline = recorded(overrides, Path(folder))
        ends = {e.number: at for at, e in timeline if isinstance(e, TrialEnded)}
        steps: dict[int, float] = {}
        for at, event in timeline:
            if isinstance(event, StepDone):
                steps.setdefault(event.number, at)
        gaps = [steps[n + 1] - ends[n] for n in ends if n + 1 in steps]
        median = statistics.median(gaps)
        goal = f"≤ {_GOAL} s" if ranks == 1 else ""
        row = (f"{median:.2f} s", f"{min(gaps):.2f} s", f"{max(gaps):.2f} s", goal, f"{median / _GOAL:.2f}")
        table.add_row(str(ranks), *row)
        figures[ranks] = gaps
    save("turnaround", {"seconds": figures})
    Console().print(table)


if __name__ == "__main__":
    main()
