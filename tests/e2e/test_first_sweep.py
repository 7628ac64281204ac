"""A person's first hour, with the real command: launch, status, export, predict, more trials."""

from __future__ import annotations

import json
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from safetensors import safe_open

from tests.conftest import Command

_STATES = {"RUNNING", "COMPLETE", "PRUNED", "FAIL", "WAITING"}
_EPOCH_LINE = re.compile(
    r"^trial (\d+)  epoch (\d+)  accuracy 0\.\d{4}  F1 0\.\d{4}  loss \d\.\d{4}  time [\d.]+ s$", re.M
)


def _check_status(status: dict[str, Any]) -> None:
    """The documented shape of `status --json`; programs depend on it."""
    keys = {"study", "n_trials", "remaining", "direction", "metric", "objectives", "trials", "front", "best"}
    assert set(status) == keys
    trial_keys = {
        "number",
        "state",
        "attempts",
        "value",
        "values",
        "scores",
        "best_epoch",
        "params",
        "epochs",
        "seconds",
        "error",
    }
    for number, trial in enumerate(status["trials"]):
        assert set(trial) == trial_keys
        assert trial["number"] == number
        assert trial["state"] in _STATES
        assert [e["epoch"] for e in trial["epochs"]] == list(range(1, len(trial["epochs"]) + 1))
        for epoch in trial["epochs"]:
            assert {"epoch", "accuracy", "f1", "loss"} <= set(epoch)
        if trial["state"] == "COMPLETE":
            scores = [e[status["metric"]] for e in trial["epochs"]]
            assert trial["value"] == max(scores)
            assert trial["best_epoch"] == 1 + scores.index(max(scores))
    best = status["best"]
    assert set(best) == {"number", "value", "params", "checkpoint"}
    complete = [t for t in status["trials"] if t["state"] == "COMPLETE"]
    assert best["value"] == max(t["value"] for t in complete)
    assert (Path(best["checkpoint"]) / "manifest.json").is_file()


def test_the_main_path_on_real_reviews(sweep_command: Command, tmp_path: Path) -> None:
    launched = sweep_command("launch", "experiment=smoke")
    assert launched.returncode == 0, launched.stderr
    output = launched.stdout
    assert "Traceback" not in output + launched.stderr
    assert re.search(r"^devices  2 devices, 1 per trial, 2 trials at a time: CPU share 0 .*$", output, re.M)
    assert re.search(
        r"^data .*256 train, \d+ validation, \d+ test rows; labels negative=0, positive=1", output, re.M
    )
    assert re.search(r'^first row ".*" has the label ([01]) → \1 \((negative|positive)\)$', output, re.M)
    assert re.search(r"^encoded  \[CLS\] ", output, re.M)
    lines = {(int(a), int(b)) for a, b in _EPOCH_LINE.findall(output)}
    assert {(n, 1) for n in range(3)} <= lines
    for said in (
        "Best: trial",
        "TF-IDF + regression",
        "majority class",
        "parameters",
        "sweep export outputs/smoke",
    ):
        assert said in output

    shown = sweep_command("status", "outputs/smoke", "--json")
    status = json.loads(shown.stdout)
    _check_status(status)
    assert (status["study"], status["n_trials"], status["remaining"]) == ("smoke", 3, 0)
    assert (status["direction"], status["metric"]) == ("maximize", "accuracy")
    assert "COMPLETE" in sweep_command("status", "outputs/smoke").stdout

    exported = sweep_command("export", "outputs/smoke", "--to", "my model")
    assert exported.returncode == 0, exported.stderr
    folder = tmp_path / "my model"
    files = {p.name for p in folder.iterdir()}
    assert {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "metrics.json",
        "params.yaml",
        "README.md",
    } <= files
    assert not files & {"optimizer.pt", "trainer_state.json", "rng_state.pth", "manifest.json"}
    metrics = json.loads((folder / "metrics.json").read_text())
    best = status["trials"][status["best"]["number"]]
    recorded = best["epochs"][best["best_epoch"] - 1]
    assert metrics["validation"]["accuracy"] == pytest.approx(recorded["accuracy"], abs=1e-6)
    assert metrics["validation"]["f1"] == pytest.approx(recorded["f1"], abs=1e-6)
    assert 0.3 < metrics["test"]["accuracy"] <= 1
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"] == {"0": "negative", "1": "positive"}
    assert config["label2id"] == {"negative": 0, "positive": 1}

    from transformers import pipeline

    texts = ["The battery died after two days.", "Great sound, easy to set up, I love it."]
    opened = pipeline("text-classification", str(folder))(texts)
    predicted = sweep_command("predict", "my model", *texts)
    assert predicted.returncode == 0, predicted.stderr
    rows = [line.split("\t") for line in predicted.stdout.splitlines()]
    assert [row[2] for row in rows] == texts
    assert [row[0] for row in rows] == [found["label"] for found in opened]
    for row, found in zip(rows, opened, strict=True):
        assert float(row[1]) == pytest.approx(found["score"], abs=1e-3)
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    assert sweep_command("predict", "my model", "--file", "texts.txt").stdout == predicted.stdout
    assert sweep_command("predict", "my model", stdin="\n".join(texts)).stdout == predicted.stdout

    finished = sweep_command("resume", "outputs/smoke")
    assert finished.returncode == 0
    assert "is finished: 3 of 3 trials" in finished.stdout
    raised = sweep_command("resume", "outputs/smoke", "study.n_trials=4")
    assert raised.returncode == 0, raised.stderr
    after = json.loads(sweep_command("status", "outputs/smoke", "--json").stdout)
    assert (after["n_trials"], after["remaining"], len(after["trials"])) == (4, 0, 4)
    assert after["trials"][:3] == status["trials"], "finished trials are never run again"


def test_own_csv_with_three_words_as_labels_on_two_ranks(
    sweep_command: Command, tmp_path: Path, reviews: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ranks meet in a temporary folder whose name no URL could hold."""
    odd = tempfile.TemporaryDirectory(prefix="t #1 ?% ", dir="/tmp")
    monkeypatch.setenv("TMPDIR", odd.name)
    rows = reviews.sample(300, random_state=5)
    mood = ["mixed" if i % 4 == 0 else ("good" if label else "bad") for i, label in enumerate(rows["label"])]
    pd.DataFrame({"review": rows["text"], "mood": mood}).to_csv(tmp_path / "own.csv", index=False)
    launched = sweep_command(
        "launch",
        "experiment=smoke",
        "task=files",
        "task.path=own.csv",
        "task.text_column=review",
        "task.label_column=mood",
        'study.name="it\'s 3 classes"',
        "study.n_trials=1",
        "launcher.devices=2",
        "launcher.devices_per_trial=2",
    )
    assert launched.returncode == 0, launched.stderr
    assert "labels bad=0, good=1, mixed=2" in launched.stdout
    assert re.search(r"2 per trial, 1 trial at a time", launched.stdout)
    exported = sweep_command("export", "outputs/it's 3 classes")
    assert exported.returncode == 0, exported.stderr
    folder = tmp_path / "outputs" / "it's 3 classes" / "best"
    assert json.loads((folder / "config.json").read_text())["id2label"] == {
        "0": "bad",
        "1": "good",
        "2": "mixed",
    }
    with safe_open(str(folder / "model.safetensors"), "pt") as weights:
        assert weights.get_slice("classifier.weight").get_shape()[0] == 3
    predicted = sweep_command("predict", str(folder), "fine")
    assert predicted.stdout.split("\t")[0] in {"bad", "good", "mixed"}

    (folder / "stranger").write_text("kept only until the next export")
    weights_file = next(
        (tmp_path / "outputs/it's 3 classes/trials/0000").glob("checkpoint-*/model.safetensors")
    )
    content = bytearray(weights_file.read_bytes())
    content[-40_000:] = bytes(40_000)  # spoil the head's neighbours, keep the size
    weights_file.write_bytes(content)
    before = (folder / "model.safetensors").read_bytes()
    refused = sweep_command("export", "outputs/it's 3 classes")
    assert refused.returncode == 1
    assert "nothing was exported" in refused.stderr
    assert (folder / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--help"], "sweep launch task=files"),
        (["launch", "--help"], "experiment=smoke"),
        (["resume", "--help"], "study.n_trials=20"),
        (["status", "--help"], "--json"),
        (["export", "--help"], "--trial 3"),
        (["predict", "--help"], "--file texts.txt"),
        (["launch", "--cfg", "job"], "learning_rate: 0.0003"),
        (["launch", "--cfg", "job", "trainer.optim=choice(a,b)"], "trainer.optim: choice(a,b)"),
        (["launch", "--cfg", "job", "--resolve", "-p", "study"], "name: reviews"),
        (["launch", "--cfg", "hydra"], "searchpath"),
        (["launch", "--info", "defaults"], "task/reviews"),
        (["launch", "--hydra-help"], "--shell-completion"),
        (["-sc", "install=bash"], "complete -o nospace"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_help_and_questions_run_nothing(
    sweep_command: Command, tmp_path: Path, arguments: list[str], said: str
) -> None:
    asked = sweep_command(*arguments)
    assert asked.returncode == 0, asked.stderr
    assert said in asked.stdout
    assert not list(tmp_path.iterdir()), "a question leaves nothing behind"


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("sweep la", {"launch"}),
        ("sweep ", {"launch", "resume", "stop", "status", "confirm", "chaos", "export", "predict"}),
        ("sweep launch task", {"task", "task."}),  # = or / may follow
        ("sweep launch model", {"model", "model."}),
        ("sweep launch model/", {"model/adapter="}),
        ("sweep launch trainer.learning_r", {"trainer.learning_rate="}),
        ("sweep launch model=", {"model=hub", "model=minilm"}),
        ("sweep launch experiment=smoke study.n_", {"study.n_trials="}),
    ],
)
def test_tab_completes_verbs_and_overrides(
    sweep_command: Command, monkeypatch: pytest.MonkeyPatch, line: str, offered: set[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    asked = sweep_command("-sc", "query=bash")
    assert asked.returncode == 0, asked.stderr
    assert offered <= set(asked.stdout.split())


def test_the_wheel_carries_its_config(tmp_path: Path) -> None:
    import subprocess
    import sys

    root = Path(__file__).parents[2]
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(root)]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next(tmp_path.glob("sweep-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
        names = set(archive.namelist())
    assert {"sweep/conf/config.yaml", "sweep/conf/experiment/smoke.yaml", "sweep/py.typed"} <= names
    asked = subprocess.run(
        [sys.executable, "-m", "sweep", "launch", "--cfg", "job", "experiment=smoke"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "name: smoke" in asked.stdout
