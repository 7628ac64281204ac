"""What launch and resume print before the first trial and after the last."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from sweep.card import DataCard
from sweep.paths import StudyPaths
from sweep.pool import DevicePool
from sweep.schema import SweepConfig
from sweep.space import SearchSpace
from sweep.status import Status, show_params, trial_count


def introduce(
    config: SweepConfig,
    space: SearchSpace,
    paths: StudyPaths,
    pool: DevicePool,
    card: DataCard,
    total: int,
    console: Console,
) -> None:
    """Print what is about to run: study, devices, data with an example, search space."""

    def say(label: str, text: str) -> None:
        console.print(f"[bold]{label:<9}[/]{escape(text)}", highlight=False, soft_wrap=True)

    say(
        "study",
        f"{config.study.name} in {paths.root}: {trial_count(total)}, {config.objective.direction} "
        f"{config.objective.metric}",
    )
    if total < config.study.n_trials:
        say("", f"(the grid has {total} points, fewer than study.n_trials={config.study.n_trials})")
    say("devices", pool.plan())
    say(
        "data",
        ", ".join(f"{count} {part}" for part, count in card.rows.items())
        + " rows; labels "
        + ", ".join(f"{name}={number}" for number, name in enumerate(card.label_names)),
    )
    shown = card.first_text if len(card.first_text) <= 70 else card.first_text[:69] + "…"
    say(
        "first row",
        f' "{shown}" has the label {card.first_label!r} → {card.first_number} '
        f"({card.label_names[card.first_number]})",
    )
    say("encoded", " ".join(card.tokens) + " …")
    for dimension in space.dimensions:
        say("space", str(dimension))
    for constraint in space.constraints:
        say("space", f"only where {constraint.text}")


def summarise(status: Status, card: DataCard, paths: StudyPaths, console: Console) -> None:
    """Print the best trial beside the baselines, and what to type next."""

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    root = quoted(paths.root)
    best = status["best"]
    say("")
    if best is None:
        say(f"No finished trial yet. Continue:  sweep resume {root}")
        return
    trial = next(t for t in status["trials"] if t["number"] == best["number"])
    at_best = next(e for e in trial["epochs"] if e["epoch"] == trial["best_epoch"])
    base = card.baselines
    gain = 100 * (at_best["accuracy"] - base.tfidf_accuracy)
    say(f"[bold]Best: trial {best['number']}[/], epoch {trial['best_epoch']}, on the validation part")
    say(f"  this model           accuracy {at_best['accuracy']:.4f}   F1 {at_best['f1']:.4f}")
    say(
        f"  TF-IDF + regression  accuracy {base.tfidf_accuracy:.4f}   F1 {base.tfidf_f1:.4f}   "
        f"({gain:+.1f} points)"
    )
    say(f"  majority class       accuracy {base.majority_accuracy:.4f}   F1 {base.majority_f1:.4f}")
    say(f"  parameters           {escape(show_params(best['params'])) or 'none'}")
    say("\nNext:")
    if status["remaining"]:
        say(f"  sweep resume {root}     # {trial_count(status['remaining'])} to go")
    say(f"  sweep status {root}")
    say(f"  sweep export {root}")
    say(f'  sweep predict {quoted(paths.best)} "The battery died after two days."')


def quoted(path: Path) -> str:
    """`path` as it must be typed in a shell."""
    return shlex.quote(str(path))
