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
from sweep.status import Status, show_params, show_scores, trial_count


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
        f"{config.study.name} in {paths.root}: {trial_count(total)}, "
        + ", ".join(f"{goal.direction} {goal.metric}" for goal in config.objective.goals),
    )
    if total < config.study.n_trials:
        say("", f"(the grid has {total} points, fewer than study.n_trials={config.study.n_trials})")
    say("devices", pool.plan())
    say(
        "data",
        ", ".join(f"{count} {part}" for part, count in card.rows.items())
        + " rows"
        + (f", {card.folds} folds" if card.folds else "")
        + "; labels "
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
    scores, base = trial["scores"], card.baselines
    gain = 100 * (scores["accuracy"] - base.tfidf_accuracy)
    where = f"epoch {trial['best_epoch']}, on the validation part"
    if card.folds:
        where = f"mean over {card.folds} folds"
    if status["front"]:
        say("[bold]Pareto front[/], the trials that no other beats in everything:")
        for number in status["front"]:
            found = next(t for t in status["trials"] if t["number"] == number)
            say(f"  trial {number:<4} {show_scores(found, status)}   {escape(show_params(found['params']))}")
    say(f"[bold]Best{' ' + status['metric'] if status['front'] else ''}: trial {best['number']}[/], {where}")
    say(f"  this model           accuracy {scores['accuracy']:.4f}   F1 {scores['f1']:.4f}")
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
    if len(status["front"]) > 1:
        other = next(n for n in status["front"] if n != best["number"])
        say(f"  sweep export {root} --trial {other}     # or another of the front")
    say(f'  sweep predict {quoted(paths.best)} "The battery died after two days."')


def quoted(path: Path) -> str:
    """`path` as it must be typed in a shell."""
    return shlex.quote(str(path))
