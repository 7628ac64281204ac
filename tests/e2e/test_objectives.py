"""Several objectives: the Pareto front in status and summary, kept, exported; nothing of it lost by kills."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.opening import checked, open_study
from sweep.results import compare_results, study_result
from sweep.schema import ObjectiveConfig
from sweep.score import pareto_front, rank_key
from sweep.study import load_study
from tests.conftest import Command, RunStudy
from tests.faults.harness import kill_and_resume
from tests.faults.points import Point

_STUDY = [
    "objective=[loss:minimize,size:minimize]",
    "pruner=none",
    "model.num_hidden_layers=choice(1,2)",
    "trainer.learning_rate=tag(log, interval(1e-4,3e-2))",
    "trainer.num_train_epochs=2",
    "study.n_trials=5",
    "study.seed=5",
]
_DEATHS = [
    Point("sweep.record:TrialRecord.report", "after", "rank 0", "both", nth=2),
    Point("sweep.sampler:SeededSampler.after_trial", "after", "rank 0", "both", nth=2),
    Point("sweep.checkpoint:flush", "after", "rank 0", nth=3),
]


def test_the_front_survives_kills_and_each_of_it_is_exported(
    tiny_overrides: list[str], run_study: RunStudy, sweep_command: Command, tmp_path: Path
) -> None:
    calm = run_study(*_STUDY, name="calm")
    assert calm.code == 0, calm.output
    assert "minimize loss, minimize size" in calm.output
    front = calm.status["front"]
    sizes = {n: calm.trial(n)["scores"]["size"] for n in front}
    assert len(set(sizes.values())) == 2, "one of each size"
    paths, cfg = open_study(calm.root)
    study = load_study(checked(cfg)[0], paths)
    assert sorted(front) == sorted(t.number for t in study.best_trials)
    assert [t.values for t in study.trials] == [t["values"] for t in calm.status["trials"]]
    assert calm.status["best"]["number"] == min(front, key=lambda n: calm.trial(n)["value"])

    root = tmp_path / "out" / "tiny"
    kill_and_resume([*tiny_overrides, *_STUDY], root, _DEATHS)
    assert compare_results(study_result(calm.root), study_result(root)) == []

    shown = sweep_command("status", str(root)).stdout
    assert all(f"*{n} " in shown for n in front), shown
    assert shown.count("*") == len(front)
    for number in front:
        done = sweep_command("export", str(root), "--trial", str(number), "--to", f"model-{number}")
        assert done.returncode == 0, done.stderr
        metrics = json.loads((tmp_path / f"model-{number}" / "metrics.json").read_text())
        assert metrics["trial"] == number
    other = next(n for n in range(5) if n not in front)
    refused = sweep_command("export", str(root), "--trial", str(other))
    assert refused.returncode == 1, "what is dominated was not kept"
    refused = sweep_command("export", str(root), "--adapter")
    assert refused.returncode == 2
    assert "model/adapter=lora" in refused.stderr


@pytest.mark.parametrize("ranks", [[], ["launcher.devices=2", "launcher.devices_per_trial=2"]])
def test_latency_is_measured_and_can_be_an_objective(run_study: RunStudy, ranks: list[str]) -> None:
    study = ["objective=[accuracy:maximize,latency:minimize]", "study.n_trials=2", "sampler=nsgaii"]
    study += ["pruner=none", *ranks]
    found = run_study(*study)
    assert found.code == 0, found.output
    for trial in found.status["trials"]:
        assert 0.05 < trial["scores"]["latency"] < 1000, "milliseconds"
        assert trial["values"] == [trial["scores"]["accuracy"], trial["scores"]["latency"]]
    assert "latency" in found.output


_SCORES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12)


@given(_SCORES)
def test_the_front_is_optunas_and_the_first_place_belongs_to_it(scores: list[tuple[int, int]]) -> None:
    study = optuna.create_study(directions=["minimize", "minimize"])
    for pair in scores:
        study.add_trial(optuna.create_trial(values=[float(v) for v in pair]))
    front = pareto_front(dict(enumerate(scores)))
    assert sorted(front) == sorted(t.number for t in study.best_trials)
    objective = ObjectiveConfig("loss", "minimize", ["size:minimize"])
    keys = [
        rank_key(n, {1: {"loss": float(a), "size": float(b)}}, objective) for n, (a, b) in enumerate(scores)
    ]
    assert not keys or min(keys)[-1] in front
