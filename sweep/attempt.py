"""What one rank does, from "which trial?" to its exit code.

Heavy imports live here on purpose: the fork server loads this module once, ranks are its forks.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
import traceback
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed
from optuna.exceptions import TrialPruned
from transformers import DataCollatorWithPadding, TrainingArguments

from sweep.arguments import training_arguments
from sweep.config import typed
from sweep.course import Course
from sweep.devices import Device
from sweep.errors import OutOfSpaceError, SweepError, reason_of
from sweep.events import PAUSE, AttemptFailed, Event, TrialEnded, TrialParked, TrialPaused
from sweep.files import chain, is_out_of_space, write_text, yaml_text
from sweep.fingerprint import trial_hash
from sweep.metrics import compute_metrics
from sweep.model import TrialModel
from sweep.presence import announce
from sweep.ranks import RankSpec, redirect_output
from sweep.schema import LauncherConfig, SweepConfig
from sweep.storage import STORAGE_ERRORS, trial_state
from sweep.study import search_arguments
from sweep.study_parts import StudyParts
from sweep.trainer import SweepTrainer
from sweep.trial_parts import FoldParts, Link, Parked, Paused, TrialParts

EXIT_FAILED = 1
EXIT_DRIVER_GONE = 3


class _Rank:
    def __init__(self, spec: RankSpec, line: Connection, parts: StudyParts) -> None:
        self.spec, self.line, self.parts = spec, line, parts
        self.paths = parts.paths
        self.log = self.paths.starting_log(spec.attempt, spec.rank)
        self.pause = threading.Event()
        self._speaking = threading.Lock()

    def send(self, event: Event) -> None:
        """Only rank 0 reports progress, from any of its threads; `listen` notices a driver that is gone."""
        try:
            with self._speaking:
                self.line.send(event)
        except OSError:
            os._exit(EXIT_DRIVER_GONE)

    def listen(self) -> None:
        """Wait for the driver's word; its death closes the line and ends this process."""
        while True:
            try:
                if self.line.recv() == PAUSE:
                    self.pause.set()
            except (EOFError, OSError):
                os._exit(EXIT_DRIVER_GONE)


def run_rank(spec: RankSpec, line: Connection, parts: StudyParts) -> int:
    """The main function of a rank's process. Returns its exit status: 0 if its trial ended or paused.

    After a failure a peer may hang in a collective: the caller must end the process without ceremony.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides; it asks through the line
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    rank = _Rank(spec, line, parts)
    threading.Thread(target=rank.listen, daemon=True).start()
    trainer: SweepTrainer | None = None
    try:
        announce(rank.paths, f"{spec.attempt}.rank-{spec.rank}")
        redirect_output(rank.log)
        bind_device(spec.devices, spec.rank, parts.config.launcher)
        if spec.world_size > 1:
            _join_group(spec, parts.config)
        trainer = _trainer(rank)
        _search(rank, trainer)
    except BaseException as error:
        rank.send(_failure(rank, trainer, error, time.monotonic()))
        with contextlib.suppress(OSError):  # the disk may be full
            traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
        return EXIT_FAILED
    return 0


def _failure(rank: _Rank, trainer: SweepTrainer | None, cause: BaseException, at: float) -> AttemptFailed:
    """What went wrong, in one line, and whether the trial or the machine is to blame."""
    reason = str(cause) if isinstance(cause, SweepError) else f"{type(cause).__name__}: {reason_of(cause)}"
    kind: Literal["error", "memory", "machine"] = "error"
    if isinstance(cause, (OutOfSpaceError, *STORAGE_ERRORS)) or is_out_of_space(cause):
        kind = "machine"
    elif is_out_of_memory(cause):
        kind = "memory"
    number = trainer.number if trainer is not None else None
    per_device = trainer.args.per_device_train_batch_size if trainer is not None else None
    return AttemptFailed(rank.spec.rank, number, reason, str(rank.log), at, kind, per_device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device's (or the machine's) memory was too small for a batch."""
    return any(
        isinstance(e, torch.OutOfMemoryError | MemoryError)
        or (isinstance(e, RuntimeError) and "can't allocate memory" in str(e))
        for e in chain(error)
    )


def _search(rank: _Rank, trainer: SweepTrainer) -> None:
    """One trial through upstream's search; what ended it decides what the driver is told."""
    config, space = rank.parts.config, rank.parts.space
    arguments = search_arguments(config, rank.parts.storage, space) if rank.spec.rank == 0 else {}
    arguments.setdefault("direction", config.objective.direction)  # upstream wants one, and ignores it
    arguments.setdefault("backend", "optuna")
    ended: Event | None = None
    try:
        trainer.hyperparameter_search(
            hp_space=space, compute_objective=lambda _: trainer.objective, n_trials=1, **arguments
        )
    except TrialPruned:  # ranks other than 0: no study catches it there
        pass
    except Parked:
        assert trainer.number is not None
        ended = TrialParked(trainer.number)
    except Paused:
        assert trainer.number is not None
        ended = TrialPaused(trainer.number)
    except ValueError:
        # Upstream asks for the best trial at the end, which our storage refuses.
        ended = _ended(rank, trainer, arguments)
        if ended is None:
            raise
    else:  # rank 0 comes here with several objectives
        ended = _ended(rank, trainer, arguments)
    if ended is not None and rank.spec.rank == 0:
        rank.send(ended)
    if rank.spec.world_size > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _ended(rank: _Rank, trainer: SweepTrainer, arguments: dict[str, Any]) -> TrialEnded | None:
    """What rank 0 tells of a trial that Optuna knows to be finished."""
    if trainer.number is None or rank.spec.rank != 0:
        return None
    state = trial_state(arguments["storage"], rank.parts.config.study.name, trainer.number)
    return TrialEnded(trainer.number, state.name) if state.is_finished() else None


def _trainer(rank: _Rank) -> SweepTrainer:
    spec, parts = rank.spec, rank.parts
    config, space = parts.config, parts.space

    def arguments(trial_config: SweepConfig, output_dir: Path) -> TrainingArguments:
        backend = spec.backend if spec.world_size > 1 else None
        return training_arguments(trial_config, output_dir, spec.world_size, spec.use_cpu, backend)

    def build(params: dict[str, Any], number: int, limit: int | None) -> TrialParts:
        paths = rank.paths.trial(number)
        tree = space.apply(params)
        if limit is not None:
            tree["trainer"]["max_per_device_batch_size"] = limit
            tree["trainer"]["eval_batch_size"] = min(int(tree["trainer"]["eval_batch_size"]), limit)
        trial = typed(tree)
        if spec.rank == 0:
            paths.root.mkdir(parents=True, exist_ok=True)
            write_text(paths.config, yaml_text(tree))
            write_text(paths.overrides, yaml_text(space.overrides(params)))
        _adopt_log(rank, number)
        epochs, batch = trial.trainer.num_train_epochs, trial.trainer.global_batch_size
        first, _ = parts.tokens(trial.task, trial.model)
        copies = trial.task.augment.copies if trial.task.augment.kind != "none" else 0
        rows = len(first["train"]) + (1 + copies) * len(first["validation"])
        return TrialParts(
            arguments(trial, paths.root),
            lambda fold: _fold(parts, trial, fold),
            Course(trial.task.folds or 1, epochs, epochs * math.ceil(rows / batch)),
            paths,
            batch,
            trial.trainer.layerwise_lr_decay,
            trial_hash(trial),
        )

    link = Link(
        rank.send if spec.rank == 0 else lambda _: None,
        rank.pause.is_set,
        spec.attempt,
        [device.name for device in spec.devices],
    )
    base = arguments(config, rank.paths.root)
    return SweepTrainer(base, build, config.objective, link)


def _fold(parts: StudyParts, trial: SweepConfig, fold: int) -> FoldParts:
    data, lengths = parts.tokens(trial.task, trial.model, fold)
    tokenizer = parts.tokenizer(trial.model)
    average = trial.objective.average(len(parts.label_names))
    return FoldParts(
        {
            "model_init": TrialModel(lambda: parts.model(trial.model).model()),
            "train_dataset": data["train"],
            "eval_dataset": data["validation"],
            "processing_class": tokenizer,
            "data_collator": DataCollatorWithPadding(tokenizer),
            "compute_metrics": compute_metrics(average, trial.task.metrics),
        },
        lengths,
    )


def bind_device(devices: tuple[Device, ...], rank: int, launcher: LauncherConfig) -> None:
    """Show this process the attempt's GPUs only, or keep it to its rank's share of the cores."""
    device = devices[rank]
    if device.kind == "cuda":
        # All GPUs of the attempt, in rank order: LOCAL_RANK picks the rank's own among them.
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(d.key for d in devices)
        return
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, device.cores)
    # Trials that share a share would have their threads spin for each other's cores.
    torch.set_num_threads(max(1, len(device.cores) // launcher.trials_per_device))


def _join_group(spec: RankSpec, config: SweepConfig) -> None:
    """Join the attempt's process group; done here because with `use_cpu` upstream drops timeouts."""
    os.environ.update(
        RANK=str(spec.rank),
        LOCAL_RANK=str(spec.rank),
        WORLD_SIZE=str(spec.world_size),
        LOCAL_WORLD_SIZE=str(spec.world_size),
    )
    if spec.backend == "nccl":
        torch.cuda.set_device(spec.rank)
    else:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if Path("/sys/class/net/lo").exists() else "lo0")
    torch.distributed.init_process_group(
        spec.backend,
        # As a store: in the URL file://… a folder's name must not hold # or ?.
        store=torch.distributed.FileStore(spec.rendezvous, spec.world_size),  # type: ignore[attr-defined]
        rank=spec.rank,
        world_size=spec.world_size,
        timeout=timedelta(seconds=config.launcher.collective_timeout),
    )


def _adopt_log(rank: _Rank, number: int) -> None:
    """Move the log to its trial's folder; the open file moves along."""
    target = rank.paths.trial(number).log(rank.spec.attempt, rank.spec.rank)
    target.parent.mkdir(parents=True, exist_ok=True)
    rank.log.replace(target)
    rank.log = target
