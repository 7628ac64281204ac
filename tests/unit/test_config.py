"""Every preset and option composes; every mistake is named, all of them at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep.compose import compose
from sweep.config import typed
from sweep.errors import InputError
from sweep.paths import conf_dir
from sweep.space import parse_space

_NEEDED = {
    "task=files": ["task.path=README.md"],
    "task=hub": ["task.path=x/y"],
    "model=hub": ["model.path=x"],
    "pruner=wilcoxon": ["task.folds=5"],
}


def _options() -> list[str]:
    files = sorted(conf_dir().glob("*/**/*.yaml"))
    return [f"{file.parent.relative_to(conf_dir())}={file.stem}" for file in files]


@pytest.mark.parametrize("option", _options())
def test_every_option_of_every_group_composes(option: str, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("text,label\n")
    needed = [text.replace("README.md", str(data)) for text in _NEEDED.get(option, [])]
    cfg = compose([option, *needed])
    config = typed(cfg)
    parse_space(cfg)
    assert config.study.n_trials >= 1


def test_keys_that_people_type_stay() -> None:
    cfg = compose([])
    for path in (
        "study.name",
        "study.n_trials",
        "study.seed",
        "objective.metric",
        "trainer.num_train_epochs",
        "trainer.global_batch_size",
        "model.num_hidden_layers",
        "launcher.devices_per_trial",
    ):
        group, key = path.split(".")
        assert key in cfg[group]


def test_smoke_combines_with_any_task(tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("text,label\n")
    config = typed(compose(["experiment=smoke", "task=files", f"task.path={data}"]))
    assert (config.study.n_trials, config.task.kind, config.task.limit) == (3, "files", 256)


def test_gpu8_shows_a_node_of_eight() -> None:
    config = typed(compose(["experiment=gpu8"]))
    assert (config.launcher.devices, config.launcher.devices_per_trial) == (8, 2)
    assert config.trainer.arguments["bf16"] is True


def test_all_mistakes_are_reported_at_once() -> None:
    cfg = compose(["study.n_trials=0", "objective.direction=maximise", "launcher.devices_per_trial=x"])
    with pytest.raises(InputError) as caught:
        typed(cfg)
    assert "launcher.devices_per_trial='x'" in str(caught.value)
    cfg = compose(["study.n_trials=0", "objective.direction=maximise", "study.name=a/b"])
    with pytest.raises(InputError) as caught:
        typed(cfg)
    message = str(caught.value)
    assert message.startswith("3 problems:")
    for said in ("study.n_trials=0", "'maximise' is not one of", "Did you mean 'maximize'?", "'a/b'"):
        assert said in message


def test_own_config_folder_adds_presets(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nstudy:\n  name: mine\n  n_trials: 7\n"
    )
    assert typed(compose(["experiment=mine"], tmp_path)).study.n_trials == 7
    with pytest.raises(InputError, match="no option 'mine'"):
        compose(["experiment=mine"])
