"""Cross-validation's folds and changed copies of texts: no row is judged by a model that has seen it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.augment import changed_copies
from sweep.compose import compose
from sweep.config import typed
from sweep.course import Course
from sweep.paths import StudyPaths
from sweep.schema import AugmentConfig, ModelConfig, SweepConfig, TaskConfig
from sweep.score import FOLD
from sweep.task import save_split, split_task
from sweep.tokens import fold_of, tokenised

_FOLDS = 4


def test_folds_of_the_reviews_are_stratified_and_keep_reviews_together(reviews: pd.DataFrame) -> None:
    plain = typed(compose([]))
    crossed = typed(compose([f"task.folds={_FOLDS}"]))
    whole, names = split_task(plain)
    parts, _ = split_task(crossed)
    assert parts["test"].equals(whole["test"]), "the same test part, with or without folds"
    assert set(parts) == {"train", "test"}
    train = parts["train"]
    assert len(train) == len(whole["train"]) + len(whole["validation"])
    sizes = train[FOLD].value_counts()
    assert sorted(sizes.index) == [1, 2, 3, 4]
    assert sizes.max() - sizes.min() < 0.1 * len(train)
    shares = train.groupby(FOLD)["label"].mean()
    assert shares.max() - shares.min() < 0.1
    groups = reviews.drop_duplicates("text").set_index("text")["group"]
    assert train.assign(group=train["text"].map(groups)).groupby("group")[FOLD].nunique().max() == 1
    assert names == ["negative", "positive"]


def test_groups_of_a_users_own_stay_together(tmp_path: Path) -> None:
    rows = pd.DataFrame({"text": [f"t{i}" for i in range(120)], "label": ["a", "b"] * 60})
    rows["customer"] = [f"c{i // 6}" for i in range(120)]
    rows.to_csv(tmp_path / "rows.csv", index=False)
    where = rows.set_index("text")["customer"]
    for folds in (None, 3):
        task = TaskConfig(path=str(tmp_path / "rows.csv"), group_column="customer", folds=folds)
        parts, _ = split_task(SweepConfig(task=task))
        sides = [set(part["text"].map(where)) for part in parts.values()]
        assert not any(a & b for i, a in enumerate(sides) for b in sides[i + 1 :])
        if folds is not None:
            train = parts["train"]
            assert train.groupby(train["text"].map(where))[FOLD].nunique().max() == 1


@pytest.mark.parametrize("copies", [0, 2])
def test_a_fold_is_judged_by_what_it_was_not_trained_on(
    copies: int, tmp_path: Path, tiny_model: Path, reviews: pd.DataFrame
) -> None:
    rows = reviews[["text", "label"]].sample(60, random_state=1)
    rows.to_csv(tmp_path / "rows.csv", index=False)
    augment = AugmentConfig("words", copies, 0.2, 0.2) if copies else AugmentConfig()
    task = TaskConfig(path=str(tmp_path / "rows.csv"), folds=_FOLDS, augment=augment, max_length=24)
    paths, model = StudyPaths(tmp_path / "study"), ModelConfig(path=str(tiny_model))
    parts, names = split_task(SweepConfig(task=task))
    save_split(parts, names, paths)
    whole = tokenised(task, model, 7, paths)
    count = len(parts["train"])
    assert len(whole["train"]) == (1 + copies) * count
    originals = Counter(map(tuple, whole["train"].select(range(count))["input_ids"]))
    judged: Counter[tuple[int, ...]] = Counter()
    for fold in range(1, _FOLDS + 1):
        data = fold_of(whole, fold)
        assert len(data["train"]) == (1 + copies) * (count - len(data["validation"]))
        assert list(data["validation"]["length"]) == sorted(data["validation"]["length"])
        judged.update(map(tuple, data["validation"]["input_ids"]))
        assert set(map(abs, data["train"][FOLD])) == set(range(1, _FOLDS + 1)) - {fold}
    assert judged == originals, "each row once, and none that was changed"


@given(
    st.lists(st.text(max_size=40), min_size=1, max_size=5),
    st.integers(1, 3),
    st.floats(0, 0.9),
    st.floats(0, 0.9),
    st.integers(0, 2**32),
)
def test_copies_hold_only_words_of_their_text(
    texts: list[str], copies: int, delete: float, swap: float, seed: int
) -> None:
    settings = AugmentConfig("words", copies, delete, swap)
    found = changed_copies(texts, settings, seed)
    assert found == changed_copies(texts, settings, seed)
    assert len(found) == copies * len(texts)
    for text, copy in zip(texts * copies, found, strict=True):
        assert Counter(copy.split()) <= Counter(text.split())
        assert bool(copy.split()) == bool(text.split())
        if delete == 0:
            assert Counter(copy.split()) == Counter(text.split())
        if delete == swap == 0:
            assert copy.split() == text.split()


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 50))
def test_epochs_and_steps_of_all_folds_are_one_count(folds: int, epochs: int, steps: int) -> None:
    course = Course(folds, epochs, epochs * steps)
    pairs = [(fold, own) for fold in range(1, folds + 1) for own in range(1, epochs + 1)]
    counted = [course.epoch(*pair) for pair in pairs]
    assert counted == list(range(1, course.total + 1))
    assert [course.fold_of(epoch) for epoch in counted] == [fold for fold, _ in pairs]
    saved = [course.step(fold, own * steps) for fold, own in pairs]
    assert saved == sorted(set(saved)), "a checkpoint of its own for each"
