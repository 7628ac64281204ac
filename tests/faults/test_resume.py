"""What a resume does with what it finds: damaged checkpoints, other devices, other configs."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweep.checkpoint import checkpoint_folders
from sweep.commands import launch, read_status, resume
from sweep.compose import compose
from sweep.errors import InputError, SweepError
from sweep.opening import checked, open_study
from sweep.paths import StudyPaths
from sweep.results import compare_results, study_result
from sweep.study import load_study
from tests.conftest import RunStudy

_STUDY = ["trainer.num_train_epochs=4", "study.n_trials=2", "trainer.learning_rate=interval(1e-3,1e-2)"]
Launched = Callable[..., Path]


class _Pausing(io.StringIO):
    """A console that pauses the study as soon as a trial has started: by its first epoch's end."""

    def write(self, text: str) -> int:
        if " started" in text:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().write(text)


@pytest.fixture
def paused(tiny_overrides: list[str]) -> Launched:
    """Launch a study, pause it after the first epoch of its first trial; its folder."""

    def run(*overrides: str, name: str = "tiny") -> Path:
        output = _Pausing()
        cfg = compose([*tiny_overrides, f"study.name={name}", *_STUDY, *overrides])
        assert launch(cfg, Console(file=output, width=200)) == 128 + signal.SIGTERM, output.getvalue()
        root = Path(cfg.study.output_dir, cfg.study.name)
        states = [(t["state"], len(t["epochs"])) for t in read_status(root)["trials"]]
        assert states == [("WAITING", 1)], output.getvalue()
        return root

    return run


def _resume(root: Path, *words: str, widen: bool = False) -> str:
    output = io.StringIO()
    console = Console(file=output, width=200)
    assert resume(root, [*words], widen, console) == 0, output.getvalue()
    return output.getvalue()


def _one_more_epoch(root: Path) -> None:
    assert resume(root, [], False, Console(file=_Pausing())) == 128 + signal.SIGTERM


def _attempts(root: Path, number: int) -> list[dict[str, Any]]:
    paths, cfg = open_study(root)
    found: list[dict[str, Any]] = load_study(checked(cfg)[0], paths).trials[number].user_attrs["attempts"]
    return found


def test_time_adds_up_over_sessions_and_changes_nothing(run_study: RunStudy, tmp_path: Path) -> None:
    """The limits follow from how long this machine takes for the study."""
    epochs = 32
    long = [f"trainer.num_train_epochs={epochs}", "study.n_trials=1", "trainer.learning_rate=1e-4"]
    undisturbed = run_study(*long, name="calm")
    calm = study_result(undisturbed.root)
    limit = max(2, round(undisturbed.trial(0)["seconds"] / 4))
    # A name as only a person could have it.
    name = 'it\'s a "study" #1 %?\nof mine'
    found = run_study(*long, f"study.timeout={limit}", name=name)
    root = tmp_path / "out" / name
    assert found.code == 0
    assert f"study.timeout={limit} s is used up" in found.output
    paused = len(read_status(root)["trials"][0]["epochs"])
    assert 1 <= paused < epochs
    assert f"has used its study.timeout={limit} s; 1 trial to go" in _resume(root)
    # One second more than it has had, whatever the speed of the machine just now.
    assert f"study.timeout={limit + 1} s is used up" in _resume(root, f"study.timeout={limit + 1}")
    again = len(read_status(root)["trials"][0]["epochs"])
    assert paused <= again < epochs
    said = _resume(root, f"study.timeout={1000 * limit}")
    assert f"epochs 1–{again} kept" in said
    assert compare_results(calm, study_result(root)) == []
    assert [a["kept_epochs"] for a in _attempts(root, 0)] == [0, paused, again]
    assert "is finished: 1 of 1 trials" in _resume(root)


def _damage(folder: Path, how: str) -> None:
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    if how == "flip":
        data[len(data) // 2] ^= 1
        weights.write_bytes(data)
    elif how == "truncate":
        weights.write_bytes(data[:-1])
    else:
        (folder / "manifest.json").unlink()


@pytest.mark.parametrize(("epochs", "how"), [(2, "flip"), (2, "truncate"), (1, "no manifest")])
def test_a_damaged_checkpoint_is_passed_over_and_said(
    epochs: int, how: str, paused: Launched, run_study: RunStudy
) -> None:
    """The epoch before it is where the trial goes on; with none before it, from the beginning."""
    root = paused(name=how.replace(" ", "-"))
    if epochs == 2:
        _one_more_epoch(root)
    name = f"checkpoint-{6 * epochs}"
    _damage(root / "trials" / "0000" / name, how)
    said = _resume(root)
    kept = "epoch 1 kept, epoch 2 repeated" if epochs == 2 else "no epoch kept, epoch 1 repeated"
    assert f"trial 0: {kept}" in said
    assert f"trial 0  passes over a damaged checkpoint: {name}: " in said
    assert f"trial 0  started (attempt {epochs + 1}, {kept})" in said
    last = _attempts(root, 0)[-1]
    assert last["kept_epochs"] == epochs - 1
    assert last["damaged"][0].startswith(f"{name}: ")
    assert compare_results(study_result(run_study(*_STUDY, name="calm").root), study_result(root)) == []


def test_a_named_checkpoint_is_where_a_trial_goes_on(paused: Launched, run_study: RunStudy) -> None:
    calm = study_result(run_study(*_STUDY, name="calm").root)
    root = paused("checkpoints.keep=all")
    _one_more_epoch(root)
    _one_more_epoch(root)
    names = [f.name for f in checkpoint_folders(StudyPaths(root).trial(0))]
    assert names == ["checkpoint-6", "checkpoint-12", "checkpoint-18"]
    for words, said in [
        (["trial=0", "from=checkpoint-99"], f"trial 0 has the checkpoints {', '.join(names)}"),
        (["trial=7", "from=checkpoint-6"], "there is no trial 7"),
        (["from=checkpoint-6"], "give both"),
        (["trial=x", "from=checkpoint-6"], "give both"),
    ]:
        with pytest.raises(InputError, match=said):
            resume(root, words, False, Console(file=io.StringIO()))
    said = _resume(root, "trial=0", "from=checkpoint-6")
    assert "trial 0: epoch 1 kept, epochs 2–3 repeated" in said
    assert "trial 0  started (attempt 4, epoch 1 kept, epochs 2–3 repeated)" in said
    assert compare_results(calm, study_result(root)) == []
    with pytest.raises(InputError, match="trial 0 is COMPLETE; a finished trial is never run again"):
        resume(root, ["trial=0", "from=checkpoint-6"], False, Console(file=io.StringIO()))


def test_an_incomplete_named_checkpoint_is_refused(paused: Launched) -> None:
    root = paused()
    _damage(root / "trials" / "0000" / "checkpoint-6", "flip")
    with pytest.raises(InputError, match=r"cannot be used: the contents of model\.safetensors have changed"):
        resume(root, ["trial=0", "from=checkpoint-6"], False, Console(file=io.StringIO()))


@pytest.mark.parametrize(("before", "after", "strategy"), [(2, 1, "group_by_length"), (1, 2, "random")])
def test_a_trial_goes_on_on_other_devices(
    before: int, after: int, strategy: str, paused: Launched, run_study: RunStudy
) -> None:
    """Same batches, same order, same schedule; only dropout draws other numbers on other ranks.

    Without dropout the curves agree but for rounding; with it (the default) they stay close.
    """
    devices = {n: [f"launcher.devices={n}", f"launcher.devices_per_trial={n}"] for n in (1, 2)}
    common = [f"trainer.train_sampling_strategy={strategy}", "study.n_trials=1"]
    for dropout, bound in ((0.0, 1e-4), (0.1, 2e-2)):
        probabilities = [f"+model.config.{k}_dropout_prob={dropout}" for k in ("hidden", "attention_probs")]
        name = f"{strategy}-{dropout}"
        calm = run_study(*_STUDY, *common, *probabilities, *devices[before], name=f"calm-{name}")
        root = paused(*common, *probabilities, *devices[before], name=name)
        _resume(root, *devices[after])
        assert [a["world_size"] for a in _attempts(root, 0)] == [before, after]
        losses = [e["loss"] for e in read_status(root)["trials"][0]["epochs"]]
        assert losses == pytest.approx(calm.losses(0), abs=bound)


def test_what_would_mix_trials_is_refused_with_the_difference(
    paused: Launched, review_files: dict[str, str], tiny_model: Path, tmp_path: Path
) -> None:
    data, model = tmp_path / "own.csv", tmp_path / "model"
    shutil.copy(review_files["path"], data)
    shutil.copytree(tiny_model, model)
    root = paused(f"task.path='{data}'", f"model.path='{model}'")
    database = (root / "study.db").read_bytes()

    def refused(*words: str, widen: bool = False) -> str:
        with pytest.raises(InputError) as caught:
            resume(root, [*words], widen, Console(file=io.StringIO()))
        assert (root / "study.db").read_bytes() == database, "nothing was touched"
        return str(caught.value)

    assert "trainer.num_train_epochs: 4 → 5" in refused("trainer.num_train_epochs=5")
    assert "study.seed: 42 → 1" in refused("study.seed=1")
    said = refused("objective.metric=loss", "objective.direction=minimize")
    assert "objective.direction: maximize → minimize" in said
    assert "objective.metric: accuracy → loss" in said
    assert "a whole group cannot change" in refused("sampler=random")
    assert "Did you mean 'study.n_trials'" in refused("study.n_trails=9")
    assert "must be at least 1" in refused("study.n_trials=0")
    wider = "trainer.learning_rate=interval(1e-4,1e-1)"
    assert "add --widen" in refused(wider)
    assert "would not only get wider bounds" in refused("trainer.learning_rate=interval(2e-3,1)", widen=True)
    assert "trainer.weight_decay would be added" in refused("trainer.weight_decay=choice(0,1)", widen=True)

    whole = data.read_text()
    data.write_text(whole.replace(" the ", " a "))
    assert "task.path: the contents have changed (sha256 " in refused()
    data.unlink()
    assert f"task.path='{data}' is gone" in refused()
    moved = tmp_path / "moved.csv"
    moved.write_text(whole)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    assert "model.path: the contents have changed" in refused(f"task.path='{moved}'")
    assert read_status(root)["trials"][0]["state"] == "WAITING", "status needs neither data nor model"
    (model / "config.json").write_text(json.dumps(config))
    shutil.rmtree(model)
    said = _resume(
        root,
        f"task.path='{moved}'",
        f"model.path='{tiny_model}'",
        wider,
        "study.n_trials=3",
        "checkpoints.keep=weights",
        widen=True,
    )
    final = read_status(root)
    assert [t["state"] for t in final["trials"]] == ["COMPLETE"] * 3
    assert final["n_trials"] == 3
    begun = json.loads((root / "fingerprint.json").read_text())
    assert begun["space"] == {"trainer.learning_rate": "interval(1e-4,1e-1)"}
    kept = {p.name for p in Path(final["best"]["checkpoint"]).iterdir()}
    assert "model.safetensors" in kept
    assert not {"optimizer.pt", "scheduler.pt", "rng_state.pth"} & kept
    assert len(list(root.glob("trials/*/checkpoint-*"))) == 1
    (root / "fingerprint.json").write_text(json.dumps({**begun, "format": 99}))
    with pytest.raises(InputError, match="a later release"):
        resume(root, [], False, Console(file=io.StringIO()))


def test_folders_that_are_no_study_are_refused(tmp_path: Path, paused: Launched) -> None:
    for made in ("nothing", "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(InputError, match="is no study's folder"):
            resume(tmp_path / made, [], False, Console(file=io.StringIO()))
    root = paused()
    (root / "study.db").unlink()
    with pytest.raises(SweepError, match=r"has trials but study\.db is gone"):
        resume(root, [], False, Console(file=io.StringIO()))
    (root / "config.yaml").write_text("- no\n- config\n")
    with pytest.raises(InputError, match="is no study's config"):
        resume(root, [], False, Console(file=io.StringIO()))


def test_a_storage_locked_for_twenty_seconds_is_waited_for(run_study: RunStudy, tmp_path: Path) -> None:
    calm = study_result(run_study(*_STUDY, name="calm").root)
    root, held = tmp_path / "out" / "locked", []

    def lock() -> None:
        while not list(root.glob("trials/0000/logs/*")):
            time.sleep(0.01)
        base = sqlite3.connect(root / "study.db", timeout=60, isolation_level=None)
        base.execute("BEGIN EXCLUSIVE")
        held.append(time.monotonic())
        time.sleep(20)
        base.execute("ROLLBACK")
        held.append(time.monotonic())
        base.close()

    thread = threading.Thread(target=lock)
    thread.start()
    found = run_study(*_STUDY, name="locked")
    thread.join()
    assert held[1] - held[0] >= 20
    assert "failed" not in found.output
    assert [t["attempts"] for t in found.status["trials"]] == [1, 1]
    assert compare_results(calm, study_result(root)) == []
