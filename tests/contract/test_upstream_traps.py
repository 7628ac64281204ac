"""Every measured mistake of upstream's search is closed: each test fails without its mend.

The mistakes are those of `Trainer.hyperparameter_search` in transformers 5.23 with Optuna 5.0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from omegaconf import OmegaConf
from transformers import DataCollatorWithPadding

from sweep.arguments import training_arguments
from sweep.course import Course
from sweep.model import load_model, load_tokenizer
from sweep.paths import StudyPaths
from sweep.record import epochs_of
from sweep.schema import ModelConfig, ObjectiveConfig, SweepConfig, TrainerConfig
from sweep.score import best_of
from sweep.study import load_study
from sweep.trainer import SweepTrainer
from sweep.trial_parts import FoldParts, Link, TrialParts
from tests.conftest import RunStudy


def _intermediate(root: Path, number: int) -> dict[int, float]:
    from sweep.config import typed
    from sweep.opening import open_study

    paths, cfg = open_study(root)
    return load_study(typed(cfg), paths).trials[number].intermediate_values


def test_pruning_ends_every_rank_of_a_trial(run_study: RunStudy) -> None:
    """Upstream raises on rank 0 only, and the other ranks wait in the next collective for ever."""
    found = run_study(
        "study.n_trials=2",
        "trainer.num_train_epochs=3",
        "launcher.devices=2",
        "launcher.devices_per_trial=2",
        "launcher.collective_timeout=60",
        "pruner=none",
        "pruner._target_=optuna.pruners.ThresholdPruner",
        "+pruner.lower=2",
        "+pruner.n_warmup_steps=2",
        "checkpoints.keep=all",
    )
    assert [t["state"] for t in found.status["trials"]] == ["PRUNED", "PRUNED"]
    assert [len(t["epochs"]) for t in found.status["trials"]] == [2, 2]
    assert [t["attempts"] for t in found.status["trials"]] == [1, 1]
    logs = sorted(found.root.glob("trials/*/logs/*.log"))
    assert [log.name.rsplit("rank-")[1] for log in logs] == ["0.log", "1.log"] * 2
    for log in logs:
        assert "Traceback" not in log.read_text(), "every rank ended in order"
    assert "failed" not in found.output
    # The verdict comes before the checkpoint, obedience after it: nothing of the epoch is lost.
    for number in range(2):
        kept = found.root.glob(f"trials/{number:04d}/checkpoint-*")
        assert sorted(path.name for path in kept) == ["checkpoint-12", "checkpoint-6"]
    assert not list(found.root.glob("trials/*/.writing-*"))


def test_a_last_epoch_is_never_pruned(run_study: RunStudy) -> None:
    """It would save nothing and hide a finished trial from `best`."""
    found = run_study(
        "trainer.num_train_epochs=1",
        "pruner._target_=optuna.pruners.ThresholdPruner",
        "~pruner.n_startup_trials",
        "+pruner.lower=2",
    )
    assert found.trial(0)["state"] == "COMPLETE"


def test_a_searched_value_trains_exactly_like_a_fixed_one(run_study: RunStudy) -> None:
    """Upstream casts to the old value's type, seeds before it applies them, and ignores what only
    Trainer's __init__ reads, model and data; here a searched and a fixed value are one thing."""
    values = {
        "trainer.warmup_steps": "0.4",  # upstream: int(0.4) == 0
        "trainer.seed": "11",  # upstream: the model is built with the former trial's seed
        "trainer.label_smoothing_factor": "0.2",  # upstream: read in __init__ only
        "trainer.learning_rate": "0.002",
        "trainer.max_grad_norm": "0.5",
        "trainer.train_sampling_strategy": "random",
        "model.num_hidden_layers": "1",
        "task.max_length": "16",
    }
    base = ("trainer.warmup_steps=0", "trainer.num_train_epochs=2")
    fixed = run_study(*base, *(f"{k}={v}" for k, v in values.items()), name="fixed")
    searched = run_study(*base, *(f"{k}=choice({v})" for k, v in values.items()), name="searched")
    assert set(searched.trial(0)["params"]) == set(values)
    assert fixed.losses(0) == searched.losses(0)
    for key in ("accuracy", "f1", "train_loss", "learning_rate"):
        assert [e[key] for e in fixed.trial(0)["epochs"]] == [e[key] for e in searched.trial(0)["epochs"]]
    # And each of them does something: none of these values is ignored.
    plain = run_study(*base, name="plain")
    assert plain.losses(0) != fixed.losses(0)
    saved = OmegaConf.load(searched.root / "trials/0000/config.yaml")
    assert saved.trainer.warmup_steps == 0.4
    assert list(OmegaConf.load(searched.root / "trials/0000/overrides.yaml")) == sorted(
        f"{k}='{v}'" if v == "random" else f"{k}={v}" for k, v in values.items()
    )


@pytest.mark.parametrize("strategy", ["random", "group_by_length"])
def test_one_and_two_ranks_train_the_same(run_study: RunStudy, strategy: str) -> None:
    """The global batch means the same on any number of ranks, loss scaling included: upstream's
    loss comes out doubled on two ranks (num_items_in_batch), its batches in another order."""
    same = (
        "trainer.num_train_epochs=2",
        f"trainer.train_sampling_strategy={strategy}",
        "+model.config.hidden_dropout_prob=0.0",
        "+model.config.attention_probs_dropout_prob=0.0",
        "launcher.devices=2",
        "trainer.eval_batch_size=16",
        "trainer.optim=adamw_torch",
    )
    one = run_study(*same, name="one")
    two = run_study(*same, "launcher.devices_per_trial=2", name="two")
    accumulated = run_study(*same, "trainer.max_per_device_batch_size=4", name="accumulated")
    for other in (two, accumulated):
        for expected, found in zip(one.trial(0)["epochs"], other.trial(0)["epochs"], strict=True):
            for key in ("loss", "train_loss", "accuracy", "f1"):
                assert found[key] == pytest.approx(expected[key], abs=1e-4), key
    assert one.losses(0)[0] != one.losses(0)[1]
    manifest = next(two.root.glob("trials/0000/checkpoint-*/manifest.json")).read_text()
    assert '"world_size": 2' in manifest
    assert "rng_state_1.pth" in manifest


def test_steps_are_epochs_and_grid_covers_every_point_once(run_study: RunStudy) -> None:
    """Upstream reports `global_step`: trials of other batch sizes are compared at other epochs."""
    found = run_study(
        "sampler=grid",
        "study.n_trials=9",
        "trainer.global_batch_size=choice(8,16)",
        "task.max_length=choice(16,24)",
    )
    params = [tuple(t["params"].values()) for t in found.status["trials"]]
    assert sorted(params) == [(16, 8), (16, 16), (24, 8), (24, 16)]
    assert found.status["n_trials"] == 4
    assert "fewer than study.n_trials=9" in found.output
    for number in range(4):
        assert list(_intermediate(found.root, number)) == [1, 2]
    assert len(list((found.root / "data").glob("tokens-*/"))) == 3, "once per distinct setting"


def test_a_diverged_trial_fails_alone_and_says_why(run_study: RunStudy) -> None:
    found = run_study("sampler=grid", "trainer.learning_rate=choice(1e-3,1e30)", "study.n_trials=2")
    by_state = {t["state"]: t for t in found.status["trials"]}
    assert set(by_state) == {"COMPLETE", "FAIL"}
    assert "training diverged" in by_state["FAIL"]["error"]
    assert found.status["best"]["number"] == by_state["COMPLETE"]["number"]
    assert found.status["remaining"] == 0
    assert found.code == 0


def test_trainer_metrics_reach_the_study_and_no_pickle_is_kept(run_study: RunStudy) -> None:
    found = run_study()
    epoch = found.trial(0)["epochs"][0]
    expected = {"accuracy", "f1", "loss", "epoch", "train_loss", "learning_rate", "seconds", "runtime"}
    assert expected <= set(epoch)
    checkpoint = Path(found.status["best"]["checkpoint"])
    names = {p.name for p in checkpoint.iterdir()}
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth", "model.safetensors"} <= names
    assert "training_args.bin" not in names
    for file in ("optimizer.pt", "scheduler.pt"):
        assert torch.load(checkpoint / file, weights_only=True)


class _InProcess:
    """SweepTrainer in this process, with parts that a test controls."""

    def __init__(self, folder: Path, tiny_model: Path, accuracies: list[float] | None = None) -> None:
        import datasets

        self.paths = StudyPaths(folder)
        self.model = ModelConfig(path=str(tiny_model))
        self.tokenizer = load_tokenizer(self.model)
        texts = [f"text number {i}" for i in range(16)]
        encoded = self.tokenizer(texts)
        self.data = datasets.Dataset.from_dict({**encoded, "label": [i % 2 for i in range(16)]})
        self.accuracies = iter(accuracies or [])
        self.seen: list[dict[str, Any]] = []

    def build(self, params: dict[str, Any], number: int, limit: int | None) -> TrialParts:
        config = SweepConfig(trainer=TrainerConfig(num_train_epochs=3, global_batch_size=8))
        config.trainer.seed = params.get("seed", 0)
        config.trainer.arguments = {"learning_rate": 1e-3, "weight_decay": params.get("weight_decay", 0.0)}
        folder = self.paths.trial(number)
        args = training_arguments(config, folder.root, 1, True, None)
        self.seen.append(args.to_dict())
        fold = FoldParts(
            {
                "model_init": lambda: load_model(self.model, ["a", "b"]),
                "train_dataset": self.data,
                "eval_dataset": self.data,
                "processing_class": self.tokenizer,
                "data_collator": DataCollatorWithPadding(self.tokenizer),
                "compute_metrics": lambda _: {"accuracy": next(self.accuracies, 0.5), "f1": 0.5},
            },
            [4] * 16,
        )
        return TrialParts(args, lambda _: fold, Course(1, 3), folder, 8, 1.0, "settings")

    def search(self, hp_space: Any, n_trials: int) -> optuna.Study:
        base = training_arguments(SweepConfig(), self.paths.root, 1, True, None)
        trainer = SweepTrainer(
            base, self.build, ObjectiveConfig(), Link(lambda _: None, lambda: False, "a", [])
        )
        storage = f"sqlite:///{self.paths.root}/study.db"
        trainer.hyperparameter_search(
            hp_space=hp_space,
            compute_objective=lambda _: trainer.objective,
            n_trials=n_trials,
            backend="optuna",
            direction="maximize",
            storage=storage,
            study_name="s",
        )
        return optuna.load_study(study_name="s", storage=storage)


def test_the_value_of_a_trial_is_its_best_epochs(tmp_path: Path, tiny_model: Path) -> None:
    """Upstream records the last evaluation. Ties go to the earlier epoch."""
    inside = _InProcess(tmp_path, tiny_model, [0.6, 0.9, 0.7, 0.8, 0.4, 0.8])
    study = inside.search(lambda _: {}, 2)
    assert [t.value for t in study.trials] == [0.9, 0.8]
    best = [best_of(epochs_of(t.user_attrs), ObjectiveConfig()) for t in study.trials]
    assert [b.epoch for b in best if b] == [2, 1]
    assert [list(t.intermediate_values.values()) for t in study.trials] == [
        [0.6, 0.9, 0.7],
        [0.8, 0.4, 0.8],
    ]


def test_nothing_of_a_trial_reaches_the_next(tmp_path: Path, tiny_model: Path) -> None:
    """Upstream sets parameters on shared arguments, so a conditional one stays for later trials."""
    inside = _InProcess(tmp_path, tiny_model)

    def conditional(trial: Any) -> dict[str, Any]:
        if trial.number == 0:
            return {"weight_decay": trial.suggest_float("weight_decay", 0.5, 0.5), "seed": 3}
        return {}

    study = inside.search(conditional, 2)
    assert len(study.trials) == 2
    first, second = inside.seen
    assert (first["weight_decay"], first["seed"]) == (0.5, 3)
    assert (second["weight_decay"], second["seed"]) == (0.0, 0)
