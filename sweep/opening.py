"""A study's folder, its config and its state: what every verb needs before it does anything."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from optuna.study import Study

from sweep.config import typed
from sweep.errors import InputError, did_you_mean
from sweep.paths import StudyPaths
from sweep.sampler import build_pruner, build_sampler, grid_size
from sweep.schema import SweepConfig
from sweep.space import SearchSpace, parse_space
from sweep.status import Status, study_status


def open_study(root: Path) -> tuple[StudyPaths, DictConfig]:
    """The paths and config of an existing study.

    Raises:
        InputError: `root` is no study's folder.
    """
    paths = StudyPaths(root)
    if not paths.config.is_file():
        siblings = [str(p.parent) for p in root.parent.glob("*/config.yaml")]
        raise InputError(
            f"{str(root)!r} is no study's folder.{did_you_mean(str(root), siblings)} "
            "Studies lie below outputs/; sweep launch makes one."
        )
    cfg = OmegaConf.load(paths.config)
    if not isinstance(cfg, DictConfig) or "study" not in cfg:
        raise InputError(f"{paths.config} is no study's config: name a folder that sweep launch made.")
    return paths, cfg


def checked(cfg: DictConfig, inputs: bool = False) -> tuple[SweepConfig, SearchSpace]:
    """All that can be checked without importing torch, so that most mistakes show at once."""
    config, space = typed(cfg, inputs), parse_space(cfg)
    build_pruner(config)
    build_sampler(config, space)
    return config, space


def effective_trials(config: SweepConfig, space: SearchSpace) -> int:
    """The total budget: `study.n_trials`, or fewer if a grid has fewer points."""
    size = grid_size(config, space)
    return config.study.n_trials if size is None else min(config.study.n_trials, size)


def state_of(study: Study, config: SweepConfig, paths: StudyPaths, space: SearchSpace) -> Status:
    """The state of an open study; see `study_status`."""
    return study_status(study, config, paths, space, effective_trials(config, space))
