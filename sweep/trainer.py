"""SweepTrainer: the only subclass of Trainer, and the only place with its private hooks.

Upstream's search (transformers.integrations.run_hp_search_optuna, Trainer.hyperparameter_search)
prunes on rank 0 alone, casts parameters onto leftover arguments, seeds before it applies them and
keeps the last score. Each of these is closed below by overriding the method that causes it.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from optuna.trial import Trial
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainingArguments, set_seed

from sweep import checkpoint
from sweep.adapter import is_adapted
from sweep.costs import latency, size
from sweep.errors import OutOfSpaceError, SweepError
from sweep.events import CheckpointSaved, EpochDone, TrialStarted
from sweep.layer_decay import decay_by_layer
from sweep.length_groups import LengthGroupedEpochSampler
from sweep.record import TrialRecord
from sweep.schema import ObjectiveConfig
from sweep.score import FOLD
from sweep.trial_parts import Link, StepReporter, TrialParts
from sweep.verdict import Judge, Verdict
from sweep.writing import CheckpointWriter

_T = TypeVar("_T")


class SweepTrainer(Trainer):  # type: ignore[misc]
    """A Trainer whose `hyperparameter_search(n_trials=1)` runs one trial of a study on all ranks.

    `Trainer.__init__` runs when the trial's parameters are known (in `train`), with a fresh
    TrainingArguments made from the trial's own config: nothing of the base arguments, of a former
    trial or of the process reaches it, and the seed is set before model and data are touched.
    """

    def __init__(
        self,
        base_args: TrainingArguments,
        build: Callable[[dict[str, Any], int, int | None], TrialParts],
        objective: ObjectiveConfig,
        link: Link,
    ) -> None:
        # Deliberately no super().__init__() yet, see above; upstream's search needs only these.
        self.args = base_args
        self.model_init: Any = build
        self.model = self.model_wrapped = None
        self.objective: float | list[float] | None = None
        self.hp_search_backend: Any = None
        self.hp_space: Any = None
        self.compute_objective: Any = None
        self._build, self._objective, self._link = build, objective, link
        self._record: TrialRecord | None = None
        self._judge: Judge | None = None
        self._verdict: Verdict | None = None
        self._saving = False
        self._epoch_started = time.monotonic()
        self.number: int | None = None

    def train(
        self,
        resume_from_checkpoint: Any = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> Any:
        """Run the trial, from its latest complete checkpoint if it has one.

        Called by upstream's search: on rank 0 with Optuna's Trial, elsewhere with a FixedTrial.
        """
        params = self.hp_space(trial)
        self.number = trial.number
        if isinstance(trial, Trial):
            self._record = TrialRecord(trial, self._objective)
        limit = self._agree(self._record.per_device_limit if self._record else None)
        self._parts = self._build(params, trial.number, limit)
        self._writer = CheckpointWriter(self._parts.paths, self._link.send)
        begin = self._begin(params) if self._record else ("", 1, None)
        start, first, verdict = self._agree(begin)
        if verdict is not None:
            raise verdict()
        output, folds = None, self._parts.course.folds
        if first > folds:
            self._enter(folds)  # nothing is left to train, but upstream wants to release what was used
        for fold in range(first, folds + 1):
            self._enter(fold)
            self._epoch_started = time.monotonic()
            output = super().train(start or None, trial, ignore_keys_for_eval)
            self._writer.wait()
            start = ""
        # All epochs were done before a crash came in between the last commit and the end.
        self._set_objective()
        return output

    def _enter(self, fold: int) -> None:
        """Make this the Trainer of one fold, with a model and data of its own."""
        assert self.number is not None
        self._fold, parts = fold, self._parts.fold(fold)
        search = (self.hp_search_backend, self.hp_space, self.compute_objective)
        self._train_lengths = parts.train_lengths
        callbacks = [StepReporter(self.number, self._link)]
        super().__init__(args=self._parts.args, **parts.trainer_arguments, callbacks=callbacks)
        self.hp_search_backend, self.hp_space, self.compute_objective = search
        self.objective = None

    def _begin(self, params: dict[str, Any]) -> tuple[str, int, Verdict | None]:
        """On rank 0: the checkpoint and the fold in which the attempt starts, or how it ends at once."""
        assert self._record is not None and self.number is not None
        checkpoint.sweep_debris(self._parts.paths)
        found = checkpoint.survey(self._parts.paths, self._parts.config)
        asked_last = self._record.asked_last(found.epoch)
        repeated = self._record.begin(
            self._link.attempt, self.args.world_size, self._link.devices, found.epoch, found.damaged
        )
        course, attempt = self._parts.course, self._record.attempt
        started = TrialStarted(
            self.number, attempt, params, found.epoch, course.total, repeated, found.damaged
        )
        self._link.send(started)
        self._judge = Judge(self._record, self._objective, course, self._link)
        return self._judge.begin(found, asked_last)

    # ---- upstream's hooks, in the order in which an epoch meets them ----

    def _hp_search_setup(self, trial: Any) -> None:
        """Upstream casts parameters onto `args` here; ours are in the fresh arguments already."""
        self._trial = trial

    def _get_output_dir(self, trial: Any) -> str:
        """The trial's folder, or while a checkpoint is written the place beside it."""
        if self._saving:
            return str(self._parts.paths.staging(self._step()))
        return str(self._parts.paths.root)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Upstream's optimizer, its groups split where each layer has a learning rate of its own."""
        fresh = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if fresh and self._parts.layer_decay < 1:
            decay_by_layer(optimizer, self.model, self._parts.layer_decay)
        return optimizer

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.args.train_sampling_strategy == "group_by_length":
            seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
            return LengthGroupedEpochSampler(self._train_lengths, self._parts.global_batch_size, seed)
        return super()._get_train_sampler(train_dataset)

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        """In order: the rows are sorted by length already, and ranks take alternate batches."""
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None

    def _report_to_hp_search(self, trial: Any, step: int, metrics: dict[str, float]) -> None:
        """Report the epoch (not `global_step`) and let all ranks learn the verdict.

        The trial goes on to its checkpoint first; `_maybe_log_save_evaluate` obeys afterwards.
        """
        if trial is None:
            return
        epoch = self._epoch()
        scores = self._scores(metrics, epoch)
        for name in ("loss", *(goal.metric for goal in self._objective.goals)):
            if not math.isfinite(scores[name]):
                raise SweepError(
                    f"epoch {epoch} has {name}={scores[name]}: training diverged. "
                    "Lower trainer.learning_rate or its upper bound."
                )
        verdict, over = None, False
        if self._judge is not None and self._record is not None:
            verdict, over = self._judge.after(epoch, scores)
            self._link.send(EpochDone(trial.number, epoch, scores, self._record.reported))
        self._verdict, over = self._agree((verdict, over))
        if over:
            self.control.should_training_stop = True
        self._last_scores = scores

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Let upstream write into a staging folder, then commit it on rank 0."""
        step, first = self._step(), self.args.process_index == 0
        if first:
            self._writer.make_room(step, self._saved_tensors())
        self._barrier()
        self._saving = True
        try:
            super()._save_checkpoint(model, trial)
            self._barrier()
            if first:
                epoch = self._epoch()
                best = tuple(self._record.best_epochs) if self._record is not None else (epoch,)
                saved = CheckpointSaved(self._trial.number, epoch, best)
                settings = self._parts.config
                self._writer.commit(saved, step, self.args.world_size, self._last_scores, settings)
        except Exception as error:
            # Not every library says so: torch.save ends in "unexpected pos 64 vs 0" on a full disk.
            short = self._writer.shortage(step, self._saved_tensors())
            if first:
                self._writer.discard(step)
            if short is not None:
                raise OutOfSpaceError(short) from error
            raise
        finally:
            self._saving = False
        self._barrier()

    def _saved_tensors(self) -> list[object]:
        """What most of a checkpoint is."""
        assert self.model is not None
        state = (t for values in self.optimizer.state.values() for t in values.values())
        if is_adapted(self.model):
            return [*(p for p in self.model.parameters() if p.requires_grad), *state]
        return [*self.model.state_dict().values(), *state]

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Restore the generators; after a change of the number of ranks seed them from the epoch.

        Upstream would go on with the generators as the start left them, and so repeat the dropout
        of the first epoch. Rank k of n draws alike in every attempt that starts at this epoch.
        """
        size, rank = self.args.world_size, self.args.process_index
        name = "rng_state.pth" if size == 1 else f"rng_state_{rank}.pth"
        if checkpoint is not None and not Path(checkpoint, name).is_file():
            text = f"{self.args.seed}:{self.state.global_step}:{size}:{rank}"
            set_seed(zlib.crc32(text.encode()))
        else:
            super()._load_rng_state(checkpoint)

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        super()._maybe_log_save_evaluate(*args, **kwargs)
        if self._verdict is not None:
            self._writer.wait()
            self._set_objective()
            raise self._verdict()

    # ---- helpers ----

    def _epoch(self) -> int:
        """The epoch that has just ended, in the count of the whole trial."""
        return self._parts.course.epoch(self._fold, round(self.state.epoch))

    def _step(self) -> int:
        """The optimizer step that has just ended, likewise."""
        return self._parts.course.step(self._fold, self.state.global_step)

    def _scores(self, metrics: dict[str, float], epoch: int) -> dict[str, float]:
        """The epoch's record: upstream's `eval_` metrics by their own names, training loss, time."""
        scores = {
            name.removeprefix("eval_"): float(value)
            for name, value in metrics.items()
            if isinstance(value, int | float) and name.startswith("eval_")
        }
        logged = [entry for entry in self.state.log_history if "learning_rate" in entry]
        if logged:
            scores["train_loss"] = float(logged[-1]["loss"])
            scores["learning_rate"] = float(logged[-1]["learning_rate"])
        now = time.monotonic()
        scores["seconds"], self._epoch_started = now - self._epoch_started, now
        scores["epoch"] = epoch
        if self._parts.course.crossed:
            scores[FOLD] = self._fold
        scores.update(self._costs())
        return scores

    def _costs(self) -> dict[str, float]:
        """What the model costs its user, as far as that is an objective; every rank measures alike."""
        assert self.model is not None
        wanted, found = {goal.metric for goal in self._objective.goals}, dict[str, float]()
        if "size" in wanted:
            found["size"] = size(self.model)
        if "latency" in wanted:
            rows = self._remove_unused_columns(self.eval_dataset, "evaluation")
            autocast = self.compute_loss_context_manager
            found["latency"] = latency(self.model, rows, self.data_collator, autocast, self.args.device)
        return found

    def _set_objective(self) -> None:
        """The trial's values are its best epoch's. Ranks without a record return any number."""
        best = self._record.best if self._record is not None else None
        values = list(best.values) if best is not None else [0.0]
        self.objective = values if len(values) > 1 else values[0]

    def _agree(self, value: _T) -> _T:
        """Rank 0's `value` on every rank."""
        if self.args.world_size == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

    def _barrier(self) -> None:
        if self.args.world_size > 1:
            torch.distributed.barrier()
