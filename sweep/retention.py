"""Which checkpoints a study keeps: decided by the driver, over all trials, while it runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from sweep.checkpoint import (
    Checkpoint,
    checkpoint_folders,
    checkpoint_of_epoch,
    complete_checkpoints,
    keep_weights,
)
from sweep.files import remove_folder
from sweep.paths import StudyPaths, TrialPaths
from sweep.schema import CheckpointsConfig
from sweep.standing import Ranking


@dataclass
class _Trial:
    """The checkpoints of one trial: epoch -> bytes."""

    sizes: dict[int, int] = field(default_factory=dict)
    best_epochs: frozenset[int] = frozenset()
    finished: bool = False
    resting: bool = False
    rank: int | None = None  # 0 is the best of the COMPLETE trials


class Retention:
    """Keeps what the config asks for; evicts beyond `max_bytes`, least useful first.

    Never evicted: the best trial's best epoch, and of an unfinished trial its best epochs and its latest
    one, from which a resume goes on. With several objectives all of the Pareto front are kept. Work per
    epoch does not grow with the number of trials that have no checkpoints left.
    """

    def __init__(self, paths: StudyPaths, config: CheckpointsConfig, warn: Callable[[str], None]) -> None:
        self._paths, self._config, self._warn = paths, config, warn
        self._trials: dict[int, _Trial] = {}
        self._warned, self._kept = False, config.top_k

    def open(self, trials: Iterable[tuple[int, Collection[int], bool]], ranking: Ranking) -> None:
        """Learn what is on disk (at the start of a session) and bring it in order.

        Args:
            trials: number, best epochs, finished?
            ranking: the COMPLETE trials.
        """
        for number, best_epochs, finished in trials:
            if not self._paths.trial(number).root.is_dir():
                continue
            self._trials[number] = _Trial(self._sizes(number), frozenset(best_epochs), finished)
        self.ranked(ranking)

    def saved(self, number: int, epoch: int, best_epochs: Collection[int]) -> None:
        """An unfinished trial has a new checkpoint."""
        trial = self._trials.setdefault(number, _Trial())
        # What is later is not on the disk for certain: it takes nobody's place yet.
        trial.sizes = {e: size for e, size in self._sizes(number).items() if e <= epoch}
        trial.best_epochs, trial.resting = frozenset(best_epochs), False
        self._tidy(number, trial)
        self._enforce_budget()

    def rest(self, number: int) -> None:
        """A trial is parked: its latest epoch is on the disk, and needs no other in reserve."""
        trial = self._trials.setdefault(number, _Trial())
        trial.sizes, trial.resting = self._sizes(number), True
        self._tidy(number, trial)

    def ended(self, number: int, best_epochs: Collection[int], ranking: Ranking) -> None:
        """A trial is finished, whatever its state; of several folds one has the epoch that is left."""
        trial = self._trials.setdefault(number, _Trial())
        trial.sizes = self._sizes(number)
        trial.best_epochs, trial.finished = frozenset(best_epochs), True
        self.ranked(ranking)

    def ranked(self, ranking: Ranking) -> None:
        """The order of the COMPLETE trials has changed."""
        places = {number: place for place, number in enumerate(ranking.order)}
        self._kept = max(self._config.top_k, ranking.front)
        for number, trial in list(self._trials.items()):
            trial.rank = places.get(number)
            self._tidy(number, trial)
            if trial.finished and not trial.sizes:
                del self._trials[number]
        self._enforce_budget()

    def _sizes(self, number: int) -> dict[int, int]:
        """Bytes of a trial's complete checkpoints, also of those whose rank died before it could tell."""
        found = complete_checkpoints(self._paths.trial(number))
        return {c.manifest.epoch: c.manifest.size for c in found}

    def _tidy(self, number: int, trial: _Trial) -> None:
        if self._config.keep == "all":
            return
        paths = self._paths.trial(number)
        if not trial.finished:
            last = 1 if trial.resting else 2  # two: should the latest be damaged
            keep = trial.best_epochs.union(sorted(trial.sizes)[-last:])
        elif trial.rank is not None and trial.rank < self._kept:
            keep = trial.best_epochs
        else:
            keep = frozenset()
        for epoch in sorted(trial.sizes.keys() - keep):
            self._remove(paths, trial, epoch)
        if trial.finished:
            self._remove_damaged(paths)
            if self._config.keep == "weights":
                for epoch in trial.sizes:
                    found = checkpoint_of_epoch(paths, epoch)
                    if found is not None and not found.manifest.weights_only:
                        trial.sizes[epoch] = keep_weights(found).manifest.size

    def _remove(self, paths: TrialPaths, trial: _Trial, epoch: int) -> None:
        found: Checkpoint | None = checkpoint_of_epoch(paths, epoch)
        if found is not None:
            remove_folder(found.path)
        del trial.sizes[epoch]

    def _remove_damaged(self, paths: TrialPaths) -> None:
        complete = {c.path for c in complete_checkpoints(paths)}
        for folder in checkpoint_folders(paths):
            if folder not in complete:
                remove_folder(folder)

    def _enforce_budget(self) -> None:
        limit = self._config.max_bytes
        if limit is None:
            return
        total = sum(sum(trial.sizes.values()) for trial in self._trials.values())
        for number, epoch in self._evictable():
            if total <= limit:
                return
            trial = self._trials[number]
            total -= trial.sizes[epoch]
            self._remove(self._paths.trial(number), trial, epoch)
        if total > limit and not self._warned:
            self._warned = True
            self._warn(
                f"checkpoints.max_bytes={limit}: the best trial's best epoch and what a resume needs "
                f"take {total} bytes already; nothing more can be removed"
            )

    def _evictable(self) -> list[tuple[int, int]]:
        """(trial, epoch) of what may go, first to go first: not ranked, worst, not best epoch, oldest."""
        found = []
        for number, trial in self._trials.items():
            needed = {*trial.best_epochs, max(trial.sizes, default=0)}
            for epoch in trial.sizes:
                if trial.finished:
                    if trial.rank == 0 and epoch in trial.best_epochs:
                        continue
                    order = (0, -len(self._trials) if trial.rank is None else -trial.rank)
                elif epoch in needed:
                    continue
                else:
                    order = (1, 0)
                found.append((order, epoch in trial.best_epochs, epoch, number))
        return [(number, epoch) for _, _, epoch, number in sorted(found)]
