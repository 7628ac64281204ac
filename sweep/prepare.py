"""Everything that is done once per study before its first trial: check, split, tokenise, baselines."""

from __future__ import annotations

import os
from pathlib import Path

import datasets
from omegaconf import DictConfig

from sweep.arguments import batch_plan, training_arguments
from sweep.baseline import baselines, mean_baselines
from sweep.card import Baselines, DataCard
from sweep.config import typed
from sweep.devices import Machine, choose_devices, inspect_machine
from sweep.errors import InputError, did_you_mean, input_error
from sweep.metrics import own_metrics
from sweep.model import check_model, load_tokenizer, model_hash
from sweep.paths import StudyPaths
from sweep.presence import announce
from sweep.schema import SweepConfig
from sweep.score import FOLD, STANDARD_METRICS
from sweep.space import Params, SearchSpace, parse_space
from sweep.task import Frames, data_hash, save_split, split_task
from sweep.tokens import tokenised, tokens_key

_SHOWN_TOKENS = 12


def check_study(cfg: DictConfig) -> Machine:
    """Check everything about a study that needs no data.

    Returns:
        The machine, of which `choose_devices` makes the study's devices.

    Raises:
        InputError: with every problem found: the config of the study and of each end and choice
            of its search space.
    """
    config, space = typed(cfg), parse_space(cfg)
    problems: list[str] = []
    own = own_metrics(config.task.metrics)([0, 1], [0, 1])
    for metric in (goal.metric for goal in config.objective.goals):
        if metric not in {*STANDARD_METRICS, *own}:
            near = did_you_mean(metric, own)
            problems.append(
                f"objective.metric={metric!r} is not among what "
                f"task.metrics={config.task.metrics} returns: {', '.join(own)}.{near}"
            )
    machine = inspect_machine()
    use_cpu = choose_devices(machine, config.launcher, config.study.n_trials)[0].kind == "cpu"
    for params in [{}, *space.corners()]:
        try:
            _check_trial(space, params, use_cpu)
        except InputError as error:
            text = str(error)
            if text not in problems:
                problems.append(text)
    if problems:
        raise input_error(problems)
    return machine


def _check_trial(space: SearchSpace, params: Params, use_cpu: bool) -> None:
    trial = typed(space.apply(params))
    batch_plan(trial.trainer, trial.launcher.devices_per_trial)
    # One rank here: what depends on their number is the batch plan alone.
    training_arguments(trial, Path("unused"), 1, use_cpu, None)


def model_hashes(cfg: DictConfig) -> dict[str, str]:
    """What identifies the pretrained models of a study: sha256 of a folder, or a name and revision."""
    space = parse_space(cfg)
    models: dict[str, str] = {}
    chosen = typed(cfg).model.path
    for params in [{}, *space.corners()]:
        model = typed(space.apply(params)).model
        setting = "model.path" if model.path == chosen else f"model.path={model.path}"
        if setting not in models:
            models[setting] = model_hash(model)
    return models


def prepare_study(cfg: DictConfig, paths: StudyPaths) -> tuple[DataCard, dict[str, str]]:
    """Read, check and split the data, load the model once, tokenise, and score the baselines.

    Returns:
        The data card, which the caller writes, and `model_hashes`.

    Raises:
        InputError: data or a model that cannot be used.
    """
    announce(paths, f"prepare-{os.getpid()}")
    datasets.disable_progress_bars()
    config, space = typed(cfg), parse_space(cfg)
    parts, names = split_task(config)
    average = config.objective.average(len(names))
    seen, chosen = set[str](), dict[str, SweepConfig]()
    for params in [{}, *space.corners()]:
        trial = typed(space.apply(params))
        setting = f"{trial.model} {trial.task.max_length}"
        if setting not in seen:
            seen.add(setting)
            check_model(trial.model, names, trial.task.max_length)
            chosen.setdefault(tokens_key(trial.task, trial.model), trial)
    save_split(parts, names, paths)
    for trial in chosen.values():
        tokenised(trial.task, trial.model, config.study.seed, paths)
    train = parts["train"]
    text, found = str(train["text"].iloc[0]), train["found"].iloc[0]
    tokenizer = load_tokenizer(config.model)
    ids = tokenizer(text, truncation=True, max_length=config.task.max_length)["input_ids"]
    card = DataCard(
        rows={name: len(rows) for name, rows in parts.items()},
        label_names=names,
        first_text=text,
        first_label=found.item() if hasattr(found, "item") else found,
        first_number=int(train["label"].iloc[0]),
        tokens=tokenizer.convert_ids_to_tokens(ids)[:_SHOWN_TOKENS],
        data_hash=data_hash(parts, names),
        baselines=_baselines(parts, average, config.study.seed),
        folds=config.task.folds,
    )
    return card, model_hashes(cfg)


def _baselines(parts: Frames, average: str, seed: int) -> Baselines:
    train = parts["train"]
    if FOLD not in train:
        return baselines(train, parts["validation"], average, seed)
    folds = [
        baselines(train[train[FOLD] != fold], train[train[FOLD] == fold], average, seed)
        for fold in sorted(train[FOLD].unique())
    ]
    return mean_baselines(folds)
