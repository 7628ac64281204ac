"""Retention never removes what a resume or an export needs, whatever happens in whatever order."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.checkpoint import commit, complete_checkpoints, prepare_staging
from sweep.paths import StudyPaths
from sweep.retention import Retention
from sweep.schema import CheckpointsConfig
from sweep.standing import Ranking

_BYTES = 100


def _save(paths: StudyPaths, number: int, epoch: int) -> None:
    trial = paths.trial(number)
    prepare_staging(trial, epoch)
    written = trial.staging(epoch) / f"checkpoint-{epoch}"
    written.mkdir()
    (written / "model.safetensors").write_bytes(b"w" * (_BYTES // 2))
    (written / "optimizer.pt").write_bytes(b"o" * (_BYTES // 2))
    commit(trial, trial=number, epoch=epoch, step=epoch, world_size=1, metrics={}, config="")


def _epochs(paths: StudyPaths, number: int) -> set[int]:
    return {c.manifest.epoch for c in complete_checkpoints(paths.trial(number))}


class _Study:
    """Trials that save and end, as the driver tells retention."""

    def __init__(self, folder: Path, config: CheckpointsConfig, front: int = 1) -> None:
        self.front = front  # as many trials as no other beats in several objectives
        self.paths, self.config, self.warnings = StudyPaths(folder), config, list[str]()
        self.scores: dict[int, list[float]] = {}
        self.ended: dict[int, bool] = {}  # number -> COMPLETE?
        self.open()

    def best(self, number: int) -> int:
        scores = self.scores[number]
        return 1 + scores.index(max(scores)) if scores else 0

    def ranking(self) -> Ranking:
        done = [n for n, complete in self.ended.items() if complete]
        order = sorted(done, key=lambda n: (-max(self.scores[n]), n))
        return Ranking(order, min(self.front, len(order)))

    def open(self) -> None:
        self.retention = Retention(self.paths, self.config, self.warnings.append)
        trials = [(n, [self.best(n)], n in self.ended) for n in self.scores]
        self.retention.open(trials, self.ranking())

    def commit(self, number: int, score: float) -> int:
        """A checkpoint of whose existence the driver has not been told."""
        self.scores.setdefault(number, []).append(score)
        epoch = len(self.scores[number])
        _save(self.paths, number, epoch)
        return epoch

    def save(self, number: int, score: float) -> None:
        self.retention.saved(number, self.commit(number, score), [self.best(number)])

    def save_late(self, number: int, score: float) -> None:
        """The word that an epoch is flushed comes when the next one has been committed already."""
        epoch, best = len(self.scores.get(number, [])), self.best(number) if number in self.scores else 0
        self.commit(number, score)
        if epoch:
            self.retention.saved(number, epoch, [best])
            assert {epoch, best} <= self.on_disk()[number], "what is flushed"

    def end(self, number: int, complete: bool) -> None:
        self.ended[number] = complete
        self.retention.ended(number, [self.best(number)], self.ranking())

    def on_disk(self) -> dict[int, set[int]]:
        return {n: _epochs(self.paths, n) for n in self.scores}

    def check(self, told: bool) -> None:
        kept, ranking = self.on_disk(), self.ranking().order
        for number, scores in self.scores.items():
            if number not in self.ended:
                assert {self.best(number), len(scores)} <= kept[number], "what a resume needs"
        if ranking:
            assert self.best(ranking[0]) in kept[ranking[0]], "the best trial's best epoch"
        if self.config.keep == "best" and self.config.max_bytes is None:
            for number in self.ended:
                top = number in ranking[: max(self.config.top_k, self.front)]
                assert kept[number] == ({self.best(number)} if top else set())
        if self.config.keep == "all" and self.config.max_bytes is None:
            assert all(kept[n] == set(range(1, len(s) + 1)) for n, s in self.scores.items())
        if self.config.max_bytes is not None and not self.warnings and told:
            assert _BYTES * sum(map(len, kept.values())) <= self.config.max_bytes


_OPERATIONS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(["save", "save", "save", "commit", "late", "park", "end", "prune", "reopen"]),
        st.integers(0, 5),
    ),
    max_size=25,
)


@given(
    _OPERATIONS,
    st.sampled_from(["best", "all"]),
    st.integers(1, 2),
    st.integers(1, 3),
    st.sampled_from([None, 300, 600]),
)
def test_what_is_needed_stays_and_the_budget_holds(
    operations: list[tuple[int, str, int]], keep: str, top_k: int, front: int, max_bytes: int | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        study = _Study(Path(folder), CheckpointsConfig(keep, top_k, max_bytes), front)
        told = True  # of every checkpoint
        for number, what, score in operations:
            if what == "reopen":
                study.open()
            elif number not in study.ended:
                if what == "save":
                    study.save(number, float(score))
                elif what == "commit":
                    study.commit(number, float(score))
                elif what == "late":
                    study.save_late(number, float(score))
                elif what == "park":
                    study.retention.rest(number)
                elif study.scores.get(number):
                    study.end(number, what == "end")
            told = (told and what not in ("commit", "late")) or what == "reopen"
            study.check(told)


def test_weights_are_all_that_is_kept_of_a_finished_trial(tmp_path: Path) -> None:
    study = _Study(tmp_path, CheckpointsConfig("weights", 1, None))
    study.save(0, 1.0)
    study.save(0, 0.5)
    assert study.on_disk() == {0: {1, 2}}
    study.end(0, True)
    (only,) = complete_checkpoints(study.paths.trial(0))
    assert (only.manifest.epoch, only.manifest.weights_only) == (1, True)
    assert {p.name for p in only.path.iterdir()} == {"model.safetensors", "manifest.json"}


def test_a_budget_below_what_is_needed_is_said_once(tmp_path: Path) -> None:
    study = _Study(tmp_path, CheckpointsConfig("best", 1, 150))
    for score in (2.0, 1.0, 0.5):
        study.save(0, score)
    assert study.on_disk() == {0: {1, 3}}
    assert len(study.warnings) == 1
    assert "checkpoints.max_bytes=150" in study.warnings[0]


@pytest.mark.parametrize("damage", ["remove", "truncate"])
def test_damaged_checkpoints_of_finished_trials_are_cleared_away(tmp_path: Path, damage: str) -> None:
    study = _Study(tmp_path, CheckpointsConfig())
    study.save(0, 0.1)
    study.save(0, 0.2)
    weights = study.paths.trial(0).checkpoint(1) / "model.safetensors"
    weights.unlink() if damage == "remove" else weights.write_bytes(b"")
    study.end(0, True)
    assert [p.name for p in study.paths.trial(0).root.iterdir()] == ["checkpoint-2"]
