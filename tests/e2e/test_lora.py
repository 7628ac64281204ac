"""LoRA: only the adapter is trained, kept and resumed; export hands over a whole model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from sweep.launchers import local
from sweep.results import compare_results, study_result
from tests.conftest import Command, RunStudy
from tests.faults import points
from tests.faults.points import Point, landed, plan
from tests.tiny import make_foreign_model

_STUDY = [
    "model/adapter=lora",
    "model.adapter.rank=choice(2,4)",
    "trainer.learning_rate=1e-2",
    "trainer.num_train_epochs=3",
    "study.n_trials=2",
    "sampler=random",
    "pruner=none",
]
_TWO_RANKS = ["launcher.devices=2", "launcher.devices_per_trial=2"]


@pytest.mark.parametrize(("kind", "ranks"), [("tiny", _TWO_RANKS), ("foreign", [])])
def test_an_adapter_survives_kills_and_is_merged_by_export(
    kind: str,
    ranks: list[str],
    run_study: RunStudy,
    reviews: pd.DataFrame,
    sweep_command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = [*_STUDY, *ranks, "model.freeze_layers=1"]
    if kind == "foreign":
        # Its file holds neither classifier nor the layer before it: both are drawn, trained and kept.
        folder = make_foreign_model(tmp_path / "foreign", list(reviews["text"][:500]))
        study = [*_STUDY, f"model.path='{folder}'", "model.adapter.target_modules=[q_lin,v_lin]"]
    calm = run_study(*study, name="calm")
    assert calm.code == 0, calm.output
    assert len({t["params"]["model.adapter.rank"] for t in calm.status["trials"]}) == 2
    assert calm.losses(0)[-1] != calm.losses(0)[0]
    checkpoint = Path(calm.status["best"]["checkpoint"])
    assert (checkpoint / "adapter_model.safetensors").is_file()
    assert not (checkpoint / "model.safetensors").exists(), "the pretrained weights are nobody's to keep"

    monkeypatch.setattr(local, "_RANK", points.RANK)
    root = tmp_path / "out" / "tiny"
    kills = [Point("sweep.record:TrialRecord.report", "after", nth=2)]
    kills.append(Point("transformers:Trainer._save_rng_state", "before", nth=5))
    plan(root, kills)
    killed = run_study(*study)
    assert landed(root) == [0, 1], killed.output
    assert compare_results(study_result(calm.root), study_result(root)) == []

    exported = sweep_command("export", str(root))
    assert exported.returncode == 0, exported.stdout + exported.stderr
    best = root / "best"
    assert (best / "model.safetensors").is_file()
    assert not list(best.glob("adapter*")), "it opens without peft"
    said = sweep_command("predict", str(best), "The battery died after two days.")
    assert said.stdout.split("\t")[0] in ("negative", "positive"), said.stderr

    kept = tmp_path / "adapter"
    exported = sweep_command("export", str(root), "--adapter", "--to", str(kept))
    assert exported.returncode == 0, exported.stdout + exported.stderr
    assert (kept / "adapter_model.safetensors").is_file()
    assert not list(kept.glob("model*.safetensors")), "it is small"
    same = sweep_command("predict", str(kept), "The battery died after two days.")
    assert same.stdout == said.stdout, same.stderr
    code = (kept / "README.md").read_text().split("```python")[1].split("```")[0]
    code = code.replace("PATH/TO/THIS/FOLDER", str(kept)).replace('pipeline("', 'found = pipeline("')
    printed = f"{code}\nprint(found[0]['label'])"
    by_card = subprocess.run([sys.executable, "-c", printed], capture_output=True, text=True, check=False)
    assert by_card.stdout.strip() in ("negative", "positive"), by_card.stderr
