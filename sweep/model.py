"""The model and tokenizer of a config: the embedded default, a folder, or a name of the hub."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from sweep.adapter import merge, with_adapter
from sweep.errors import InputError, did_you_mean, reason_of
from sweep.files import file_hash
from sweep.schema import AdapterConfig, ModelConfig

_PACKAGE = "package:"
_FROM_FILE = "_is_hf_initialized"  # transformers' mark on parameters that were loaded, and on their modules
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def model_location(model: ModelConfig) -> str:
    """Where the model lies: a local folder's path or a name of the hub.

    `package:NAME/FOLDER` is the folder inside an installed package, which is not imported.

    Raises:
        InputError: a package that is not installed, a folder without config or weights.
    """
    path = model.path
    if path.startswith(_PACKAGE):
        name, _, inside = path[len(_PACKAGE) :].partition("/")
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise InputError(
                f"model.path={path!r} needs the package {name}: pip install {name.replace('_', '-')}."
            )
        path = str(Path(spec.origin).parent / inside)
    folder = Path(path).expanduser()
    looks_local = path.startswith((".", "/", "~")) or path.count("/") > 1
    if not folder.is_dir():
        if looks_local:
            raise InputError(f"model.path={model.path!r} is no folder: give a model's folder.")
        return path
    if not (folder / "config.json").is_file():
        raise InputError(f"model.path={model.path!r} holds no config.json: give a model's folder.")
    if not any((folder / name).is_file() for name in _WEIGHTS):
        raise InputError(
            f"model.path={model.path!r} holds no weights ({', '.join(_WEIGHTS[:2])} or .bin): "
            "give a folder written by save_pretrained."
        )
    return str(folder)


def model_hash(model: ModelConfig) -> str:
    """sha256 of a local folder's files, or the hub's name and revision."""
    location = model_location(model)
    if not Path(location).is_dir():
        return f"{location}@{model.revision or 'main'}"
    digest = hashlib.sha256()
    for file in sorted(p for p in Path(location).iterdir() if p.is_file()):
        digest.update(f"{file.name} {file_hash(file)}\n".encode())
    return digest.hexdigest()


def weights_size(model: ModelConfig) -> int:
    """Bytes of the model's weights; 0 for a model of the hub that has not been fetched."""
    location = model_location(model)
    if not Path(location).is_dir():
        found = try_to_load_from_cache(location, "config.json", revision=model.revision)
        if not isinstance(found, str):
            return 0
        location = str(Path(found).parent)
    files = [*Path(location).glob("*.safetensors")] or [*Path(location).glob("*.bin")]
    return sum(file.stat().st_size for file in files)


def tokenizer_key(model: ModelConfig) -> list[str | None]:
    """What the tokenizer depends on."""
    return [model_location(model), model.revision]


def _hub_arguments(model: ModelConfig) -> dict[str, Any]:
    return {"revision": model.revision or "main", "trust_remote_code": model.trust_remote_code}


def load_tokenizer(model: ModelConfig) -> Any:
    """The model's tokenizer."""
    return AutoTokenizer.from_pretrained(model_location(model), **_hub_arguments(model))


def load_model(model: ModelConfig, label_names: list[str]) -> Any:
    """The pretrained model with a new classification head for `label_names`.

    Raises:
        InputError: more layers than the model has, or unknown fields in `model.config`.
    """
    return _load(model, label_names)[0]


def _load(model: ModelConfig, label_names: list[str]) -> tuple[Any, set[str]]:
    """The model, and the names of the parameters that its file did not hold."""
    location = model_location(model)
    config = AutoConfig.from_pretrained(
        location,
        num_labels=len(label_names),
        id2label=dict(enumerate(label_names)),
        label2id={name: number for number, name in enumerate(label_names)},
        **_hub_arguments(model),
    )
    _adjust(config, model)
    loaded, report = AutoModelForSequenceClassification.from_pretrained(
        location,
        config=config,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **_hub_arguments(model),
    )
    # Trainer takes any forward(**kwargs) for one that handles `num_items_in_batch`; this head does
    # not, and its loss would come out multiplied by ranks and accumulation steps.
    loaded.accepts_loss_kwargs = False
    _freeze(loaded, model)
    drawn = {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}
    return with_adapter(loaded, model, drawn), drawn


def finish_adapter(folder: Path, model: ModelConfig, label_names: list[str], keep: bool) -> None:
    """Turn the adapter that a trial of `model` left in `folder` into a whole model.

    With `keep` it stays one, and gets the config that the model below it must have.
    """
    base = load_model(dataclasses.replace(model, adapter=AdapterConfig()), label_names)
    if keep:
        base.config.save_pretrained(folder)
    else:
        merge(folder, base)


class ModelTemplate:
    """A model that was loaded once, of which each fork of this process makes its own.

    Forks share the memory of the weights they do not train.
    """

    def __init__(self, model: ModelConfig, label_names: list[str]) -> None:
        self._settings, self._given = (model, label_names), False
        with torch.random.fork_rng(devices=[]):  # a trial that loads its own has been seeded already
            self._loaded, drawn = _load(model, label_names)
        unmarked = {n for n, p in self._loaded.named_parameters() if not getattr(p, _FROM_FILE, False)}
        self._usable = unmarked <= drawn

    def model(self) -> Any:
        """What `load_model` would return now, bit for bit; in a process that asks again (for the next fold),
        read from its file, for the first one has been trained.

        Weights that the file does not hold (the new head) are drawn from the generators as they are.
        Source: transformers' PreTrainedModel._initialize_missing_keys, with which loading ends.
        """
        if self._given or not self._usable:  # not: an architecture that does not mark what came from the file
            return load_model(*self._settings)
        self._given = True
        for module in self._loaded.modules():
            module.__dict__.pop(_FROM_FILE, None)
        self._loaded.initialize_weights()
        return self._loaded


class TrialModel:
    """A trial's `model_init`. Upstream calls it when a Trainer is made and again when it starts.

    The second call finds the seed set as for the first, so it may return the same model, which nobody
    has trained in between, and set the generators to where loading had left them.
    """

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load = load
        self._loaded: tuple[Any, torch.Tensor, list[torch.Tensor]] | None = None

    def __call__(self) -> Any:
        if self._loaded is None:
            loaded = self._load()
            self._loaded = loaded, torch.get_rng_state(), torch.cuda.get_rng_state_all()
        else:
            torch.set_rng_state(self._loaded[1])
            torch.cuda.set_rng_state_all(self._loaded[2])
        return self._loaded[0]


def check_model(model: ModelConfig, label_names: list[str], max_length: int) -> None:
    """Load the model once, so that a mistake (or a download) comes before any training.

    `max_length` is the number of tokens that texts will be cut at.

    Raises:
        InputError: naming the model and the reason.
    """
    try:
        load_tokenizer(model)
        loaded = load_model(model, label_names)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        hint = (
            " It brings its own code: only if you trust its authors, model.trust_remote_code=true."
            if "trust_remote_code" in str(error)
            else " Check the name and the network, or give a local folder."
        )
        raise InputError(f"model.path={model.path!r} cannot be loaded: {reason_of(error)}.{hint}") from None
    positions = getattr(loaded.config, "max_position_embeddings", None) or max_length
    limit = positions - positions % 16  # RoBERTa and its kin count two positions that no token gets
    if max_length > limit:
        raise InputError(
            f"task.max_length={max_length}, but {model.path} takes at most {limit} tokens: "
            f"use task.max_length={limit} or less."
        )


def _adjust(config: Any, model: ModelConfig) -> None:
    changes = dict(model.config)
    if model.num_hidden_layers is not None:
        available = getattr(config, "num_hidden_layers", None)
        if available is None or model.num_hidden_layers > available:
            raise InputError(
                f"model.num_hidden_layers={model.num_hidden_layers}, but {model.path} has "
                f"{available or 'no such setting'}: use at most that, or null."
            )
        changes["num_hidden_layers"] = model.num_hidden_layers
    for name, value in changes.items():
        if not hasattr(config, name):
            near = did_you_mean(name, config.to_dict())
            raise InputError(f"model.config.{name}: {model.path} has no such setting.{near}")
        setattr(config, name, value)


def _freeze(loaded: Any, model: ModelConfig) -> None:
    base = loaded.base_model
    if model.freeze_embeddings:
        embeddings = getattr(base, "embeddings", None) or loaded.get_input_embeddings()
        embeddings.requires_grad_(False)
    if model.freeze_layers:
        layers = layer_stack(loaded)
        if layers is None or model.freeze_layers > len(layers):
            raise InputError(
                f"model.freeze_layers={model.freeze_layers}, but the model has "
                f"{len(layers) if layers is not None else 'no'} layers to freeze: use a smaller number."
            )
        for layer in layers[: model.freeze_layers]:
            layer.requires_grad_(False)


def layer_stack(loaded: Any) -> nn.ModuleList | None:
    """A model's stack of transformer layers, the lowest first, whatever the architecture calls it."""
    count = loaded.config.num_hidden_layers
    stacks = (m for m in loaded.base_model.modules() if isinstance(m, nn.ModuleList) and len(m) == count)
    return next(stacks, None)
