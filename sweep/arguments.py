"""A fresh TrainingArguments from a resolved config: no casts, no leftovers of another trial."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from sweep.errors import InputError, did_you_mean, input_error, reason_of
from sweep.schema import SweepConfig, TrainerConfig

# What this project decides; a config that sets one of these would be silently overruled.
_OWNED = {
    "output_dir": "study.output_dir",
    "per_device_train_batch_size": "trainer.global_batch_size",
    "per_device_eval_batch_size": "trainer.eval_batch_size",
    "gradient_accumulation_steps": "trainer.max_per_device_batch_size",
    "auto_find_batch_size": "trainer.max_per_device_batch_size",
    "max_steps": "trainer.num_train_epochs",
    "eval_strategy": "nothing: every epoch is evaluated",
    "save_strategy": "nothing: every epoch is checkpointed",
    "save_only_model": "nothing: a checkpoint is always complete",
    "save_total_limit": "checkpoints.keep",
    "logging_strategy": "nothing: every epoch is logged",
    "load_best_model_at_end": "nothing: the best epoch's checkpoint is kept",
    "metric_for_best_model": "objective.metric",
    "greater_is_better": "objective.direction",
    "resume_from_checkpoint": "sweep resume",
    "use_cpu": "launcher.accelerator",
    "ddp_backend": "launcher.backend",
    "ddp_timeout": "launcher.collective_timeout",
    "push_to_hub": "nothing: models stay here",
    "report_to": "nothing: no trackers yet",
    "local_rank": "launcher.devices_per_trial",
}


# Lowest and highest values that an optimizer step can take; upstream finds out in mid-training.
_BOUNDS = {
    "learning_rate": (1e-12, math.inf),
    "weight_decay": (0.0, math.inf),
    "warmup_steps": (0.0, math.inf),
    "label_smoothing_factor": (0.0, 1.0),
    "max_grad_norm": (0.0, math.inf),
    "adam_beta1": (0.0, 1.0),
    "adam_beta2": (0.0, 1.0),
    "adam_epsilon": (0.0, math.inf),
}


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """How one optimizer step's global batch is spread: ranks x per_device x accumulation."""

    per_device: int
    accumulation: int


def batch_plan(trainer: TrainerConfig, world_size: int) -> BatchPlan:
    """Divide the global batch over `world_size` ranks, accumulating where a device's limit asks.

    Raises:
        InputError: the batch does not divide.
    """
    batch, limit = trainer.global_batch_size, trainer.max_per_device_batch_size
    if batch % world_size:
        below = batch - batch % world_size
        near = f"{below} or {below + world_size}" if below else str(world_size)
        raise InputError(
            f"trainer.global_batch_size={batch} cannot be divided over {world_size} ranks "
            f"(launcher.devices_per_trial): use {near}."
        )
    share = batch // world_size
    if limit is None or share <= limit:
        return BatchPlan(share, 1)
    accumulation = next(n for n in range(2, share + 1) if share % n == 0 and share // n <= limit)
    return BatchPlan(share // accumulation, accumulation)


def training_arguments(
    config: SweepConfig, output_dir: Path, world_size: int, use_cpu: bool, backend: str | None
) -> TrainingArguments:
    """The TrainingArguments of one trial on one rank.

    Args:
        config: resolved, the trial's parameters applied.
        output_dir: the trial's folder.
        world_size: ranks of the trial.
        use_cpu: train on the CPU even if there are GPUs.
        backend: of torch.distributed; None with one rank.

    Raises:
        InputError: with every field that is unknown, owned by another setting, or of a wrong type.
    """
    plan = batch_plan(config.trainer, world_size)
    given = config.trainer.arguments
    _check(given)
    try:
        return TrainingArguments(
            output_dir=str(output_dir),
            num_train_epochs=config.trainer.num_train_epochs,
            per_device_train_batch_size=plan.per_device,
            gradient_accumulation_steps=plan.accumulation,
            per_device_eval_batch_size=config.trainer.eval_batch_size,
            seed=config.trainer.seed,
            eval_strategy="epoch",
            save_strategy="epoch",
            logging_strategy="epoch",
            use_cpu=use_cpu,
            ddp_backend=backend,
            ddp_timeout=config.launcher.collective_timeout,
            dataloader_pin_memory=given.get("dataloader_pin_memory", not use_cpu),
            disable_tqdm=True,
            report_to="none",
            **{k: v for k, v in given.items() if k != "dataloader_pin_memory"},
        )
    except (ValueError, TypeError, ImportError) as error:
        raise InputError(f"TrainingArguments refuse the trainer's settings: {reason_of(error)}.") from None


def _check(given: dict[str, Any]) -> None:
    known = {f.name: f for f in dataclasses.fields(TrainingArguments) if f.init}
    problems = []
    for name, value in given.items():
        if name in _OWNED:
            problems.append(f"trainer.{name} is not set directly here; use {_OWNED[name]}.")
        elif name not in known:
            near = did_you_mean(name, [k for k in known if k not in _OWNED])
            problems.append(f"trainer.{name}={value!r}: TrainingArguments have no such field.{near}")
        elif not _fits(known[name].type, value):
            kind = getattr(known[name].type, "__name__", str(known[name].type))
            problems.append(f"trainer.{name}={value!r} must be of the type {kind}.")
        elif name in _BOUNDS and not _BOUNDS[name][0] <= value <= _BOUNDS[name][1]:
            low, high = _BOUNDS[name]
            problems.append(f"trainer.{name}={value!r} must lie between {low:g} and {high:g}.")
    if problems:
        raise input_error(problems)


def _fits(kind: Any, value: Any) -> bool:
    """Whether `value` is of a field's plain type; fields of richer types check themselves."""
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind in (bool, str):
        return isinstance(value, kind)
    return True
