"""Eight trials by `sweep` and by its peers, in turn.

`python -m tests.benchmarks.peers [--limit N] [--rounds N]`: wall time of whole commands, from an empty
folder to the end. Without `--limit` the data are those of the default task, whole. Peers run twice: as
they come, with batches drawn at random, and with batches grouped by length, as `sweep` has them (upstream
under torch.distributed, the slowest, only so).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sweep.reviews import reviews_file
from tests.benchmarks.common import save
from tests.benchmarks.peers.workload import OVERRIDES

_ROOT = Path(__file__).resolve().parents[3]
_CORES = len(os.sched_getaffinity(0))
_ONE_PROCESS = "upstream, one process"
_OURS = ", batches by length"
_GOALS = "sweep ÷ best peer ≤ 0.70, sweep ÷ pure ≤ 1.05"


def _commands(study: Path, output: Path, limit: int | None) -> dict[str, list[str]]:
    """The command line of each, after the interpreter."""
    here = "tests.benchmarks.peers"
    less = [] if limit is None else [f"task.limit={limit}"]
    found = {
        "sweep": ["-m", "sweep", "launch", *OVERRIDES, *less, f"study.output_dir='{study.parent}'"],
        "pure": ["-m", f"{here}.pure", str(study), str(output)],
    }
    for suffix, sampling in (("", "random"), (_OURS, "group_by_length")):
        folder = f"{output}-{sampling}"
        given = [str(study), folder, sampling]
        found |= {
            f"{_ONE_PROCESS}{suffix}": ["-m", f"{here}.upstream", *given],
            f"Ray Tune{suffix}": ["-m", f"{here}.ray_tune", *given],
            f"Hydra multirun{suffix}": [
                *("-m", f"{here}.hydra_multirun", "--multirun", "hydra/launcher=submitit_local"),
                *(f"hydra.sweeper.max_batch_size={_CORES}", f"hydra.sweep.dir={folder}/hydra"),
                *("hydra.launcher.cpus_per_task=1", "+index=range(8)"),
                *(f"+study={study}", f"+output={folder}", f"+sampling={sampling}"),
            ],
        }
    ranks = f"--nproc-per-node={_CORES}"
    found[f"upstream, torch.distributed{_OURS}"] = [
        *("-m", "torch.distributed.run", ranks, "-m", f"{here}.upstream"),
        *(str(study), f"{output}-distributed", "group_by_length"),
    ]
    return found


def _measure(name: str, command: list[str], folder: Path) -> float:
    """Seconds of one command; for "pure" what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "HF_HUB_OFFLINE": "1", "RAY_DEDUP_LOGS": "0"}
    environment.pop("OMP_NUM_THREADS", None)
    if name != "sweep" and not name.startswith(_ONE_PROCESS):
        environment["OMP_NUM_THREADS"] = "1"  # a process per core
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - began
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return float(done.stdout.split()[-1]) if name == "pure" else seconds


def main() -> None:
    """Measure in turn, forth and back, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--limit", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    reviews_file()  # downloads are nobody's time
    seconds: dict[str, list[float]] = {}
    console = Console()
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            commands = _commands(folder / "ours" / "reviews", folder / "theirs", options.limit)
            # `sweep` goes first, for it prepares the data; the peers change places.
            order = ["sweep", *list(commands)[1:][:: 1 if number % 2 == 0 else -1]]
            for each in order:
                seconds.setdefault(each, []).append(_measure(each, commands[each], folder))
                console.print(f"round {number + 1}: {each} {seconds[each][-1]:.1f} s")
        save("peers", {"seconds": seconds, "limit": options.limit})
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    table = Table("8 trials, 2 epochs each", "median", "least", "most", "sweep ÷ it", caption=_GOALS)
    for name, found in seconds.items():
        row = (f"{medians[name]:.1f} s", f"{min(found):.1f} s", f"{max(found):.1f} s")
        table.add_row(name, *row, f"{medians['sweep'] / medians[name]:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
