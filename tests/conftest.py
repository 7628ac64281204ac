"""Shared fixtures: a really small model, real reviews as a user's file, and the command itself."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, settings
from rich.console import Console

from sweep.errors import SweepError
from tests.tiny import make_tiny_model

# Before anything imports torch: two ranks share two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Two studies share two cores in a test run: a thread that spins for its next task takes the other's core.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

settings.register_profile(
    "sweep", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("sweep")

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers, 32 wide, random weights, with the embedded model's tokenizer."""
    import torch

    torch.manual_seed(0)
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def reviews() -> pd.DataFrame:
    """The embedded reviews: text, label, group."""
    from sweep.reviews import load_reviews

    return load_reviews()


@pytest.fixture(scope="session")
def review_files(tmp_path_factory: pytest.TempPathFactory, reviews: pd.DataFrame) -> dict[str, str]:
    """Real reviews as a user's CSV files: train 96, validation 64, test 32 rows, words as labels."""
    folder = tmp_path_factory.mktemp("data")
    rows = reviews.sample(192, random_state=3)[["text", "label"]]
    rows["label"] = rows["label"].map({0: "negative", 1: "positive"})
    parts = {"path": rows[:96], "validation_path": rows[96:160], "test_path": rows[160:]}
    files = {}
    for key, part in parts.items():
        files[key] = str(folder / f"{key}.csv")
        part.to_csv(files[key], index=False)
    return files


@pytest.fixture
def tiny_overrides(tiny_model: Path, review_files: dict[str, str], tmp_path: Path) -> list[str]:
    """A study that trains in about a second per trial: one trial at a time, fixed parameters."""
    return [
        "task=files",
        *(f"task.{key}='{file}'" for key, file in review_files.items()),
        "task.max_length=32",
        "model=hub",
        f"model.path='{tiny_model}'",
        "space=none",
        f"study.output_dir='{tmp_path}/out'",
        "study.name=tiny",
        "study.n_trials=1",
        "trainer.global_batch_size=16",
        "trainer.learning_rate=1e-3",
        "pruner=median",
        "launcher.devices=1",
    ]


@pytest.fixture
def sweep_command(tmp_path: Path) -> Command:
    """Run the real command in a process of its own, as a user would."""

    def run(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sweep", *arguments],
            cwd=tmp_path,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )

    return run


@dataclass(frozen=True)
class Finished:
    """A study that was run in this process: its folder, exit status, status object and output."""

    root: Path
    code: int
    status: dict[str, Any]
    output: str

    def trial(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = self.status["trials"][number]
        return found

    def losses(self, number: int) -> list[float]:
        return [epoch["loss"] for epoch in self.trial(number)["epochs"]]


RunStudy = Callable[..., Finished]


@pytest.fixture
def run_study(tiny_overrides: list[str], tmp_path: Path) -> RunStudy:
    """Launch a tiny study through the real driver, fork server and ranks; later overrides win."""
    from sweep.commands import launch, read_status
    from sweep.compose import compose
    from sweep.grammar import to_hydra

    def run(*overrides: str, name: str = "tiny") -> Finished:
        output = io.StringIO()
        cfg = compose([*tiny_overrides, f"study.name={to_hydra(name)}", *overrides])
        root = tmp_path / "out" / name
        try:
            code = launch(cfg, Console(file=output, width=200))
        except SweepError as error:
            if not root.exists():
                raise
            code = error.exit_status
            output.write(str(error))
        return Finished(root, code, read_status(root), output.getvalue())

    return run
