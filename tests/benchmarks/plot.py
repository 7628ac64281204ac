"""Draws what the benchmarks found: `python -m tests.benchmarks.plot`."""

from __future__ import annotations

import statistics
from pathlib import Path

import matplotlib

from tests.benchmarks.common import kept

matplotlib.use("svg")
from matplotlib import pyplot

pyplot.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "sweep"})
_PICTURE, _SEARCH = Path(__file__).with_name("results.svg"), Path(__file__).with_name("search.svg")
_OURS, _OTHERS, _PLAIN = "#2a7f62", "#4c78a8", "#9aa0a6"


def plot() -> Path:
    """Wall time against the peers, and cost per trial as a study grows; returns the picture's path."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    if peers := kept("peers"):
        medians = {name: statistics.median(found) for name, found in peers["seconds"].items()}
        names = sorted(medians, key=medians.__getitem__, reverse=True)
        colours = {"sweep": _OURS, "pure": _PLAIN}
        bars = left.barh(names, [medians[n] for n in names], color=[colours.get(n, _OTHERS) for n in names])
        left.bar_label(bars, fmt="%.0f s", padding=3)
        left.margins(x=0.15)
        rows = "all reviews" if peers["limit"] is None else f"{peers['limit']} reviews"
        left.set_title(f"8 trials of 2 epochs, {rows}: seconds")
    if growth := kept("growth"):
        for storage, costs in growth["seconds"].items():
            right.plot([int(n) for n in costs], [1e3 * s for s in costs.values()], marker="o", label=storage)
        right.set_xscale("log")
        right.set_ylim(bottom=0)
        right.set_xlabel("finished trials of the study")
        right.set_title("cost of one more trial: milliseconds")
        right.legend()
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(_PICTURE, metadata={"Date": None})
    return _PICTURE


def plot_search() -> Path | None:
    """Epochs that each search needed, all seeds, best median on top; returns the picture's path."""
    if (search := kept("search")) is None:
        return None
    found = sorted(search["epochs"].items(), key=lambda each: -statistics.median(each[1]))
    figure, axes = pyplot.subplots(figsize=(9, 0.32 * len(found) + 1), layout="constrained")
    boxes = axes.boxplot(
        [epochs for _, epochs in found], orientation="horizontal", patch_artist=True, showfliers=False
    )
    for (name, _), box in zip(found, boxes["boxes"], strict=True):
        other = _PLAIN if name == search["base"] else _OTHERS if ":" in name else _OURS
        box.set(facecolor=other, alpha=0.7)
    axes.set_yticks(range(1, len(found) + 1), [name for name, _ in found])
    axes.axvline(statistics.median(search["epochs"][search["base"]]) / 3, color=_PLAIN, linestyle="--")
    axes.set_xscale("log")
    axes.set_title("epochs until within 0.5 points of the best; dashed: a third of random + none")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(_SEARCH, metadata={"Date": None})
    return _SEARCH


if __name__ == "__main__":
    plot()
    plot_search()
