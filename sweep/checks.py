"""What a value must be beyond its type: choices, bounds, what excludes each other, files that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sweep.errors import did_you_mean
from sweep.schema import AUTO, SweepConfig, TaskConfig

DATA_FILES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
_METRICS = ("accuracy", "f1", "loss")
_CHOICES = {
    "objective.direction": ("maximize", "minimize"),
    "objective.epoch": ("best", "last"),
    "objective.f1_average": ("auto", "binary", "macro", "micro", "weighted"),
    "task.kind": ("reviews", "files", "hub"),
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
    metric, direction = config.objective.metric, config.objective.direction
    if metric not in _METRICS and config.task.metrics is None:
        problems.append(
            f"objective.metric={metric!r} is not one of {', '.join(_METRICS)}."
            f"{did_you_mean(metric, _METRICS)} One of your own comes from task.metrics=my_module.my_function."
        )
    better = "minimize" if metric == "loss" else "maximize"
    if metric in _METRICS and direction in _CHOICES["objective.direction"] and direction != better:
        problems.append(
            f"objective.direction={direction} would look for the worst {metric}: "
            f"add objective.direction={better}."
        )
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
