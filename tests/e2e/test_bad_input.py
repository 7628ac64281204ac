"""Wrong input: one message naming the value and the next action, exit 2, nothing trained or left."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from sweep.cli import main
from tests.conftest import Command, RunStudy

_FILES = ["task=files", "task.path=good.csv", "task.label_column=sentiment"]

# What is typed after `sweep launch`, and what the message must say.
_BEFORE_ANY_IMPORT = [
    (["trainer.learning_rat=3e-5"], ["trainer.learning_rat=3e-5", "Did you mean 'trainer.learning_rate'?"]),
    (["modle=hub"], ["modle=hub", "Did you mean 'model'?"]),
    (["model=minilmm"], ["'minilmm'", "Did you mean 'minilm'?"]),
    (["experiment=smok"], ["'smok'", "Did you mean 'smoke'?"]),
    (["trainer.learning_rat=interval(0,1)"], ["unknown path", "trainer.learning_rate"]),
    (["trainer.learning_rate=interval(1,1)"], ["interval(1,1)", "empty or reversed"]),
    (["trainer.learning_rate=interval(2,1)"], ["interval(2,1)", "empty or reversed"]),
    (["trainer.learning_rate=tag(log, interval(0,1))"], ["must lie above 0"]),
    (["trainer.optim=choice()"], ["choice()", "empty choice"]),
    (["trainer.optim=choice(a"], ["choice(a", "cannot be read"]),
    (["study.n_trials=0"], ["study.n_trials=0", "at least 1"]),
    (["study.n_trials=-3"], ["study.n_trials=-3"]),
    (["study.n_trials=many"], ["'many'"]),
    (["objective.metric=acuracy"], ["'acuracy'", "Did you mean 'accuracy'?"]),
    (["objective.metric=loss"], ["objective.direction=minimize"]),
    (["objective.direction=minimize"], ["worst accuracy", "objective.direction=maximize"]),
    (["study.name=a/b"], ["'a/b'", "without slashes"]),
    (["study.name=.."], ["'..'"]),
    (["task=files"], ["task.path"]),
    (["task=files", "task.path=god.csv"], ["god.csv", "Did you mean 'good.csv'?"]),
    (["task=files", "task.path=notes.docx"], ["'.docx'", ".parquet"]),
    (["study.output_dir=good.csv"], ["good.csv", "study.output_dir"]),
    (["study.output_dir=/proc/nowhere"], ["/proc/nowhere", "study.output_dir"]),
    (["--multirun"], ["--multirun is not needed"]),
    (["--jsn"], ["--jsn"]),
    (["sampler=grid"], ["sampler=grid", "trainer.learning_rate"]),
    (["study.timeout=0"], ["study.timeout=0", "at least 1"]),
    (["checkpoints.keep=last"], ["'last'", "best, all, weights"]),
    (["checkpoints.top_k=0", "checkpoints.max_bytes=-1"], ["top_k=0", "max_bytes=-1"]),
    (["launcher.hang_timeout=1800"], ["hang_timeout=1800", "collective_timeout=1800"]),
    (["objective.epoch=first"], ["'first'", "best, last"]),
    (["study.max_epochs=0", "objective.patience=0"], ["study.max_epochs=0", "objective.patience=0"]),
    (["trainer.layerwise_lr_decay=1.5"], ["trainer.layerwise_lr_decay=1.5", "at most at 1"]),
    (["model/adapter=lora", "model.adapter.rank=0"], ["model.adapter.rank=0", "at least 1"]),
    (["model/adapter=lor"], ["'lor'", "Did you mean 'lora'?"]),
    (["sampler=tpee"], ["'tpee'", "Did you mean 'tpe'?"]),
    (["pruner=threshold"], ["ThresholdPruner", "lower or upper"]),
    (
        ["sampler=grid", "space=none", "trainer.optim=choice(sgd,adagrad)", "study.enqueue=[{}]"],
        ["sampler=grid"],
    ),
    (["study.enqueue=[{trainer:{learning_rate:7}}]"], ["study.enqueue[0]", "lies outside of"]),
    (["study.from=outputs/nowhere"], ["outputs/nowhere", "no study's folder"]),
    (["model=choice(minilm,hubb)"], ["'hubb'", "Did you mean 'hub'?"]),
    (["+space._target_=nowhere.at_all", "space=none"], ["nowhere.at_all", "cannot be used"]),
    (["objective=[accuracy,f1:maximize]"], ["'accuracy'", "METRIC:maximize"]),
    (["objective=[accuracy:maximize,f1:most]"], ["'f1:most'", "METRIC:maximize or METRIC:minimize"]),
    (["objective=[accuracy:maximize,latncy:minimize]"], ["latncy", "Did you mean 'latency'?"]),
    (["objective=[accuracy:maximize,size:maximize]"], ["size:maximize", "write size:minimize"]),
    (["objective=[f1:maximize,f1:maximize]"], ["f1, f1", "twice"]),
    (["objective=accuracy"], ["'objective=accuracy'", "write a list"]),
    (["objective=[accuracy:maximize,f1:maximize]", "pruner=median"], ["MedianPruner", "pruner=none"]),
    (["objective=[accuracy:maximize,f1:maximize]", "sampler=cmaes"], ["sampler", "sampler=tpe"]),
    (["task.folds=1"], ["task.folds=1", "at least 2"]),
    (["task.folds=choice(3,5)"], ["task.folds", "cannot vary"]),
    (
        [*_FILES, "task.folds=3", "task.validation_path=good.csv"],
        ["validation_path='good.csv'", "task.folds=3"],
    ),
    (["task.group_column=product"], ["'product'", "groups of their own"]),
    (["pruner=wilcoxon"], ["task.folds=5"]),
    (["pruner=hyperband", "pruner.max_resource=0"], ["pruner.max_resource=0"]),
    (["task/augment=synonyms"], ["'synonyms'", "words"]),
    (["task/augment=words", "task.augment.delete=1"], ["task.augment.delete=1", "below 1"]),
    (["task/augment=words", "task.augment.copies=0"], ["task.augment.copies=0", "at least 1"]),
    (["launcher.on_oom=retry"], ["'retry'", "shrink, fail"]),
    (["trainer.bf16=auto", "trainer.fp16=true"], ["trainer.bf16=auto", "leave trainer.fp16=true out"]),
]
_AFTER_A_LOOK = [
    ([*_FILES, "task.text_column=txt"], ["'txt'", "text", "task.text_column"]),
    ([*_FILES, "task.label_column=label"], ["'label'", "sentiment"]),
    ([*_FILES, "task.path=empty.csv"], ["empty", "rows 3"]),
    ([*_FILES, "task.path=one.csv"], ["one label 'positive'"]),
    ([*_FILES, "task.label_names=[negative,neutral]"], ["'positive'", "task.label_names"]),
    ([*_FILES, "task.path=norows.csv"], ["no rows"]),
    ([*_FILES, "task.limit=1"], ["task.limit=1"]),
    ([*_FILES, "task.folds=6"], ["occurs 6 times", "at least 7"]),
    ([*_FILES, "task.group_column=custmer"], ["'custmer'", "Did you mean 'customer'?"]),
    ([*_FILES, "task.group_column=country"], ["1 groups", "task.group_column"]),
    ([*_FILES, "task.group_column=customer", "task.folds=4"], ["task.folds=4", "groups", "at most 2"]),
    (
        ["model/adapter=lora", "model.adapter.target_modules=[nothing]"],
        ["model.adapter", "peft refuses it", "all-linear"],
    ),
    (["model=hub", "model.path=./noweights"], ["./noweights", "no weights"]),
    (["model=hub", "model.path=./nowhere"], ["./nowhere", "no folder"]),
    (["model=hub", "model.path=no-such/model"], ["no-such/model"]),
    (["task=hub", "task.path=no-such/data"], ["no-such/data"]),
    (["model.num_hidden_layers=99"], ["model.num_hidden_layers=99", "6"]),
    (["task.max_length=1000"], ["task.max_length=1000", "at most 512"]),
    (["task.max_length=choice(64,513)"], ["task.max_length=513"]),
    (["launcher.devices_per_trial=64"], ["devices_per_trial=64"]),
    (["launcher.devices=99"], ["launcher.devices=99"]),
    (["launcher.accelerator=cuda"], ["cuda", "launcher.accelerator=cpu"]),
    (
        ["trainer.global_batch_size=15", "launcher.devices=2", "launcher.devices_per_trial=2"],
        ["global_batch_size=15", "2 ranks", "14 or 16"],
    ),
    (
        ["trainer.global_batch_size=choice(16,9)", "launcher.devices=2", "launcher.devices_per_trial=2"],
        ["global_batch_size=9"],
    ),
    (["trainer.lr_scheduler_type=liner"], ["liner"]),
    (["trainer.learning_rate=fast"], ["trainer.learning_rate='fast'", "float"]),
    (["trainer.learning_rate=-1"], ["trainer.learning_rate=-1", "between"]),
    (["trainer.weight_decay=interval(-0.1,0.1)"], ["trainer.weight_decay=-0.1"]),
    (["+trainer.adam_beta3=0.9"], ["adam_beta3", "adam_beta"]),
    (["+trainer.output_dir=here"], ["trainer.output_dir", "study.output_dir"]),
    (["sampler._target_=optuna.samplers.TPE"], ["optuna.samplers.TPE"]),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = pd.DataFrame({"text": [f"text {i}" for i in range(12)], "sentiment": ["negative", "positive"] * 6})
    rows["customer"], rows["country"] = [i // 4 for i in range(12)], "here"
    rows.to_csv("good.csv", index=False)
    rows[rows["sentiment"] == "positive"].to_csv("one.csv", index=False)
    rows[:0].to_csv("norows.csv", index=False)
    rows.assign(text=[" " if i == 2 else "t" for i in range(12)]).to_csv("empty.csv", index=False)
    Path("notes.docx").write_text("x")
    Path("noweights").mkdir()
    Path("noweights/config.json").write_text('{"model_type": "bert"}')
    return tmp_path


def _tree(folder: Path) -> set[str]:
    return {str(p) for p in folder.rglob("*")}


def _refused(arguments: list[str], said: list[str], folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = _tree(folder)
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    message = capfd.readouterr().err
    assert caught.value.code == 2, message
    for part in said:
        assert part in message, message
    assert "Traceback" not in message
    assert "trial 0" not in message
    assert _tree(folder) == before, "nothing is left behind"


@pytest.mark.parametrize(("typed", "said"), _BEFORE_ANY_IMPORT + _AFTER_A_LOOK, ids=lambda v: " ".join(v))
def test_launch_refuses(
    typed: list[str], said: list[str], folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _refused(["launch", *typed], said, folder, capfd)


@pytest.mark.parametrize("verb", ["status", "export", "resume", "stop"])
def test_verbs_refuse_a_folder_that_is_no_study(
    verb: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _refused([verb, "noweights"], ["'noweights'", "no study"], folder, capfd)
    _refused([verb, "nowhere"], ["'nowhere'", "no study"], folder, capfd)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["nowhere", "a text"], ["'nowhere'", "sweep export"]),
        (["noweights", "a text"], ["'noweights'"]),
        (["noweights", "--file", "missing.txt"], ["missing.txt"]),
        (["noweights", "a text", "--file", "good.csv"], ["not both"]),
        (["noweights", " "], ["empty"]),
    ],
    ids=lambda v: " ".join(v),
)
def test_predict_refuses(
    typed: list[str], said: list[str], folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _refused(["predict", *typed], said, folder, capfd)


def test_chaos_refuses_what_launch_refuses(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _refused(["chaos", "study.n_trials=0"], ["study.n_trials=0"], folder, capfd)
    _refused(["chaos", "--kills", "0"], ["--kills 0"], folder, capfd)


def test_three_classes_have_no_binary_f1(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = pd.DataFrame({"text": [f"t {i}" for i in range(12)], "sentiment": ["a", "b", "c"] * 4})
    rows.to_csv("three.csv", index=False)
    typed = [*_FILES, "task.path=three.csv", "objective.f1_average=binary"]
    _refused(["launch", *typed], ["f1_average=binary", "macro"], folder, capfd)


def test_a_study_without_a_finished_trial(
    run_study: RunStudy, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = run_study("trainer.learning_rate=1e30")
    assert found.code == 1
    assert found.trial(0)["state"] == "FAIL"
    assert "No trial" in found.output
    root = str(found.root)
    _refused(["export", root], [root, "no finished trial"], folder, capfd)
    _refused(["export", root, "--trial", "7"], ["--trial 7"], folder, capfd)
    _refused(
        ["resume", root, "trainer.learning_rate=1e-3"], ["trainer.learning_rate", "new study"], folder, capfd
    )
    _refused(["resume", root, "study.n_trial=5"], ["study.n_trial=5"], folder, capfd)
    _refused(["resume", root, "study.n_trials=none"], ["'none'"], folder, capfd)


def test_a_folder_that_holds_something_else_is_not_overwritten(
    run_study: RunStudy, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = run_study()
    _refused(["export", str(found.root), "--to", "noweights"], ["noweights", "--to"], folder, capfd)
    _refused(
        ["launch", f"study.output_dir={found.root.parent}", "study.name=tiny"],
        ["exists already", "sweep resume", "study.name=tiny-2"],
        folder,
        capfd,
    )


def test_a_temporary_folder_too_deep_for_sockets(
    sweep_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 80)
    deep.mkdir()
    monkeypatch.setenv("TMPDIR", str(deep))
    refused = sweep_command("launch", "experiment=smoke")
    assert refused.returncode == 2
    assert f"{deep} has too long a path" in refused.stderr
    assert "TMPDIR=/tmp" in refused.stderr
    assert not (tmp_path / "outputs").exists()
