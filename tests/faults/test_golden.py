"""A study written by release 0.1.0, killed in its third trial, opens and ends in this release.

`tests/golden/v0.1.0.tar.gz` was made by that release: a model 16 wide, made-up sentences, twelve epochs
a trial. Its driver was killed after epoch 5 of trial 2 was reported and before it was on disk.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from rich.console import Console

from sweep.commands import read_status, resume

_GOLDEN = Path(__file__).parents[1] / "golden" / "v0.1.0.tar.gz"


def test_a_study_of_the_release_before_goes_on(tmp_path: Path) -> None:
    with tarfile.open(_GOLDEN) as archive:
        archive.extractall(tmp_path)
    root, output = tmp_path / "study", io.StringIO()
    before = read_status(root)
    assert [t["state"] for t in before["trials"]] == ["COMPLETE", "COMPLETE", "RUNNING"]
    # Of two perfect scores that release took the lower number; now it is the one of fewer epochs.
    assert [t["best_epoch"] for t in before["trials"][:2]] == [6, 3]
    assert before["best"]["number"] == 1
    words = [f"task.path='{tmp_path}/texts.csv'", f"model.path='{tmp_path}/model'"]
    assert resume(root, words, False, Console(file=output, width=200)) == 0
    said = output.getvalue()
    assert "trial 2: epochs 1–4 kept, epoch 5 repeated" in said
    assert "trial 2  started (attempt 2, epochs 1–4 kept, epoch 5 repeated)" in said
    after = read_status(root)
    assert after["trials"][:2] == before["trials"][:2]
    assert after["trials"][2]["epochs"][:4] == before["trials"][2]["epochs"][:4]
    assert [t["state"] in ("COMPLETE", "PRUNED") for t in after["trials"]] == [True] * 4
    # That release kept the best epoch of every finished trial, and so it stays in its studies.
    assert (root / "trials" / "0001" / "checkpoint-33").is_dir()
