"""What all trials of a study share, loaded once: config, search space, data, tokenizers, storage.

A study's nursery loads them before it forks the first rank: ranks find them in memory and pay
neither the reading nor a second copy.
"""

from __future__ import annotations

from typing import Any, cast

import datasets
from omegaconf import DictConfig, OmegaConf

from sweep.config import typed
from sweep.metrics import scorer
from sweep.model import ModelTemplate, load_tokenizer
from sweep.paths import StudyPaths
from sweep.schema import ModelConfig, SweepConfig, TaskConfig
from sweep.space import parse_space
from sweep.storage import open_rank_storage, read_ahead
from sweep.task import load_split
from sweep.tokens import fold_of, tokenised

_Key = tuple[str | int | None, ...]


class StudyParts:
    """The shared parts of the study in `paths`; each is read when it is first asked for."""

    def __init__(self, paths: StudyPaths) -> None:
        self.paths = paths
        cfg = cast(DictConfig, OmegaConf.load(paths.config))
        self.config: SweepConfig = typed(cfg)
        self.space = parse_space(cfg)
        self._label_names: list[str] | None = None
        self._tokens: dict[_Key, datasets.DatasetDict] = {}
        self._lengths: dict[_Key, list[int]] = {}
        self._tokenizers: dict[_Key, Any] = {}
        self._models: dict[str, ModelTemplate] = {}
        self._storage: Any = None

    def load(self) -> None:
        """Read everything that the study's own config asks for; import its models' and metrics' modules."""
        options = ({d.path: name} for d in self.space.dimensions if d.group for name in d.values)
        for params in ({}, *options):
            trial = typed(self.space.apply(params))
            self.tokens(trial.task, trial.model)
            self.tokenizer(trial.model)
            self.model(trial.model)
        scorer(self.config.objective.average(len(self.label_names)))
        self.read_ahead()

    def read_ahead(self) -> None:
        """Learn which trials have ended since the last call, and close the connection: forks follow."""
        read_ahead(self.storage, self.config)

    @property
    def label_names(self) -> list[str]:
        """The label names, in the order of their numbers."""
        if self._label_names is None:
            self._label_names = load_split(self.paths)["train"].features["label"].names
        return self._label_names

    @property
    def storage(self) -> Any:
        """The ranks' storage, with what it remembers of finished trials."""
        if self._storage is None:
            self._storage = open_rank_storage(self.config, self.paths)
        return self._storage

    def tokens(
        self, task: TaskConfig, model: ModelConfig, fold: int = 1
    ) -> tuple[datasets.DatasetDict, list[int]]:
        """Tokenised train and validation parts, memory-mapped; and the tokens of each training row."""
        setting = model.path, model.revision, task.max_length, repr(task.augment)
        key = (*setting, fold)
        if key not in self._tokens:
            if setting not in self._tokens:
                self._tokens[setting] = tokenised(task, model, self.config.study.seed, self.paths)
            whole = self._tokens[setting]
            self._tokens[key] = whole if self.config.task.folds is None else fold_of(whole, fold)
            self._lengths[key] = list(self._tokens[key]["train"]["length"])
        return self._tokens[key], self._lengths[key]

    def tokenizer(self, model: ModelConfig) -> Any:
        """The tokenizer of `model`."""
        key = model.path, model.revision
        if key not in self._tokenizers:
            self._tokenizers[key] = load_tokenizer(model)
        return self._tokenizers[key]

    def model(self, model: ModelConfig) -> ModelTemplate:
        """The pretrained weights of `model`."""
        key = repr(model)
        if key not in self._models:
            self._models[key] = ModelTemplate(model, self.label_names)
        return self._models[key]
