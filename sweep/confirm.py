"""The verb confirm: the best trials trained again with new seeds, ranked by the mean of their scores.

The best of many noisy scores is too good to be true (Dodge et al. 2020, "Fine-Tuning Pretrained Language
Models": the seed alone moves scores by points). What is trained again is a study of its own inside the
study's folder, so it is resumed, checked and exported like any other.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from scipy import stats

from sweep.commands import launch, read_status, resume
from sweep.errors import InputError, SweepError
from sweep.files import write_text
from sweep.opening import checked, open_study
from sweep.paths import StudyPaths
from sweep.resumption import changed_config
from sweep.schema import SweepConfig
from sweep.status import Status, ranked, show_params, trial_count
from sweep.summary import quoted

_SEED = "trainer.seed"
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Confirmed:
    """One trial of the study, trained again.

    Attributes:
        number: in the study.
        study_value: its score there.
        scores: seed -> score of the objective's metric.
        trials: seed -> number of the trial that trained it again.
        mean, std: of the scores; std with n - 1.
        low, high: bounds of the mean's 95 % confidence interval (Student's t); equal for a single seed.
    """

    number: int
    params: dict[str, Any]
    study_value: float
    scores: dict[int, float]
    trials: dict[int, int]
    mean: float
    std: float
    low: float
    high: float


def confirm(root: Path, top: int, seeds: int, overrides: list[str], console: Console) -> int:
    """Train the `top` best trials again with `seeds` new seeds each; done before, or in part: the rest.
    Returns the exit status, as `launch`. The result is kept in the study's folder.

    Raises:
        InputError: no completed trial, or a confirmation of others is there.
        SweepError: a fault at run time; type the command again.
    """
    if top < 1 or seeds < 1:
        raise InputError(f"--top {top} --seeds {seeds}: both must be at least 1.")
    paths, old = open_study(root)
    config, _ = checked(old)
    chosen = _best(read_status(root), config, top, root)
    if len(chosen) < top:
        console.print(f"{trial_count(len(chosen))} completed: --top {len(chosen)}", highlight=False)
    cfg = _config(old, config, paths, chosen, seeds, overrides)
    again = paths.confirmation(config.study.name)
    if again.config.is_file():
        _, there = open_study(again.root)
        if there.study.enqueue != cfg.study.enqueue:
            raise InputError(
                f"{again.root} confirms other trials, or with other seeds: type --top and --seeds as then, "
                "or remove that folder."
            )
        code = resume(again.root, overrides, False, console)
    else:
        code = launch(cfg, console)
    if code == 0:
        result = _evaluate(chosen, read_status(again.root), config)
        write_text(paths.confirmed, json.dumps([asdict(each) for each in result], indent=1))
        _report(result, config, root, console)
    return code


def winner(root: Path) -> tuple[Path, int]:
    """The confirmed winner's model: the folder of its study and the trial of the median seed.

    Raises:
        InputError: nothing has been confirmed.
    """
    paths, cfg = open_study(root)
    if not paths.confirmed.is_file():
        raise InputError(f"{root} has no confirmed winner yet: sweep confirm {quoted(root)}")
    first = json.loads(paths.confirmed.read_text())[0]
    by_score = sorted(first["trials"], key=lambda seed: (first["scores"][seed], int(seed)))
    return paths.confirmation(str(cfg.study.name)).root, first["trials"][by_score[(len(by_score) - 1) // 2]]


def _best(status: Status, config: SweepConfig, top: int, root: Path) -> list[dict[str, Any]]:
    done = [t for t in status["trials"] if t["state"] == "COMPLETE"]
    if not done:
        raise InputError(f"{root} has no completed trial yet: continue it with sweep resume {quoted(root)}")

    first = [*status["front"]]
    return sorted(ranked(done, config.objective), key=lambda t: t["number"] not in first)[:top]


def _config(
    old: DictConfig,
    config: SweepConfig,
    paths: StudyPaths,
    chosen: list[dict[str, Any]],
    seeds: int,
    overrides: list[str],
) -> DictConfig:
    """The config of the study that trains them again."""
    used = {int(t["params"].get(_SEED, config.trainer.seed)) for t in chosen}
    new = [max(used) + k for k in range(1, seeds + 1)]
    cfg = changed_config(old, overrides)
    space = OmegaConf.to_container(cfg.space) if cfg.space else {}
    assert isinstance(space, dict)
    cfg.space = {**space, _SEED: f"choice({','.join(map(str, new))})"}
    # Seed by seed, so that a confirmation that is paused compares all trials on some.
    points = [{**trial["params"], _SEED: seed} for seed in new for trial in chosen]
    cfg.study = {
        "name": paths.confirmation(config.study.name).root.name,
        "n_trials": len(points),
        "seed": config.study.seed,  # of the split: the parts stay the same
        "output_dir": str(paths.root),
        "enqueue": points,
    }
    cfg.sampler = {"_target_": "optuna.samplers.RandomSampler"}
    cfg.pruner = {"_target_": "optuna.pruners.NopPruner"}
    cfg.checkpoints = {"keep": "weights", "top_k": len(points), "max_bytes": None}
    return cfg


def _evaluate(chosen: list[dict[str, Any]], again: Status, config: SweepConfig) -> list[Confirmed]:
    """The trials, best mean first.

    Raises:
        SweepError: one of them has no score with any seed.
    """
    found = []
    for trial in chosen:
        same = {k: v for k, v in trial["params"].items() if k != _SEED}
        mine = {
            int(t["params"][_SEED]): t
            for t in again["trials"]
            if t["state"] == "COMPLETE" and {k: v for k, v in t["params"].items() if k != _SEED} == same
        }
        if not mine:
            raise SweepError(f"Trial {trial['number']} failed with every seed; see the trials' logs.")
        scores = {seed: float(t["value"]) for seed, t in sorted(mine.items())}
        values = np.array(list(scores.values()))
        mean, std = float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0
        low, high = interval(values)
        numbers = {seed: int(t["number"]) for seed, t in mine.items()}
        found.append(
            Confirmed(trial["number"], trial["params"], trial["value"], scores, numbers, mean, std, low, high)
        )
    sign = config.objective.goals[0].sign
    return sorted(found, key=lambda each: (sign * each.mean, each.number))


def interval(values: Any) -> tuple[float, float]:
    """The confidence interval of the mean of `values`, shape (n,), by Student's t."""
    mean = float(values.mean())
    error = float(stats.sem(values)) if len(values) > 1 else 0.0
    if error == 0.0:
        return mean, mean
    low, high = stats.t.interval(_CONFIDENCE, len(values) - 1, loc=mean, scale=error)
    return float(low), float(high)


def difference(first: Confirmed, other: Confirmed) -> tuple[float, float, float]:
    """Mean and confidence interval of `first` less `other`, seed by seed (a paired comparison)."""
    shared = sorted(first.scores.keys() & other.scores.keys())
    gains = np.array([first.scores[seed] - other.scores[seed] for seed in shared])
    return (float(gains.mean()), *interval(gains)) if shared else (0.0, 0.0, 0.0)


def _report(result: list[Confirmed], config: SweepConfig, root: Path, console: Console) -> None:
    metric, best = config.objective.metric, result[0]
    table = Table(
        "trial", f"{metric}: mean", "deviation", "95 % interval", "in the study", "seeds", "parameters"
    )
    for each in result:
        bounds = f"{each.low:.4f} to {each.high:.4f}" if len(each.scores) > 1 else "one seed: none"
        row = (f"{each.mean:.4f}", f"{each.std:.4f}", bounds, f"{each.study_value:.4f}")
        table.add_row(str(each.number), *row, str(len(each.scores)), show_params(each.params))
    console.print(table)
    for other in result[1:]:
        mean, low, high = difference(best, other)
        noise = low <= 0 <= high
        verdict = "within noise" if noise else "more than noise"
        console.print(
            f"trial {best.number} against trial {other.number}: {mean:+.4f} "
            f"({low:+.4f} to {high:+.4f}), {verdict}",
            highlight=False,
        )
    console.print(f"\nNext:\n  sweep export {quoted(root)} --confirmed", highlight=False, soft_wrap=True)
