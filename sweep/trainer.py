"""SweepTrainer: the only subclass of Trainer, and the only place with its private hooks.

Upstream's search (transformers.integrations.run_hp_search_optuna, Trainer.hyperparameter_search)
prunes on rank 0 alone, casts parameters onto leftover arguments, seeds before it applies them and
keeps the last score. Each of these is closed below by overriding the method that causes it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from optuna.exceptions import TrialPruned
from optuna.trial import Trial
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments

from sweep import checkpoint
from sweep.config import ObjectiveConfig
from sweep.errors import SweepError
from sweep.events import EpochDone, Event, StepDone, TrialStarted
from sweep.length_groups import LengthGroupedEpochSampler
from sweep.paths import TrialPaths
from sweep.study import TrialRecord

_STEP_EVENTS_PER_SECOND = 2
_T = TypeVar("_T")


class Paused(BaseException):
    """Ends an attempt after a committed epoch; no Exception, so Optuna leaves the trial RUNNING."""


class Aborted(BaseException):
    """Carries an exception (its cause) past Optuna, which would end the trial as FAIL at once.

    Whether a trial failed or is tried again, and what its record says, the driver decides.
    """


@dataclass(frozen=True)
class TrialParts:
    """What one trial is made of, built from its own config only.

    Attributes:
        trainer_arguments: keyword arguments of Trainer (args, model_init, datasets, …).
        train_lengths: tokens of each training row, for length-grouped batches.
        paths: the trial's folder.
        objective: metric and direction.
        global_batch_size: samples of one optimizer step over all ranks.
        keep_best: after the trial, keep only its best epoch's checkpoint.
    """

    trainer_arguments: dict[str, Any]
    train_lengths: list[int]
    paths: TrialPaths
    objective: ObjectiveConfig
    global_batch_size: int
    keep_best: bool


@dataclass(frozen=True)
class Link:
    """The rank's line to the driver: events out, and whether a pause was asked for.

    `attempt` and `devices` name the attempt in the trial's record.
    """

    send: Callable[[Event], None]
    pause_requested: Callable[[], bool]
    attempt: str
    devices: list[str]


class _StepReporter(TrainerCallback):  # type: ignore[misc]
    """Tells the driver how far the trial is, a few times a second at most."""

    def __init__(self, number: int, link: Link) -> None:
        self._number, self._link, self._last = number, link, 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = time.monotonic()
        if now - self._last >= 1 / _STEP_EVENTS_PER_SECOND:
            self._last = now
            self._link.send(StepDone(self._number, state.global_step, state.max_steps))


class SweepTrainer(Trainer):  # type: ignore[misc]
    """A Trainer whose `hyperparameter_search(n_trials=1)` runs one trial of a study on all ranks.

    `Trainer.__init__` runs when the trial's parameters are known (in `train`), with a fresh
    TrainingArguments made from the trial's own config: nothing of the base arguments, of a former
    trial or of the process reaches it, and the seed is set before model and data are touched.
    """

    def __init__(
        self,
        base_args: TrainingArguments,
        build: Callable[[dict[str, Any], int], TrialParts],
        direction: str,
        link: Link,
    ) -> None:
        # Deliberately no super().__init__() yet, see above; upstream's search needs only these.
        self.args = base_args
        self.model_init: Any = build
        self.model = self.model_wrapped = None
        self.objective: float | None = None
        self.hp_search_backend: Any = None
        self.hp_space: Any = None
        self.compute_objective: Any = None
        self._build, self._direction, self._link = build, direction, link
        self._record: TrialRecord | None = None
        self._verdict: type[BaseException] | None = None
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
        try:
            return self._train(trial, ignore_keys_for_eval)
        except TrialPruned:
            raise
        except Exception as error:
            raise Aborted(str(error)) from error

    def _train(self, trial: Any, ignore_keys_for_eval: list[str] | None) -> Any:
        params = self.hp_space(trial)
        self.number = trial.number
        self._parts = parts = self._build(params, trial.number)
        search = (self.hp_search_backend, self.hp_space, self.compute_objective)
        super().__init__(**parts.trainer_arguments, callbacks=[_StepReporter(trial.number, self._link)])
        self.hp_search_backend, self.hp_space, self.compute_objective = search
        self.objective = None
        latest = None
        if self.args.process_index == 0:
            checkpoint.sweep_debris(parts.paths)
            latest = checkpoint.latest_checkpoint(parts.paths)
        latest = self._agree(latest)
        if isinstance(trial, Trial):
            self._record = TrialRecord(trial, self._direction)
            self._record.begin(self._link.attempt, self.args.world_size, self._link.devices)
            first = latest.manifest.epoch + 1 if latest else 1
            self._link.send(TrialStarted(trial.number, self._record.attempt, params, first))
        self._epoch_started = time.monotonic()
        start = str(latest.path) if latest else None
        output = super().train(start, trial, ignore_keys_for_eval)
        # All epochs were done before a crash came in between the last commit and the end.
        self._set_objective()
        return output

    def retain_checkpoints(self) -> None:
        """After the trial ended: keep what the config wants of it. Rank 0 only."""
        if self._record is not None and self._record.best is not None and self._parts.keep_best:
            checkpoint.retain(self._parts.paths, [self._record.best.epoch])

    # ---- upstream's hooks, in the order in which an epoch meets them ----

    def _hp_search_setup(self, trial: Any) -> None:
        """Upstream casts parameters onto `args` here; ours are in the fresh arguments already."""
        self._trial = trial

    def _get_output_dir(self, trial: Any) -> str:
        """The trial's folder, or while a checkpoint is written the place beside it."""
        if self._saving:
            return str(self._parts.paths.staging(self.state.global_step))
        return str(self._parts.paths.root)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.args.train_sampling_strategy == "group_by_length":
            seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
            return LengthGroupedEpochSampler(self._parts.train_lengths, self._parts.global_batch_size, seed)
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
        epoch = round(self.state.epoch)
        scores = self._scores(metrics, epoch)
        value = scores[self._parts.objective.metric]
        for name in ("loss", self._parts.objective.metric):
            if not math.isfinite(scores[name]):
                raise SweepError(
                    f"epoch {epoch} has {name}={scores[name]}: training diverged. "
                    "Lower trainer.learning_rate or its upper bound."
                )
        verdict: type[BaseException] | None = None
        if self._record is not None:
            unpromising = self._record.epoch(epoch, value, scores)
            # After the last epoch there is nothing to save: the trial is complete.
            if unpromising and epoch < self.args.num_train_epochs:
                verdict = TrialPruned
            elif self._link.pause_requested():
                verdict = Paused
            self._link.send(EpochDone(trial.number, epoch, scores))
        self._verdict = self._agree(verdict)
        self._last_scores = scores

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Let upstream write into a staging folder, then commit it on rank 0."""
        step, paths = self.state.global_step, self._parts.paths
        if self.args.process_index == 0:
            checkpoint.prepare_staging(paths, step)
        self._barrier()
        self._saving = True
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._saving = False
        self._barrier()
        if self.args.process_index == 0:
            epoch = round(self.state.epoch)
            checkpoint.commit(paths, trial.number, epoch, step, self.args.world_size, self._last_scores)
            if self._parts.keep_best and self._record is not None and self._record.best is not None:
                checkpoint.retain(paths, [epoch, self._record.best.epoch])
        self._barrier()

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        super()._maybe_log_save_evaluate(*args, **kwargs)
        if self._verdict is not None:
            self._set_objective()
            raise self._verdict()

    # ---- helpers ----

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
        return scores

    def _set_objective(self) -> None:
        """The trial's value is its best epoch's. Ranks without a record return any number."""
        best = self._record.best if self._record is not None else None
        self.objective = best.value if best is not None else 0.0

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
