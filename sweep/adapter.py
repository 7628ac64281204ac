"""LoRA through peft: an adapter around a model, and the model with the adapter merged into it.

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models". peft is an extra and imported
only where an adapter is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForSequenceClassification

from sweep.errors import InputError, reason_of
from sweep.schema import ModelConfig

_FILES = "adapter_*"


def with_adapter(loaded: Any, model: ModelConfig, drawn: Iterable[str]) -> Any:
    """`loaded` with the adapter that `model` asks for around it.

    Trained are the adapter, in the layers that are not frozen, and whatever the pretrained file did not
    hold (`drawn`: names of parameters): nobody else has those weights, so they are kept with the adapter.

    Raises:
        InputError: peft is not installed, or refuses the settings.
    """
    if model.adapter.kind == "none":
        return loaded
    peft = _peft()
    frozen = model.freeze_layers
    try:
        settings = peft.LoraConfig(
            r=model.adapter.rank,
            lora_alpha=model.adapter.alpha,
            lora_dropout=model.adapter.dropout,
            target_modules=model.adapter.target_modules,
            layers_to_transform=list(range(frozen, loaded.config.num_hidden_layers)) if frozen else None,
            modules_to_save=sorted({name.rpartition(".")[0] for name in drawn}) or None,
        )
        return peft.get_peft_model(loaded, settings)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"model.adapter of {model.path}: peft refuses it: {reason_of(error)}. Name the modules: "
            "model.adapter.target_modules=all-linear or [query,value]."
        ) from None


def is_adapted(model: Any) -> bool:
    """Whether only an adapter of `model` is trained and saved."""
    return hasattr(model, "peft_config")


def merge(folder: Path, base: Any) -> None:
    """Replace the adapter in `folder` by the whole model: `base`, freshly loaded, with it merged in."""
    merged = _peft().PeftModel.from_pretrained(base, str(folder)).merge_and_unload()
    for file in folder.glob(_FILES):
        file.unlink()
    merged.save_pretrained(folder)


def load_adapted(folder: Path, trust_remote_code: bool) -> Any:
    """The model of a folder that holds an adapter and a config: the weights it was trained on, with it.

    Raises:
        InputError: peft is not installed.
        OSError, ValueError: the model below it is not where the adapter was trained.
    """
    peft = _peft()
    below = peft.PeftConfig.from_pretrained(str(folder))
    base = AutoModelForSequenceClassification.from_pretrained(
        below.base_model_name_or_path,
        revision=below.revision or "main",
        config=AutoConfig.from_pretrained(str(folder), trust_remote_code=trust_remote_code),
        ignore_mismatched_sizes=True,
        trust_remote_code=trust_remote_code,
    )
    return peft.PeftModel.from_pretrained(base, str(folder))


def holds_adapter(folder: Path) -> bool:
    """Whether a model folder is an adapter that needs the model below it."""
    return (folder / "adapter_config.json").is_file()


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise InputError("model/adapter=lora needs the package peft: pip install 'sweep[lora]'.") from None
    return peft
