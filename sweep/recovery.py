"""After a crash: no old rank alive, interrupted trials back in the queue, and what was kept is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from sweep.checkpoint import IncompleteError, checkpoint_folders, read_checkpoint, survey, sweep_debris
from sweep.errors import InputError, did_you_mean
from sweep.files import remove_folder
from sweep.monitor import kept_epochs
from sweep.paths import StudyPaths, TrialPaths
from sweep.presence import make_certain_gone
from sweep.record import epochs_of
from sweep.study import parked_trials, requeue
from sweep.summary import quoted


def recover(
    study: Study, paths: StudyPaths, unwanted: list[Path], pruner: BasePruner, console: Console
) -> None:
    """Bring a study back to where its driver can start. The caller holds the study's lock.

    `unwanted` are checkpoints that are given up, see `after_checkpoint`.
    """

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    for pid in make_certain_gone(paths):
        say(f"process {pid} of the former driver was still alive and has been ended")
    for folder in unwanted:
        remove_folder(folder)
    for log in paths.trials.glob(".starting-*"):
        log.unlink()
    interrupted = set(requeue(study, keep=parked_trials(study, pruner)))
    for trial in study.get_trials(deepcopy=False):
        own = paths.trial(trial.number)
        if own.root.is_dir():
            sweep_debris(own)
        if trial.state == TrialState.WAITING and (own.root.is_dir() or trial.number in interrupted):
            with console.status(f"Checking the checkpoints of trial {trial.number} …"):
                kept = _kept(trial, paths, trial.number in interrupted)
            say(f"trial {trial.number}: {kept}")


def _kept(trial: FrozenTrial, paths: StudyPaths, crashed: bool) -> str:
    """`epochs 1–2 kept, epoch 3 repeated`, or where a paused trial goes on."""
    own = paths.trial(trial.number)
    kept = survey(own, None).epoch
    lost = [n for n in epochs_of(trial.user_attrs) if n > kept]
    if crashed and not lost and not (kept and kept >= _epochs_in_all(own)):
        lost = [kept + 1]  # reported or not: the epoch in flight starts again
    return kept_epochs(kept, lost)


def _epochs_in_all(own: TrialPaths) -> int:
    config: dict[str, Any] = yaml.safe_load(own.config.read_text())
    return int(config["trainer"]["num_train_epochs"]) * int(config["task"].get("folds") or 1)


def take_choice(words: list[str]) -> tuple[tuple[int, str] | None, list[str]]:
    """Part `trial=N from=CHECKPOINT` from the overrides.

    Raises:
        InputError: one without the other, or a trial that is no number.
    """
    given = dict(w.split("=", 1) for w in words if w.startswith(("trial=", "from=")))
    rest = [w for w in words if not w.startswith(("trial=", "from="))]
    if not given:
        return None, rest
    if set(given) != {"trial", "from"} or not given["trial"].isdecimal():
        raise InputError(
            f"'{' '.join(f'{k}={v}' for k, v in given.items())}': give both, a trial's number and one of "
            "its checkpoints: trial=5 from=checkpoint-134. sweep status STUDY_DIR --checkpoints lists them."
        )
    return (int(given["trial"]), given["from"]), rest


def after_checkpoint(study: Study, paths: StudyPaths, number: int, name: str) -> list[Path]:
    """The checkpoints to give up so that an unfinished trial continues from the one called `name`.

    The counterpart of `Trainer.train(resume_from_checkpoint=NAME)`. The epochs after it are trained
    and reported again.

    Raises:
        InputError: no such trial or checkpoint, a finished trial, or a checkpoint that is not complete.
    """
    trials = {t.number: t for t in study.get_trials(deepcopy=False)}
    shown = f"trial={number} from={name}"
    listing = f"sweep status {quoted(paths.root)} --checkpoints"
    if number not in trials:
        raise InputError(f"'{shown}': there is no trial {number}. See {listing}")
    if trials[number].state.is_finished():
        raise InputError(
            f"'{shown}': trial {number} is {trials[number].state.name}; a finished trial is never run again. "
            "Launch its settings as a new study instead: they are in "
            f"{paths.trial(number).overrides}"
        )
    folders = {folder.name: folder for folder in checkpoint_folders(paths.trial(number))}
    if name not in folders:
        have = ", ".join(folders) or "none"
        near = did_you_mean(name, folders)
        raise InputError(f"'{shown}': trial {number} has the checkpoints {have}.{near}")
    try:
        if read_checkpoint(folders[name], hashes=True).manifest.weights_only:
            raise IncompleteError("only its weights were kept")
    except IncompleteError as problem:
        raise InputError(
            f"'{shown}': that checkpoint cannot be used: {problem}. Choose another: {listing}"
        ) from None
    names = list(folders)
    return [folders[later] for later in names[names.index(name) + 1 :]]
