"""What a value must be beyond its type: choices, bounds, what excludes each other, files that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sweep.errors import did_you_mean
from sweep.schema import AUTO, SweepConfig, TaskConfig

DATA_FILES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
_METRICS = {
    "accuracy": "maximize",
    "f1": "maximize",
    "loss": "minimize",
    "latency": "minimize",
    "size": "minimize",
}
_DIRECTIONS = ("maximize", "minimize")
_CHOICES = {
    "objective.direction": _DIRECTIONS,
    "objective.epoch": ("best", "last"),
    "objective.f1_average": ("auto", "binary", "macro", "micro", "weighted"),
    "task.kind": ("reviews", "files", "hub"),
    "task.augment.kind": ("none", "words"),
    "model.adapter.kind": ("none", "lora"),
    "launcher.kind": ("local",),
    "launcher.accelerator": ("auto", "cpu", "cuda"),
    "launcher.backend": ("auto", "gloo", "nccl"),
    "launcher.on_oom": ("shrink", "fail"),
    "checkpoints.keep": ("best", "all", "weights"),
}
_POSITIVE = (
    "study.n_trials",
    "study.timeout",
    "study.max_epochs",
    "study.patience",
    "study.from_top",
    "objective.patience",
    "task.limit",
    "task.max_length",
    "task.augment.copies",
    "model.num_hidden_layers",
    "model.adapter.rank",
    "model.adapter.alpha",
    "trainer.num_train_epochs",
    "trainer.global_batch_size",
    "trainer.max_per_device_batch_size",
    "trainer.eval_batch_size",
    "launcher.devices_per_trial",
    "launcher.trials_per_device",
    "launcher.collective_timeout",
    "launcher.hang_timeout",
    "launcher.max_attempts",
    "checkpoints.top_k",
    "checkpoints.max_bytes",
)
_STUDY_NAME = re.compile(r"[^/\\\0]+")


def value_problems(config: SweepConfig, values: dict[str, Any]) -> list[str]:
    """One line for each value that no study could use.

    `values` are the settings as they were given: dotted path -> value.
    """
    problems = []
    for path, allowed in _CHOICES.items():
        value = values.get(path)
        if value is not None and value not in allowed:
            near = did_you_mean(str(value), allowed)
            problems.append(f"{path}={value!r} is not one of {', '.join(allowed)}.{near}")
    for path in _POSITIVE:
        value = values.get(path)
        if value is not None and float(value) <= 0:
            problems.append(f"{path}={value!r} must be at least 1.")
    problems += _objective_problems(config)
    problems += _fold_problems(config)
    if config.trainer.arguments.get("bf16") == AUTO and config.trainer.arguments.get("fp16"):
        problems.append("trainer.bf16=auto chooses between bf16 and fp32: leave trainer.fp16=true out.")
    name = config.study.name
    if not _STUDY_NAME.fullmatch(name) or name in {".", ".."} or name != name.strip():
        problems.append(
            f"study.name={name!r} cannot name a folder: use a name without slashes, "
            "for instance study.name=reviews-2."
        )
    if config.storage.url is not None and re.match(r"[^/]*://[^/]*:[^/]*@", config.storage.url):
        problems.append(
            "storage.url holds a password, which would end up in files and logs: leave it out (USER@HOST) "
            "and keep it in PGPASSWORD or in ~/.pgpass."
        )
    for path in ("task.validation_fraction", "task.test_fraction"):
        share = float(values[path])
        if not 0 < share <= 0.5:
            problems.append(f"{path}={share} must lie above 0 and at most at 0.5.")
    decay = config.trainer.layerwise_lr_decay
    if not 0 < decay <= 1:
        problems.append(
            f"trainer.layerwise_lr_decay={decay} must lie above 0 and at most at 1, which is none."
        )
    if config.task.label_names is not None and len(set(config.task.label_names)) < 2:
        problems.append(
            f"task.label_names={config.task.label_names} must name at least two different labels."
        )
    limit, patience = config.launcher.collective_timeout, config.launcher.hang_timeout
    if patience is not None and patience >= limit:
        problems.append(
            f"launcher.hang_timeout={patience} must lie below "
            f"launcher.collective_timeout={limit}, or a rank that hangs looks like one that failed."
        )
    return problems


def _objective_problems(config: SweepConfig) -> list[str]:
    objective, problems = config.objective, []
    for place, goal in enumerate(objective.goals):
        metric, direction = goal.metric, goal.direction
        several = place > 0 or bool(objective.also)
        named = f"objective=[…, {metric}:{direction}, …]" if several else f"objective.metric={metric!r}"
        if several and (not metric or direction not in _DIRECTIONS):
            written = objective.also[place - 1] if place else f"{metric}:{direction}"
            problems.append(
                f"objective: {written!r} is no objective: write METRIC:maximize or METRIC:minimize, "
                "for instance objective=[accuracy:maximize,latency:minimize]."
            )
            continue
        if metric not in _METRICS and config.task.metrics is None:
            problems.append(
                f"{named} is not one of {', '.join(_METRICS)}.{did_you_mean(metric, _METRICS)} "
                "One of your own comes from task.metrics=my_module.my_function."
            )
        better = _METRICS.get(metric, direction)
        if direction in _DIRECTIONS and direction != better:
            mended = f"{metric}:{better}" if several else f"objective.direction={better}"
            wrong = f"{metric}:{direction}" if several else f"objective.direction={direction}"
            problems.append(f"{wrong} would look for the worst {metric}: write {mended}.")
    names = [goal.metric for goal in objective.goals]
    if len(set(names)) < len(names):
        problems.append(f"objective: {', '.join(names)} names a metric twice: leave one out.")
    pruner = str(config.pruner.get("_target_", ""))
    if objective.also and not pruner.endswith(".NopPruner"):
        problems.append(
            f"pruner._target_={pruner}: with several objectives it is not defined which trial is the worse "
            "one, so none can be stopped early: add pruner=none."
        )
    return problems


def _fold_problems(config: SweepConfig) -> list[str]:
    task, problems = config.task, []
    if task.folds is not None and task.folds < 2:
        problems.append(f"task.folds={task.folds} must be at least 2; null is no cross-validation.")
    if task.folds is not None and task.kind == "files" and task.validation_path is not None:
        problems.append(
            f"task.validation_path={task.validation_path!r}: with task.folds={task.folds} each fold is the "
            "validation part in turn. Leave one of the two out."
        )
    if task.group_column is not None and task.kind == "reviews":
        problems.append(
            f"task.group_column={task.group_column!r}: the reviews have groups of their own (the review a "
            "sentence is from). Leave it out."
        )
    pruner = str(config.pruner.get("_target_", ""))
    if pruner.endswith(".WilcoxonPruner") and task.folds is None:
        problems.append(
            "pruner=wilcoxon compares trials fold by fold: add task.folds=5, or use another pruner."
        )
    for name in ("delete", "swap"):
        share = getattr(task.augment, name)
        if not 0 <= share < 1:
            problems.append(f"task.augment.{name}={share} must be at least 0 and below 1.")
    return problems


def file_problems(task: TaskConfig) -> list[str]:
    """Files that do not exist or have an unknown ending; nothing is read."""
    problems = []
    if task.kind == "files":
        for key in ("path", "validation_path", "test_path"):
            if (value := getattr(task, key)) is None:
                continue
            file = Path(value)
            if not file.is_file():
                near = did_you_mean(file.name, [p.name for p in file.parent.glob("*")])
                problems.append(f"task.{key}={value!r} is no file.{near} Give your data's path.")
            elif file.suffix.lower() not in DATA_FILES:
                problems.append(
                    f"task.{key}={value!r} has the unknown ending {file.suffix!r}: "
                    f"use one of {', '.join(DATA_FILES)}."
                )
    return problems
