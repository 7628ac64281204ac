"""Each layer's learning rate is a fixed share of that of the one above; a crash changes nothing about it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from sweep.launchers import local
from sweep.layer_decay import decay_by_layer
from sweep.results import compare_results, study_result
from tests.conftest import RunStudy
from tests.faults import points
from tests.faults.points import Point, landed, plan


def test_rates_fall_from_the_head_to_the_embeddings(tiny_model: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model)
    names = {id(p): name for name, p in model.named_parameters()}
    halves = [list(model.parameters())[::2], list(model.parameters())[1::2]]
    groups = [
        {"params": params, "weight_decay": decay} for params, decay in zip(halves, (0.1, 0.0), strict=True)
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0)
    decay_by_layer(optimizer, model, 0.5)
    rates = {names[id(p)]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert len(rates) == len(names) == sum(len(g["params"]) for g in optimizer.param_groups), "each once"
    expected = {
        "embeddings": 0.125,
        "encoder.layer.0.": 0.25,
        "encoder.layer.1.": 0.5,
        "pooler": 1.0,
        "classifier": 1.0,
    }
    for name, (rate, _) in rates.items():
        assert rate == next(r for part, r in expected.items() if part in name), name
    assert {name: decay for name, (_, decay) in rates.items()} == {
        names[id(p)]: decay for half, decay in zip(halves, (0.1, 0.0), strict=True) for p in half
    }
    assert optimizer.param_groups[0]["lr"] == 1.0


def test_a_trial_with_it_survives_kills(
    run_study: RunStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = ["trainer.num_train_epochs=3"]
    plain = run_study(*study, name="plain")
    study.append("trainer.layerwise_lr_decay=choice(0.5)")
    calm = run_study(*study, name="calm")
    assert calm.losses(0) != plain.losses(0)
    monkeypatch.setattr(local, "_RANK", points.RANK)
    root = tmp_path / "out" / "tiny"
    plan(root, [Point("sweep.record:TrialRecord.report", "after", nth=2)])
    killed = run_study(*study)
    assert landed(root) == [0], killed.output
    assert compare_results(study_result(calm.root), study_result(root)) == []
