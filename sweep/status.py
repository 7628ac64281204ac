"""The state of a study as data (`sweep status --json`) and as a table."""

from __future__ import annotations

from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial
from rich.markup import escape
from rich.table import Table

from sweep.checkpoint import IncompleteError, checkpoint_folders, checkpoint_of_epoch, read_checkpoint
from sweep.errors import InputError
from sweep.paths import StudyPaths
from sweep.record import ATTEMPTS, ERROR, epochs_of
from sweep.sampler import build_pruner
from sweep.schema import ObjectiveConfig, SweepConfig
from sweep.score import best_of, mean_metrics, numbers, pareto_front, rank_key
from sweep.space import SearchSpace
from sweep.study import parked_trials

Status = dict[str, Any]


def study_status(
    study: Study, config: SweepConfig, paths: StudyPaths, space: SearchSpace, n_trials: int
) -> Status:
    """One JSON-ready object; its shape is part of the interface and documented in the README."""
    parked = parked_trials(study, build_pruner(config))
    trials = [_trial(t, space, config.objective) for t in study.get_trials(deepcopy=False)]
    for trial in trials:
        if trial["number"] in parked:
            trial["state"] = "PARKED"
    done = sum(t["state"] in ("COMPLETE", "PRUNED", "FAIL") for t in trials)
    ranking = ranked(trials, config.objective)
    best = ranking[0] if ranking else None
    goals = config.objective.goals
    signs = [goal.sign for goal in goals]
    scores = {t["number"]: [s * v for s, v in zip(signs, t["values"], strict=True)] for t in ranking}
    return {
        "study": config.study.name,
        "n_trials": n_trials,
        "remaining": max(0, n_trials - done),
        "direction": config.objective.direction,
        "metric": config.objective.metric,
        "objectives": [{"metric": goal.metric, "direction": goal.direction} for goal in goals],
        "trials": trials,
        "front": pareto_front(scores) if len(goals) > 1 else [],
        "best": None
        if best is None
        else {
            "number": best["number"],
            "value": best["value"],
            "params": best["params"],
            "checkpoint": _checkpoint(best, paths),
        },
    }


def ranked(trials: list[dict[str, Any]], objective: ObjectiveConfig) -> list[dict[str, Any]]:
    """The COMPLETE trials, best first; see `rank_key` for ties and several objectives."""
    done = [t for t in trials if t["state"] == "COMPLETE"]
    return sorted(done, key=lambda t: rank_key(t["number"], numbers(t["epochs"]), objective))


def chosen_trial(status: Status, number: int | None, root: str) -> dict[str, Any]:
    """Trial `number`, or the best one.

    Raises:
        InputError: there is none with a finished epoch.
    """
    known = {t["number"]: t for t in status["trials"]}
    if number is None:
        if status["best"] is None:
            raise InputError(f"{root} has no finished trial yet: continue it with sweep resume {root}")
        return dict(known[status["best"]["number"]])
    if number not in known:
        raise InputError(f"--trial {number}: {root} has the trials {', '.join(map(str, known)) or 'none'}.")
    if known[number]["best_epoch"] is None:
        raise InputError(
            f"--trial {number} has no finished epoch (state {known[number]['state']}): "
            "choose another with sweep status."
        )
    return dict(known[number])


def _trial(trial: FrozenTrial, space: SearchSpace, objective: ObjectiveConfig) -> dict[str, Any]:
    attributes = trial.user_attrs
    epochs = epochs_of(attributes)
    best = best_of(epochs, objective)
    dimensions = {d.path: d for d in space.dimensions}
    return {
        "number": trial.number,
        "state": trial.state.name,
        "attempts": len(attributes.get(ATTEMPTS, [])),
        "value": best.value if best else None,
        "values": list(best.values) if best else [],
        "scores": mean_metrics(epochs, objective),
        "best_epoch": best.epoch if best else None,
        "params": {
            path: dimensions[path].shown(value) if path in dimensions else value
            for path, value in trial.params.items()
        },
        "epochs": [
            {"epoch": n, **{k: v for k, v in metrics.items() if k != "epoch"}}
            for n, metrics in epochs.items()
        ],
        "seconds": round(sum(metrics["seconds"] for metrics in epochs.values()), 3),
        "error": attributes.get(ERROR),
    }


def _checkpoint(trial: dict[str, Any], paths: StudyPaths) -> str | None:
    found = checkpoint_of_epoch(paths.trial(trial["number"]), trial["best_epoch"])
    return str(found.path.resolve()) if found else None


def checkpoint_list(status: Status, paths: StudyPaths) -> list[dict[str, Any]]:
    """What lies on disk, trial by trial: name, epoch, size in bytes, metrics, and what is wrong with it.

    Contents are read and compared with their hashes, as a resume does.
    """
    found: list[dict[str, Any]] = []
    for trial in status["trials"]:
        for folder in checkpoint_folders(paths.trial(trial["number"])):
            line: dict[str, Any] = {"trial": trial["number"], "name": folder.name}
            try:
                manifest = read_checkpoint(folder, hashes=True).manifest
                line |= {"epoch": manifest.epoch, "bytes": manifest.size, "metrics": manifest.metrics}
                line |= {"resumable": not manifest.weights_only, "problem": None}
            except IncompleteError as problem:
                line |= {"epoch": None, "bytes": None, "metrics": {}, "resumable": False}
                line |= {"problem": str(problem)}
            found.append(line)
    return found


def checkpoint_table(checkpoints: list[dict[str, Any]]) -> Table:
    """One row a checkpoint; its name is what `sweep resume … from=` takes."""
    table = Table(title="checkpoints", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in ("trial", "name", "epoch", "accuracy", "F1", "loss", "MB", ""):
        left = column in ("name", "")
        table.add_column(column, justify="left" if left else "right", no_wrap=column != "")
    for line in checkpoints:
        scores = [f"{line['metrics'][k]:.4f}" if line["metrics"] else "" for k in ("accuracy", "f1", "loss")]
        note = line["problem"] or ("" if line["resumable"] else "weights only")
        size = f"{line['bytes'] / 1e6:.1f}" if line["bytes"] is not None else ""
        epoch = str(line["epoch"]) if line["epoch"] is not None else ""
        table.add_row(str(line["trial"]), line["name"], epoch, *scores, size, escape(note))
    return table


def status_table(status: Status) -> Table:
    """The trials by number, the best (of several objectives: the Pareto front) marked.

    Scores are those of a trial's best epoch; with folds, the mean over them.
    """
    goals = status["objectives"]
    title = f"{status['study']}: " + ", ".join(f"{g['metric']} ({g['direction']})" for g in goals)
    table = Table(title=title, box=None, padding=(0, 2, 0, 0), pad_edge=False)
    shown = ["accuracy", "f1", "loss"]
    if len(goals) > 1 or goals[0]["metric"] not in shown:
        shown = [g["metric"] for g in goals]
    names = ["F1" if name == "f1" else name for name in shown]
    for column in ("trial", "state", "epochs", *names, "time"):
        table.add_column(column, justify="left" if column == "state" else "right", no_wrap=True)
    table.add_column("parameters", overflow="fold")
    marked = status["front"] or ([status["best"]["number"]] if status["best"] else [])
    for trial in status["trials"]:
        scores = [show_score(k, trial["scores"][k]) if trial["scores"] else "" for k in shown]
        note = f"\n{trial['error']}" if trial["error"] else ""
        table.add_row(
            f"{'*' if trial['number'] in marked else ''}{trial['number']}",
            trial["state"],
            str(len(trial["epochs"])),
            *scores,
            f"{trial['seconds']:.0f} s",
            escape(show_params(trial["params"], "\n") + note),
        )
    return table


def show_score(metric: str, value: float) -> str:
    """A score as people read it; a model's size in megabytes, a latency in milliseconds."""
    if metric == "size":
        return f"{value / 1e6:.1f} MB"
    return f"{value:.2f} ms" if metric == "latency" else f"{value:.4f}"


def show_scores(trial: dict[str, Any], status: Status) -> str:
    """`accuracy 0.8506, latency 3.20 ms`: a trial's values of the study's objectives."""
    goals = (goal["metric"] for goal in status["objectives"])
    return ", ".join(f"{name} {show_score(name, trial['scores'][name])}" for name in goals)


def trial_count(count: int) -> str:
    """`1 trial`, `2 trials`."""
    return f"{count} trial{'s' if count != 1 else ''}"


def show_params(params: dict[str, Any], separator: str = " ") -> str:
    """`learning_rate=0.000294 …`: the last part of each path if it is unique, floats shortened."""
    leaves = [path.rsplit(".", 1)[-1] for path in params]
    return separator.join(
        f"{leaf if leaves.count(leaf) == 1 else path}={f'{value:.3g}' if isinstance(value, float) else value}"
        for (path, value), leaf in zip(params.items(), leaves, strict=True)
    )
