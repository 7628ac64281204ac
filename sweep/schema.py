"""The settings of a study or trial, with their types and defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sweep.errors import InputError

AUTO = "auto"  # of trainer.bf16: measured when the study is made


@dataclass
class StudyConfig:
    """A study's name and budgets: None is no limit.

    `n_trials` is the total; `timeout` in seconds and `max_epochs` are of all trials and sessions together;
    `patience` is a number of finished trials. `enqueue` are maps of paths and values, `source` another
    study's folder (in the config: `from`), of which the `from_top` best trials run first.
    """

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


@dataclass(frozen=True)
class Goal:
    """One objective: a metric, and whether to maximize or minimize it."""

    metric: str
    direction: str

    @property
    def sign(self) -> int:
        """What makes smaller better."""
        return -1 if self.direction == "maximize" else 1


@dataclass
class ObjectiveConfig:
    """What makes one trial better than another; `also` are further objectives, each "metric:direction"."""

    metric: str = "accuracy"
    direction: str = "maximize"
    also: list[str] = field(default_factory=list)
    f1_average: str = "auto"
    epoch: str = "best"
    patience: int | None = None

    @property
    def goals(self) -> tuple[Goal, ...]:
        """All objectives. The first leads: it picks a trial's epoch, and the order of trials."""
        more = (text.rpartition(":") for text in self.also)
        return Goal(self.metric, self.direction), *(Goal(metric, way) for metric, _, way in more)

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
class AugmentConfig:
    """Copies of the training texts, changed a little; `kind` none or words.

    Each text gets `copies`, in which the share `delete` of its words is left out and the share `swap`
    changes places.
    """

    kind: str = "none"
    copies: int = 1
    delete: float = 0.1
    swap: float = 0.1


@dataclass
class TaskConfig:
    """Texts and labels, and how they are parted.

    `validation_fraction` and `test_fraction` are shares of all rows, `limit` a number of training rows,
    `max_length` one of tokens; rows with the same value in `group_column` stay in one part. With `folds`
    there is no validation part: each trial is trained that many times, each time without another fold.
    """

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
    metrics: str | None = None
    group_column: str | None = None
    folds: int | None = None
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass
class AdapterConfig:
    """What is trained beside a model's weights; `kind` none or lora.

    `rank` is that of the update of each weight matrix, which is scaled by `alpha` ÷ `rank`; `dropout` is a
    share of its inputs; `target_modules` are names, "all-linear", or None for what peft knows to be good.
    """

    kind: str = "none"
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    target_modules: Any = None


@dataclass
class ModelConfig:
    path: str = "???"
    revision: str | None = None
    num_hidden_layers: int | None = None
    freeze_embeddings: bool = False
    freeze_layers: int = 0
    trust_remote_code: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)


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
