"""A search space of one's own: whole models to choose from, conditions, constraints; through a crash."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pandas as pd
from omegaconf import OmegaConf

from tests.conftest import Command, RunStudy
from tests.faults.harness import Running
from tests.tiny import make_foreign_model

_SPACE = """\
model: choice(tiny,foreign)
trainer.optim: choice(adamw_torch,sgd)
+trainer.adam_beta2: {vary: "choice(0.9,0.99)", when: {trainer.optim: adamw_torch}}
trainer.learning_rate: tag(log, range(1e-4,1e-1,10))
constraints:
  - trainer.optim == 'sgd' or trainer.learning_rate < 1e-2
  - model.path != 'nothing'
"""


def test_models_conditions_and_constraints(
    tiny_overrides: list[str], tiny_model: Path, reviews: pd.DataFrame, sweep_command: Command, tmp_path: Path
) -> None:
    make_foreign_model(tmp_path / "foreign model", list(reviews["text"][:500]))
    for name, folder in (("tiny", tiny_model), ("foreign", tmp_path / "foreign model")):
        file = tmp_path / "conf" / "model" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"defaults: [hub]\npath: {folder}\n")
    space = tmp_path / "conf" / "space" / "mine.yaml"
    space.parent.mkdir()
    space.write_text(_SPACE)
    study = [o for o in tiny_overrides if not o.startswith(("model", "space", "trainer.learning"))]
    words = ["launch", "--config-dir", "conf", *study, "space=mine", "sampler=random"]
    words += ["study.n_trials=6", "trainer.num_train_epochs=1", "pruner=none"]
    words += ["study.enqueue=[{model:foreign,trainer:{optim:sgd,learning_rate:1e-2}}]"]
    first = Running(words, tmp_path)
    first.wait_for("trial 2  started")
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    for file in (space, *(tmp_path / "conf" / "model").iterdir()):
        file.unlink()  # the study has all that it needs
    root = tmp_path / "out" / "tiny"
    resumed = sweep_command("resume", str(root))
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert (
        "space    trainer.adam_beta2 = choice(0.9,0.99) when trainer.optim is adamw_torch" in resumed.stdout
    )
    assert "space    only where trainer.optim == 'sgd' or trainer.learning_rate < 1e-2" in resumed.stdout

    trials = json.loads(sweep_command("status", str(root), "--json").stdout)["trials"]
    assert [t["state"] for t in trials] == ["COMPLETE"] * 6
    first_params = trials[0]["params"]
    assert (first_params["model"], first_params["trainer.optim"]) == ("foreign", "sgd")
    assert first_params["trainer.learning_rate"] == 1e-2
    for trial in trials:
        params = trial["params"]
        assert (params["trainer.optim"] == "adamw_torch") == ("trainer.adam_beta2" in params)
        assert params["trainer.optim"] == "sgd" or params["trainer.learning_rate"] < 1e-2
        config = OmegaConf.load(root / "trials" / f"{trial['number']:04d}" / "config.yaml")
        assert ("foreign" in config.model.path) == (params["model"] == "foreign")
    assert {t["params"]["model"] for t in trials} == {"tiny", "foreign"}
    assert len([p for p in (root / "data").glob("tokens-*") if p.is_dir()]) == 2, "each tokenised once"
    exported = sweep_command("export", str(root))
    assert exported.returncode == 0, exported.stderr


def test_the_best_of_another_study_go_first(run_study: RunStudy) -> None:
    words = ["trainer.learning_rate=tag(log, interval(1e-4,1e-2))", "trainer.weight_decay=choice(0,0.1)"]
    words += ["study.n_trials=4", "sampler=random", "pruner=none", "trainer.num_train_epochs=1"]
    words += ["objective.metric=loss", "objective.direction=minimize"]
    other = run_study(*words, name="other")
    best = sorted(other.status["trials"], key=lambda t: t["value"])[:2]
    seeded = run_study(*words, f"study.from='{other.root}'", "study.from_top=2", "study.seed=7")
    assert seeded.code == 0, seeded.output
    params = [t["params"] for t in seeded.status["trials"]]
    assert params[:2] == [t["params"] for t in best]
    assert len({str(p) for p in params}) == 4, "the others are drawn"
    # What lies outside of the new space is drawn, the rest of the setting is kept.
    narrow = ["trainer.weight_decay=choice(0.2,0.3)", f"study.from='{other.root}'", "study.n_trials=1"]
    only = run_study(*words, *narrow, name="narrow").status["trials"][0]
    assert only["params"]["trainer.learning_rate"] == best[0]["params"]["trainer.learning_rate"]
    assert only["params"]["trainer.weight_decay"] in (0.2, 0.3)
