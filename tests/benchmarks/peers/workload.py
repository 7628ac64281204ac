"""What every peer trains: eight fixed trials of a study that `sweep` has prepared, with a plain Trainer.

Peers get the split and tokenised data for nothing; `sweep` prepares them within its own time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from sweep.arguments import training_arguments
from sweep.config import typed
from sweep.metrics import compute_metrics
from sweep.model import load_model
from sweep.paths import StudyPaths
from sweep.study_parts import StudyParts

TRIALS = [{"learning_rate": rate, "batch": batch} for rate in (2e-4, 3e-4, 4e-4, 6e-4) for batch in (16, 32)]
OVERRIDES = [
    "trainer.learning_rate=choice(2e-4,3e-4,4e-4,6e-4)",
    "trainer.global_batch_size=choice(16,32)",
    f"study.n_trials={len(TRIALS)}",
    "sampler=grid",
    "pruner=none",
]


class Workload:
    """The data and settings of the study in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._parts = StudyParts(StudyPaths(folder))
        self._data, _ = self._parts.tokens(self._parts.config.task, self._parts.config.model)

    def arguments(
        self, trial: dict[str, Any], output: Path, sampling: str = "group_by_length", ranks: int = 1
    ) -> TrainingArguments:
        """A trial's TrainingArguments: evaluated and checkpointed every epoch, like those of `sweep`.

        `sampling` is Trainer's `train_sampling_strategy`, whose own default is "random".
        """
        params = {
            "trainer.learning_rate": trial["learning_rate"],
            "trainer.global_batch_size": trial["batch"],
        }
        config = typed(self._parts.space.apply(params))
        arguments = training_arguments(config, output, ranks, True, "gloo" if ranks > 1 else None)
        arguments.save_total_limit = 1
        arguments.train_sampling_strategy = sampling
        return arguments

    def trainer(self, arguments: TrainingArguments) -> Trainer:
        """A Trainer as a user would write it."""
        config, names = self._parts.config, self._parts.label_names
        tokenizer = self._parts.tokenizer(config.model)
        return Trainer(
            args=arguments,
            model_init=lambda: load_model(config.model, names),
            train_dataset=self._data["train"],
            eval_dataset=self._data["validation"],
            processing_class=tokenizer,
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=compute_metrics(config.objective.average(len(names))),
        )
