"""The learning curves that searches are replayed on; `python -m tests.benchmarks.search.curves` makes them.

180 settings, 6 epochs each, of the smoke preset on more data (two layers of MiniLM on 1,000 reviews), by a
sweep of its own with the grid sampler. What it finds is kept in curves.json, about 20 minutes on two cores.
"""

from __future__ import annotations

import functools
import json
import math
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sweep.commands import read_status
from tests.benchmarks.common import recorded

EPOCHS = 6
RATES = (1e-4, 2e-4, 3e-4, 4e-4, 6e-4, 8e-4, 1.2e-3, 2e-3, 4e-3, 8e-3)
RATE, BATCH, FROZEN, DECAY = (
    "trainer.learning_rate",
    "trainer.global_batch_size",
    "model.freeze_layers",
    "trainer.weight_decay",
)
CHOICES = {BATCH: (16, 32, 64), FROZEN: (0, 1, 2), DECAY: (0.0, 0.1)}
_METRICS = ("accuracy", "f1", "loss")
_FILE = Path(__file__).with_name("curves.json")
Curve = list[dict[str, float]]


def choices() -> list[str]:
    """The overrides of everything but the learning rate."""
    return [f"{path}=choice({','.join(map(str, values))})" for path, values in CHOICES.items()]


@functools.cache
def _curves() -> dict[tuple[Any, ...], Curve]:
    kept = json.loads(_FILE.read_text())
    return {tuple(row["setting"]): row["epochs"] for row in kept["curves"]}


def curve(params: dict[str, Any]) -> Curve:
    """The epochs of the setting nearest to `params`: the same choices, the nearest rate on a log scale."""
    rate = min(RATES, key=lambda each: abs(math.log(each / params[RATE])))
    return _curves()[(rate, *(params[path] for path in CHOICES))]


def best_accuracy() -> float:
    """The best of all epochs of all settings."""
    return max(epoch["accuracy"] for found in _curves().values() for epoch in found)


def main() -> None:
    """Train them all and write the file."""
    rates = f"{RATE}=choice({','.join(map(str, RATES))})"
    study = ["experiment=smoke", "study.name=curves", "sampler=grid", "pruner=none", rates, *choices()]
    study += [
        f"trainer.num_train_epochs={EPOCHS}",
        "study.n_trials=180",
        "task.limit=1000",
        "trainer.bf16=true",
    ]
    with tempfile.TemporaryDirectory() as folder:
        recorded(study, Path(folder))
        trials = read_status(Path(folder) / "curves")["trials"]
    rows = [
        {
            "setting": [trial["params"][path] for path in (RATE, *CHOICES)],
            "epochs": [{name: round(epoch[name], 4) for name in _METRICS} for epoch in trial["epochs"]],
        }
        for trial in trials
    ]
    versions = {package: version(package) for package in ("torch", "transformers")}
    lines = ",\n".join(json.dumps(row) for row in rows)
    _FILE.write_text(f'{{"versions": {json.dumps(versions)},\n"curves": [\n{lines}\n]}}\n')
    print(f"{len(rows)} curves, best accuracy {max(e['accuracy'] for r in rows for e in r['epochs'])}")


if __name__ == "__main__":
    main()
