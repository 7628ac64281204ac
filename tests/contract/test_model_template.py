"""A study's model is loaded once, and each trial's is made of it: bit for bit what loading would give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModel

from sweep.model import ModelTemplate, load_model
from sweep.schema import ModelConfig

_SMALL = {
    "vocab_size": 90,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_OWN = {
    "distilbert": {"vocab_size": 90, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48},
    "gpt2": {"vocab_size": 90, "n_embd": 32, "n_layer": 2, "n_head": 2, "bos_token_id": 1, "eos_token_id": 2},
    "xlnet": {"vocab_size": 90, "d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 48},
}


@pytest.mark.parametrize(
    "kind",
    ["bert", "roberta", "deberta-v2", "electra", "albert", "mpnet", "modernbert", "llama", *_OWN],
)
def test_a_model_of_the_template_is_the_model_of_the_file(tmp_path: Path, kind: str) -> None:
    config = AutoConfig.for_model(kind, **_OWN.get(kind, _SMALL))
    torch.manual_seed(1)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    _compare(ModelConfig(path=str(tmp_path)))


def test_also_with_another_head_in_the_file_and_frozen_layers(tmp_path: Path) -> None:
    config = AutoConfig.for_model("bert", **_SMALL, num_labels=5)
    torch.manual_seed(1)
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    loaded = _compare(ModelConfig(path=str(tmp_path), freeze_layers=1, freeze_embeddings=True))
    trained = [name for name, p in loaded.named_parameters() if p.requires_grad]
    assert not any("embeddings" in name or "layer.0" in name for name in trained)
    assert any("layer.1" in name for name in trained)


def test_an_architecture_that_marks_nothing_is_loaded_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the marks of transformers every weight would be drawn: training from scratch, unnoticed."""
    torch.manual_seed(1)
    AutoModel.from_config(AutoConfig.for_model("bert", **_SMALL)).save_pretrained(tmp_path)
    monkeypatch.setattr("sweep.model._FROM_FILE", "_renamed_upstream")
    _compare(ModelConfig(path=str(tmp_path)))


def _compare(model: ModelConfig) -> Any:
    """The template is loaded before the trial's seed is set, or after it."""
    names = ["negative", "positive"]
    torch.manual_seed(3)
    wanted, generator = load_model(model, names), torch.get_rng_state()
    torch.manual_seed(2)
    before = ModelTemplate(model, names)
    torch.manual_seed(3)
    in_time = ModelTemplate(model, names)
    made = in_time.model()
    _equal(wanted, made)
    assert torch.equal(torch.get_rng_state(), generator), "loading draws nothing"
    torch.manual_seed(3)
    made = before.model()
    assert torch.equal(torch.get_rng_state(), generator), "as many numbers were drawn"
    _equal(wanted, made)
    return made


def _equal(wanted: Any, made: Any) -> None:
    tensors = [
        {**dict(m.named_parameters()), **dict(m.named_buffers()), **m.state_dict()} for m in (wanted, made)
    ]
    assert tensors[0].keys() == tensors[1].keys()
    assert [n for n, t in tensors[0].items() if not torch.equal(t, tensors[1][n])] == []
    assert wanted.training == made.training
    assert wanted.config.to_dict() == made.config.to_dict()
