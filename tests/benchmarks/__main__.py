"""All benchmarks, one after another, then the plot: `python -m tests.benchmarks [NAME …]`.

Names: peers, turnaround, bookkeeping, growth, scaling, settings, search, first_sweep. All of them take about
three hours on two cores. Figures go to `outputs/benchmarks`, the plots to `tests/benchmarks/*.svg`.
"""

from __future__ import annotations

import subprocess
import sys

from tests.benchmarks.plot import plot, plot_search

_ALL = ("turnaround", "bookkeeping", "growth", "scaling", "settings", "search", "first_sweep", "peers")


def main() -> None:
    """Each in a process of its own."""
    names = sys.argv[1:] or list(_ALL)
    if unknown := set(names) - set(_ALL):
        sys.exit(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(_ALL)}")
    for name in names:
        print(f"== {name}", flush=True)
        subprocess.run([sys.executable, "-m", f"tests.benchmarks.{name}"], check=True)
    print(f"plots: {plot()} {plot_search() or ''}")


if __name__ == "__main__":
    main()
