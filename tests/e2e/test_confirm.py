"""The best trials with new seeds: killed, typed again, ranked by their means, and the winner exported."""

from __future__ import annotations

import json
import signal
import statistics
from pathlib import Path

import pytest

from sweep.commands import read_status
from sweep.confirm import Confirmed, difference, interval
from tests.conftest import Command, RunStudy
from tests.faults.harness import Running

_STUDY = ["study.n_trials=4", "trainer.learning_rate=tag(log, interval(1e-4,1e-2))", "sampler=random"]
_STUDY += ["pruner=none", "objective.metric=loss", "objective.direction=minimize"]


def test_the_best_trials_are_trained_again_ranked_and_exported(
    run_study: RunStudy, sweep_command: Command, tmp_path: Path
) -> None:
    study = run_study(*_STUDY)
    root = study.root
    refused = sweep_command("export", str(root), "--confirmed")
    assert refused.returncode == 2
    assert f"sweep confirm {root}" in refused.stderr
    assert sweep_command("confirm", str(root), "--top", "0").returncode == 2

    words = ["confirm", str(root), "--top", "2", "--seeds", "3"]
    first = Running(words, tmp_path)
    first.wait_for("trial 1  epoch 1")
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    done = sweep_command(*words)
    assert done.returncode == 0, done.stdout + done.stderr

    again = read_status(root / "tiny-confirm")["trials"]
    by_value = sorted(study.status["trials"], key=lambda t: t["value"])[:2]
    assert [t["state"] for t in again] == ["COMPLETE"] * 6
    assert {t["params"]["trainer.seed"] for t in again} == {43, 44, 45}, "42 was the study's"
    found = json.loads((root / "confirmed.json").read_text())
    for each in found:
        same = [
            t
            for t in again
            if t["params"]["trainer.learning_rate"] == each["params"]["trainer.learning_rate"]
        ]
        assert each["mean"] == pytest.approx(statistics.mean(t["value"] for t in same))
        assert each["std"] == pytest.approx(statistics.stdev(t["value"] for t in same))
        assert each["low"] < each["mean"] < each["high"]
    assert {each["number"] for each in found} == {t["number"] for t in by_value}
    assert [each["mean"] for each in found] == sorted(each["mean"] for each in found)
    assert f"trial {found[0]['number']} against trial {found[1]['number']}" in done.stdout

    other = sweep_command("confirm", str(root), "--top", "2", "--seeds", "2")
    assert other.returncode == 2
    assert "other trials, or with other seeds" in other.stderr
    exported = sweep_command("export", str(root), "--confirmed")
    assert exported.returncode == 0, exported.stderr
    metrics = json.loads((root / "best" / "metrics.json").read_text())
    median = statistics.median(found[0]["scores"].values())
    assert metrics["trial"] == next(
        n for s, n in found[0]["trials"].items() if found[0]["scores"][s] == median
    )


def _confirmed(*scores: float) -> Confirmed:
    return Confirmed(0, {}, 0.0, dict(enumerate(scores)), {}, statistics.mean(scores), 0.0, 0.0, 0.0)


def testintervals_are_students() -> None:
    import numpy as np

    # Of 0.80, 0.82, 0.84 the standard error is 0.02 / sqrt(3); t's quantile for 2 degrees is 4.3027.
    low, high = interval(np.array([0.80, 0.82, 0.84]))
    assert (low, high) == pytest.approx((0.82 - 0.049683, 0.82 + 0.049683), abs=1e-5)
    assert interval(np.array([0.8])) == (0.8, 0.8)
    # Seed by seed the gain is 0.02 each time: certain, though the scores themselves scatter by more.
    mean, low, high = difference(_confirmed(0.80, 0.86, 0.90), _confirmed(0.78, 0.84, 0.88))
    assert (mean, low, high) == pytest.approx((0.02, 0.02, 0.02), abs=1e-9)
