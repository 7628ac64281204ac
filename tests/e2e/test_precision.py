"""`trainer.bf16=auto`: measured when a study is made, kept in its config, the same on every resume."""

from __future__ import annotations

import re
from pathlib import Path

from omegaconf import OmegaConf

from tests.conftest import Command, RunStudy


def test_what_is_faster_is_kept(run_study: RunStudy, sweep_command: Command, tmp_path: Path) -> None:
    done = run_study("trainer.bf16=auto")
    assert done.code == 0, done.output
    said = re.search(r"precision (bf16|fp32): a step in bf16 takes (\d+\.\d\d) times as long", done.output)
    assert said, done.output
    bf16 = said[1] == "bf16"
    assert (float(said[2]) < 0.9) == bf16
    for config in (done.root / "config.yaml", done.root / "trials" / "0000" / "config.yaml"):
        assert OmegaConf.load(config).trainer.bf16 is bf16
    refused = sweep_command("resume", str(done.root), "study.n_trials=2", f"trainer.bf16={not bf16}")
    assert refused.returncode == 2
    assert f"trainer.bf16: {bf16} → {not bf16}" in refused.stderr
    resumed = sweep_command("resume", str(done.root), "study.n_trials=2")
    assert resumed.returncode == 0, resumed.stderr
    assert "precision" not in resumed.stdout, "measured once"
