"""What may change when a study is resumed: overrides applied, and compared with how it was begun."""

from __future__ import annotations

from dataclasses import replace

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from sweep.config import typed
from sweep.errors import InputError, did_you_mean
from sweep.fingerprint import (
    Fingerprint,
    differences,
    fingerprint,
    not_wider,
    read_fingerprint,
    settings_of,
    space_changes,
    version_changes,
    write_fingerprint,
)
from sweep.grammar import parse_override
from sweep.groups import vary
from sweep.launchers.local import LocalLauncher
from sweep.paths import StudyPaths
from sweep.schema import SweepConfig
from sweep.space import SearchSpace, parse_space
from sweep.tree import config_paths

_AT_LAUNCH = ("study.enqueue", "study.from", "study.source", "study.from_top")


def changed_config(old: DictConfig, overrides: list[str]) -> DictConfig:
    """A copy of the study's config with `overrides` applied; intervals go into its search space.

    Raises:
        InputError: an override that names no setting.
    """
    cfg = old.copy()
    OmegaConf.set_struct(cfg, False)
    if "top_k" not in cfg.checkpoints:
        # Release 0.1.0 kept the best epoch of every finished trial; go on so.
        cfg.checkpoints.top_k = max(int(typed(cfg).study.n_trials), 1_000_000)
    known = [*config_paths(_complete(cfg)), *(str(path) for path in cfg.space or {})]
    for text in overrides:
        override = parse_override(text)
        path = override.key_or_group
        if isinstance(OmegaConf.select(cfg, path), DictConfig) and "." not in path:
            raise InputError(f"'{text}': a whole group cannot change when a study is resumed.")
        if path in _AT_LAUNCH:
            raise InputError(f"'{text}': that decides which trials of a new study run first; launch one.")
        if path not in known:
            raise InputError(f"The override '{text}' names no setting.{did_you_mean(path, known)}")
        if override.is_sweep_override():
            cfg.space[path] = vary(cfg.space.get(path), text.partition("=")[2])
        else:
            OmegaConf.update(cfg, path, override.value())
    return cfg


def _complete(cfg: DictConfig) -> DictConfig:
    """`cfg` with the settings that later releases have added."""
    whole = OmegaConf.merge(OmegaConf.create(vars_of(SweepConfig())), cfg)
    assert isinstance(whole, DictConfig)
    return whole


def vars_of(config: SweepConfig) -> dict[str, object]:
    """The settings whose defaults do not depend on a group."""
    return {name: vars(getattr(config, name)) for name in ("study", "launcher", "checkpoints")}


def compare(old: DictConfig, cfg: DictConfig, widen: bool, paths: StudyPaths) -> Fingerprint:
    """Refuse settings, data or a search space with which trials could not be compared.

    Returns:
        What the study was begun with, for `compare_model`: that needs heavy imports and comes last.

    Raises:
        InputError: with the differences.
    """
    config, space = typed(cfg), parse_space(cfg)
    begun = read_fingerprint(paths)
    if begun is None:
        # Release 0.1.0 kept none: its saved settings stand for it; of data and model it says nothing.
        now = fingerprint(config, space, {})
        settings = settings_of(typed(old))
        begun = replace(now, settings=settings, space=dict(parse_space(old).nodes))
    now = fingerprint(config, space, begun.model)
    _refuse(differences(begun, now), paths)
    _compare_space(begun, now, old, cfg, space, config, widen)
    return begun


def compare_model(
    begun: Fingerprint, cfg: DictConfig, paths: StudyPaths, launcher: LocalLauncher, console: Console
) -> None:
    """Refuse another model, tell of other versions, and keep the fingerprint of what is going on now.

    Raises:
        InputError: the model's files have changed.
    """
    with console.status("Importing torch and transformers; comparing the model …"):
        model: dict[str, str] = launcher.call("sweep.prepare:model_hashes", cfg)
    now = fingerprint(typed(cfg), parse_space(cfg), model)
    if begun.model:
        _refuse(differences(begun, now), paths)
    for line in version_changes(begun, now):
        console.print(
            f"note: {line} since the study began; repeated epochs may differ in the last digits",
            style="yellow",
            highlight=False,
        )
    write_fingerprint(now, paths)


def _refuse(lines: list[str], paths: StudyPaths) -> None:
    if lines:
        raise InputError(
            f"{paths.root} cannot go on like this, for its trials would not be comparable:\n"
            + "\n".join(f"  {line}" for line in lines)
            + "\nUndo that, or launch a new study under another study.name."
        )


def _compare_space(
    begun: Fingerprint,
    now: Fingerprint,
    old: DictConfig,
    cfg: DictConfig,
    space: SearchSpace,
    config: SweepConfig,
    widen: bool,
) -> None:
    changes = space_changes(begun, now)
    if not changes:
        return
    before = old.copy()
    before.space = dict(begun.space)
    problems = not_wider(parse_space(before), space)
    if "GridSampler" in str(config.sampler.get("_target_")):
        problems.append("a grid numbers its points and cannot grow")
    shown = "".join(f"\n  {line}" for line in changes)
    if problems:
        raise InputError(
            f"The search space would change:{shown}\n"
            f"Only wider bounds are possible, but {'; '.join(problems)}. "
            "Launch a new study for another space."
        )
    if not widen:
        raise InputError(
            f"The search space would change:{shown}\nIf the wider bounds are what you want, add --widen."
        )
