"""Export: a trial's best epoch as a model folder, proven to score what the study recorded."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from sweep.card import DataCard, read_card
from sweep.checkpoint import TRAINING_STATE, checkpoint_of_epoch
from sweep.commands import read_status
from sweep.config import typed
from sweep.confirm import winner
from sweep.errors import InputError, SweepError
from sweep.model_card import model_card
from sweep.opening import open_study
from sweep.paths import StudyPaths
from sweep.schema import SweepConfig
from sweep.score import FOLD, numbers
from sweep.scoring import Scores, score_in_clean_process
from sweep.status import chosen_trial

_TOLERANCE = 1e-6
_METRICS = "metrics.json"


def export_confirmed(root: Path, to: Path | None, adapter: bool, console: Console) -> int:
    """Export the confirmed winner of the study in `root`, trained with the seed of its median score."""
    again, number = winner(root)
    return export(again, number, to if to is not None else StudyPaths(root).best, adapter, console)


def export(root: Path, number: int | None, to: Path | None, adapter: bool, console: Console) -> int:
    """Write the model of trial `number` (or the best) to `to` (or the study's folder `best`).

    With `adapter` a LoRA adapter is not merged into the model it was trained on.

    Raises:
        InputError: no study, no such trial, one without an adapter, or a target folder that holds
            something else.
        SweepError: the exported files do not score what the study recorded; nothing is left.
    """
    paths, cfg = open_study(root)
    target = to if to is not None else paths.best
    if target.exists() and any(target.iterdir()) and not (target / _METRICS).is_file():
        raise InputError(f"{target} exists and is no exported model: give another folder with --to.")
    trial = chosen_trial(read_status(root), number, str(root))
    config = _trial_config(paths, trial["number"], cfg)
    if adapter and config.model.adapter.kind == "none":
        raise InputError(
            f"--adapter: trial {trial['number']} was trained without one (model/adapter=lora): leave it out."
        )
    found = checkpoint_of_epoch(paths.trial(trial["number"]), trial["best_epoch"])
    if found is None:
        raise SweepError(
            f"The checkpoint of trial {trial['number']}, epoch {trial['best_epoch']} is not in "
            f"{paths.trial(trial['number']).root}: checkpoints.keep and checkpoints.top_k decide which "
            "trials keep theirs. Export another one with --trial."
        )
    card = read_card(paths)
    staging = target.with_name(f".writing-{target.name}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.parent.mkdir(parents=True, exist_ok=True)
    try:
        with console.status("Writing the model and scoring it in a clean process …"):
            shutil.copytree(found.path, staging, ignore=shutil.ignore_patterns(*TRAINING_STATE))
            if config.model.adapter.kind != "none":
                from sweep.model import finish_adapter  # torch, which others leave to the clean process

                finish_adapter(staging, config.model, card.label_names, keep=adapter)
            _fix_length(staging, config.task.max_length)
            recorded = numbers(trial["epochs"])[trial["best_epoch"]]
            scores = score_in_clean_process(
                staging,
                paths.root,
                config.objective.average(len(card.label_names)),
                config.trainer.eval_batch_size,
                config.model.trust_remote_code,
                int(recorded[FOLD]) if FOLD in recorded else None,
            )
            _prove(trial["number"], recorded, scores)
            _write_records(staging, trial, scores, config, card, adapter)
        if target.exists():
            shutil.rmtree(target)
        staging.replace(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    _report(trial, scores, target, console)
    return 0


def _trial_config(paths: StudyPaths, number: int, cfg: DictConfig) -> SweepConfig:
    own = paths.trial(number).config
    loaded = OmegaConf.load(own) if own.is_file() else cfg
    assert isinstance(loaded, DictConfig)
    return typed(loaded)


def _fix_length(folder: Path, max_length: int) -> None:
    """Let the tokenizer cut texts where training cut them."""
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    settings["model_max_length"] = max_length
    file.write_text(json.dumps(settings, indent=2))


def _prove(number: int, recorded: Mapping[str, float], scores: Scores) -> None:
    for name in ("accuracy", "f1"):
        found = scores["validation"][name]
        if abs(found - recorded[name]) > _TOLERANCE:
            raise SweepError(
                f"The exported files of trial {number} have the validation {name} "
                f"{found:.6f}, the study recorded {recorded[name]:.6f}: the checkpoint or the data "
                "has changed, and nothing was exported. Choose another trial with --trial."
            )


def _write_records(
    folder: Path, trial: dict[str, Any], scores: Scores, config: SweepConfig, card: DataCard, adapter: bool
) -> None:
    metrics = {"trial": trial["number"], "epoch": trial["best_epoch"], **scores}
    if card.folds:
        metrics["mean_over_folds"] = {name: trial["scores"][name] for name in ("accuracy", "f1")}
    (folder / _METRICS).write_text(json.dumps(metrics, indent=1))
    OmegaConf.save(OmegaConf.create(trial["params"]), folder / "params.yaml")
    (folder / "README.md").write_text(model_card(trial, scores, config, card, adapter))


def _report(trial: dict[str, Any], scores: Scores, target: Path, console: Console) -> None:
    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    say(f"Exported trial {trial['number']}, epoch {trial['best_epoch']} to {target}")
    for part, note in (("validation", "as the study recorded"), ("test", "never seen by the sweep")):
        found = scores[part]
        say(f"  {part:<10}  accuracy {found['accuracy']:.4f}   F1 {found['f1']:.4f}   ({note})")
    say(f'Next:\n  sweep predict {shlex.quote(str(target))} "The battery died after two days."')
