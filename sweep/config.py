"""The typed config of a study or trial, and the check that reports all mistakes at once."""

from __future__ import annotations

import copy
import functools
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweep.errors import InputError, did_you_mean, input_error, reason_of

Tree = dict[str, Any]  # a config as plain dicts and lists


@dataclass
class StudyConfig:
    name: str = "???"
    n_trials: int = 1
    timeout: int | None = None
    max_epochs: int | None = None
    patience: int | None = None
    seed: int = 0
    output_dir: str = "outputs"
    enqueue: list[Any] = field(default_factory=list)
    source: str | None = None  # in the config `from`, which Python keeps for itself
    from_top: int = 3


@dataclass
class ObjectiveConfig:
    metric: str = "accuracy"
    direction: str = "maximize"
    f1_average: str = "auto"
    epoch: str = "best"
    patience: int | None = None

    def average(self, num_labels: int) -> str:
        """scikit-learn's name of the F1 average for data of `num_labels` classes.

        Raises:
            InputError: binary asked for more than two classes.
        """
        if self.f1_average == "auto":
            return "binary" if num_labels == 2 else "macro"
        if self.f1_average == "binary" and num_labels > 2:
            raise InputError(
                f"objective.f1_average=binary needs two classes and the data has {num_labels}: "
                "use macro, micro or weighted."
            )
        return self.f1_average


@dataclass
class TaskConfig:
    kind: str = "files"
    name: str = "files"
    path: str | None = None
    subset: str | None = None
    text_column: str = "text"
    label_column: str = "label"
    label_names: list[str] | None = None
    validation_path: str | None = None
    test_path: str | None = None
    validation_fraction: float = 0.15
    test_fraction: float = 0.15
    limit: int | None = None
    max_length: int = 128


@dataclass
class ModelConfig:
    path: str = "???"
    revision: str | None = None
    num_hidden_layers: int | None = None
    freeze_embeddings: bool = False
    freeze_layers: int = 0
    trust_remote_code: bool = False
    config: dict[str, Any] = field(default_factory=dict)


@dataclass
class TrainerConfig:
    """What this project gives a meaning of its own; `arguments` go to TrainingArguments as is."""

    num_train_epochs: int = 3
    global_batch_size: int = 32
    max_per_device_batch_size: int | None = None
    eval_batch_size: int = 64
    layerwise_lr_decay: float = 1.0
    seed: int = 0
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass
class StorageConfig:
    url: str | None = None


@dataclass
class LauncherConfig:
    """`hang_timeout` is None for half of `collective_timeout`."""

    kind: str = "local"
    accelerator: str = "auto"
    devices: Any = "auto"
    devices_per_trial: int = 1
    trials_per_device: int = 1
    backend: str = "auto"
    collective_timeout: int = 1800
    hang_timeout: int | None = None
    max_attempts: int = 3
    on_oom: str = "shrink"

    def patience(self) -> float:
        """Seconds that ranks may be silent."""
        return self.collective_timeout / 2 if self.hang_timeout is None else self.hang_timeout


@dataclass
class CheckpointsConfig:
    keep: str = "best"
    top_k: int = 1
    max_bytes: int | None = None


@dataclass
class SweepConfig:
    """One config, resolved: of a study, or of a trial after its parameters were applied."""

    study: StudyConfig = field(default_factory=StudyConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    space: dict[str, Any] = field(default_factory=dict)
    sampler: dict[str, Any] = field(default_factory=dict)
    pruner: dict[str, Any] = field(default_factory=dict)
    storage: StorageConfig = field(default_factory=StorageConfig)
    launcher: LauncherConfig = field(default_factory=LauncherConfig)
    checkpoints: CheckpointsConfig = field(default_factory=CheckpointsConfig)


_RENAMED = {"from": "source"}
AUTO = "auto"  # of trainer.bf16: measured when the study is made
_FREE_FORM = ("space", "sampler", "pruner", "model.config", "trainer.arguments")
DATA_FILES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
_CHOICES = {
    "objective.metric": ("accuracy", "f1", "loss"),
    "objective.direction": ("maximize", "minimize"),
    "objective.epoch": ("best", "last"),
    "objective.f1_average": ("auto", "binary", "macro", "micro", "weighted"),
    "task.kind": ("reviews", "files", "hub"),
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


def leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted path -> value of every leaf of a nested dict; free-form maps count as one leaf."""
    if not isinstance(tree, dict) or prefix in _FREE_FORM:
        return {prefix: tree}
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found.update(leaves(value, f"{prefix}.{key}" if prefix else str(key)))
    return found


def resolve(cfg: DictConfig) -> Tree:
    """`cfg` as plain dicts and lists, interpolations resolved.

    Raises:
        InputError: one that cannot be.
    """
    try:
        tree = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise input_error([f"The config does not resolve: {reason_of(error)}"]) from None
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


def typed(cfg: DictConfig | Tree, inputs: bool = False) -> SweepConfig:
    """Check `cfg` (a tree: resolved already); with `inputs`, whether the data files are there, too.

    Raises:
        InputError: with every problem found, each naming its path and value.
    """
    problems: list[str] = []
    tree = resolve(cfg) if isinstance(cfg, DictConfig) else dict(cfg)
    tree["study"] = {_RENAMED.get(k, k): v for k, v in (tree.get("study") or {}).items()}
    own = {f.name for f in fields(TrainerConfig)} - {"arguments"}
    trainer = dict(tree.get("trainer") or {})
    tree["trainer"] = {k: v for k, v in trainer.items() if k in own}
    values = leaves(tree)
    known = _known()
    for path, value in values.items():
        if path not in known:
            problems.append(f"'{path}' is no setting of a sweep.{did_you_mean(path, known)}")
        elif value == "???":
            problems.append(f"{path} has no value: add {path}=… to the command.")
    try:
        config = SweepConfig(
            **{name: _section(name, value) for name, value in tree.items() if name in _names()}
        )
    except OmegaConfBaseException:
        given = {path: value for path, value in values.items() if path in known and value != "???"}
        raise input_error(problems + _type_problems(given)) from None
    config.trainer.arguments = {k: copy.deepcopy(v) for k, v in trainer.items() if k not in own}
    problems += _value_problems(config, values)
    if inputs:
        problems += _file_problems(config.task)
    if problems:
        raise input_error(problems)
    return config


_sections: dict[tuple[str, str], Any] = {}


def _section(name: str, value: Any) -> Any:
    """One section of a config as its type says. Kept: most of a trial's config is its study's."""
    key = name, repr(value)
    if key not in _sections:
        _sections[key] = OmegaConf.to_object(OmegaConf.merge(_schema()[name], value))
    return copy.deepcopy(_sections[key])


@functools.cache
def _schema() -> DictConfig:
    """The settings with their types; not to be changed. Making it takes longer than using it."""
    schema: DictConfig = OmegaConf.structured(SweepConfig)
    return schema


@functools.cache
def _names() -> frozenset[str]:
    return frozenset(f.name for f in fields(SweepConfig))


@functools.cache
def _known() -> dict[str, Any]:
    return leaves(OmegaConf.to_container(_schema()))


def _type_problems(values: dict[str, Any]) -> list[str]:
    """One by one, what does not fit its type."""
    problems, schema = [], _schema().copy()
    for path, value in values.items():
        try:
            OmegaConf.update(schema, path, value, merge=path not in _FREE_FORM)
        except OmegaConfBaseException as error:
            problems.append(f"{path}={value!r} does not fit: {reason_of(error)}.")
    return problems


def _value_problems(config: SweepConfig, values: dict[str, Any]) -> list[str]:
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
    better = "minimize" if metric == "loss" else "maximize"
    if direction in _CHOICES["objective.direction"] and direction != better:
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


def _file_problems(task: TaskConfig) -> list[str]:
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
