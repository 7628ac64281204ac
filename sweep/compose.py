"""From what was typed to a composed config: Hydra's composition plus the search space.

Hydra refuses sweep values outside its own multirun, so they are taken out of the overrides here
and put into the config's `space`; a plain override of a searched path fixes it instead.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import hydra
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweep.errors import InputError, did_you_mean, input_error
from sweep.grammar import parse_override
from sweep.groups import compose_options, group_path, vary
from sweep.objectives import several_objectives
from sweep.paths import conf_dir
from sweep.tree import config_paths

CONFIG_NAME = "config"


def compose(
    overrides: list[str], config_dir: Path | None = None, config_name: str = CONFIG_NAME
) -> DictConfig:
    """Compose the config of a study; interpolations stay unresolved.

    Args:
        overrides: Hydra overrides as typed, sweep grammar included.
        config_dir: a folder of the user's own groups and presets, searched first.
        config_name: the root config to start from.

    Raises:
        InputError: for anything Hydra refuses, with the nearest known name where there is one.
    """
    named = [_as_group(text, config_dir) for text in overrides]
    parsed = [parse_override(text) for text in several_objectives(named)]
    plain = [o for o in parsed if not o.is_sweep_override()]
    lines = [o.input_line or "" for o in plain]
    if config_dir is not None:
        if not config_dir.is_dir():
            raise InputError(f"--config-dir {config_dir} is no folder.")
        lines.append(f"hydra.searchpath=[file://{config_dir.resolve()}]")
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):

        def compose_with(*more: str) -> DictConfig:
            try:
                found: DictConfig = hydra_compose(config_name, overrides=[*more, *lines])
            except (HydraException, OmegaConfBaseException) as error:
                raise _explain(error, plain, config_name) from None
            OmegaConf.set_struct(found, False)
            return found

        cfg = compose_with()
        _merge_space(cfg, parsed)
        for key, entry in dict(cfg.space).items():
            if _is_group(str(key), config_dir):
                text, conditions = entry, {}
                if isinstance(entry, DictConfig):
                    text, conditions = entry.get("vary", ""), {"when": entry.get("when")}
                del cfg.space[key]
                options = compose_options(str(key), str(text), compose_with)
                cfg.space[group_path(str(key))] = {**conditions, **options}
                # The study's own config is that of a trial, too.
                first = next(iter(options["options"].values()))
                OmegaConf.update(cfg, group_path(str(key)), first, merge=False)
    return cfg


def _merge_space(cfg: DictConfig, parsed: list[Override]) -> None:
    """In the order in which they were typed: the last word on a path counts."""
    space = dict(cfg.get("space") or {})
    for override in parsed:
        if not override.is_sweep_override():
            space.pop(override.key_or_group, None)
            space.pop(f"+{override.key_or_group}", None)
            continue
        if override.is_delete():
            raise InputError(f"'{override.input_line}' cannot delete and vary at the same time.")
        appended = override.is_add() or override.is_force_add()
        key = ("+" if appended else "") + override.key_or_group
        space[key] = vary(space.get(key), override.get_value_string())
    cfg.space = space


def _explain(error: Exception, plain: list[Override], config_name: str) -> InputError:
    """Name the overrides that are at fault, all of them, each with the nearest known path."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, wanted = str(error.missing_cfg_file).rpartition("/")
        offered = ", ".join(error.options)
        near = did_you_mean(wanted, error.options)
        return InputError(f"The group {group} has no option '{wanted}'; it has {offered}.{near}")
    groups = [o.input_line or "" for o in plain if _is_group(o.key_or_group)]
    try:
        known = [*config_paths(hydra_compose(config_name, overrides=groups)), *_groups()]
    except (HydraException, OmegaConfBaseException):
        known = _groups()
    problems = []
    for override in plain:
        path = override.key_or_group
        if _is_group(path) or override.is_add() or override.is_force_add():
            continue
        inside = any(name.startswith(f"{path}.") for name in known)
        if path not in known and not inside and not path.startswith("hydra"):
            problems.append(
                f"The override '{override.input_line}' names no setting."
                f"{did_you_mean(path, known)} To add a new one, write +{override.input_line}."
            )
    return input_error(problems or [" ".join(str(error).split())])


def _groups() -> list[str]:
    return [folder.name for folder in conf_dir().iterdir() if folder.is_dir()]


def _is_group(key: str, config_dir: Path | None = None) -> bool:
    return any((folder / key).is_dir() for folder in (conf_dir(), config_dir) if folder is not None)


def _as_group(text: str, config_dir: Path | None) -> str:
    """`task.augment=…` as `task/augment=…`: a group within a group may be named either way."""
    key, equals, value = text.partition("=")
    group = key.replace(".", "/")
    return f"{group}{equals}{value}" if "." in key and _is_group(group, config_dir) else text


def hydra_info(options: argparse.Namespace, overrides: list[str]) -> int:
    """`--cfg hydra|all`, `--info` and `--hydra-help`: Hydra's own answers."""
    plain = [text for text in overrides if not parse_override(text).is_sweep_override()]
    flags = ["--config-name", options.config_name]
    if options.config_dir is not None:
        flags += ["--config-dir", str(options.config_dir.resolve())]
    if options.hydra_help:
        return run_hydra(["--hydra-help"])
    if options.info:
        return run_hydra([*flags, "--info", options.info, *plain])
    flags += ["--resolve"] if options.resolve else []
    flags += ["--package", options.package] if options.package else []
    return run_hydra([*flags, "--cfg", options.cfg, *plain])


def run_hydra(arguments: list[str]) -> int:
    """Let Hydra's own main answer a request that runs nothing."""
    sys.argv = ["sweep", *arguments]

    @hydra.main(  # type: ignore[untyped-decorator]
        config_path=str(conf_dir()), config_name=CONFIG_NAME, version_base="1.3"
    )
    def nothing(_: DictConfig) -> None:
        """Never reached: only questions about the config are passed on."""

    nothing()
    return 0
