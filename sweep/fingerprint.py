"""What makes the trials of a study comparable: kept at its start, compared at every resume."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from sweep.errors import InputError
from sweep.files import file_hash, write_text
from sweep.paths import StudyPaths
from sweep.schema import SweepConfig
from sweep.space import SearchSpace

FORMAT = 1
_SECTIONS = ("objective", "task", "model", "trainer", "sampler", "pruner")
# Where things lie and how much fits on a device at a time; what they hold has hashes of its own.
_HARMLESS = (
    "task.path",
    "task.validation_path",
    "task.test_path",
    "model.path",
    "trainer.max_per_device_batch_size",
    "trainer.eval_batch_size",
)
# Settings that came later: a study or checkpoint that knows nothing of them was made with these values.
_LATER: dict[str, Any] = {
    "objective.also": [],
    "objective.epoch": "best",
    "objective.patience": None,
    "trainer.layerwise_lr_decay": 1.0,
    "task.metrics": None,
    "task.group_column": None,
    "task.folds": None,
}
_PACKAGES = ("sweep", "torch", "transformers", "accelerate", "datasets", "optuna")


@dataclass(frozen=True)
class Fingerprint:
    """What a study was begun with.

    Attributes:
        settings: dotted path -> value of everything that every trial shares.
        space: the config's search space: path -> grammar, or a map with its conditions.
        data: file -> sha256 of the user's data files; empty where the source has none.
        model: what identifies the pretrained model: sha256 of a folder, or name and revision.
        versions: package -> version.
        format: of the study's folder.
    """

    settings: dict[str, Any]
    space: dict[str, Any]
    data: dict[str, str]
    model: dict[str, str]
    versions: dict[str, str]
    format: int = FORMAT


def fingerprint(config: SweepConfig, space: SearchSpace, model: dict[str, str]) -> Fingerprint:
    """The fingerprint of a config as it is now; reads the data files."""
    return Fingerprint(
        settings=settings_of(config),
        space=dict(space.nodes),
        data=data_hashes(config),
        model=model,
        versions={name: version(name) for name in _PACKAGES},
    )


def settings_of(config: SweepConfig) -> dict[str, Any]:
    """Dotted path -> value of everything that every trial shares."""
    flat = {"study.name": config.study.name, "study.seed": config.study.seed}
    for section in _SECTIONS:
        value = getattr(config, section)
        flat.update(_flatten(value if isinstance(value, dict) else asdict(value), section))
    for off, section in (
        (config.model.adapter.kind, "model.adapter."),
        (config.task.augment.kind, "task.augment."),
    ):
        if off == "none":  # as before there were any
            flat = {path: value for path, value in flat.items() if not path.startswith(section)}
    return {
        path: value
        for path, value in flat.items()
        if path not in _HARMLESS and not (path in _LATER and value == _LATER[path])
    }


def _flatten(tree: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        # `arguments` is how TrainerConfig holds what the user wrote directly below trainer.
        path = prefix if (prefix, key) == ("trainer", "arguments") else f"{prefix}.{key}"
        flat.update(_flatten(value, path) if isinstance(value, Mapping) else {path: value})
    return flat


def trial_hash(config: SweepConfig) -> str:
    """sha256 of the settings a trial is trained with; its checkpoints carry it."""
    text = json.dumps(settings_of(config), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def data_hashes(config: SweepConfig) -> dict[str, str]:
    """Setting -> sha256 of the file it names.

    Raises:
        InputError: a file is gone.
    """
    if config.task.kind != "files":
        return {}
    found = {}
    for key in ("path", "validation_path", "test_path"):
        if (value := getattr(config.task, key)) is not None:
            if not Path(value).is_file():
                raise InputError(
                    f"task.{key}={value!r} is gone, with which the study was begun: put it back, or "
                    f"give its new place: sweep resume STUDY_DIR task.{key}=FILE"
                )
            found[f"task.{key}"] = file_hash(Path(value))
    return found


def write_fingerprint(found: Fingerprint, paths: StudyPaths) -> None:
    """Keep `found` in the study's folder."""
    write_text(paths.fingerprint, json.dumps(asdict(found), indent=1))


def read_fingerprint(paths: StudyPaths) -> Fingerprint | None:
    """What `write_fingerprint` kept; None for a study of release 0.1.0, which had none.

    Raises:
        InputError: a later release wrote it.
    """
    if not paths.fingerprint.is_file():
        return None
    raw = json.loads(paths.fingerprint.read_text())
    if raw["format"] > FORMAT:
        raise InputError(
            f"{paths.root} was written by sweep {raw['versions']['sweep']}, a later release than this one "
            f"({version('sweep')}): pip install --upgrade sweep."
        )
    return Fingerprint(**raw)


def differences(old: Fingerprint, new: Fingerprint) -> list[str]:
    """One line for each change that would mix incomparable trials; the space is compared apart."""
    lines = _changes(old.settings, new.settings)
    for kind in ("data", "model"):
        before, after = getattr(old, kind), getattr(new, kind)
        lines += [
            f"{path}: the contents have changed (sha256 {str(before.get(path))[:12]}… → {str(found)[:12]}…)"
            for path, found in after.items()
            if before.get(path) != found
        ]
    return lines


def version_changes(old: Fingerprint, new: Fingerprint) -> list[str]:
    """One line for each package of another version; harmless but for the last bits of floats."""
    return _changes(old.versions, new.versions)


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    nothing = "(not set)"
    return [
        f"{path}: {old.get(path, nothing)} → {new.get(path, nothing)}"
        for path in sorted({*old, *new})
        if old.get(path, nothing) != new.get(path, nothing)
    ]


def space_changes(old: Fingerprint, new: Fingerprint) -> list[str]:
    """One line for each dimension that is new, gone or different."""
    return _changes(old.space, new.space)


def not_wider(old: SearchSpace, new: SearchSpace) -> list[str]:
    """Why `new` does not merely widen the intervals of `old`: one line for each dimension."""
    before = {d.path: d.distribution for d in old.dimensions}
    after = {d.path: d.distribution for d in new.dimensions}
    conditions = [{d.path: dict(d.when) for d in space.dimensions} for space in (old, new)]
    problems = [f"{path} would be added to the search space" for path in after if path not in before]
    problems += [f"{path} would leave the search space" for path in before if path not in after]
    for path in before.keys() & after.keys():
        if before[path] != after[path] and not _widens(before[path], after[path]):
            problems.append(f"{path} would not only get wider bounds")
    problems += [
        f"the conditions of {path} would change"
        for path in before.keys() & after.keys()
        if conditions[0][path] != conditions[1][path]
    ]
    if old.constraints != new.constraints:
        problems.append("the constraints would change")
    return sorted(problems)


def _widens(old: BaseDistribution, new: BaseDistribution) -> bool:
    kinds = (FloatDistribution, IntDistribution)
    if not isinstance(old, kinds) or not isinstance(new, kinds) or type(old) is not type(new):
        return False  # Optuna keeps the choices of a parameter as they were first
    same = (old.log, old.step) == (new.log, new.step)
    aligned = old.step is None or abs((old.low - new.low) / old.step % 1) < 1e-9
    return same and aligned and new.low <= old.low and new.high >= old.high
