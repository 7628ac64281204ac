"""Sources, labels and split: what comes out is what a classifier may be trained and judged on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.compose import compose
from sweep.config import typed
from sweep.errors import InputError, SweepError
from sweep.labels import map_labels
from sweep.paths import StudyPaths
from sweep.reviews import reviews_file
from sweep.schema import SweepConfig, TaskConfig
from sweep.sources import read_parts
from sweep.task import data_hash, load_split, save_split, split_task
from sweep.tokens import tokenised


def test_reviews_are_the_genuine_file_and_rows(reviews: pd.DataFrame) -> None:
    content = reviews_file().read_bytes()
    assert len(content) == 373_157
    assert hashlib.sha256(content).hexdigest().startswith("11a9807a0974a250")
    assert len(reviews) == 2977
    assert reviews["label"].mean() == pytest.approx(0.586, abs=0.001)
    assert not reviews["text"].duplicated().any()
    example = reviews[reviews["text"].str.startswith("before you try to return the player")]
    assert example["label"].tolist() == [0]
    assert example["group"].tolist() == ["1"]


def test_a_spoilt_cache_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = reviews_file()
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path))
    (tmp_path / good.name).write_bytes(b"torn")
    assert reviews_file() == tmp_path / good.name
    assert reviews_file().read_bytes() == good.read_bytes()
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []


def test_without_an_index_the_message_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    with pytest.raises(SweepError, match=r"pip could not fetch the reviews.*task=files"):
        reviews_file()


@pytest.mark.parametrize("seed", [0, 42])
def test_sentences_of_a_review_stay_on_one_side(reviews: pd.DataFrame, seed: int) -> None:
    config = SweepConfig(task=typed(compose([])).task)
    config.study.seed = seed
    parts, names = split_task(config)
    assert names == ["negative", "positive"]
    assert sum(map(len, parts.values())) == 2977
    group = dict(zip(reviews["text"], reviews["group"], strict=True))
    sides = {name: {group[text] for text in rows["text"]} for name, rows in parts.items()}
    assert not sides["train"] & sides["validation"]
    assert not sides["train"] & sides["test"]
    assert not sides["validation"] & sides["test"]
    for rows in parts.values():
        assert rows["label"].mean() == pytest.approx(0.586, abs=0.02)
    for part in ("validation", "test"):
        assert len(parts[part]) == pytest.approx(0.15 * 2977, rel=0.07)
    again, _ = split_task(config)
    assert data_hash(parts, names) == data_hash(again, names)
    config.study.seed = seed + 1
    assert data_hash(parts, names) != data_hash(split_task(config)[0], names)


def test_limit_takes_training_rows_only_and_keeps_the_share_of_labels() -> None:
    config = SweepConfig(task=typed(compose([])).task)
    whole, _ = split_task(config)
    config.task.limit = 100
    parts, _ = split_task(config)
    assert len(parts["train"]) == 100
    assert parts["train"]["label"].mean() == pytest.approx(0.59, abs=0.01)
    assert parts["validation"].equals(whole["validation"])
    assert set(parts["train"]["text"]) <= set(whole["train"]["text"])


def _task(path: Path, **changes: Any) -> TaskConfig:
    return TaskConfig(path=str(path), **changes)


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_every_file_format_gives_the_same_rows(tmp_path: Path, ending: str) -> None:
    rows = pd.DataFrame(
        {"review": ["NA", 'say "no", twice', "naïve ☂", "null"] * 4, "stars": [1, 2, 3, 1] * 4}
    )
    file = tmp_path / f"data.{ending}"
    {
        "csv": lambda: rows.to_csv(file, index=False),
        "tsv": lambda: rows.to_csv(file, index=False, sep="\t"),
        "jsonl": lambda: rows.to_json(file, orient="records", lines=True),
        "json": lambda: rows.to_json(file, orient="records"),
        "parquet": lambda: rows.to_parquet(file),
    }[ending]()
    task = _task(file, text_column="review", label_column="stars")
    parts, known = read_parts(task)
    assert parts["train"]["text"].tolist() == rows["review"].tolist()
    assert map_labels(parts, task, known) == ["1", "2", "3"]
    assert parts["train"]["label"].tolist() == [0, 1, 2, 0] * 4


@given(st.lists(st.sampled_from(["good", "bad", "so so", "ünknown"]), min_size=2))
def test_word_labels_map_to_sorted_numbers_and_back(words: list[str]) -> None:
    if len(set(words)) < 2:
        return
    parts = {"train": pd.DataFrame({"text": words, "label": words})}
    names = map_labels(parts, TaskConfig(), None)
    assert names == sorted(set(words))
    assert [names[number] for number in parts["train"]["label"]] == words


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        ([0, 1, 1], ["negative", "positive"], (["negative", "positive"], [0, 1, 1])),
        (["pos", "neg", "pos"], ["pos", "neg"], (["pos", "neg"], [0, 1, 0])),
        ([True, False, True], None, (["false", "true"], [1, 0, 1])),
        ([-1, 1, -1], None, (["-1", "1"], [0, 1, 0])),
        ([5.0, 4.0, 5.0], None, (["4", "5"], [1, 0, 1])),
    ],
)
def test_kinds_of_labels(labels: list[Any], names: list[str] | None, expected: Any) -> None:
    parts = {"train": pd.DataFrame({"text": "t", "label": labels})}
    found = map_labels(parts, TaskConfig(), names)
    assert (found, parts["train"]["label"].tolist()) == expected


@pytest.mark.parametrize(
    ("labels", "changes", "said"),
    [
        (["a", "a"], {}, "one label 'a'"),
        ([0.5, 1.0], {}, "0.5"),
        (["a", 1], {}, "mixes labels"),
        (["a", "b"], {"label_names": ["a", "c"]}, "'b'"),
        ([0, 2], {"label_names": ["x", "y"]}, "2"),
        ([f"id{i}" for i in range(60)], {}, "60 different labels"),
    ],
)
def test_labels_that_do_not_map(labels: list[Any], changes: dict[str, Any], said: str) -> None:
    parts = {"train": pd.DataFrame({"text": "t", "label": labels})}
    with pytest.raises(InputError) as caught:
        map_labels(parts, TaskConfig(), changes.get("label_names"))
    assert said in str(caught.value)


def test_a_label_only_validation_has_does_not_map() -> None:
    parts = {
        "train": pd.DataFrame({"text": "t", "label": ["good", "bad"]}),
        "validation": pd.DataFrame({"text": "t", "label": ["good", "goood"]}),
    }
    with pytest.raises(InputError, match=r"'goood' of the validation rows.*Did you mean 'good'"):
        map_labels(parts, TaskConfig(), None)


def paths_of(files: dict[str, str]) -> dict[str, Any]:
    """The fixture's files as arguments of TaskConfig."""
    return dict(files)


def test_own_validation_and_test_files_are_used_as_they_are(review_files: dict[str, str]) -> None:
    config = SweepConfig(task=TaskConfig(kind="files", **paths_of(review_files)))
    parts, names = split_task(config)
    assert {k: len(v) for k, v in parts.items()} == {"train": 96, "validation": 64, "test": 32}
    assert names == ["negative", "positive"]


def test_a_hub_data_set_from_a_local_folder(tmp_path: Path, reviews: pd.DataFrame) -> None:
    """The real `datasets.load_dataset`; a folder of files stands for a name of the hub."""
    rows = reviews[["text", "label"]].rename(columns={"label": "sentiment"})
    rows[:200].to_csv(tmp_path / "train.csv", index=False)
    rows[200:260].to_csv(tmp_path / "test.csv", index=False)
    config = SweepConfig(task=TaskConfig(kind="hub", path=str(tmp_path), label_column="sentiment"))
    parts, _ = split_task(config)
    assert len(parts["test"]) == 60
    assert len(parts["train"]) + len(parts["validation"]) == 200
    config.task.test_path = "tset"
    with pytest.raises(InputError, match=r"no split 'tset'; it has train, test"):
        split_task(config)


def test_class_labels_of_a_data_set_keep_their_names(tmp_path: Path) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["zebra", "ape", "unused"])}
    )
    rows = {"text": [f"t{i}" for i in range(20)], "label": [0, 1] * 10}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "train.parquet"))
    config = SweepConfig(task=TaskConfig(kind="hub", path=str(tmp_path)))
    parts, names = split_task(config)
    assert names == ["zebra", "ape"], "the data set's own order"
    pairs = set(zip(parts["train"]["label"], parts["train"]["found"], strict=True))
    assert pairs == {(0, "zebra"), (1, "ape")}


def test_tokens_are_made_once_per_setting_and_validation_is_sorted(
    tmp_path: Path, tiny_model: Path, review_files: dict[str, str]
) -> None:
    paths = StudyPaths(tmp_path)
    config = SweepConfig(task=TaskConfig(kind="files", max_length=16, **paths_of(review_files)))
    config.model.path = str(tiny_model)
    parts, names = split_task(config)
    save_split(parts, names, paths)
    assert load_split(paths)["test"].features["label"].names == names
    first = tokenised(config.task, config.model, 0, paths)
    folder = next((tmp_path / "data").glob("tokens-*/"))
    made = folder.stat().st_mtime_ns
    again = tokenised(config.task, config.model, 0, paths)
    assert folder.stat().st_mtime_ns == made
    assert again["train"].cache_files, "memory-mapped, not in memory"
    lengths = first["validation"]["length"]
    assert list(lengths) == sorted(lengths)
    assert max(first["train"]["length"]) == 16
    assert "test" not in first, "a sweep never sees the test part"
    config.task.max_length = 8
    assert max(tokenised(config.task, config.model, 0, paths)["train"]["length"]) == 8
    assert len(list((tmp_path / "data").glob("tokens-*/"))) == 2
